"""How a record came about, for the report: its config in a line, and its command."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import records
from musegan_jax import config as configs

# Words of a command; None where a record does not tell them.
Words = list[Any] | None

# The flags of a run that nobody gave any: scaling.py sets the second itself.
FLAGS = ("", "--xla_force_host_platform_device_count=8")


def config_of(record: dict) -> dict[str, Any]:
    """The config; of tpu_compile the first slice's, from which others differ in the batch only."""
    return record["slices"][0]["config"] if "slices" in record else record["config"]


def config_line(record: dict) -> str:
    """Sizes of the networks and of what they see; batch and precision where all rows have one."""
    model, data = config_of(record)["model"], config_of(record)["data"]
    generator, critic = (
        ", ".join(map(str, model[f"{network}_filters"])) for network in ("generator", "critic")
    )
    filters = (
        f"filters {generator} in both networks"
        if generator == critic
        else f"filters {generator} in the generator, {critic} in the critic"
    )
    facts = [filters, f"{model['pitches']} pitches", f"{data['window_steps']} steps"]
    chip = " a chip" if record["benchmark"] == "tpu_compile" else ""
    facts += [f"batch {batch}{chip}" for batch in only(batches(record))]
    rows = record["rows"] if record["benchmark"] == "train_step" else []
    facts += only([row["precision"] for row in rows] or [model["dtype"]])
    return f"Config: {'; '.join(facts)}."


def batches(record: dict) -> list[int]:
    """The batches that a record has figures of."""
    if record["benchmark"] == "compose":  # a melody at a time
        return []
    if record["benchmark"] == "tpu_compile":
        return [
            one["config"]["training"]["batch_size"] // int(one["chips"]) for one in record["slices"]
        ]
    if record["benchmark"] in ("train_step", "scaling"):
        return [row["batch_size"] for row in record["rows"]]
    return [record["config"]["training"]["batch_size"]]


def only(values: Sequence[Any]) -> list[Any]:
    """The value that all are, as a list; nothing if there are several."""
    return list(set(values)) if len(set(values)) == 1 else []


def command_line(path: Path, record: dict) -> str | None:
    """A sentence with the command that makes the record; None where that is not certain."""
    if "command" in record:
        return f"Made by `{record['command']}`."
    # Records did not always keep it.
    words = OPTIONS[record["benchmark"]](record) if plain(record["environment"]) else None
    if words is None:
        return None
    script, target = f"{record['benchmark']}.py", f"benchmarks/results/{path.name}"
    line = records.command_line([script, *map(str, words), "--json", target])
    return f"Made before records kept their commands; its content is that of `{line}`."


def plain(environment: dict) -> bool:
    """Whether nothing but the command decides what runs: one CPU process without flags."""
    return (
        environment["device"]["platform"] == "cpu"
        and environment["processes"] == 1
        and environment["xla_flags"] in FLAGS
        and environment["precision"]["matmul"] == "default"
    )


def shipped(config: dict, name: str, *words: str) -> bool:
    """Whether a config is a shipped one, with fields set by `words`."""
    whole = configs.override(configs.load(records.CHECKOUT / "configs" / f"{name}.py"), words)
    return whole.to_dict() == config


def of_train_step(record: dict) -> Words:
    """One row, of the config itself."""
    (row, *more), config = record["rows"], record["config"]
    own = [row["batch_size"], row["precision"], row["strategy"]]
    training = [config["training"]["batch_size"], config["model"]["dtype"]]
    if more or "failed" in row or own != [*training, config["parallel"]["strategy"]]:
        return None
    wall = ["--wall", record["wall"]["iterations"]] if "wall" in record else []
    return ["--turns", len(row["seconds"]), *wall] if shipped(config, "reference") else None


def of_peers(record: dict) -> Words:
    """With the variables that peers.py sets itself."""
    peers = [name for name in record["results"] if name != "ours"]
    variables = {"OMP_NUM_THREADS": "", "OMP_WAIT_POLICY": "passive"}
    if not peers or record["variables"] != variables or not shipped(record["config"], "reference"):
        return None
    turns = len(record["results"][peers[0]]["turns"])
    return ["--peers", ",".join(peers), "--iterations", turns]


def of_tpu_compile(record: dict) -> Words:
    """Slices with one batch a chip."""
    config, chip = config_of(record), only(batches(record))
    batch = config["training"]["batch_size"]
    words = (f"--training.batch_size={batch}", "--model.dtype=bfloat16")
    if not chip or not shipped(config, "reference", *words):
        return None
    topologies = [one["topology"] for one in record["slices"]]
    return ["--topology", *topologies, "--batch-per-chip", *chip]


def of_input_pipeline(record: dict) -> Words:
    """Any."""
    if not shipped(record["config"], "chorales"):
        return None
    files, feed = [one["files"] for one in record["build"]], record["feed"]
    turns, iterations = len(feed["once"]["seconds"]), feed["iterations_per_turn"]
    return ["--files", *files, "--turns", turns, "--iterations", iterations]


def of_compose(record: dict) -> Words:
    """With the run that compose.py makes for itself: only there the data have this name."""
    if Path(record["config"]["data"]["dataset"]).name != "pieces.npz":
        return None
    return ["--times", len(record["rows"][0]["cold"]["seconds"])]


def of_scaling(record: dict) -> Words:
    """Simulated devices and the small networks, with the default batches."""
    rows, small = (
        record["rows"],
        ("--model.generator_filters=16,32", "--model.critic_filters=16,32"),
    )
    if not shipped(record["config"], "tiny", *small, "--training.batch_size=32"):
        return None
    devices = sorted({row["devices"] for row in rows})
    weak = {row["batch_size"] / row["devices"] for row in rows if row["scaling"] == "weak"}
    if weak != {32 // devices[-1]}:
        return None
    strategies = dict.fromkeys(row["strategy"] for row in rows)
    times = ["--iterations", len(rows[0]["seconds"])]
    return ["--devices", *devices, "--strategies", *strategies, *times]


OPTIONS: dict[str, Callable[[dict], Words]] = {
    "train_step": of_train_step,
    "peers": of_peers,
    "tpu_compile": of_tpu_compile,
    "input_pipeline": of_input_pipeline,
    "compose": of_compose,
    "scaling": of_scaling,
}
