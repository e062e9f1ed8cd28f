"""Whether a peer computes what we compute."""

import re

import numpy as np

TOLERANCE = 1e-4

# Where rounding carries a unit over the kink of its activation, its gradient jumps. In the narrow
# networks of the tests no unit does, and gradients agree to TOLERANCE too. Among the millions of
# the reference some do: against PyTorch in float64 the worst array of gradients was off by 5e-4
# with us, 3e-3 with Keras and 7e-3 with PyTorch in float32, though rolls and scores agree to 1e-5.
KINKS = 2e-2

CLEAR = 1e-2  # a gradient this share of its layer's root mean square is not rounding

# These biases change no loss: BatchNorm takes the mean away again, and the critic's last bias
# cancels between real and fake rolls. Their gradients are zero but for rounding, of which Adam's
# first update makes a step of full length.
IDLE = re.compile(r"generator/UpsampleConv_(\d+)/bias|critic/Dense_0/bias")


def _norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(np.ravel(x).astype(np.float64)))


def differences(expected: dict, found: dict) -> dict[str, float]:
    """How far each array is from ours: `||found - expected|| / ||expected||` by name.

    The gradients of biases that change no loss are held against the gradient of their layer's
    kernel. New values count where the gradient is clear of zero: elsewhere rounding decides the
    direction of Adam's first update, whose length does not depend on the gradient's.
    """
    if expected.keys() != found.keys():
        raise ValueError(f"not the same quantities: {sorted(expected.keys() ^ found.keys())}")
    last = max(int(n) for n in re.findall(r"new generator/UpsampleConv_(\d+)/bias", str(expected)))
    errors = {}
    for name, value in expected.items():
        if value.shape != found[name].shape:
            raise ValueError(f"{name}: shape {found[name].shape} instead of {value.shape}")
        match = IDLE.search(name)
        idle = match is not None and match[1] != str(last)
        if idle and name.startswith("new "):
            continue
        scale = expected[name.replace("/bias", "/kernel")] if idle else value
        distance = found[name] - value
        gradient = expected.get(name.replace("new ", "gradient of "))
        if name.startswith("new ") and gradient is not None:
            typical = np.sqrt(np.mean(gradient**2))
            distance = np.where(np.abs(gradient) > CLEAR * typical, distance, 0)
        errors[name] = _norm(distance) / max(_norm(scale), 1e-30)
    return errors


def summary(errors: dict[str, float]) -> list[tuple[str, float, str]]:
    """The worst of each kind: what, how far, and which array."""
    kinds: dict[str, dict[str, float]] = {}
    for name, error in errors.items():
        first = name.split(" ")[0]
        if first in ("gradient", "new"):
            network = "critic" if "critic/" in name else "generator"
            kind = f"{'gradients' if first == 'gradient' else 'new weights'}, {network}"
        else:
            kind = name
        kinds.setdefault(kind, {})[name] = error
    # A NaN compares as neither larger nor smaller; here it must win.
    rank = {kind: max(found, key=lambda n: np.nan_to_num(found[n], nan=np.inf))
            for kind, found in kinds.items()}  # fmt: skip
    return [(kind, kinds[kind][name], name) for kind, name in rank.items()]


def agree(errors: dict[str, float], gradients: float = TOLERANCE) -> bool:
    """Whether every array is within the tolerance, gradients and what they move within theirs."""
    return all(
        error <= (gradients if name.startswith(("gradient ", "new ")) else TOLERANCE)
        for name, error in errors.items()
    )
