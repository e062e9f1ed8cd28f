"""What each command does: calls the rest and prints. Heavy imports wait until they are needed."""

import argparse
import contextlib
import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musegan_jax import limits
from musegan_jax.data_commands import check
from musegan_jax.errors import UserError
from musegan_jax.terminal import show

Arguments = argparse.Namespace


def train(arguments: Arguments) -> int:
    """Train, print the files of the last samples; returns 0, or a status if stopped early."""
    from musegan_jax import config, files

    settings = config.override(config.load(arguments.config), arguments.overrides)
    if arguments.deterministic:
        settings = config.override(settings, ["--training.deterministic=true"])
    with _processes(arguments, settings), _reported(files.locate(arguments.workdir)):
        from musegan_jax.training import profiling
        from musegan_jax.training.loop import train

        traced = profiling.parse(arguments.profile) if arguments.profile else None
        written = train(settings, arguments.workdir, profile=traced)
        for path in written or ():
            show(path)
        return arguments.stopped_status if written is None else 0


def doctor(arguments: Arguments) -> None:
    """Measure the set-up, and print the report."""
    from musegan_jax import config

    with _processes(arguments, config.Config()):
        from musegan_jax.training.doctor import examine

        for line in examine(arguments.workdir):
            show(line)


@contextlib.contextmanager
def _reported(workdir: Any) -> Iterator[None]:
    """Write the runtime's full error to a file of the workdir; the message ends with its name."""
    try:
        yield
    except UserError as error:
        # Of our own errors and the operating system's the line says all there is.
        told = error.__cause__ is None or isinstance(error.__cause__, (OSError, UserError))
        if told or not workdir.is_dir():
            raise
        import jax

        path = workdir / f"error-{jax.process_index()}.txt"
        with contextlib.suppress(OSError):
            path.write_text("".join(traceback.format_exception(error)))
            raise UserError(f"{error} (in full: {path})") from error.__cause__
        raise


@contextlib.contextmanager
def _processes(arguments: Arguments, settings: Any) -> Iterator[None]:
    """The environment that a training needs: flags, the other processes, a quiet Orbax."""
    from musegan_jax.runs import compilation_cache
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


def fingerprint(arguments: Arguments) -> None:
    """Print the fingerprint of a checkpoint."""
    from musegan_jax import files
    from musegan_jax.training.load import open_run

    _quieten_orbax()
    _, saved = open_run(files.locate(arguments.workdir), arguments.step)
    print(f"{'iteration':<17} {saved.iteration}")
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
        if arguments.workdir:
            stack.enter_context(_reported(files.locate(workdir)))
        equal, lines = again.reproduce(path, run, settings, files.locate(workdir))
    for line in lines:
        show(line)
    return 0 if equal else 1


def compose(arguments: Arguments) -> None:
    """Accompany a melody, and print the files."""
    check(arguments, "samples", "temperature", "key", "seed", "steps")
    flavours = _flavours(arguments)
    from musegan_jax import files
    from musegan_jax.composing import arrangement, melody, walk
    from musegan_jax.composing.accompany import decode_melody
    from musegan_jax.composing.song import beginning, write_song
    from musegan_jax.data import midi, notation
    from musegan_jax.data.melody_line import pick_part
    from musegan_jax.data.readers import scores
    from musegan_jax.rendering import audio
    from musegan_jax.runs import compilation_cache
    from musegan_jax.runs.processes import say

    compilation_cache.keep()

    stem = Path(arguments.melody).stem
    names = [f"{stem}-{n + 1}" for n in range(flavours["count"])]
    names = [stem] if len(names) == 1 else names
    endings = (".mid", ".musicxml") if arguments.musicxml else (".mid",)
    for target in (arguments.out / (name + ending) for name in names for ending in endings):
        both = target.exists() and Path(arguments.melody).exists()
        if both and target.samefile(arguments.melody):
            raise UserError(f"--out {arguments.out}: it would replace the melody; name another")
    if arguments.musicxml:
        scores.check_installed()
    score = melody.load_melody(arguments.melody)
    part = pick_part(score, arguments.track, arguments.melody)
    model = _model(arguments)
    style = arrangement.Style(
        programs=_programs(arguments.programs, model, arguments.keep_melody),
        keep_melody=arguments.keep_melody,
        melody_only=arguments.melody_only,
        keep_accompaniment=arguments.keep_accompaniment,
    )
    prepared = melody.prepare(score, part, model, arguments.key)
    files.make_folder(arguments.out)
    for line in (*melody.remarks(model, prepared), *arrangement.remarks(prepared, style)):
        say(line)
    if audio.soundfont_player() is None:
        say("sound: simple waves; the extra `audio` gives instruments")
    start = 0 if arguments.keep_silence else beginning(prepared.score)
    if start + audio.excerpt(prepared.score, start).end < prepared.score.end:
        say(f"sound: a part, of up to {audio.MAX_SECONDS // 60} minutes; the MIDI file is whole")
    kept = arrangement.kept_notes(model, prepared) if style.keep_accompaniment else None
    answers = walk.asked(model, prepared, **flavours, temperature=arguments.temperature)
    for sample, (name, (flavour, signed)) in enumerate(zip(names, answers, strict=True)):
        roll = decode_melody(model, prepared, signed, arguments.decoding, kept=kept)
        human = arguments.seed + sample if arguments.humanise else None
        song = arrangement.to_midi(model, prepared, roll, style._replace(humanise=human))
        if not arrangement.has_accompaniment(model, roll):
            say("the accompaniment is empty: the network left it silent")
        title = f"{name}, {flavour}"
        for path in write_song(song, arguments.out, name, title, arguments.keep_silence):
            show(path)
        if arguments.musicxml:
            # Without the small delays, which no notation has signs for.
            plain = midi.parse(arrangement.to_midi(model, prepared, roll, style), name)
            path = arguments.out / f"{name}.musicxml"
            if not notation.write(plain, path, name, model.steps_per_beat):
                say(f"{path}: notes that lie on no grid are rounded to the model's")
            show(path)


