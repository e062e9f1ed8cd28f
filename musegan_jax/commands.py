"""What each command does: calls the rest and prints. Heavy imports wait until they are needed."""

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musegan_jax.errors import UserError

Arguments = argparse.Namespace


def train(arguments: Arguments) -> None:
    """Train, and print the files of the last samples."""
    from musegan_jax import config

    settings = config.override(config.load(arguments.config), arguments.overrides)
    if arguments.deterministic:
        settings = config.override(settings, ["--training.deterministic=true"])
    with _processes(arguments, settings):
        from musegan_jax.training.loop import train

        for path in train(settings, arguments.workdir):
            print(path)


@contextlib.contextmanager
def _processes(arguments: Arguments, settings: Any) -> Iterator[None]:
    """The environment that a training needs: flags, the other processes, a quiet Orbax."""
    from musegan_jax import compilation_cache
    from musegan_jax.training import determinism, distributed

    determinism.enable(settings)
    if not settings.training.deterministic:
        # On a GPU a kept program holds choices that were made by timing, once.
        compilation_cache.keep()
    _quieten_orbax()
    options = (arguments.coordinator, arguments.processes, arguments.process_id)
    if not arguments.distributed and options != (None, None, None):
        raise UserError("--coordinator, --processes and --process-id need --distributed")
    with distributed.joined(*options) if arguments.distributed else contextlib.nullcontext():
        yield


def _quieten_orbax() -> None:
    """Orbax and TensorStore print tracebacks of errors that they also raise: we say one line."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # From callbacks whose event loop has gone, one for each array of a failed save.
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def fingerprint(arguments: Arguments) -> None:
    """Print the fingerprint of a checkpoint."""
    from musegan_jax import files
    from musegan_jax.training.checkpoint import open_run

    _quieten_orbax()
    _, saved = open_run(files.locate(arguments.workdir), _say, arguments.step)
    print(f"{'iteration':<17} {saved.state.step}")
    for name, digest in saved.fingerprint.items():
        print(f"{name:<17} {digest}")


def reproduce(arguments: Arguments) -> int:
    """Train again from a record, print how it compares; returns 0 if equal, else 1."""
    from musegan_jax import files

    if arguments.distributed and not arguments.workdir:
        raise UserError("--distributed needs --workdir: a folder that all processes share")
    from musegan_jax.training import reproduce as again

    path = files.locate(arguments.record)
    run, settings = again.plan(path, arguments.overrides)
    with _processes(arguments, settings), contextlib.ExitStack() as stack:
        workdir = arguments.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        equal, lines = again.reproduce(path, run, settings, files.locate(workdir))
    for line in lines:
        print(line)
    return 0 if equal else 1


def compose(arguments: Arguments) -> None:
    """Accompany a melody, and print the files."""
    if not 1 <= arguments.samples <= 1000:
        raise UserError("--samples must be from 1 to 1000")
    if not 0 <= arguments.temperature <= 10:
        raise UserError("--temperature must be from 0 to 10")
    if arguments.key is not None and not -127 <= arguments.key <= 127:
        raise UserError("--key must be from -127 to 127")
    _check_seed(arguments.seed)
    from musegan_jax import arrangement, compilation_cache, compose, files

    compilation_cache.keep()

    stem = Path(arguments.melody).stem
    names = [f"{stem}-{n + 1}" for n in range(arguments.samples)]
    names = [stem] if arguments.samples == 1 else names
    for name in names:
        target = arguments.out / f"{name}.mid"
        both = target.exists() and Path(arguments.melody).exists()
        if both and target.samefile(arguments.melody):
            raise UserError(f"--out {arguments.out}: it would replace the melody; name another")
    score = compose.load_melody(arguments.melody)
    part = compose.pick_part(score, arguments.track, arguments.melody)
    model = _model(arguments)
    programs = _programs(arguments.programs, model, arguments.keep_melody)
    melody = compose.prepare(score, part, model, arguments.key)
    files.make_folder(arguments.out)
    for line in compose.remarks(model, melody):
        _say(line)
    from musegan_jax.rendering import audio

    if audio.soundfont_player() is None:
        _say("sound: simple waves; the extra `audio` gives instruments")
    for sample, name in enumerate(names):
        roll = compose.generate(model, melody, arguments.seed, sample, arguments.temperature)
        human = arguments.seed + sample if arguments.humanise else None
        style = arrangement.Style(programs, arguments.keep_melody, human)
        answer = arrangement.to_midi(model, melody, roll, style)
        if not arrangement.has_accompaniment(model, roll):
            _say("the accompaniment is empty: the network left it silent")
        for path in arrangement.write_song(
            answer, arguments.out, name, f"{name}, seed {arguments.seed}"
        ):
            print(path)


def _model(arguments: Arguments) -> Any:
    """The model to compose with: of a run, of a file, or the shipped one."""
    from musegan_jax import files, model_file

    if arguments.workdir is None:
        if arguments.step is not None:
            raise UserError("--step names a checkpoint of a run: give its --workdir")
        return model_file.load(arguments.model or model_file.shipped())
    if arguments.model is not None:
        raise UserError("--workdir and --model both name a model; give one of them")
    from musegan_jax.training.checkpoint import load_model

    _quieten_orbax()
    return load_model(files.locate(arguments.workdir), _say, arguments.step)


def _programs(text: str | None, model: Any, keep_melody: bool) -> tuple[int, ...] | None:
    """`--programs` as numbers, one for each generated track that has pitches."""
    if text is None:
        return None
    from musegan_jax.arrangement import generated_tracks

    tracks = [model.tracks[k] for k in generated_tracks(model, keep_melody)]
    names = [track.name for track in tracks if not track.is_drum]
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdecimal()]
    if len(numbers) != len(words) or max(numbers) > 127 or len(words) != len(names):
        raise UserError(
            f"--programs {text}: it takes {len(names)} General MIDI programs from 0 to 127, "
            f"separated by commas, for {', '.join(names)}"
        )
    return tuple(numbers)


def export(arguments: Arguments) -> None:
    """Write a run's generator as one file, and print what it holds."""
    if arguments.out.suffix != ".safetensors":
        raise UserError(f"{arguments.out}: a model file is called something.safetensors")
    from musegan_jax import files, model_file
    from musegan_jax.training import record
    from musegan_jax.training.checkpoint import open_run
    from musegan_jax.training.state import inference_variables

    _quieten_orbax()
    run, saved = open_run(files.locate(arguments.workdir), _say, arguments.step)
    origin = {
        "iteration": int(saved.state.step),
        "fingerprint": saved.fingerprint,
        "config": run["config"],
        "dataset": {name: run["dataset"][name] for name in ("source", "sha256")},
        "session": run["sessions"][-1],
    }
    model = record.model(run, inference_variables(saved.state))
    digest = model_file.save(model, origin, arguments.out)
    print(f"iteration  {origin['iteration']}")
    print(f"SHA-256    {digest}")
    print(f"bytes      {arguments.out.stat().st_size}")
    print(arguments.out)


