"""What checkpoints and samples cost the training: quickstart whole and bare; stalls of large saves.

COMMAND   python tests/proofs/overhead.py --pairs 1
          python tests/proofs/overhead.py --saves --megabytes 500
TIME      7 min a pair; 10 min for the saves, on two quiet cores

The first trains `configs/quickstart.py` with its own output, and without any, in turns, in one
process; both save their last state. Equal runs differ by some per cent, so besides the seconds of
both it prints, for each run, by how much the steps from each output on took longer than as many
usual steps. The overhead is the difference of these, as a share of the run with output. The second
saves a state of the given size every 20 iterations, and says how much longer the step after a save
is begun than after the others. Both take their times where steps are begun, so that other versions
of the loop can be measured alike: run the script with PYTHONPATH set to their checkout.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from musegan_jax import config as configs
from musegan_jax.runs import compilation_cache
from musegan_jax.training import loop, parallel

BARE = (
    "--output.sample_every=0", "--output.save_every=0", "--output.melodies=",
    "--output.held_out=0", "--output.keep_best=0",
)  # fmt: skip
EVERY = 20
AFTER = 25  # steps by which samples and a checkpoint are done


def begun(config: configs.Config) -> list[float]:
    """Train in a new folder; when each step was begun, and when the run was done, in seconds."""
    times, step = [], parallel.CompiledStep.__call__

    def timed(self, state, data):
        times.append(time.perf_counter())
        return step(self, state, data)

    parallel.CompiledStep.__call__ = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            loop.train(config, Path(folder) / "run")
            times.append(time.perf_counter())
    finally:
        parallel.CompiledStep.__call__ = step
    return times


def whole_and_bare(pairs: int, iterations: int) -> None:
    whole = configs.override(
        configs.load("configs/quickstart.py"), [f"--training.iterations={iterations}"]
    )
    every, shares = whole.output.save_every, []
    begun(configs.override(whole, [*BARE, "--training.iterations=10"]))  # compiles the step
    for pair in range(pairs):
        both, cost, seconds = (whole, configs.override(whole, BARE)), {}, {}
        for config in both if pair % 2 else both[::-1]:
            times = begun(config)
            gaps = [b - a for a, b in zip(times[:-2], times[1:-1], strict=True)]
            usual, total = statistics.median(gaps), times[-1] - times[0]
            # Gap n lies before the step of iteration n + 1, and holds what iteration n gives out.
            near = (gap for n, gap in enumerate(gaps, 1) if n >= every and n % every < AFTER)
            lost = sum(gap - usual for gap in near)
            last = times[-1] - times[-2]
            name = "whole" if config is whole else "bare"
            print(
                f"{name}: {total:.1f} s, a step {usual:.3f} s; longer than usual: {AFTER} steps "
                f"from each {every} on by {lost:.2f} s, last step and end by {last - usual:.2f} s",
                flush=True,
            )
            cost[name], seconds[name] = lost + last - usual, total
        shares.append((cost["whole"] - cost["bare"]) / seconds["whole"])
    print("overhead:", ", ".join(f"{share:+.1%}" for share in shares))


def stalls(megabytes: int, saves: int) -> None:
    """The reference has 12 bytes of state for each of 11 million parameters."""
    width = round(64 * (megabytes / 132) ** 0.5)
    filters = ",".join(str(width * n) for n in (1, 2, 4, 8))
    config = configs.override(
        configs.load("configs/reference.py"),
        [
            *BARE, "--training.batch_size=1", "--training.critic_updates=1",
            f"--model.generator_filters={filters}", f"--model.critic_filters={filters}",
            f"--output.save_every={EVERY}", f"--training.iterations={EVERY * (saves + 1)}",
            "--parallel.strategy=jit",
        ],
    )  # fmt: skip
    times = begun(config)[:-1]
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)][3:]
    # Gap n lies between the steps of iterations n + 3 and n + 4; a save comes before the latter.
    at_saves = [gap for n, gap in enumerate(gaps) if (n + 4) % EVERY == 0]
    others = [gap for n, gap in enumerate(gaps) if (n + 4) % EVERY]
    usual = statistics.median(others)
    lost = [gap - usual for gap in at_saves]
    after = sum(others) / len(others) - usual
    print(f"step {usual:.2f} s; stall at a save: median {statistics.median(lost):.2f} s of {lost}")
    print(f"all other steps are {after / usual:+.1%} longer than their median on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--saves", type=int, nargs="?", const=3, default=0)
    parser.add_argument("--megabytes", type=int, default=500)
    arguments = parser.parse_args()
    compilation_cache.keep()
    if arguments.saves:
        stalls(arguments.megabytes, arguments.saves)
    else:
        whole_and_bare(arguments.pairs, arguments.iterations)


if __name__ == "__main__":
    main()
