"""A trace of some iterations, for TensorBoard and Perfetto."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from etils import epath

from musegan_jax import files
from musegan_jax.errors import UserError
from musegan_jax.runs import processes


def parse(text: str) -> tuple[int, int]:
    """`FIRST:END` as two iterations.

    Raises:
        UserError: if it is not of this form.
    """
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise UserError(f"--profile {text}: it must be FIRST:END, iterations, as in 100:110")
    return int(first), int(end)


class Profile:
    """Traces process 0 from iteration `first` to `end`; no iterations, no trace."""

    def __init__(self, iterations: tuple[int, int] | None) -> None:
        """Wait for the first of the iterations."""
        self._iterations = iterations if jax.process_index() == 0 else None
        self._folder: Path | None = None

    def at(
        self,
        workdir: epath.Path,
        iteration: int,
        state: Any,
        ends: bool,
        say: Callable[[str], None] = processes.say,
    ) -> None:
        """Call this before each iteration, and where the run ends; `say` is told where it lies.

        Raises:
            UserError: if the trace cannot be written.
        """
        if self._iterations is None:
            return
        first, end = self._iterations
        if self._folder is None and first <= iteration < end and not ends:
            remote = files.is_remote(workdir)
            self._folder = Path(tempfile.mkdtemp()) if remote else Path(workdir / "profile")
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
        elif self._folder is not None and (iteration >= end or ends):
            jax.block_until_ready(state)
            self._iterations = None
            try:
                jax.profiler.stop_trace()
                traces = sorted(self._folder.rglob("perfetto_trace.json.gz"))
            except OSError as error:
                raise UserError(f"{self._folder}: the trace cannot be written ({error})") from error
            for path in self._folder.rglob("*") if files.is_remote(workdir) else ():
                if path.is_file():
                    target = workdir / "profile" / path.relative_to(self._folder).as_posix()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
            where = traces[-1].relative_to(self._folder).as_posix() if traces else ""
            say(f"trace: {workdir / 'profile'}, for TensorBoard's profile plugin;")
            say(f"for https://ui.perfetto.dev {where}")
