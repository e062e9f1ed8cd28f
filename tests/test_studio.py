"""The studio's server: answers, files, a run that is watched, and who is let in."""

import asyncio
import contextlib
import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import wave
import zipfile
from concurrent.futures import ThreadPoolExecutor

import mido
import numpy as np
import pytest
from etils import epath
from starlette.testclient import TestClient

import musegan_jax as mg
from conftest import changed
from musegan_jax import cli, files
from musegan_jax.data import midi
from musegan_jax.data.readers import scores
from musegan_jax.errors import UserError
from musegan_jax.runs import logging
from musegan_jax.runs.following import Follower
from musegan_jax.studio import asking, guard, jobs, memory, songs, watching
from musegan_jax.studio.jobs import Job, Worker
from musegan_jax.studio.server import Studio
from musegan_jax.studio.serving import hosts

ADDRESS = "http://127.0.0.1:8642"
TUNE = [[480 * n, 480 * n + 450, pitch, 90] for n, pitch in enumerate([60, 62, 64, 65, 67, 64, 60])]
FAULTS: list[BaseException] = []


@pytest.fixture(scope="module")
def shipped():
    return mg.load()


@pytest.fixture(scope="module")
def client(shipped, tmp_path_factory):
    """A page with the right key, whose worker has nothing else to do."""
    worker = Worker(iter(()), FAULTS.append)
    watched = watching.Watched(epath.Path(tmp_path_factory.mktemp("runs") / "mine"))
    app = Studio({"chorales": shipped}, worker, FAULTS.append, watched).app(
        "the key", hosts("127.0.0.1", 8642)
    )
    yield TestClient(app, base_url=ADDRESS, headers={guard.TOKEN: "the key"})
    assert worker.end(60)
    assert not FAULTS


def question(**parts) -> dict:
    return {
        "model": "chorales", "bpm": 100, "metre": [4, 4], "key": None, "temperature": 1,
        "melody": {"program": 0, "notes": TUNE}, "wanted": [{"ends": [[3, 0]]}], **parts,
    }  # fmt: skip


def answered(client, **parts) -> list[dict]:
    reply = client.post("/api/answers", json=question(**parts))
    assert reply.status_code == 200, reply.text
    # While one waits, on a busy machine, it is told how many are before it.
    lines = [json.loads(line) for line in reply.text.splitlines()]
    return [line for line in lines if "ahead" not in line]


