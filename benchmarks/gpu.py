"""Benchmark an accelerator in ten minutes: everything that we could not measure without one.

COMMAND   uv run --extra cuda --with torch python benchmarks/gpu.py --name h100
NEEDS     the extra `cuda`; torch for the peers, which are otherwise left out; keras and tensorflow
          for Keras beside it. In an image that has jax, flax, optax, orbax-checkpoint and numpy,
          uv is not needed: python benchmarks/gpu.py
TIME      at most `--limit` seconds, 570 by default

Runs the other scripts one after another, each in its own process, the most telling first: our step
in bf16 (with the lab's 1000 iterations), compiled and eager PyTorch beside it, Keras in float32,
the time of every kernel beside its bytes, float32 with products in TF32, what bit-for-bit equality
costs, ten iterations in one dispatch, and two flags of XLA's that nobody has run here yet: short
CUDA graphs, and convolutions fused with what follows them.
A script whose share of the time is up is stopped, with all that it has started. It keeps what it
has written by then: rows, modes, rounds with the peers; only `kernels.py` writes once, at its end.
"""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

# The package may be in this checkout only, not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import records
from musegan_jax.errors import UserError

HERE = Path(__file__).resolve().parent
FUSED = "--xla_gpu_experimental_enable_conv_fusion=true"
# Also stretches of two to four kernels become CUDA graphs, which fill most of the program.
GRAPHS = "--xla_gpu_graph_min_graph_size=2"
# Kernels within a CUDA graph do not name their instruction: none for the trace.
TRACED = "--xla_gpu_enable_command_buffer="


class Part(NamedTuple):
    """A script to run.

    Attributes:
        script: its file.
        words: its arguments; the last one is the record.
        share: of the time, relative to the other parts'; what one leaves over is for those after.
        flags: added to XLA_FLAGS.
    """

    script: str
    words: list[str]
    share: float
    flags: str = ""


def parts(
    name: str, config: str, out: Path, batch_sizes: str, overrides: list[str], on_gpu: bool
) -> list[Part]:
    """What to run, most important first; records go into `out`."""
    sizes = batch_sizes.split(",")
    base = ["--config", config, "--parallel.strategy=jit", *overrides]
    bf16 = [*base, "--model.dtype=bfloat16"]
    traced = [*bf16, f"--training.batch_size={sizes[len(sizes) // 2]}"]
    rows = ["--batch-sizes", batch_sizes]

    def record(benchmark: str) -> list[str]:
        return ["--json", str(out / f"{benchmark}_{name}.json")]

    made = [Part("train_step.py", [*bf16, *rows, "--wall", "1000", *record("train_step")], 3)]
    if importlib.util.find_spec("torch"):
        peers = ["--peers", "torch,torch-eager", "--iterations", "5"]
        made.append(Part("peers.py", [*bf16, *peers, *record("peers")], 3))
    if all(map(importlib.util.find_spec, ("keras", "tensorflow"))):
        # Apart, since the Keras peer computes in float32 only.
        peers = ["--peers", "keras", "--iterations", "5"]
        made.append(Part("peers.py", [*base, *peers, *record("peers_float32")], 2))
    made += [
        Part("kernels.py", [*traced, *record("kernels")], 1, TRACED if on_gpu else ""),
        Part("train_step.py", [*base, *rows, *record("train_step_float32")], 3),
        Part("repeat.py", [*traced, *record("repeat")], 2),
    ]
    small = [*bf16, "--batch-sizes", sizes[0], "--together", "10"]
    made.append(Part("train_step.py", [*small, *record("train_step_together")], 1))
    if on_gpu:
        graphs = [*bf16, "--batch-sizes", sizes[0], *record("train_step_graphs")]
        made.append(Part("train_step.py", graphs, 1, GRAPHS))
        made.append(Part("train_step.py", [*bf16, *rows, *record("train_step_fused")], 2, FUSED))
    return made


def has_gpu() -> bool:
    """Whether JAX finds a GPU; asked in another process, so that this one holds no memory."""
    code = "import jax; print(jax.devices()[0].platform)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1:] == ["gpu"]


def finish_or_stop(part: Part, seconds: float) -> int | None:
    """Run a part: its exit status, or None if it was stopped because its time was up."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    flags = f"{os.environ.get('XLA_FLAGS', '')} {part.flags}".strip()
    process = subprocess.Popen(
        [sys.executable, str(HERE / part.script), *part.words],
        env=os.environ | {"PYTHONPATH": path} | ({"XLA_FLAGS": flags} if flags else {}),
        start_new_session=True,
    )
    try:
        return process.wait(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Processes of its own would go on, and be measured with the part after it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run() -> None:
    parser = records.parser(__doc__, record=False, config="configs/reference.py")
    parser.add_argument(
        "--name", required=True, help="name of the accelerator, for file names (no default)"
    )
    parser.add_argument(
        "--batch-sizes",
        default="64,256,1024",
        help="separated by commas; the middle one is traced (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "results",
        help="folder for the records (default: benchmarks/results)",
    )
    parser.add_argument(
        "--limit", type=float, default=570, help="seconds in total (default: %(default)s)"
    )
    arguments, overrides = parser.parse_known_args()
    if not arguments.name or "/" in arguments.name or os.sep in arguments.name:
        raise UserError(
            f"--name {arguments.name!r}: give a part of a file name, such as h100; folder: --out"
        )
    records.need_at_least(60, limit=arguments.limit)  # in less time nothing compiles
    records.need_folder("--out", arguments.out)
    end = time.monotonic() + arguments.limit
    todo = parts(
        arguments.name,
        arguments.config,
        arguments.out,
        arguments.batch_sizes,
        overrides,
        has_gpu(),
    )
    failed = []
    for place, part in enumerate(todo):
        left = end - time.monotonic()
        share = left * part.share / sum(other.share for other in todo[place:])
        print(f"== {part.script} {' '.join(part.words)} (at most {share:.0f} s)", flush=True)
        record = Path(part.words[-1])
        before = record.stat().st_mtime_ns if record.exists() else None
        status = finish_or_stop(part, share)
        if status is None:
            print(f"{part.script}: stopped, its time is up", flush=True)
            # What an earlier run has left is no result of this one.
            kept = record.exists() and record.stat().st_mtime_ns != before
            failed += [] if kept else [part]
        elif status:
            failed.append(part)
    if failed:
        names = " and ".join(Path(part.words[-1]).name for part in failed)
        raise UserError(f"{names} were not completed; see above")


if __name__ == "__main__":
    sys.exit(records.command(run))
