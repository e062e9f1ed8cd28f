"""General MIDI programs by number or by name."""

import difflib

from musegan_jax.errors import UserError


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