def rolled(voices, steps: int) -> np.ndarray:
    """The voices of an answer as the rolls that Python gives: bool `(steps, 128, 3)`."""
    roll = np.zeros((steps, 128, 3), bool)
    for n, voice in enumerate(voices):
        for start, end, pitch in voice["notes"]:
            roll[start // 120 : end // 120, pitch, n] = True
    return roll


def tune_roll() -> np.ndarray:
    return midi.to_roll(midi.quantise(np.array(TUNE), 120), 28)


def test_answers_are_those_of_python(client, shipped):
    remarks, first, second = answered(client, wanted=[{"ends": [[3, 0]]}, {"ends": [[3, 1]]}])
    assert remarks == {"remarks": []} and [first["answer"], second["answer"]] == [0, 1]
    wanted = mg.accompany(shipped, tune_roll(), seed=3, samples=2)
    for answer, roll in zip((first, second), wanted, strict=True):
        assert [voice["track"] for voice in answer["voices"]] == [1, 2, 3]
        np.testing.assert_array_equal(rolled(answer["voices"], 32)[:28], roll[..., 1:])


def test_voices_and_bars_are_kept(client):
    (_, first) = answered(client)
    alto, tenor, bass = (voice["notes"] for voice in first["voices"])
    halves = []
    for start, end, pitch in alto:
        halves += [[start, (start + end) // 2, pitch], [(start + end) // 2, end, pitch]]
    kept = [{"track": 1, "spans": [[0, 3840]], "notes": halves},
            {"track": 3, "spans": [[0, 1920]], "notes": bass}]  # fmt: skip
    (_, again) = answered(client, kept=kept, wanted=[{"ends": [[8, 2]]}])
    # A whole voice comes back as it is, with notes that a roll would join.
    assert again["voices"][0]["notes"] == halves
    before, after = rolled(first["voices"], 32), rolled(again["voices"], 32)
    np.testing.assert_array_equal(before[:16, :, 2], after[:16, :, 2])
    assert (before[..., 1] != after[..., 1]).any()


def test_places_between_flavours(client, shipped):
    ends = [[0, 0], [7, 0]]
    wanted = [{"ends": ends, "place": [place, 0]} for place in (0, 0.5, 1)]
    _, *walk = answered(client, wanted=wanted)
    rolls = mg.between(shipped, tune_roll(), (0, 7), steps=3)
    for answer, roll in zip(walk, rolls, strict=True):
        np.testing.assert_array_equal(rolled(answer["voices"], 32)[:28], roll[..., 1:])


def test_of_a_long_melody_the_beginning_comes_first(client):
    notes = [[960 * n, 960 * n + 900, 60 + n % 5, 90] for n in range(80)]
    _, beginning, whole = answered(client, melody={"notes": notes})
    assert beginning["beginning"] and whole["answer"] == 0
    ends = [max(n[1] for v in a["voices"] for n in v["notes"]) for a in (beginning, whole)]
    assert ends[0] <= 256 * 120 < ends[1] == 80 * 960


def test_memory_is_given_back_where_it_can_be(monkeypatch):
    memory.give_back()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())  # a C library without a trim
    memory._trim.cache_clear()
    memory.give_back()
    memory._trim.cache_clear()


def song(**parts) -> dict:
    voices = [{"name": "Mélodie", "program": 73, "notes": TUNE},
              {"name": "Bass", "program": 42, "notes": [[0, 3360, 48]]}]  # fmt: skip
    return {"bpm": 90, "metre": [3, 4], "key": "Bb", "voices": voices, **parts}


def test_midi_and_back(client):
    content = client.post("/api/midi", json=song()).content
    file = mido.MidiFile(file=io.BytesIO(content))
    assert len(file.tracks) == 3
    back = client.post("/api/opened", content=content).json()
    assert [track["name"] for track in back["tracks"]] == ["Mélodie", "Bass"]
    assert [track["program"] for track in back["tracks"]] == [73, 42]
    assert back["tracks"][0]["notes"] == TUNE and back["likely"] == 0
    assert (back["bpm"], back["metre"], back["key"]) == (90, [3, 4], "Bb")


def test_scores_and_back(client, monkeypatch):
    """Starts in triplets stay so, though the notes are played short."""
    short = [[n * 160, n * 160 + 150, 60 + n, 90] for n in range(6)]
    voices = [{"name": "Mélodie", "program": 73, "notes": short}, song()["voices"][1]]
    made = client.post("/api/musicxml", json=song(voices=voices)).json()
    assert made["remarks"] == []
    back = client.post("/api/opened", content=made["text"]).json()
    assert [track["name"] for track in back["tracks"]] == ["Mélodie", "Bass"]
    assert back["tracks"][0]["notes"] == [[n * 160, n * 160 + 160, 60 + n, 90] for n in range(6)]
    assert (back["bpm"], back["metre"], back["key"]) == (90, [3, 4], "Bb")
    off = [{"name": "Off", "program": 0, "notes": [[7, 333, 60]]}]
    assert "sixteenth" in client.post("/api/musicxml", json=song(voices=off)).json()["remarks"][0]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("META-INF/container.xml", '<a><rootfile full-path="a.xml"/></a>')
        archive.writestr("a.xml", made["text"])
    assert client.post("/api/opened", content=packed.getvalue()).json() == back
    tunes = "X:1\nL:1/4\nK:C\nCDEF|\n\nX:2\nL:1/4\nK:C\nGABc|\n"
    tune = client.post("/api/opened", content=tunes).json()
    assert [n[2] for n in tune["tracks"][0]["notes"]] == [60, 62, 64, 65]
    assert tune["remarks"] == ["the file has 2 tunes; this is the first"]
    # Of a collection, the first tune alone is parsed.
    parsed = []
    monkeypatch.setattr(songs, "_bounded", lambda f, *given: parsed.append(given[0]) or f(*given))
    for end in ("\n", "\r\n"):
        many = "".join(f"X:{n}\nL:1/4\nK:C\nCDEF|\n\n" for n in range(3000)).replace("\n", end)
        more = client.post("/api/opened", content=many).json()
        assert more["remarks"] == ["the file has 3000 tunes; this is the first"]
        assert len(parsed[-1]) < 40
        assert [n[2] for n in more["tracks"][0]["notes"]] == [60, 62, 64, 65]
    monkeypatch.setattr(scores.importlib.util, "find_spec", lambda name: None)
    for reply in (
        client.post("/api/opened", content=made["text"]),
        client.post("/api/musicxml", json=song()),
    ):
        assert reply.status_code == 400 and "pip install music21" in reply.json()["error"]


def test_minor_keys_of_scores_stay_minor(client):
    made = client.post("/api/musicxml", json=song(key="Am")).json()
    assert client.post("/api/opened", content=made["text"]).json()["key"] == "Am"
    kern = "**kern\n*M4/4\n*k[b-]\n*d:\n=1\n4d\n4f\n4a\n4dd\n=2\n*-\n"
    assert client.post("/api/opened", content=kern).json()["key"] == "Dm"


def test_scores_that_take_too_long_are_given_up(client, monkeypatch):
    monkeypatch.setattr(songs, "SECONDS", 1)
    kern = "**kern\n*M4/4\n" + "".join(f"={n}\n4d\n4f\n4a\n4dd\n" for n in range(20_000)) + "*-\n"
    reply = client.post("/api/opened", content=kern)
    assert reply.status_code == 400
    assert reply.json() == {"error": "the score takes more than 1 s: give a part of it"}


def test_sound(client):
    content = client.post("/api/sound", json=song()).content
    with wave.open(io.BytesIO(content)) as file:
        seconds = file.getnframes() / file.getframerate()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert 7 * 60 / 90 < seconds < 20 and np.abs(sound).max() > 10_000


def test_the_page_is_served_whole_and_nothing_else(client):
    page = client.get("/").text
    names = {word.split('"')[0] for word in page.split('"page/')[1:]}
    assert {"main.js", "style.css", "icon.svg"} <= names
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    for name in (*names, "roll.js", "sound.js"):
        assert client.get(f"/page/{name}").status_code == 200
    for wrong in ("/page/server.py", "/page/../server.py", "/page/%2e%2e/server.py", "/page/",
                  "/etc/passwd", "/page/..%2fserver.py"):  # fmt: skip
        assert client.get(wrong).status_code == 404
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert client.get("/page/main.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({guard.TOKEN: "another"}, 401),
        ({guard.TOKEN: "\xe9"}, 401),
        ({"host": "evil.example:8642"}, 403),
        ({"host": "127.0.0.1:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": ADDRESS, "sec-fetch-site": "same-origin"}, 200),
        ({"host": "localhost:8642"}, 200),
    ],
)
def test_who_is_let_in(client, headers, status):
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    assert client.get("/api/about", headers=headers).status_code == status
    assert client.post("/api/midi", json=song(), headers=headers).status_code == status


def test_which_hosts_are_known():
    assert "[::1]:80" in hosts("::1", 80) and hosts("0.0.0.0", 80) is None
    assert hosts("studio.lan", 80) == {"studio.lan:80"}
    assert guard.is_number("192.168.0.7:80") and guard.is_number("[fe80::1]:80")
    assert not guard.is_number("evil.example:80") and not guard.is_number("")


def test_huge_bodies_are_not_read(client):
    sent = []

    def chunks():
        for _ in range(64):
            sent.append(1)
            yield b" " * 2**20

    for path in ("/api/answers", "/api/opened", "/api/midi", "/api/musicxml", "/api/sound"):
        reply = client.post(path, content=chunks())
        assert reply.status_code == 413 and "MiB" in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"bpm": ' + b"9" * 10_000 + b"}", b"\xff\xfe", b"null",
     b'{"bpm": NaN, "metre": [4, 4]}'],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/answers", "/api/midi", "/api/sound", "/api/opened"])
