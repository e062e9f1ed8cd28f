"""The command as a person types it: exit status, one line of error, no traceback."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time

import jax
import mido
import pytest

import musegan_jax
from conftest import in_new_process, make_dataset
from musegan_jax import cli
from musegan_jax import config as configs
from musegan_jax.data import dataset, melodies
from musegan_jax.pianoroll import Track
from musegan_jax.training import loop
from test_compose import make_song


@pytest.fixture(scope="module")
def workdir(tiny, tmp_path_factory):
    """A finished run."""
    path = tmp_path_factory.mktemp("run")
    loop.train(tiny, path)
    return path


def run(capsys, *argv):
    try:
        status = cli.main([str(word) for word in argv])
    except SystemExit as stop:  # argparse's own way out
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def test_help_and_imports_are_light():
    """`--help` in half a second: nothing heavy is imported for it, nor by the package itself."""
    code = (
        "import sys, musegan_jax.cli\n"
        "try: musegan_jax.cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'mido', 'matplotlib', 'orbax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert all(len(line) <= 80 for line in in_new_process(code).splitlines())


def test_compose_writes_a_song(workdir, tmp_path, capsys):
    status, out, err = run(
        capsys, "compose", "twinkle", "--workdir", workdir, "--out", tmp_path / "song"
    )
    assert status == 0, err
    assert out.splitlines() == [
        str(tmp_path / "song" / f"twinkle.{kind}") for kind in ("mid", "wav", "png")
    ]
    names = [track.name for track in mido.MidiFile(tmp_path / "song" / "twinkle.mid").tracks[1:]]
    assert names == ["Melody", "A", "T", "B"]


def test_the_same_seed_gives_the_same_bytes(workdir, tmp_path, capsys):
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        status, _, err = run(
            capsys, "compose", "ode_to_joy", "--workdir", workdir, "--out", tmp_path / folder,
            "--seed", seed, "--samples", 2,
        )  # fmt: skip
        assert status == 0, err
    names = sorted(os.listdir(tmp_path / "a"))
    assert names == sorted(
        f"ode_to_joy-{n}.{kind}" for n in (1, 2) for kind in ("mid", "png", "wav")
    )
    for name in names:
        a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert a == b, name
        assert a != c, name
    flavours = [(tmp_path / "a" / f"ode_to_joy-{n}.mid").read_bytes() for n in (1, 2)]
    assert flavours[0] != flavours[1]


def test_a_run_is_exported_and_composed_with(workdir, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    status, said, err = run(capsys, "export", workdir, "--out", out)
    assert status == 0, err
    assert said.splitlines()[0].split() == ["iteration", "4"] and said.splitlines()[-1] == str(out)
    for folder, words in (("file", ["--model", out]), ("shipped", [])):
        status, _, err = run(
            capsys, "compose", "twinkle", *words, "--out", tmp_path / folder,
            "--programs", "0,honky,2", "--key=2", "--temperature", "0.5", "--no-humanise",
        )  # fmt: skip
        assert status == 0, err
        assert "2 semitones higher" in err
        song = mido.MidiFile(tmp_path / folder / "twinkle.mid")
        programs = [m.program for track in song.tracks for m in track if m.type == "program_change"]
        assert programs[-3:] == [0, 3, 2]


@pytest.mark.slow
def test_own_music_needs_no_override(tmp_path, capsys, monkeypatch):
    """Twelve songs with the melody on the last track, by the README's commands."""
    from proofs.own_music import song

    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    for n in range(12):
        song(n, bars=8).save(tmp_path / "music" / f"{n}.mid")
    status, out, err = run(capsys, "data", "build", "midi", "music", "--out", "mine.npz")
    assert status == 0 and "the track Lead in 12" in err, err
    assert "valid       2 pieces" in out and "test        3 pieces" in out
    fast = ["--training.iterations=1", "--model.generator_filters=4,4,4,4", "--output.melodies="]
    status, _, err = run(
        capsys, "train", "--config", "own", "--workdir", tmp_path / "run",
        "--model.critic_filters=4,4,4,4", *fast,
    )  # fmt: skip
    assert status == 0, err
    assert "the melody (track Melody) is silent" in err
    model = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["model"]
    assert (model["tracks"], model["condition_track"]) == (4, 0)
    # As used: the bass at 36 less 5 semitones, the melody at 90 and 6 more.
    assert model["lowest_pitch"] <= 31 and model["lowest_pitch"] + model["pitches"] > 96