def _flavours(arguments: Arguments) -> dict[str, Any]:
    """The options that say which flavours `compose` writes, checked, for `walk.asked`."""
    ends, steps = arguments.between, arguments.steps
    if ends is None and steps is not None:
        raise UserError("--steps is of a walk between two flavours: give --between SEED SEED")
    if ends is not None and arguments.samples != 1:
        raise UserError("--samples and --between both say which flavours; give one of them")
    for seed in ends or ():
        limits.within("seed", seed, "--between")
    count = (steps or 5) if ends else arguments.samples
    return {"seeds": ends or [arguments.seed], "count": count}


def _model(arguments: Arguments) -> Any:
    """The model that --workdir or --model names, or the shipped one."""
    from musegan_jax import files
    from musegan_jax.models import model_file

    if arguments.workdir is None:
        if arguments.step is not None:
            raise UserError("--step names a checkpoint of a run: give its --workdir")
        return model_file.load(arguments.model or model_file.shipped())
    if arguments.model is not None:
        raise UserError("--workdir and --model both name a model; give one of them")
    from musegan_jax.training.load import load_model

    _quieten_orbax()
    return load_model(files.locate(arguments.workdir), arguments.step)


def _programs(text: str | None, model: Any, keep_melody: bool) -> tuple[int, ...] | None:
    """`--programs` as numbers, one for each generated track that has pitches."""
    if text is None:
        return None
    from musegan_jax.composing.arrangement import generated_tracks
    from musegan_jax.data.instruments import programs_for

    tracks = [model.tracks[k] for k in generated_tracks(model, keep_melody)]
    names = [track.name for track in tracks if not track.is_drum]
    return programs_for(text, names)


def export(arguments: Arguments) -> None:
    """Write a run's model as one file, and print what it holds."""
    if arguments.out.suffix != ".safetensors":
        raise UserError(f"{arguments.out}: a model file is called something.safetensors")
    from musegan_jax import files
    from musegan_jax.models import model_file
    from musegan_jax.training.load import load_model

    _quieten_orbax()
    model = load_model(files.locate(arguments.workdir), arguments.step)
    digest = model_file.save(model, arguments.out)
    print(f"iteration  {model.origin['iteration']}")
    print(f"SHA-256    {digest}")
    print(f"bytes      {arguments.out.stat().st_size}")
    show(arguments.out)


def evaluate(arguments: Arguments) -> None:
    """Measure a model's accompaniments of held-out melodies, print the table and the files."""
    check(arguments, "flavours", "seed")
    from musegan_jax import files, numerics
    from musegan_jax.data import sources
    from musegan_jax.evaluation import report
    from musegan_jax.evaluation.evaluate import evaluate
    from musegan_jax.models import model_file
    from musegan_jax.runs import compilation_cache
    from musegan_jax.runs.processes import say
    from musegan_jax.training.load import load_model

    compilation_cache.keep()
    _quieten_orbax()
    model = _model(arguments)
    models = {"model": model}
    for path in arguments.beside:
        place = files.locate(path)
        if place.stem in (*models, "training", "noise", "copied", "random", "held_out"):
            raise UserError(f"--beside {path}: a second column {place.stem!r}; rename it")
        named = path in model_file.shipped_models() and not place.exists()
        models[place.stem] = (
            model_file.load(path) if named or place.is_file() else load_model(place)
        )
    trained_on = model.origin.get("config", {}).get("data", {})
    data = sources.load(arguments.dataset or trained_on.get("dataset", "chorales"))
    for name, each in models.items():
        _check_comparable(name, each, model, data)
        if arguments.split in each.origin.get("config", {}).get("data", {}).get("splits", ()):
            say(f"{name}: was trained on the split {arguments.split}: its scores flatter it")
    files.make_folder(arguments.out)
    split, flavours, seed = arguments.split, arguments.flavours, arguments.seed
    rule, noise = arguments.decoding, arguments.noise
    with numerics.pinned():
        result = evaluate(models, data, split, flavours, seed, rule, noise)
    for line in report.table(result.report):
        show(line)
    melody = model.config.condition_track
    for path in report.write(result, data, melody, files.locate(arguments.out)):
        show(path)


def _check_comparable(name: str, model: Any, first: Any, data: Any) -> None:
    """A model must be given data as it was trained on, and the melody that the first one gets."""
    if list(model.tracks) != list(data.tracks):
        raise UserError(f"{name}: trained on other tracks than those of {data.source}")
    if model.steps_per_beat != data.steps_per_beat:
        raise UserError(
            f"{name}: trained on {model.steps_per_beat} steps a beat, {data.source} has "
            f"{data.steps_per_beat}"
        )
    if model.config.condition_track != first.config.condition_track:
        raise UserError(f"{name}: takes another track for the melody than the model it is beside")