def test_bad_bodies_are_refused_in_a_line(client, path, body):
    reply = client.post(path, content=body)
    assert reply.status_code == 400
    assert len(reply.json()["error"].splitlines()) == 1


@pytest.mark.parametrize(
    "parts",
    [
        {"model": "another"},
        {"melody": {"notes": []}},
        {"melody": {"notes": [[0, 480]]}},
        {"melody": {"notes": [[480, 480, 60]]}},
        {"melody": {"notes": [[0, 480, 128]]}},
        {"melody": {"notes": [[0, 480, True]]}},
        {"melody": {"notes": [[0, 480.5, 60]]}},
        {"melody": {"notes": [[0, 480, 60, 0]]}},
        {"melody": {"notes": [[0, 10**9, 60]]}},
        {"melody": {"notes": [[0, 4_700_000, 60]]}},  # longer than any model takes
        {"melody": {"notes": [[0, 480, 60]] * 60_000}},
        {"melody": {"notes": TUNE, "program": 200}},
        {"melody": {"notes": TUNE, "is_drum": True}},
        {"bpm": 5}, {"bpm": "100"}, {"metre": [4]}, {"metre": [4, 3]}, {"metre": [32, 1]},
        {"key": "H"}, {"temperature": 11}, {"temperature": None},
        {"wanted": []}, {"wanted": [{"ends": []}]}, {"wanted": [{"ends": [[0, 0]]}] * 10},
        {"wanted": [{"ends": [[-1, 0]]}]}, {"wanted": [{"ends": [[0, 0]] * 3}]},
        {"wanted": [{"ends": [[0, 0]] * 2, "place": [2, 0]}]},
        {"wanted": [{"ends": [[0, 0]] * 2, "place": [float("nan"), 0]}]},
        {"kept": [{"track": 0, "spans": [[0, 480]], "notes": []}]},
        {"kept": [{"track": 9, "spans": [[0, 480]], "notes": []}]},
        {"kept": [{"track": 1, "spans": [[0]], "notes": []}]},
    ],
)  # fmt: skip
def test_bad_questions_are_refused_in_a_line(client, parts):
    reply = client.post("/api/answers", content=json.dumps(question(**parts)))
    told = reply.json()["error"] if reply.status_code == 400 else answer_error(reply)
    assert told and len(told.splitlines()) == 1 and "fault" not in told