def test_a_melody_is_not_replaced_by_its_song(workdir, tmp_path, capsys):
    melodies.melody("twinkle").midi.save(tmp_path / "mine.mid")
    before = (tmp_path / "mine.mid").read_bytes()
    status, _, err = run(capsys, "compose", tmp_path / "mine.mid", "--out", tmp_path)
    assert status == 2 and "would replace the melody" in err
    assert (tmp_path / "mine.mid").read_bytes() == before
    two = ("--samples", 2, "--workdir", workdir)
    status, _, err = run(capsys, "compose", tmp_path / "mine.mid", "--out", tmp_path, *two)
    assert status == 0, err
    assert (tmp_path / "mine.mid").read_bytes() == before


def test_evaluate(workdir, tmp_path, capsys):
    dataset.save(make_dataset(pieces=60), tmp_path / "many.npz")
    status, out, err = run(
        capsys, "evaluate", "--workdir", workdir, "--beside", workdir, "--out", tmp_path / "e",
        "--split", "valid", "--flavours", 2, "--dataset", tmp_path / "many.npz",
    )  # fmt: skip
    assert status == 0, err
    assert "semitone_clash" in out and str(tmp_path / "e" / "metrics.json") in out
    found = json.loads((tmp_path / "e" / "metrics.json").read_text())
    columns = found["measures"]["semitone_clash"]["scores"]
    assert columns["model"] == columns[workdir.name]  # the same run twice


@pytest.mark.slow
def test_evaluate_takes_a_model_file(workdir, tmp_path, capsys):
    """By its own decoding rule, and its column is the run's whose model it is."""
    dataset.save(make_dataset(pieces=60), tmp_path / "many.npz")
    assert run(capsys, "export", workdir, "--out", tmp_path / "m.safetensors")[0] == 0
    words = ["--split", "valid", "--flavours", 2, "--dataset", tmp_path / "many.npz"]
    found = {}
    for name, model in (
        ("run", ["--workdir", workdir]),
        ("file", ["--model", tmp_path / "m.safetensors"]),
    ):
        for rule in ("independent", "lines"):
            out = tmp_path / f"{name}-{rule}"
            status, _, err = run(
                capsys, "evaluate", *model, "--out", out, "--decoding", rule, *words
            )
            assert status == 0, err
            found[name, rule] = json.loads((out / "metrics.json").read_text())
    clash = {
        key: each["measures"]["semitone_clash"]["scores"]["model"] for key, each in found.items()
    }
    # A file's parameters are of half precision.
    assert clash["file", "lines"] == pytest.approx(clash["run", "lines"], abs=0.02)
    assert clash["file", "independent"] > clash["file", "lines"] + 0.1
    assert found["file", "lines"]["decoding"] == "lines"


def test_the_shipped_model_is_evaluated_without_either(tmp_path, capsys, data_file):
    status, _, err = run(capsys, "evaluate", "--out", tmp_path / "e", "--dataset", data_file)
    assert status == 2 and "model: trained on other tracks than those of made up" in err


def test_debug_shows_the_traceback(tmp_path, capsys):
    words = ["compose", "tinkle", "--out", tmp_path]
    for argv in (["--debug", *words], [*words, "--debug"]):
        status, _, err = run(capsys, *argv)
        assert status == 2 and "Traceback" in err and "load_melody" in err
        assert err.splitlines()[-1].startswith("musegan-jax: tinkle: no such file")


def test_the_doctor_fits_a_screen(tmp_path, capsys):
    status, out, err = run(capsys, "doctor", "--workdir", tmp_path)
    lines = out.splitlines()
    assert status == 0 and not err and len(lines) <= 24 and max(map(len, lines)) <= 80, out
    for title in ("versions", "host", "devices", "processes", "matmul", "all-reduce", "disk"):
        assert any(line.startswith(title) for line in lines), out
    assert "4 x cpu" in out and "slow here" in out
    assert not list(tmp_path.iterdir())


