"""A page on which a listener says which excerpts are held-out music and which the model's answers.

One HTML file that needs no network. Originals and answers are cut, played and levelled alike, and
lie in random order. Their key is hidden from a glance at the source, not from a search.
"""

import base64
import hashlib
import io
import json
import wave
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import scipy.signal
import scipy.stats

from musegan_jax import files
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset
from musegan_jax.evaluation.measures import Music
from musegan_jax.rendering import audio

PAIRS = 10  # pieces; each is heard twice, as it is and with the model's accompaniment
SECONDS = 12  # of an excerpt, about: the page stays below 15 MB
BPM = 80
HALVED = 2  # the sample rate, and one channel instead of two
RELEASE = 0.5  # seconds in which the last notes die away
FULL = 0.89  # of full scale, the loudest sample of all


def write(
    real: Sequence[Music], made: Sequence[Music], dataset: Dataset, seed: int, path: files.AnyPath
) -> None:
    """Write the page.

    Args:
        real: whole pieces.
        made: the same with the model's accompaniment.
        dataset: of the pieces; its instruments play both.
        seed: of the choice of pieces, of the excerpts and of their order.
        path: the HTML file.

    Raises:
        UserError: if it cannot be written.
    """
    content = json.dumps(page_data(real, made, dataset, seed))
    template = resources.files("musegan_jax.evaluation").joinpath("listen.html").read_text("utf-8")
    with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        # Inside a script element only `</` could end it.
        file.write(template.replace("LISTENING_DATA", content.replace("</", "<\\/")))


def page_data(
    real: Sequence[Music], made: Sequence[Music], dataset: Dataset, seed: int
) -> dict[str, Any]:
    """What the page shows, as plain values; arguments as for `write`.

    Returns:
        `items`, each with a `wav` in base64, a `salt` and the `key`, which is the `digest` of the
        salt and the word real or made; `intervals[n][k]`, the `interval` of k right of n; `about`,
        a text; `page`, by which a saved result names the page.
    """
    generator = np.random.default_rng(seed)
    pieces = generator.choice(len(real), min(PAIRS, len(real)), replace=False)
    clips = []
    for piece in pieces:
        ending = bool(generator.integers(2))
        for word, music in (("real", real[piece]), ("made", made[piece])):
            clips.append((word, _play(_excerpt(music, dataset.steps_per_beat, ending), dataset)))
    waves = [_wav(sound) for sound in _levelled([sound for _, sound in clips])]
    items = []
    for n in generator.permutation(len(clips)):
        salt = generator.bytes(8).hex()
        key = digest(salt + clips[n][0])
        items.append({"salt": salt, "key": key, "wav": base64.b64encode(waves[n]).decode()})
    return {
        "page": hashlib.sha256("".join(item["key"] for item in items).encode()).hexdigest()[:16],
        "about": f"{len(items)} excerpts: {len(pieces)} are from held-out pieces, the other "
        f"{len(pieces)} are the same melodies with a model's accompaniment. All are played by the "
        "same instruments, at one tempo and one loudness.",
        "intervals": [
            [interval(right, of) for right in range(of + 1)] for of in range(len(items) + 1)
        ],
        "items": items,
    }


def interval(right: int, of: int) -> list[float]:
    """The 95 % confidence interval of a share, `right` of `of` trials (Clopper and Pearson 1934).

    Exact, hence on the safe side for few trials. It takes the trials for independent.
    """
    if not of:
        return [0.0, 1.0]
    found = scipy.stats.binomtest(right, of).proportion_ci(0.95, method="exact")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def digest(text: str) -> str:
    """FNV-1a with 32 bits in hexadecimal, as the page computes it (browsers hash only with TLS)."""
    value = 0x811C9DC5
    for letter in text.encode("ascii"):
        value = (value ^ letter) * 0x01000193 % 2**32
    return f"{value:08x}"


def _excerpt(music: Music, steps_per_beat: int, ending: bool) -> np.ndarray:
    """The first or the last bars of a piece: bool `(T, 128, K)`, about `SECONDS` long."""
    bar = music.bars.shape[1] / steps_per_beat * 60 / BPM
    bars = max(round(SECONDS / bar), 1)
    chosen = music.bars[-bars:] if ending else music.bars[:bars]
    return chosen.reshape(-1, *chosen.shape[2:])


def _play(roll: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Float `(samples,)`: as long for every roll of this length, whatever sounds in it."""
    song = midi.from_roll(roll, dataset.tracks, dataset.steps_per_beat, BPM)
    length = len(roll) / dataset.steps_per_beat * 60 / BPM + RELEASE
    sound = np.zeros(round(length * audio.SAMPLE_RATE))
    if roll.any():
        played = audio.play(midi.parse(song, "excerpt")).mean(axis=1)[: len(sound)]
        sound[: len(played)] = played
    fade = round(RELEASE * audio.SAMPLE_RATE)
    sound[-fade:] *= np.linspace(1, 0, fade)
    return scipy.signal.resample_poly(sound, 1, HALVED)


def _levelled(sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sounds with one root mean square, as high as the loudest sample of all allows."""
    level = np.array([np.sqrt(np.mean(sound**2)) for sound in sounds])
    peak = np.array([np.abs(sound).max() for sound in sounds])
    heard = level > 0
    common = FULL * np.min(level[heard] / peak[heard], initial=1.0)
    gains = np.divide(common, level, out=np.zeros_like(level), where=heard)
    return [sound * gain for sound, gain in zip(sounds, gains, strict=True)]


def _wav(sound: np.ndarray) -> bytes:
    """A 16-bit WAV file of one channel."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.SAMPLE_RATE // HALVED)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