def answer_error(reply) -> str:
    assert reply.status_code == 200
    return json.loads(reply.text.splitlines()[-1]).get("error", "")


def test_files_that_are_no_melody(client):
    drums = mido.MidiFile()
    drums.tracks = [midi.note_track("Drums", 9, 0, np.array([[0, 480, 36, 90]]))]
    buffer = io.BytesIO()
    drums.save(file=buffer)
    cases = {b"RIFF....": "MIDI", b"%PDF-1.4": "MIDI", buffer.getvalue(): "pitch",
             b"<html></html>": "MusicXML", b"PK\x03\x04": "MusicXML",
             b"\xff\xd8\xff\xe0": "open MIDI, MusicXML, ABC, kern or a saved session"}  # fmt: skip
    for content, word in {**cases, b"MThd" + bytes(2 * 2**20): "MiB"}.items():
        reply = client.post("/api/opened", content=content)
        assert reply.status_code == 400 and word in reply.json()["error"]


def test_a_hundred_at_once(client):
    """None is lost, and a small request between them does not wait for them all."""
    with ThreadPoolExecutor(100) as pool:
        replies = [pool.submit(answered, client) for _ in range(100)]
        assert client.get("/api/about").status_code == 200
        assert sum(reply.done() for reply in replies) < 100
        found = [reply.result()[-1]["voices"] for reply in replies]
    assert all(voices == found[0] for voices in found) and found[0]


# --- the queue


def results_of(worker, *works):
    async def run():
        made = [worker.submit(Job(work)) for work in works]
        return [[r async for r in job.results(worker.ahead)] for job in made]

    return asyncio.run(run())


def test_jobs_are_done_in_their_order_and_faults_are_told():
    faults, began, go = [], threading.Event(), threading.Event()
    worker = Worker(iter([lambda: 1 / 0, lambda: (began.set(), go.wait(60))]), faults.append)
    assert began.wait(60)

    def wrong():
        yield 1
        raise UserError("the melody is wrong")

    found = results_of(worker, lambda: [1, 2], wrong, lambda: 1 / 0, lambda: [3])
    # Also while something that nobody has asked for is being done.
    assert found == [[1, 2], [1, {"error": "the melody is wrong"}], [{"error": jobs.FAULT}], [3]]
    assert not worker.end(0.1)
    go.set()
    assert worker.end(10)
    assert [type(fault) for fault in faults] == [ZeroDivisionError] * 2


def test_what_nobody_asked_for_begins_when_no_job_is_left():
    order, began, working, done = [], *(threading.Event() for _ in range(3))

    def idle():
        yield lambda: (began.set(), working.wait(60), order.append("first"))
        yield lambda: (order.append("second"), done.set())

    def work():
        working.set()
        time.sleep(0.3)  # the second would be done by now
        order.append("job")
        yield 1

    worker = Worker(idle(), pytest.fail)
    assert began.wait(60)
    assert results_of(worker, work) == [[1]]
    assert done.wait(60) and worker.end(10)
    assert order == ["first", "job", "second"]


