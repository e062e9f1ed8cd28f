"""What a larger batch costs: the quickstart for equal numbers of examples, at several batch sizes.

COMMAND   python tests/proofs/batches.py --seeds 0 1 2
TIME      3 min a run on two quiet cores; a run for each size, rule and seed

A batch k times as large has a k-th of the iterations, and learning rates as they are, times the
square root of k, or times k. Printed is what the run logs last of held-out pieces and of its
losses: `distance` and `harmony` are small where accompaniments measure as the pieces themselves
(docs/music.md); `critic_loss` is minus the estimated Wasserstein distance plus the penalty.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from musegan_jax import config as configs
from musegan_jax.runs import compilation_cache
from musegan_jax.training import loop

BASE = configs.load("configs/quickstart.py")
RULES = {"same": 0.0, "root": 0.5, "linear": 1.0}
SHOWN = ("distance", "harmony", "valid/semitone_clash", "critic_loss", "cross_entropy")


def trained(size: int, rule: str, seed: int, iterations: int) -> dict[str, float]:
    times = size / BASE.training.batch_size
    rates = {
        f"training.{name}": getattr(BASE.training, name) * times ** RULES[rule]
        for name in ("generator_learning_rate", "critic_learning_rate")
    }
    config = configs.override(
        BASE,
        [
            f"--training.batch_size={size}", f"--training.seed={seed}",
            f"--training.iterations={round(iterations / times)}", "--output.sample_every=0",
            "--output.save_every=0", "--output.melodies=", "--output.held_out=24",
            *(f"--{name}={rate}" for name, rate in rates.items()),
        ],
    )  # fmt: skip
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        loop.train(config, Path(folder) / "run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    last: dict[str, float] = {}
    for line in lines:
        last |= json.loads(line)
    return {name: last[name] for name in SHOWN} | {"seconds": time.perf_counter() - begin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=["same", "root"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=1000, help="at the config's own size")
    arguments = parser.parse_args()
    compilation_cache.keep()
    print("size  rule    iterations  " + "  ".join(SHOWN))
    for size in arguments.sizes:
        own = size == BASE.training.batch_size  # by every rule the same
        for rule in arguments.rules[:1] if own else arguments.rules:
            found = [trained(size, rule, seed, arguments.iterations) for seed in arguments.seeds]
            means = "  ".join(
                f"{statistics.mean(each[name] for each in found):{len(name)}.3f}" for name in SHOWN
            )
            steps = round(arguments.iterations * BASE.training.batch_size / size)
            print(f"{size:4}  {rule:6}  {steps:10}  {means}", flush=True)


if __name__ == "__main__":
    main()
