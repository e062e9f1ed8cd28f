"""The config of a record in a line, for the report."""

from collections.abc import Sequence
from typing import Any


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
