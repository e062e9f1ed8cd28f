"""The listening page: what it holds, what it hides, and how it counts."""

import base64
import io
import json
import re
import shutil
import subprocess
import wave
from html.parser import HTMLParser

import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.data import dataset
from musegan_jax.evaluation import listening
from musegan_jax.evaluation.measures import Music
from musegan_jax.pianoroll import Track

NODE = shutil.which("node")
TRACKS = (Track("Tune", 40), Track("Bass", 42))
COUNT = 3


@pytest.fixture(scope="module")
def pieces() -> tuple[list[Music], list[Music], dataset.Dataset]:
    """Pieces with names that must not be seen, loud and soft ones, and one without any note."""
    real, made = [], []
    for n in range(COUNT):
        bars = np.zeros((9, 16, 128, 2), bool)
        bars[:, :, 60 + n, 0] = n < 2
        real.append(Music(f"secret{n}", bars))
        other = bars.copy()
        other[:, :8, 40, 1] = True
        made.append(Music(f"secret{n}", other))
    built = dataset.build(
        [
            dataset.Piece(each.name, pianoroll.pack(each.roll), np.arange(0, 144, 16))
            for each in real
        ],
        TRACKS,
        4,
        "made up",
    )
    return real, made, built


@pytest.fixture(scope="module")
def page(pieces, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "listen.html"
    listening.write(*pieces, 0, path)
    return path.read_text("utf-8")


class Parts(HTMLParser):
    """The scripts of a page, by id, and all that it would load."""

    def __init__(self):
        super().__init__()
        self.scripts, self.loaded, self.open = {}, [], None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loaded += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "script":
            self.open = attrs.get("id", "page")

    def handle_data(self, data):
        if self.open:
            self.scripts[self.open] = self.scripts.get(self.open, "") + data

    def handle_endtag(self, tag):
        self.open = None


def parts_of(page: str) -> Parts:
    parser = Parts()
    parser.feed(page)
    return parser


def samples(item) -> np.ndarray:
    with wave.open(io.BytesIO(base64.b64decode(item["wav"]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)


def test_a_page_stands_alone_and_hides_its_key(page):
    parts = parts_of(page)
    assert not parts.loaded and "://" not in page and "secret" not in page
    data = json.loads(parts.scripts["data"])
    assert len(data["items"]) == 2 * COUNT
    keys = [item["key"] for item in data["items"]]
    assert len(set(keys)) == len(keys)  # each salted
    words = [
        [word for word in ("real", "made") if listening.digest(item["salt"] + word) == item["key"]]
        for item in data["items"]
    ]
    assert sorted(words) == [["made"]] * COUNT + [["real"]] * COUNT
    assert words != sorted(words) and words != [["real"], ["made"]] * COUNT  # in random order
    assert set(data["items"][0]) == {"salt", "key", "wav"}


def test_all_sound_alike(page):
    items = json.loads(parts_of(page).scripts["data"])["items"]
    sounds = [samples(item) for item in items]
    # Four bars of 16 steps at 80 beats a minute.
    assert {len(sound) for sound in sounds} == {round((12 + listening.RELEASE) * 22050)}
    levels = [np.sqrt(np.mean(sound**2)) for sound in sounds]
    assert sorted(level > 0 for level in levels)[:2] == [False, True]  # the one without notes
    heard = [level for level in levels if level > 0]
    assert max(heard) == pytest.approx(min(heard), rel=1e-3)
    peak = max(np.abs(sound).max() for sound in sounds)
    assert peak == pytest.approx(0.89 * 32767, abs=2)
    assert all(np.abs(sound[-20:]).max() < 0.01 * peak for sound in sounds)  # they die away


def test_a_seed_decides_all(pieces):
    same = [listening.page_data(*pieces, seed=1) for _ in range(2)]
    assert same[0] == same[1]
    other = listening.page_data(*pieces, seed=2)
    assert other["page"] != same[0]["page"]
    assert [i["wav"] for i in other["items"]] != [i["wav"] for i in same[0]["items"]]


def test_excerpts_are_whole_bars_of_an_end():
    bars = np.zeros((9, 16, 128, 1), bool)
    bars[np.arange(9), 0, 60 + np.arange(9), 0] = True
    music = Music("x", bars)
    opening, ending = (listening._excerpt(music, 4, end) for end in (False, True))
    assert np.flatnonzero(opening.any(axis=(0, 2))).tolist() == [60, 61, 62, 63]
    assert np.flatnonzero(ending.any(axis=(0, 2))).tolist() == [65, 66, 67, 68]
    assert len(listening._excerpt(music._replace(bars=bars[:2]), 4, True)) == 32


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (0, 0, 0, 1),
        (10, 10, 0.6915, 1),  # 0.025 ** (1 / 10)
        (0, 10, 0, 0.3085),
        (5, 10, 0.1871, 0.8129),
        (14, 20, 0.4572, 0.8811),
    ],
)
def test_intervals(right, of, low, high):
    assert listening.interval(right, of) == [low, high]


def test_the_digest_is_fnv_1a():
    """Its published test vectors."""
    for text, value in (("", "811c9dc5"), ("a", "e40c292c"), ("foobar", "bf9cf968")):
        assert listening.digest(text) == value


def run_logic(page: str, expression: str):
    scripts = parts_of(page).scripts
    program = (
        f"{scripts['logic']}\nconst data = JSON.parse({json.dumps(scripts['data'])});\n"
        f"console.log(JSON.stringify({expression}));"
    )
    done = subprocess.run([NODE, "-"], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_page_counts_right(page):
    answers = run_logic(page, "data.items.map(kind)")
    assert sorted(answers) == ["made"] * COUNT + ["real"] * COUNT
    found = run_logic(page, f"score(data, {json.dumps(answers)})")
    assert (found["right"], found["of"]) == (6, 6)
    assert found["interval"] == listening.interval(6, 6)
    # One left open, the first made one taken for real, the rest right.
    marks = list(answers)
    wrong = answers.index("made")
    marks[wrong], marks[answers.index("real")] = "real", None
    text, found = run_logic(page, f"((s) => [describe(s), s])(score(data, {json.dumps(marks)}))")
    assert (found["right"], found["of"]) == (4, 5)
    assert (found["real_called_real"], found["real"]) == (2, 2)
    assert (found["made_called_real"], found["made"]) == (1, 3)
    assert found["marks"][0]["excerpt"] == 1 + (marks[0] is None)
    assert {(m["said"], m["is"]) for m in found["marks"]} == {
        ("real", "real"), ("made", "made"), ("real", "made"),
    }  # fmt: skip
    plain = re.sub("\u00a0", " ", text)
    assert plain.startswith("4 of 5 right: 80 %, 95 % confidence interval 28 % to 99 %.")
    assert "does not show" in plain and "1 of 3 made ones" in plain
    nothing = run_logic(page, "score(data, data.items.map(() => null))")
    assert nothing["of"] == 0 and nothing["interval"] is None
