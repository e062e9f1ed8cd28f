"""Train again from a run record, and report whether the result is the same."""

from typing import Any

import jax
from etils import epath

from musegan_jax.config import Config, override
from musegan_jax.data import sources
from musegan_jax.errors import UserError
from musegan_jax.runs import processes, record
from musegan_jax.runs.environment import environment
from musegan_jax.runs.logging import read_lines
from musegan_jax.runs.record import Record
from musegan_jax.runs.timing import MEASURED
from musegan_jax.training.loop import train

# These do not change the numbers of the training; they save time and space.
_OUTPUT = (
    "--output.melodies=",
    "--output.held_out=0",
    "--output.keep_best=0",
    "--output.keep_checkpoints=1",
)


def plan(path: epath.Path, overrides: list[str]) -> tuple[Record, Config]:
    """Read a record, and make the config that repeats the run up to its last iteration.

    Raises:
        UserError: if there is no record, it has no result, or an override would change the run.
    """
    run = record.read_file(path)
    if run is None:
        raise UserError(f"{path}: no such file; give the run.json of a training run")
    recorded = _lines(path.parent / "fingerprints.jsonl")
    iteration = run.result.iteration if run.result else max(recorded, default=0)
    if not iteration:
        raise UserError(f"{path}: this run has no result to compare with yet; train it further")
    config = run.config
    # Also when only a part is repeated, the learning rates must be those of the whole run.
    end = f"--training.decay_until={config.training.last_decayed}"
    words = [*_OUTPUT, end, f"--training.iterations={iteration}", *overrides]
    decay_until = config.training.last_decayed
    config = override(config, words)
    if config.training.decay_until != decay_until:
        raise UserError(
            f"{path}: this run was trained with training.decay_until = {decay_until}, the command "
            f"says {config.training.decay_until}; leave it out"
        )
    if config.training.iterations > iteration:
        raise UserError(
            f"{path}: the recorded run ended at iteration {iteration}; set --training.iterations "
            "to at most that"
        )
    return run, config


def reproduce(
    path: epath.Path, run: Record, config: Config, workdir: epath.Path
) -> tuple[bool, list[str]]:
    """Train with the config of `plan`, and compare.

    Args:
        path: of the record; the run's fingerprints and scalars are read from the same folder.
        run: the record.
        config: from `plan`.
        workdir: an empty folder.

    Returns:
        Whether everything that both runs recorded is equal, and a report for the user.

    Raises:
        UserError: if the folder is not empty, or training fails.
    """

    def is_empty() -> bool:
        return not workdir.exists() or not any(workdir.iterdir())

    if not processes.decided(is_empty, "the workdir"):
        raise UserError(f"{workdir}: the folder is not empty; choose another workdir")
    data = sources.load(config.data.dataset)
    record.check_same(path, run, record.make(config, data))
    for line in _differences(run, environment(config)):
        processes.say(line)
    for part in _parts(run, config):
        train(part, workdir, data)

    def compared() -> tuple[bool, list[str]]:
        here = record.read(workdir)
        last = config.training.iterations
        if here is None or here.result is None or here.result.iteration < last:
            raise UserError(f"{workdir}: stopped early, so nothing was compared; start again")
        return compare(path, run, workdir)

    equal, report = processes.decided(compared, "the comparison")
    return equal, report if jax.process_index() == 0 else []


def _parts(run: Record, config: Config) -> list[Config]:
    """The config, or several if the learning rates got another end while the run was trained."""
    last = config.training.iterations
    decays = [each for each in record.decays(run) if each[0] < last]
    ends = [begin for begin, _ in decays[1:]] + [last]
    return [
        override(config, [f"--training.iterations={end}", f"--training.decay_until={until}"])
        for (_, until), end in zip(decays, ends, strict=True)
    ]


def _differences(run: Record, here: dict[str, Any]) -> list[str]:
    """How this environment differs from the recorded one, and whether that one changed."""
    *before, last = run.sessions
    lines = [f"differs from the record: {line}" for line in record.differences(last, here)]
    if any(record.differences(session, last) for session in before):
        lines.append(
            "the recorded run had sessions in different environments (see `sessions` in the "
            "record): one environment alone may not reproduce its bits"
        )
    return lines


def compare(path: epath.Path, run: Record, workdir: epath.Path) -> tuple[bool, list[str]]:
    """Compare the recorded run with the one in `workdir`: whether they are equal, and a report.

    Raises:
        UserError: if they have no saved iteration in common.
    """
    saved = _lines(path.parent / "fingerprints.jsonl")
    if run.result:
        saved[run.result.iteration] = run.result.fingerprint
    saved_here = _lines(workdir / "fingerprints.jsonl")
    both = sorted(saved.keys() & saved_here.keys())
    if not both:
        raise UserError(f"{path}: the two runs saved no iteration in common; nothing to compare")
    report = []
    scalars, scalars_here = _lines(path.parent / "metrics.jsonl"), _lines(workdir / "metrics.jsonl")
    for iteration in sorted(scalars.keys() & scalars_here.keys()):
        a, b = scalars[iteration], scalars_here[iteration]
        names = [n for n in a if n in b and a[n] != b[n] and n not in MEASURED]
        if names:
            values = ", ".join(f"{n} {a[n]!r} there, {b[n]!r} here" for n in names[:3])
            report.append(f"scalars first differ at iteration {iteration}: {values}")
            break
    for iteration in both:
        a, b = saved[iteration], saved_here[iteration]
        parts = [n for n in a if n not in ("iteration", "state") and a[n] != b.get(n)]
        if parts or a.get("state") != b.get("state"):
            report.append(f"the state first differs at iteration {iteration}: {', '.join(parts)}")
            return False, report
    if report:
        return False, report
    listed = ", ".join(map(str, both[-5:]))
    report.append(
        f"equal, bit for bit: {len(both)} saved states (iterations {'..., ' * (len(both) > 5)}"
        f"{listed}); the last is {saved[both[-1]]['state']}"
    )
    return True, report


def _lines(path: epath.Path) -> dict[int, dict[str, Any]]:
    """The lines of a file by iteration; lines of the same iteration are merged."""
    found: dict[int, dict[str, Any]] = {}
    for line in read_lines(path):
        found.setdefault(line["iteration"], {}).update(line)
    return found