def test_what_the_runtime_said_is_kept_in_a_file(tiny, tmp_path, capsys, monkeypatch):
    long = "RESOURCE_EXHAUSTED: " + 300 * "x" + "\nand the allocator's table"

    def full(*arguments):
        raise jax.errors.JaxRuntimeError(long)

    monkeypatch.setattr(loop, "_loop", full)
    words = ["--config", "tiny", f"--data.dataset={tiny.data.dataset}", "--output.melodies="]
    status, _, err = run(capsys, "train", *words, "--workdir", tmp_path)
    assert (
        status == 2
        and "out of memory" in err
        and err.splitlines()[-1].endswith(f"(in full: {tmp_path / 'error-0.txt'})")
    )
    assert "and the allocator's table" in err.splitlines()
    assert long in (tmp_path / "error-0.txt").read_text()


@pytest.mark.parametrize("call", [["-m", "musegan_jax"], ["-m", "musegan_jax.cli"]])
def test_it_is_a_module_too(call):
    done = subprocess.run([sys.executable, *call, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == musegan_jax.__version__


def start(*words, shell="", **options):
    """The command in a process of its own, in a shell that may close or fill its streams."""
    command = [sys.executable, "-m", "musegan_jax.cli", *map(str, words)]
    if shell:
        command = ["bash", "-c", f'exec "$@" {shell}', "-", *command]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_streams_that_are_closed_or_full(data_file):
    info = ["data", "info", data_file]
    assert start(*info, shell=">&-").returncode == 0  # nobody wants to know
    assert start(*info, shell="<&- >&- 2>&-").returncode == 0
    full = start(*info, shell=">/dev/full")
    assert (
        full.returncode == 2 and full.stderr == b"musegan-jax: writing: No space left on device\n"
    )
    for words in (["--help"], ["--version"]):
        full = start(*words, shell=">/dev/full")  # argparse itself ignores it
        assert full.returncode in (0, 2) and full.stderr.count(b"\n") <= 1, full.stderr
    mute = start("data", "info", "none.npz", shell="2>/dev/full")
    assert mute.returncode == 2 and mute.stdout == b""
    assert start("data", "info", "none.npz", shell="2>&-").stdout == b""


def test_names_from_files_do_not_reach_the_terminal_as_they_are(tmp_path, capsys):
    """They could move the cursor, and write what looks like lines of ours."""
    evil = "\x1b[2Jx\nmusegan-jax: all is well\x9b\u202e"
    tracks = {(evil, 0): [(0, 1, 60)], ("y" * 900, 1): [(0, 1, 64)]}
    path = tmp_path / f"{evil}.mid"
    content = io.BytesIO()
    make_song(tracks).midi.save(file=content)
    path.write_bytes(content.getvalue())
    for words in (["--track", "nine"], ["--programs", evil], ["--step", evil]):
        status, out, err = run(capsys, "compose", path, "--out", tmp_path / "out", *words)
        assert status == 2 and err.count("\n") == 1 and len(err) < 3000
        assert err.removesuffix("\n").isprintable(), err
    named = dataclasses.replace(
        make_dataset(), source=evil, tracks=tuple(Track(evil, 0) for _ in range(4))
    )
    dataset.save(named, tmp_path / "evil.npz")
    status, out, _ = run(capsys, "data", "info", tmp_path / "evil.npz")
    assert status == 0 and all(line.isprintable() for line in out.splitlines())
    assert not [line for line in out.splitlines() if line.startswith("musegan-jax")]


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are UTF-8")
def test_names_that_are_not_utf_8(workdir, tmp_path, data_file):
    """In one process: a song, an exported model, and what is not there."""
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    name = folder + b"/tune-\xe9.mid"
    melodies.melody("twinkle").midi.save(os.fsdecode(name))
    done = start("compose", os.fsdecode(name), "--workdir", workdir, "--out", os.fsdecode(folder))
    assert done.returncode == 2 and b"would replace the melody" in done.stderr, done.stderr
    out = os.fsdecode(folder + b"/out")
    done = start("compose", os.fsdecode(name), "--workdir", workdir, "--out", out)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert len(os.listdir(out)) == 3 and done.stdout.count(b"\n") == 3
    for words in (
        ["data", "info", os.fsdecode(name)],
        ["compose", "twinkle", "--model", os.fsdecode(name), "--out", out],
        ["train", "--config", os.fsdecode(name), "--workdir", out],
    ):
        done = start(*words)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_ctrl_c_while_the_command_is_imported(delay):
    code = (
        "import sys, time\n"
        "import musegan_jax.cli as cli\n"
        "print('here', flush=True)\n"
        "sys.argv = ['musegan-jax', 'compose', 'twinkle', '--out', '/dev/null/no']\n"
        "raise SystemExit(cli.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"here\n"
    time.sleep(0.01 + delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err
    assert (process.returncode, err) == (130, b"musegan-jax: interrupted\n") or (
        process.returncode == 2 and b"cannot write into this folder" in err  # it was quicker
    )


def test_what_should_not_happen_has_a_status_of_its_own(tmp_path):
    """1 means that two runs differ, and is Python's own for a traceback."""
    code = (
        "import sys\n"
        "from musegan_jax import cli, data_commands\n"
        "def fail(arguments): raise ZeroDivisionError('told')\n"
        "data_commands.info = fail\n"
        "sys.argv = ['musegan-jax', 'data', 'info', 'x']\n"
        "raise SystemExit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3 and "ZeroDivisionError: told" in done.stderr
    assert "please report it" in done.stderr.splitlines()[-1]


def test_every_field_is_listed_with_its_default_and_meaning(capsys):
    _, out, _ = run(capsys, "train", "--help")
    for section, fields in configs.Config().to_dict().items():
        for field in fields:
            assert f"--{section}.{field}=" in out
    for section in dataclasses.fields(configs.Config):
        for field in dataclasses.fields(getattr(configs.Config(), section.name)):
            assert len(field.metadata["meaning"]) >= 8, field.name
    assert "--data.splits=train\n" in out and "semitones" in out


def test_data_build_and_info(tmp_path, capsys):
    folder = tmp_path / "music"
    folder.mkdir()
    for n in range(3):
        file = mido.MidiFile(ticks_per_beat=96)
        for channel in (0, 1):
            track = mido.MidiTrack()
            for pitch in (60, 62, 64, 65):
                track.append(mido.Message("note_on", note=pitch, channel=channel, time=0))
                track.append(mido.Message("note_off", note=pitch, channel=channel, time=96))
            file.tracks.append(track)
        file.save(folder / f"{n}.mid")
    (folder / "bad.MID").write_bytes(b"MThd")
    out = tmp_path / "mine.npz"
    status, _, err = run(capsys, "data", "build", "midi", folder, "--parts", 2, "--out", out)
    assert status == 0
    assert "skipped 1: " in err and "bad.MID" in (tmp_path / "mine.skipped.txt").read_text()
    picture = tmp_path / "mine.png"
    status, text, err = run(capsys, "data", "info", out, "--picture", picture)
    assert status == 0 and "pieces      3" in text and "3 pieces, 0 held out in valid" in err
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.splitlines()[-1] == str(picture) and picture.stat().st_size > 5000


def test_compose_says_what_is_dropped_and_keeps_it_if_asked(workdir, tmp_path, capsys):
    """A piano with a left hand, a bass and drums; nothing sounds for four bars; the end is cut."""
    from test_compose import make_song

    hands = [(n, n + 1, p) for n in range(20, 42) for p in (76 + n % 3, 43)]
    beat = [(n, n + 0.25, 36) for n in range(16, 42)]
    make_song({("Piano", 0): hands, ("Bass", 1): hands[1::2], ("Kit", 9): beat}).midi.save(
        tmp_path / "band.mid"
    )
    content = (tmp_path / "band.mid").read_bytes()
    (tmp_path / "band.mid").write_bytes(content[:-9])
    said, names = {}, {}
    for folder, words in (
        ("plain", []),
        ("kept", ["--keep-accompaniment", "--keep-silence", "--melody-only"]),
    ):
        status, _, said[folder] = run(
            capsys, "compose", tmp_path / "band.mid", "--workdir", workdir, "--out",
            tmp_path / folder, *words,
        )  # fmt: skip
        assert status == 0, said[folder]
        names[folder] = [t.name for t in mido.MidiFile(tmp_path / folder / "band.mid").tracks[1:]]
    assert names == {
        "plain": ["Piano", "A", "T", "B"],
        "kept": ["Piano", "A", "T", "B", "Bass", "Kit"],
    }
    assert "a damaged file: track 4 ends inside an event" in said["plain"]
    assert "left out, the file's other tracks: Bass, Kit" in said["plain"]
    assert "22 of 44 notes are chords or a left hand" in said["plain"]
    assert "sound on beside the answer (without them: --melody-only)" in said["plain"]
    assert "left out, 22 notes of chords or a left hand" in said["kept"]
    sizes = [(tmp_path / folder / "band.wav").stat().st_size for folder in ("plain", "kept")]
    assert sizes[0] < sizes[1]


BAD = {
    "no command": [],
    "unknown command": ["sing"],
    "unknown option": ["compose", "twinkle", "--workdir", "RUN", "--out", "OUT", "--loud"],
    "no such melody": ["compose", "twinkel", "--workdir", "RUN", "--out", "OUT"],
    "no such track": ["compose", "twinkle", "--workdir", "RUN", "--out", "OUT", "--track", "9"],
    "no such run": ["compose", "twinkle", "--workdir", "none", "--out", "OUT"],
    "out is a file": ["compose", "twinkle", "--workdir", "RUN", "--out", "pyproject.toml"],
    "samples": ["compose", "twinkle", "--workdir", "RUN", "--out", "OUT", "--samples", "0"],
    "seed": ["compose", "twinkle", "--workdir", "RUN", "--out", "OUT", "--seed", "-1"],
    "text for a number": ["compose", "twinkle", "--workdir", "R", "--out", "O", "--seed", "x"],
    "not music": ["compose", "README.md", "--workdir", "RUN", "--out", "OUT"],
    "temperature": ["compose", "twinkle", "--out", "OUT", "--temperature", "-1"],
    "programs": ["compose", "twinkle", "--out", "OUT", "--programs", "1,2"],
    "no program": ["compose", "twinkle", "--out", "OUT", "--programs", "1,2,128"],
    "no instrument": ["compose", "twinkle", "--out", "OUT", "--programs", "1,2,kazoo"],
    "no model file": ["compose", "twinkle", "--out", "OUT", "--model", "none.safetensors"],
    "no model in it": ["compose", "twinkle", "--out", "OUT", "--model", "README.md"],
    "two models": ["compose", "twinkle", "--out", "OUT", "--model", "m", "--workdir", "RUN"],
    "step of no run": ["compose", "twinkle", "--out", "OUT", "--step", "3"],
    "export what": ["export", "none", "--out", "OUT.safetensors"],
    "export as what": ["export", "RUN", "--out", "OUT.zip"],
    "export where": ["export", "RUN", "--out", "no/where.safetensors"],
    "huge key": ["compose", "twinkle", "--out", "OUT", "--key", "1" + 20 * "0"],
    "flavours": ["evaluate", "--workdir", "RUN", "--out", "OUT", "--flavours", "1"],
    "evaluate what": ["evaluate", "--workdir", "none", "--out", "OUT"],
    "split": ["evaluate", "--workdir", "RUN", "--out", "OUT", "--split", "train"],
    "no config": ["train", "--config", "none.py", "--workdir", "OUT"],
    "no decoding": ["compose", "twinkle", "--out", "OUT", "--decoding", "choir"],
    "nor here": ["evaluate", "--workdir", "RUN", "--out", "OUT", "--decoding", "choir"],
    "nor in training": [
        "train", "--config", "tiny", "--workdir", "OUT", "--output.decoding=choir",
        "--data.dataset=DATA",
    ],
    "no shipped config": ["train", "--config", "chorale", "--workdir", "OUT"],
    "unknown field": ["train", "--config", "configs/tiny.py", "--workdir", "OUT", "--data.x=1"],
    "no dataset": [
        "train", "--config", "configs/tiny.py", "--workdir", "OUT", "--data.dataset=none.npz",
    ],
    "not a dataset": [
        "train", "--config", "configs/tiny.py", "--workdir", "OUT", "--data.dataset=README.md",
    ],
    "other config": ["train", "--config", "configs/quickstart.py", "--workdir", "RUN"],
    "no literal": ["train", "--config", "tiny", "--workdir", "OUT", "--training.seed={[]:1}"],
    "deep literal": [
        "train", "--config", "tiny", "--workdir", "OUT", "--training.seed=" + 9000 * "[",
    ],
    "long number": [
        "train", "--config", "tiny", "--workdir", "OUT", "--data.transpose=" + 5000 * "1",
    ],
    "too many": [
        "train", "--config", "tiny", "--workdir", "OUT", "--training.iterations=2147483648",
    ],
    "no folder": ["data", "build", "midi", "none", "--out", "OUT.npz"],
    "no music in it": ["data", "build", "midi", "configs", "--out", "OUT.npz"],
    "suffix": ["data", "build", "midi", "tests", "--out", "OUT.zip"],
    "parts": ["data", "build", "midi", "tests", "--parts", "0", "--out", "OUT.npz"],
    "no such file": ["data", "info", "none.npz"],
    "a folder": ["data", "info", "tests"],
    "no name": ["data", "info", ""],
    "nowhere": ["data", "build", "chorales", "--out", ""],
}  # fmt: skip


# What the line says, where another fault would end in one line as well.
SAID = {
    "temperature": "--temperature",
    "programs": "takes 3 General",
    "no program": "128 is no General MIDI program",
    "no instrument": "'kazoo' is no General MIDI instrument",
    "no model file": "no such model file",
    "no model in it": "not a valid model",
    "two models": "both name a model",
    "step of no run": "give its --workdir",
    "export what": "not the folder of",
    "export as what": "safetensors",
    "export where": "cannot be written",
    "flavours": "--flavours = 1: it must",
    "evaluate what": "not the folder of",
    "split": "invalid choice",
    "huge key": "--key = 1000",
    "no name": "it is empty",
    "nowhere": "it is empty",
    "no decoding": "--decoding = 'choir': it must be one of joint, lines, independent",
    "nor here": "--decoding = 'choir'",
    "nor in training": "config: output.decoding = choir",
    "no literal": "training.seed = {[]:1}: it must be a whole number",
    "deep literal": "training.seed = [[[",
    "too many": "it must be from 1 to 2**31 - 1",
    "no shipped config": "did you mean chorales?",
    "unknown field": "config: unknown field 'data.x'",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, workdir, tmp_path, capsys, data_file):
    places = {"RUN": str(workdir), "OUT": str(tmp_path / "out"), "OUT.npz": str(tmp_path / "o.npz"),
              "OUT.zip": str(tmp_path / "o.zip"),
              "OUT.safetensors": str(tmp_path / "o.safetensors")}  # fmt: skip
    argv = [places.get(word, word) for word in BAD[case]]
    argv = [word.replace("=DATA", f"={data_file}") for word in argv]
    if case == "other config":
        argv.append(f"--data.dataset={data_file}")
    before = sorted(workdir.rglob("*"))
    status, out, err = run(capsys, *argv)
    assert status == 2, err
    assert out == "" and err.count("\n") == 1 and err.startswith("musegan-jax")
    assert "Traceback" not in err and SAID.get(case, "") in err
    assert not list(tmp_path.rglob("*")) and sorted(workdir.rglob("*")) == before


def test_the_configs_command_lines_parse(capsys):
    assert configs.load("configs/tiny.py")
    status, out, _ = run(capsys, "train", "--help")
    assert status == 0 and "--training.batch_size=32" in out


def test_a_second_start_finds_the_compiled_program(tmp_path):
    """In the user's cache folder, and only where JAX has not been told otherwise; silently."""
    code = (
        "import jax, jax.numpy as jnp\n"
        "from musegan_jax.runs import compilation_cache\n"
        "hits = []\n"
        "jax.monitoring.register_event_listener(\n"
        "    lambda name, **_: hits.append(name) if name.endswith('cache_hits') else None)\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "compilation_cache.keep()\n"
        "x = jnp.ones((64, 64))\n"
        "hits.clear()\n"
        "jax.jit(lambda x: jnp.sin(x) @ x)(x)\n"
        "print(len(hits))\n"
    )
    unset = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR")
    plain = {name: value for name, value in os.environ.items() if name not in unset}
    plain["XDG_CACHE_HOME"] = str(tmp_path / "home")

    def hits(**extra):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=plain | extra
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return int(done.stdout)

    assert (hits(), hits()) == (0, 1)
    # A process was killed while it wrote the entry: it is written anew, silently.
    folder = next((tmp_path / "home" / "musegan-jax").iterdir())
    entries = [path for path in folder.iterdir() if path.name.endswith("-cache")]
    for entry in entries:
        os.truncate(entry, entry.stat().st_size // 2)
    assert entries
    assert (hits(), hits()) == (0, 1)
    assert hits(NPROC="7") == 0  # programs for another number of threads give other bits
    assert hits(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == 0
    assert list((tmp_path / "mine").iterdir())
    assert hits(JAX_ENABLE_COMPILATION_CACHE="false") == 0
    (tmp_path / "file").touch()
    assert hits(XDG_CACHE_HOME=str(tmp_path / "file")) == 0  # cannot be written: done without