def evaluate(arguments: Arguments) -> None:
    """Measure a run's answers to held-out melodies, print the table and the files."""
    if not 2 <= arguments.flavours <= 100:
        raise UserError("--flavours must be from 2 to 100")
    _check_seed(arguments.seed)
    from musegan_jax import compilation_cache, files
    from musegan_jax.data import sources
    from musegan_jax.evaluation import report
    from musegan_jax.evaluation.evaluate import evaluate
    from musegan_jax.training import record
    from musegan_jax.training.checkpoint import open_run
    from musegan_jax.training.state import inference_variables

    compilation_cache.keep()
    _quieten_orbax()
    models, data = {}, None
    for path in [arguments.workdir, *arguments.beside]:
        workdir = files.locate(path)
        # Of the runs beside it, always the newest checkpoint.
        run, saved = open_run(workdir, _say, None if models else arguments.step)
        name = "model" if not models else workdir.name
        if name in models or name in ("training", "copied", "random", "held_out"):
            raise UserError(f"--beside {path}: a second column {name!r}; rename the folder")
        models[name] = record.model(run, inference_variables(saved.state))
        if data is None:
            data = sources.load(arguments.dataset or run["config"]["data"]["dataset"])
        _check_comparable(path, models[name], models["model"], data)
        if arguments.split in run["config"]["data"]["splits"]:
            _say(f"{path}: was trained on the split {arguments.split}: its scores flatter it")
    assert data is not None
    files.make_folder(arguments.out)
    result = evaluate(models, data, arguments.split, arguments.flavours, arguments.seed)
    for line in report.table(result.report):
        print(line)
    melody = next(iter(models.values())).config.condition_track
    for path in report.write(result, data, melody, files.locate(arguments.out)):
        print(path)


def _check_comparable(path: str, model: Any, first: Any, data: Any) -> None:
    """A model must hear the data as it heard its own, and the melody that the first one hears."""
    if list(model.tracks) != list(data.tracks):
        raise UserError(f"{path}: trained on other tracks than those of {data.source}")
    if model.steps_per_beat != data.steps_per_beat:
        raise UserError(
            f"{path}: trained on {model.steps_per_beat} steps a beat, {data.source} has "
            f"{data.steps_per_beat}"
        )
    if model.config.condition_track != first.config.condition_track:
        raise UserError(f"{path}: takes another track for the melody than the run it is beside")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed must be from 0 to {2**32 - 1}")


def _check_out(out: Path) -> None:
    """Refuse before the work, not after it."""
    if out.suffix != ".npz":
        raise UserError(f"{out}: a dataset file is called something.npz")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder to write into; make it, or name another")


def build_chorales(arguments: Arguments) -> None:
    """Make a dataset file of Bach's chorales."""
    _check_out(arguments.out)
    from musegan_jax.data.chorales import read_chorales

    _save(*read_chorales(), arguments.out)


def build_midi(arguments: Arguments) -> None:
    """Make a dataset file of a folder of MIDI files."""
    _check_out(arguments.out)
    for name, low, high in (("parts", 1, 16), ("steps_per_beat", 1, 96)):
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} must be from {low} to {high}")
    from musegan_jax.data import sources

    built = sources.read_midi_folder(arguments.folder, arguments.parts, arguments.steps_per_beat)
    _save(*built, arguments.out)


def _save(dataset, skipped, out: Path) -> None:  # noqa: ANN001 - their modules load later
    from musegan_jax.data import sources
    from musegan_jax.data.dataset import describe, save

    save(dataset, out)
    report = out.with_suffix(".skipped.txt")
    if skipped:
        sources.write_report(skipped, report)
        for line in sources.summarise(skipped):
            print(line, file=sys.stderr)
        print(f"{len(skipped)} files skipped; all of them are named in {report}", file=sys.stderr)
    else:
        report.unlink(missing_ok=True)
    print(describe(dataset))
    print(out)


def info(arguments: Arguments) -> None:
    """Describe a dataset file."""
    from musegan_jax.data.dataset import describe, load

    print(describe(load(arguments.file)))