def test_a_task_that_cannot_be_made_does_not_end_those_after_it():
    faults, done = [], threading.Event()

    def of_one_model():
        raise UserError("not this model")
        yield

    tasks = itertools.chain.from_iterable(f() for f in (of_one_model, lambda: [done.set]))
    worker = Worker(tasks, faults.append)
    assert done.wait(60) and worker.end(10)
    assert [str(fault) for fault in faults] == ["not this model"]


def test_whoever_leaves_cancels_and_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(jobs, "LONGEST", 2)
    monkeypatch.setattr(jobs, "TELL", 0.01)
    worker = Worker(iter(()), pytest.fail)
    made = []

    async def run():
        begun, go = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def endless():
            loop.call_soon_threadsafe(begun.set)
            while True:
                made.append(1)
                yield len(made)
                asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)

        first = worker.submit(Job(endless))
        await begun.wait()
        second, third = (worker.submit(Job(lambda: ["done"])) for _ in range(2))
        with pytest.raises(jobs.Full):
            worker.submit(Job(list))
        waiting = third.results(worker.ahead)
        assert await anext(waiting) == {"ahead": 1}
        second.cancelled = True
        while (told := await anext(waiting)) != {"ahead": 0}:
            assert told == {"ahead": 1}
        worker.submit(Job(list))  # a cancelled one leaves room
        async with contextlib.aclosing(first.results(worker.ahead)) as results:
            assert await anext(results) == 1
        go.set()
        return [told async for told in waiting if told == "done"]

    assert asyncio.run(asyncio.wait_for(run(), 20)) == ["done"] and len(made) <= 3
    assert worker.end(10)


# --- a run that is watched


