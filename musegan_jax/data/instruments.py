"""General MIDI programs: their names and the pitches that the instruments play."""

import difflib

from musegan_jax.errors import UserError

# Lowest and highest MIDI pitch in usual writing, by program. Of others (synthesisers, organs with
# stops of all octaves, effects) every pitch sounds.
RANGES = {
    **dict.fromkeys(range(6), (21, 108)),  # pianos
    6: (29, 89),  # harpsichord
    **dict.fromkeys(range(24, 32), (40, 88)),  # guitars
    **dict.fromkeys(range(32, 40), (28, 67)),  # basses
    40: (55, 103),  # violin
    41: (48, 91),  # viola
    42: (36, 76),  # cello
    43: (28, 67),  # contrabass
    46: (23, 103),  # harp
    **dict.fromkeys((52, 53), (36, 84)),  # choir
    56: (52, 84),  # trumpet
    57: (40, 77),  # trombone
    58: (28, 58),  # tuba
    59: (52, 84),  # muted trumpet
    60: (34, 77),  # French horn
    64: (56, 88),  # soprano saxophone
    65: (49, 81),  # alto saxophone
    66: (44, 76),  # tenor saxophone
    67: (36, 69),  # baritone saxophone
    68: (58, 91),  # oboe
    69: (52, 81),  # English horn
    70: (34, 75),  # bassoon
    71: (50, 94),  # clarinet
    72: (74, 108),  # piccolo
    73: (59, 98),  # flute
    74: (53, 93),  # recorder
}
EVERY = (0, 127)


def range_of(program: int) -> tuple[int, int]:
    """The lowest and highest MIDI pitch of a General MIDI program's instrument."""
    return RANGES.get(program, EVERY)


def program_of(word: str, option: str) -> int:
    """The General MIDI program 0 to 127 that a word means: its number, or its name.

    Case does not matter; of a name, a part is enough that no other name has, such as `trumpet` for
    `Trumpet` (though there is a `Muted Trumpet`) or `honky`.

    Raises:
        UserError: if it means none, or several; `option` is where it was given.
    """
    from pretty_midi.constants import INSTRUMENT_MAP

    if word.isascii() and word.isdecimal():
        if int(word) > 127:
            raise UserError(f"{option}: {word} is no General MIDI program; they are 0 to 127")
        return int(word)
    names = [name.casefold() for name in INSTRUMENT_MAP]
    wanted = " ".join(word.casefold().split())
    if wanted in names:
        return names.index(wanted)
    found = [n for n, name in enumerate(names) if wanted and wanted in name]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{n} {INSTRUMENT_MAP[n]}" for n in found[:6])
        raise UserError(f"{option}: {word!r} may be {several}; give the number or the whole name")
    close = difflib.get_close_matches(wanted, names, 3)
    hint = ", ".join(f"{INSTRUMENT_MAP[names.index(name)]}" for name in close)
    raise UserError(
        f"{option}: {word!r} is no General MIDI instrument"
        + (f"; did you mean {hint}?" if hint else "; give its number, 0 to 127")
    )


def programs_for(text: str, names: list[str]) -> tuple[int, ...]:
    """The value of `--programs`: one General MIDI program for each of the tracks `names`.

    Raises:
        UserError: if there are more or fewer, or one means no program.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) != len(names):
        raise UserError(
            f"--programs {text}: it takes {len(names)} General MIDI programs, numbers from 0 to "
            f"127 or names, separated by commas, for {', '.join(names)}"
        )
    return tuple(program_of(word, "--programs") for word in words)
