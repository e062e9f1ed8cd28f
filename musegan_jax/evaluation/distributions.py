"""Likeness of two sets of music: distances between distributions of features.

A feature vector holds the measures of one window, float `(N, F)` for N windows. Reference for the
protocol of `overlap_area` and `divergence`: Yang and Lerch 2020, "On the evaluation of generative
models in music" (mgeval).
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

GRID = 256  # points on which densities are compared
SHRINKAGE = 0.1  # of covariances towards their diagonal (`frechet_distance`)


class Likeness(NamedTuple):
    """Likeness of the distances within one set to the distances between two sets.

    `overlap_area` 0 to 1, 1 for the same; `divergence` in nats, 0 for the same.
    """

    overlap_area: float
    divergence: float


def compare(real: np.ndarray, other: np.ndarray) -> Likeness:
    """OA and KLD of one feature.

    The first sample is the distances between all pairs of windows of `real`, the second those from
    each window of `other` to each of `real`. Both get a Gaussian kernel density (Scott's
    bandwidth). The overlap is taken on one grid, which reaches three bandwidths beyond both; the
    divergence is of the first from the second, averaged over the first sample. A window is not
    compared with itself within `real`, but it is with its copy in `other`.

    Args:
        real: `(N,)` or `(N, F)`, N >= 3; NaN rows are left out.
        other: `(M,)` or `(M, F)`, M >= 1.

    Returns:
        Both NaN if a sample has no spread, or too few windows are free of NaN.
    """
    real, other = _rows(real), _rows(other)
    if len(real) < 3 or len(other) < 1:
        return Likeness(np.nan, np.nan)
    apart = np.linalg.norm(real[:, None] - real[None], axis=-1)
    within = apart[np.triu_indices(len(real), 1)]
    between = np.linalg.norm(other[:, None] - real[None], axis=-1).ravel()
    if min(np.ptp(within), np.ptp(between)) <= 0:
        return Likeness(np.nan, np.nan)
    p, q = (scipy.stats.gaussian_kde(sample, "scott") for sample in (within, between))
    reach = 3 * max(float(np.sqrt(k.covariance[0, 0])) for k in (p, q))
    everything = np.concatenate([within, between])
    grid = np.linspace(everything.min() - reach, everything.max() + reach, GRID)
    step = grid[1] - grid[0]
    overlap = float(np.minimum(p(grid), q(grid)).sum() * step)
    # At the sample's own points: a grid would miss narrow densities that are far apart. Densities
    # are at least 1e-300: with one that underflows, the divergence would be infinite.
    a, b = (np.maximum(density(within), 1e-300) for density in (p, q))
    divergence = float(np.mean(np.log(a) - np.log(b)))
    return Likeness(min(overlap, 1.0), max(divergence, 0.0))


def _rows(values: np.ndarray) -> np.ndarray:
    """As `(N, F)`, without rows that have NaN."""
    values = np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    return values[~np.isnan(values).any(axis=1)]


def frechet_distance(real: np.ndarray, other: np.ndarray) -> float:
    """FMD: Fréchet distance between Gaussians fitted to two sets of features, at least 0.

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`, each feature first divided by its standard
    deviation in `real`. Covariances have ddof 1 and are shrunk by a tenth towards their diagonals,
    which keeps them regular for few windows. Features that do not vary in `real` are left out.
    Reference: Retkowski, Stępniak and Modrzejewski 2024, "Frechet Music Distance".

    Args:
        real: `(N, F)`, N >= 2; rows with NaN are left out.
        other: `(M, F)`, M >= 2.

    Returns:
        NaN where a set has too few windows.
    """
    real, other = _rows(real), _rows(other)
    if min(len(real), len(other)) < 2:
        return float("nan")
    spread = real.std(axis=0, ddof=1)
    real, other = (x[:, spread > 0] / spread[spread > 0] for x in (real, other))
    c1, c2 = _covariance(real), _covariance(other)
    mean = np.sum((real.mean(axis=0) - other.mean(axis=0)) ** 2)
    # tr (C1 C2)^(1/2) by the symmetric form, whose root is real.
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c2 @ root), 0)).sum()
    return float(max(mean + np.trace(c1) + np.trace(c2) - 2 * both, 0.0))


def _covariance(x: np.ndarray) -> np.ndarray:
    full = np.atleast_2d(np.cov(x, rowvar=False))
    return (1 - SHRINKAGE) * full + SHRINKAGE * np.diag(np.diag(full))