def test_a_run_is_watched(client, tiny, shipped, tmp_path, monkeypatch):
    assert client.get("/api/run").json() == {"name": "mine", "began": False}
    assert client.get("/api/run/2/0").status_code == 400
    from musegan_jax.config import override

    words = ["--training.iterations=2", "--output.melodies=twinkle", "--output.sample_every=2",
             "--output.log_every=1"]  # fmt: skip
    workdir = tmp_path / "run"
    mg.train(override(tiny, words), workdir)
    run = watching.Watched(epath.Path(workdir))
    state = json.loads(json.dumps(run.state(), allow_nan=False))
    assert state["began"] and state["iteration"] == state["iterations"] == 2
    assert [at for at, _ in state["curves"]["critic_loss"]] == [1, 2]
    assert state["samples"][-1] == {"iteration": 2, "songs": ["twinkle"]} and state["speed"] > 0
    song = run.song(2, 0)
    assert song["voices"][0]["notes"][0][:3] == [0, 450, 60]
    (run.sample(2, 0).parent / ".a.mid").write_bytes(b"")  # still being written
    assert run.state()["samples"] == state["samples"]
    assert run.sample(2, 0).stem == "twinkle"
    monkeypatch.chdir(workdir)
    assert watching.Watched(epath.Path(".")).state()["name"] == "run"
    assert run.sound(2, 0) == run.sample(2, 0).with_suffix(".wav").read_bytes()
    run.sample(2, 0).with_suffix(".wav").unlink()  # held-out pieces have none: then it is made
    assert run.sound(2, 0).startswith(b"RIFF")
    for wrong in ((3, 0), (2, 1), (2, -1)):
        with pytest.raises(UserError, match="no such sample"):
            run.song(*wrong)
    # Its model can be asked once it has saved one, and is loaded again only when there is a newer.
    assert state["saved"] and run.model() is run.model()
    worker = Worker(iter(()), FAULTS.append)
    app = Studio({"run": shipped}, worker, FAULTS.append, run).app("k", None)
    asked = TestClient(app, base_url=ADDRESS, headers={guard.TOKEN: "k"})
    names = [model["name"] for model in asked.get("/api/about").json()["models"]]
    assert names == ["run", "run (watched)"]
    assert "voices" in answered(asked, model="run (watched)")[-1]
    assert worker.end(60)
    # Out of reach for a moment; then it is found. A void log: another run may be there.
    other = watching.Watched(epath.Path(workdir))
    with monkeypatch.context() as patch:
        patch.setattr(watching, "load_model", out_of_reach)
        assert other.model() is None
    assert other.model() is not None and other.state()["saved"]
    log = workdir / "metrics.jsonl"
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    before = other.model()
    other.state()
    assert other.model() is not before
    # What is damaged is read once.
    damaged = watching.Watched(epath.Path(workdir))
    loads = []
    load = watching.load_model
    monkeypatch.setattr(watching, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    for path in (workdir / "checkpoints").glob("*/progress/metadata"):
        path.write_text("")
    assert damaged.model() is damaged.model() is None and len(loads) == 1
    # What cannot be read is told in a line.
    (workdir / "samples" / "000003").mkdir()
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").write_text("")
    assert not run.state()["saved"]
    monkeypatch.setattr(type(run.workdir), "iterdir", no_permission)
    reply = asked.get("/api/run")
    assert reply.status_code == 400 and "cannot be read" in reply.json()["error"]


def out_of_reach(*given, **named):
    raise RuntimeError("any fault of a library")


def no_permission(path):
    raise PermissionError(13, "Permission denied")


def test_a_log_is_read_as_it_grows(tmp_path, monkeypatch):
    parsed = []
    parse = logging.parse_line
    monkeypatch.setattr(logging, "parse_line", lambda text: parsed.append(text) or parse(text))
    path = tmp_path / "metrics.jsonl"
    log = Follower(epath.Path(path))
    assert log.new() == (False, [])
    path.write_text('{"iteration": 1}\nnonsense\n{"iteration": 2}\n{"itera')
    assert log.new() == (False, [{"iteration": 1}, {"iteration": 2}])
    with open(path, "a") as file:
        file.write('tion": 3}\n')
    del parsed[:]
    assert log.new() == (False, [{"iteration": 3}]) and len(parsed) == 2  # the last is empty
    assert log.new() == (False, [])
    with files.replacing(path) as temporary:  # as a run does that goes on from before
        temporary.write_text("".join(f'{{"iteration": {n}}}\n' for n in (1, 2, 3, 4)))
    again, lines = log.new()
    assert again and [line["iteration"] for line in lines] == [1, 2, 3, 4]
    path.unlink()
    assert log.new() == (True, []) and log.new() == (False, [])


def test_curves_are_thinned_and_speed_is_lately():
    lines = [{"iteration": n, "seconds": n / 4, "critic_loss": -n, "note": "x"} for n in range(999)]
    curves = watching.Curves()
    for line in lines:
        curves.add([line])
    curve = curves.points["critic_loss"]
    assert watching.POINTS / 2 <= len(curve) <= watching.POINTS
    assert curve[0] == [0, 0] and curve[-1] == [998, -998]
    assert len({b[0] - a[0] for a, b in itertools.pairwise(curve[:-1])}) == 1  # evenly
    assert curves.done == 998 and list(curves.points) == ["critic_loss"]
    assert watching.speed(curves.recent) == pytest.approx(4)
    assert watching.speed(lines) == pytest.approx(4)
    assert watching.speed([*lines, {"iteration": 3, "seconds": 0.1}]) == pytest.approx(4)
    assert watching.speed(lines[:1]) is None


# --- the rest


def test_keys_of_files_are_those_that_the_page_knows():
    for key in (*asking.KEYS, *asking.MINORS):
        content = songs.midi_bytes(asking.song(json.dumps(song(key=key)).encode()))
        assert songs.opened(content)["key"] == key


def test_models_are_told_apart(shipped, tmp_path):
    from musegan_jax.studio.serving import load_models

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        mg.save(changed(shipped), tmp_path / folder / "mine.safetensors")
    files = [str(tmp_path / folder / "mine.safetensors") for folder in ("a", "b")]
    assert list(load_models(files)) == ["chorales", "palestrina", "mine", "mine 2"]


@pytest.mark.parametrize(
    "words",
    ["--port 70000", "--port -1", "--host=", "--host no.such.host.invalid", "--model missing.x"],
)
def test_what_cannot_be_served_is_said_in_a_line(words, capsys):
    assert cli.main(["studio", "--no-browser", "--port", "0", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_serves_and_ends_with_ctrl_c():
    words = [sys.executable, "-m", "musegan_jax", "studio", "--no-browser", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address, _, key = process.stdout.readline().strip().partition("#")
        request = urllib.request.Request(f"{address}api/about", headers={guard.TOKEN: key})
        with urllib.request.urlopen(request) as reply:
            assert json.load(reply)["models"][0]["name"] == "chorales"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert said.splitlines()[-1] == "the studio has ended" and "Traceback" not in said
