"""Benchmark an accelerator in ten minutes: ours, the PyTorch peers, the lab's 1000 iterations.

COMMAND   uv run --extra cuda --with torch python benchmarks/gpu.py --name h100
NEEDS     the extra `cuda`; torch for the peers, which are otherwise left out. In an image that has
          jax, flax, optax, orbax-checkpoint and numpy, uv is not needed: python benchmarks/gpu.py
TIME      at most `--limit` seconds, 570 by default

Runs the other scripts one after another, each in its own process. A script that is still running
when its time is up is stopped: then `train_step.py` keeps the rows it has written, `peers.py` has
written nothing.
"""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import records
from musegan_jax.errors import UserError

HERE = Path(__file__).parent
PEERS_SHARE = 0.45  # of the time, reserved for the peers: PyTorch compiles for minutes


def commands(name: str, config: str, out: Path) -> list[list[str]]:
    """The commands to run, most important first; records go into `out`."""
    base = ["--config", config, "--model.dtype=bfloat16", "--parallel.strategy=jit"]
    made = [
        [
            "train_step.py", *base,
            "--batch-sizes", "64,256,1024", "--precisions", "bfloat16,float32",
            "--wall", "1000", "--json", str(out / f"train_step_{name}.json"),
        ]
    ]  # fmt: skip
    if importlib.util.find_spec("torch"):
        made.append(
            [
                "peers.py", *base, "--peers", "torch,torch-eager",
                "--iterations", "5", "--json", str(out / f"peers_{name}.json"),
            ]
        )  # fmt: skip
    return made


def run() -> None:
    parser = records.parser(__doc__, record=False)
    parser.add_argument(
        "--name", required=True, help="name of the accelerator, for file names (no default)"
    )
    parser.add_argument(
        "--config", default="configs/reference.py", help="config file (default: %(default)s)"
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
    arguments = parser.parse_args()
    if not arguments.name or "/" in arguments.name or os.sep in arguments.name:
        raise UserError(
            f"--name {arguments.name!r}: give a part of a file name, such as h100; folder: --out"
        )
    records.need_at_least(60, limit=arguments.limit)  # in less time nothing compiles
    records.need_folder("--out", arguments.out)
    end = time.monotonic() + arguments.limit
    # The package may be in this checkout only, not installed.
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    failed = []
    todo = commands(arguments.name, arguments.config, arguments.out)
    for place, (script, *words) in enumerate(todo):
        left = end - time.monotonic()
        share = left if place == len(todo) - 1 else left * (1 - PEERS_SHARE)
        print(f"== {script} {' '.join(words)} (at most {share:.0f} s)", flush=True)
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / script), *words],
                env=os.environ | {"PYTHONPATH": path},
                timeout=share,
            )
            failed += [script] if done.returncode else []
        except subprocess.TimeoutExpired:
            print(f"{script}: stopped, the time is up", flush=True)
            failed += [] if Path(words[-1]).exists() else [script]
    if failed:
        raise UserError(f"{' and '.join(failed)} wrote no complete record; see above")


if __name__ == "__main__":
    sys.exit(records.command(run))
