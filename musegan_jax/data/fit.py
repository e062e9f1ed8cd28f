"""Fit a config to a dataset: what it leaves open is taken from the data."""

import dataclasses

from musegan_jax import pianoroll
from musegan_jax.config import Config, ModelConfig
from musegan_jax.data.dataset import Dataset


def for_dataset(config: Config, dataset: Dataset) -> Config:
    """A config in which everything that depends on the dataset has the value that training uses.

    The number of tracks, where `model.tracks` is the default; the range of pitches, where
    `model.pitches` is 0. All datasets that `data build` makes have the melody on track 0, the
    default of `model.condition_track`.

    Raises:
        UserError: if the values do not fit together, for example `condition_track` is no track.
    """
    model = config.model
    if model.tracks == ModelConfig().tracks:
        model = dataclasses.replace(model, tracks=len(dataset.tracks))
    if not model.pitches:
        lowest, pitches = pitch_rows(dataset, config.data.transpose, model.multiple)
        model = dataclasses.replace(model, lowest_pitch=lowest, pitches=pitches)
    return dataclasses.replace(config, model=model)


def pitch_rows(dataset: Dataset, transpose: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The lowest pitch and the number of rows, a multiple of `multiple`, that hold all notes.

    With room for transposition, except of drums, and the rest of the rows evenly on both sides.
    """
    bounds = []
    for track, (low, high) in zip(dataset.tracks, dataset.bounds(), strict=True):
        down, up = (0, 0) if track.is_drum else transpose
        if low != pianoroll.SILENT:
            bounds += [low + down, high + up]
    highest = pianoroll.MIDI_PITCHES - 1
    low, high = (max(min(bounds), 0), min(max(bounds), highest)) if bounds else (0, highest)
    rows = -(-(high - low + 1) // multiple) * multiple
    spare = rows - (high - low + 1)
    return min(max(low - spare // 2, 0), pianoroll.MIDI_PITCHES - rows), rows
