"""Time our training iteration against the same GAN in Keras and PyTorch, alternating.

COMMAND   uv run --with keras --with tensorflow --with torch python benchmarks/peers.py \
              --peers keras,torch --iterations 8
NEEDS     keras and tensorflow for the peer keras, torch for the other

First every peer is checked to compute the same as ours, see `peers.checks`. Every implementation is
a process that waits while the others run. A round is ours, peer, ours, next peer; a ratio is the
time of ours over that of the peer just after it. A turn's first iteration is not timed.
"""

import importlib.util
import math
import os
import statistics
import sys
from collections.abc import Callable

import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from peers import checks
from peers.worker import Worker

PACKAGES = {"keras": ("keras", "tensorflow"), "torch": ("torch",), "torch-eager": ("torch",)}
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")  # recorded, as they change speed
WARM_UP = 2  # iterations after the one that compiles
TURN = 0.5  # seconds; of shorter iterations a turn queues several
EXAMPLES = 8  # in the checks


def need_packages(peers: list[str]) -> None:
    """Check that every peer is known and installed.

    Raises:
        UserError: if not, naming the command that installs it.
    """
    for peer in peers:
        if peer not in PACKAGES:
            raise UserError(f"--peers: {peer!r} is none of {', '.join(PACKAGES)}")
        missing = [name for name in PACKAGES[peer] if importlib.util.find_spec(name) is None]
        if missing:
            added = "".join(f"--with {name} " for name in PACKAGES[peer])
            raise UserError(
                f"--peers: {peer} needs {' and '.join(missing)}: uv run {added}python "
                f"benchmarks/peers.py, or pip install {' '.join(missing)}"
            )


def check(peer: Worker, start: dict, inputs: dict, expected: dict) -> dict[str, float]:
    """Print and return how much the peer's answers differ from ours.

    Raises:
        UserError: if any differs by more than the tolerance.
    """
    peer.ask("load", start)
    found = peer.ask("answers", *(inputs[name] for name in ("real", "noise", "weight")))
    errors = checks.differences(expected, found)
    for kind, error, name in checks.summary(errors):
        worst = "" if kind == name else f"  ({name.split(' ')[-1]})"
        print(f"  {kind:26} {error:.1e}{worst}", flush=True)
    if not checks.agree(errors, checks.KINKS):
        raise UserError(
            f"{peer.name} does not compute the same as ours: the difference is above "
            f"{checks.TOLERANCE}, or {checks.KINKS} in gradients and new weights"
        )
    return errors


def measure(
    workers: dict[str, Worker], rounds: int, keep: Callable[[dict[str, dict]], None]
) -> dict[str, dict]:
    """Compile all, then time ours and each peer in alternation; times by name.

    `turns` are the times of an implementation, `pairs` of a peer (ours just before it, its own).
    `keep` gets the results after each round: whatever stops this then costs one round.
    """
    results = {}
    for name, worker in workers.items():
        first = worker.ask("time", 1)["wall_s"]
        warm = min(worker.ask("time", 1)["wall_s"] for _ in range(WARM_UP))
        count = max(1, math.ceil(TURN / warm))
        # The first call also runs once; the rest of its time is tracing and compiling.
        results[name] = {"compile_s": max(0.0, first - warm), "per_turn": count, "turns": []}
    peers = [name for name in workers if name != "ours"]
    for name in peers:
        results[name]["pairs"] = []

    def turn(name: str) -> float:
        # In the first iteration after a pause, caches hold the others' data: on CPU ours and theirs
        # then take up to a fifth longer. Training has no pauses, so do not time it.
        workers[name].ask("time", 1)
        seconds = workers[name].ask("time", results[name]["per_turn"])
        results[name]["turns"].append(seconds)
        return seconds["wall_s"]

    for _ in range(rounds):
        for name in peers:
            ours, theirs = turn("ours"), turn(name)
            results[name]["pairs"].append((ours, theirs))
            print(f"  ours {ours:.4g} s, {name} {theirs:.4g} s", flush=True)
        summarise(results)
        keep(results)
    return results


def summarise(results: dict[str, dict]) -> None:
    """Add medians, quantiles and ratios to what has been measured so far."""
    for result in results.values():
        seconds = sorted(seconds["wall_s"] for seconds in result["turns"])
        result["median_s"] = statistics.median(seconds)
        result["p10_s"], result["p90_s"] = quantile(seconds, 0.1), quantile(seconds, 0.9)
        if "pairs" in result:
            result["ratios"] = [ours / theirs for ours, theirs in result["pairs"]]


def quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the ordered values, as `numpy.quantile`."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def report(results: dict[str, dict]) -> None:
    """Print one line for each implementation, and the ratios."""
    for name, result in results.items():
        line = (
            f"{name:11} compile {result['compile_s']:.1f} s; iteration, median of "
            f"{len(result['turns'])}: "
            f"{result['median_s']:.4g} s (p10 {result['p10_s']:.4g}, p90 {result['p90_s']:.4g})"
        )
        if ratios := result.get("ratios"):
            line += (
                f"; ours/{name} {statistics.median(ratios):.2f}, pair by pair "
                f"{min(ratios):.2f} to {max(ratios):.2f}"
            )
        print(line)


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument(
        "--peers",
        default="keras,torch",
        help="some of keras, torch, torch-eager, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--iterations", type=int, default=8, help="turns of each peer (default: %(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="check only (default: check, then measure)"
    )
    arguments, overrides = parser.parse_known_args()
    records.need_target("--json", arguments.json)
    records.need_at_least(1, iterations=arguments.iterations)
    config = configs.override(configs.load(arguments.config), overrides)
    peers = arguments.peers.split(",")
    need_packages(peers)
    errors, described = {}, {}

    def keep(results: dict[str, dict]) -> None:
        record = {
            "benchmark": "peers",
            "environment": described["ours"],
            "config": config.to_dict(),
            "precision": config.model.dtype,
            "variables": {name: os.environ.get(name, "") for name in VARIABLES},
            "implementations": described,
            "differences": errors,
            "results": results,
        }
        records.write(arguments.json, record)

    workers = {"ours": Worker("ours", config)}
    try:
        rolls = workers["ours"].ask("rolls")
        case = workers["ours"].ask("answers", min(EXAMPLES, config.training.batch_size))
        weights = workers["ours"].ask("weights")
        described["ours"] = workers["ours"].ask("describe")
        for name in peers:
            workers[name] = Worker(name, config, rolls)
            print(f"{name}: relative difference from ours", flush=True)
            errors[name] = check(workers[name], *case)
            described[name] = workers[name].ask("describe")
            # A new process, so that the compile time includes what the checks compiled.
            workers[name].stop()
            if not arguments.check:
                workers[name] = Worker(name, config, rolls)
                workers[name].ask("load", weights)
        results = {} if arguments.check else measure(workers, arguments.iterations, keep)
    finally:
        for worker in workers.values():
            worker.stop()
    report(results)
    if arguments.check:
        keep(results)


if __name__ == "__main__":
    sys.exit(records.command(run))
