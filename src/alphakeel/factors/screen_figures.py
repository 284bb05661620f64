"""The figures that a factor is judged by: IC, Rank IC, correlation, coverage, t and VIF.

One pass over the dates, a block at a time: all factors of the block are ranked at once, and every
sum that a correlation over jointly known pairs needs is one matrix product, because unknown
entries are zeros. Factor and target are each ranked among the stocks where *they* are known. Where
both are known for the same stocks the Rank IC is Spearman's, to rounding; otherwise it is the
correlation of those ranks over the pairs. `stats.crosssection.rank_ic` ranks every pair of masks
anew: it is the reference, and the tests bound the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import DataError
from alphakeel.stats.crosssection import rank_scaled
from alphakeel.stats.inference import false_discovery_q_values, newey_west_tstat

__all__ = [
    "CrossSections",
    "DISCOVERY_METHODS",
    "HorizonFigures",
    "best_horizons",
    "check_arrays",
    "check_horizons",
    "check_names",
    "cross_sections",
    "discovery_q_values",
    "inflation",
    "judge_horizons",
    "newey_west_lags",
]

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

# Dates per block: 32 dates x 35 factors x 500 stocks of float32 are 2 MB, which stays in cache.
BLOCK_DATES = 32
DISCOVERY_METHODS: dict[str, Literal["bh", "by"]] = {
    "benjamini_hochberg": "bh",
    "benjamini_yekutieli": "by",
}
# Below this share of unexplained variance a factor counts as a combination of the others.
MIN_UNEXPLAINED = 1e-6


class CrossSections(NamedTuple):
    """What one pass over the dates yields; NaN where undefined."""

    ic: FloatArray  # (n_dates, n_factors, n_horizons)
    rank_ic: FloatArray  # (n_dates, n_factors, n_horizons)
    correlation: FloatArray  # (n_factors, n_factors), mean over dates of rank correlations
    coverage: FloatArray  # (n_factors,), fraction of the masked entries that are known


class HorizonFigures(NamedTuple):
    """One factor at one horizon; NaN where undefined."""

    factor: str
    horizon: int
    n_dates: int
    ic: float
    ic_t: float
    rank_ic: float
    nw_t: float
    p_value: float
    sign_stability: float


def check_arrays(
    values: FloatArray, targets: FloatArray, mask: BoolArray | None
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Values (T, N, K), targets (T, N, H) and mask (T, N), or a `DataError`."""
    values, targets = np.asarray(values), np.asarray(targets)
    if targets.ndim == 2:
        targets = targets[:, :, None]
    if values.ndim != 3 or targets.ndim != 3 or values.shape[:2] != targets.shape[:2]:
        raise DataError(
            f"values have shape {values.shape} and targets {targets.shape}; expected (n_dates, "
            "n_assets, n_factors) and (n_dates, n_assets[, n_horizons]) with equal first axes."
        )
    if values.size == 0 or targets.size == 0:
        raise DataError(f"nothing to screen: values have shape {values.shape}.")
    if mask is None:
        return values, targets, np.ones(values.shape[:2], dtype=bool)
    mask = np.asarray(mask)
    if mask.shape != values.shape[:2] or mask.dtype != np.bool_:
        raise DataError(
            f"mask has shape {mask.shape} and type {mask.dtype}; expected bool of shape "
            f"{values.shape[:2]}."
        )
    return values, targets, mask


def check_names(
    names: Sequence[str] | None, families: Sequence[str] | None, n_factors: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unique names and families of the factors, or a `DataError`."""
    labels = tuple(names) if names is not None else tuple(f"factor_{k}" for k in range(n_factors))
    groups = tuple(families) if families is not None else ("",) * n_factors
    if len(labels) != n_factors or len(groups) != n_factors:
        raise DataError(
            f"there are {n_factors} factors but {len(labels)} names and {len(groups)} families."
        )
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated:
        raise DataError(f"factor names must be unique; repeated: {', '.join(repeated)}.")
    return labels, groups


def check_horizons(horizons: Sequence[int] | None, n_horizons: int) -> tuple[int, ...]:
    """One horizon of at least one row a target, or a `DataError`."""
    reach = tuple(horizons) if horizons is not None else (1,) * n_horizons
    if len(reach) != n_horizons or any(h < 1 for h in reach):
        raise DataError(
            f"horizons are {reach} but there are {n_horizons} targets; name one horizon of at "
            "least one row for each."
        )
    return reach


def cross_sections(
    values: FloatArray,
    targets: FloatArray,
    mask: BoolArray,
    names: Sequence[str],
    min_assets: int,
) -> CrossSections:
    """IC, Rank IC, mean rank correlation and coverage from one pass over the dates."""
    n_dates, _, n_factors = values.shape
    n_horizons = targets.shape[2]
    ic = np.empty((n_dates, n_factors, n_horizons))
    rank_ic = np.empty_like(ic)
    known = np.zeros(n_factors)
    total, met = np.zeros((n_factors, n_factors)), np.zeros((n_factors, n_factors))
    for start in range(0, n_dates, BLOCK_DATES):
        rows = slice(start, start + BLOCK_DATES)
        x = _factor_rows(values[rows], mask[rows])
        y = _factor_rows(targets[rows], mask[rows])
        _refuse_infinite(x, start, [f"factor {name!r}" for name in names])
        _refuse_infinite(y, start, [f"target {h}" for h in range(n_horizons)])
        x_known, y_known = np.isfinite(x), np.isfinite(y)
        x_rank, y_rank = _ranked(x), _ranked(y)
        ic[rows] = _pair_correlation(
            _centred(x, x_known), x_known, _centred(y, y_known), y_known, min_assets
        )
        rank_ic[rows] = _pair_correlation(x_rank, x_known, y_rank, y_known, min_assets)
        among = _pair_correlation(x_rank, x_known, x_rank, x_known, min_assets)
        total += np.nansum(among, axis=0)
        met += np.isfinite(among).sum(axis=0)
        known += x_known.sum(axis=(0, 2))
    correlation = np.divide(total, met, out=np.full_like(total, np.nan), where=met > 0)
    return CrossSections(ic, rank_ic, correlation, known / max(int(mask.sum()), 1))


def _factor_rows(block: FloatArray, mask: BoolArray) -> NDArray[np.float32]:
    """(B, N, K) to contiguous (B, K, N), NaN outside the mask: stocks lie side by side."""
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused as such
        rows = np.ascontiguousarray(block.transpose(0, 2, 1), dtype=np.float32)
    return np.where(mask[:, None, :], rows, np.float32(np.nan))


def _refuse_infinite(rows: NDArray[np.float32], start: int, names: Sequence[str]) -> None:
    infinite = np.isinf(rows)
    if infinite.any():
        date, k, asset = np.argwhere(infinite)[0]
        raise DataError(
            f"{names[k]} is infinite at row {start + date}, asset column {asset}; set it to NaN, "
            "or mend its computation, before screening."
        )


def _ranked(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranks over the last axis, mean 0 and unit variance, 0 where unknown."""
    flat = rank_scaled(rows.reshape(-1, rows.shape[-1]))
    return np.nan_to_num(flat.astype(np.float32, copy=False), nan=0.0).reshape(rows.shape)


def _centred(rows: NDArray[np.float32], known: BoolArray) -> NDArray[np.float32]:
    """Z-scores over the last axis, 0 where unknown, so that float32 products keep their digits."""
    clean = np.where(known, rows, np.float32(0.0))
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    clean -= (clean.sum(axis=-1, keepdims=True, dtype=np.float64) / count).astype(np.float32)
    clean *= known
    scale = np.abs(clean).max(axis=-1, keepdims=True)  # first, so that squares cannot overflow
    clean /= np.where(scale > 0, scale, np.float32(1.0))
    spread = np.sqrt(np.square(clean).sum(axis=-1, keepdims=True) / count.astype(np.float32))
    clean /= np.where(spread > 0, spread, np.float32(1.0))
    return clean


def _pair_correlation(
    x: NDArray[np.float32],
    x_known: BoolArray,
    y: NDArray[np.float32],
    y_known: BoolArray,
    min_assets: int,
) -> FloatArray:
    """Pearson over jointly known pairs: (B, K, N) and (B, H, N) to (B, K, H).

    Each of the six sums over pairs is a matrix product, because unknown entries are zeros.
    """
    xk, yk = x_known.astype(np.float32), y_known.astype(np.float32).transpose(0, 2, 1)
    yt = y.transpose(0, 2, 1)
    count = (xk @ yk).astype(np.float64)
    safe = np.maximum(count, 1.0)
    mean_x, mean_y = (x @ yk) / safe, (xk @ yt) / safe
    var_x = (np.square(x) @ yk) / safe - mean_x**2
    var_y = (xk @ np.square(yt)) / safe - mean_y**2
    cov = (x @ yt) / safe - mean_x * mean_y
    # Float32 sums of unit-variance values leave a constant with a variance of about 1e-7.
    defined = (count >= min_assets) & (var_x > 1e-6) & (var_y > 1e-6)
    scale = np.sqrt(np.where(defined, var_x * var_y, 1.0))
    return np.where(defined, np.clip(cov / scale, -1.0, 1.0), np.nan)


def judge_horizons(
    sums: CrossSections, names: Sequence[str], horizons: Sequence[int], n_subperiods: int
) -> list[HorizonFigures]:
    """Summarise the daily IC of every factor at every horizon, factor by factor.

    Parameters
    ----------
    sums : CrossSections
    names : sequence of str of length n_factors
    horizons : sequence of int of length n_horizons
        Rows that each target reaches over.
    n_subperiods : int
        Equal consecutive pieces for the sign stability.
    """
    rows = []
    for k, name in enumerate(names):
        for h, horizon in enumerate(horizons):
            series = sums.rank_ic[:, k, h]
            defined = series[np.isfinite(series)]
            mean_ic, ic_t, _ = _mean_and_t(sums.ic[:, k, h], horizon)
            mean_rank_ic, nw_t, p = _mean_and_t(series, horizon)
            rows.append(
                HorizonFigures(
                    name,
                    horizon,
                    defined.size,
                    mean_ic,
                    ic_t,
                    mean_rank_ic,
                    nw_t,
                    p,
                    _sign_stability(defined, n_subperiods),
                )
            )
    return rows


def _mean_and_t(series: FloatArray, horizon: int) -> tuple[float, float, float]:
    """Mean, Newey-West t and p of the defined dates; NaN where there are too few."""
    defined = series[np.isfinite(series)]
    if defined.size < 3 or np.ptp(defined) == 0.0:
        return (float(defined.mean()) if defined.size else np.nan), np.nan, np.nan
    mean, t, p = newey_west_tstat(defined, lags=newey_west_lags(defined.size, horizon))
    return float(mean), float(t), float(p)


def newey_west_lags(n_dates: int, horizon: int) -> int:
    """Newey and West's rule of thumb, and never less than the overlap of the targets."""
    rule = int(4.0 * (n_dates / 100.0) ** (2.0 / 9.0))
    return min(max(rule, horizon - 1), n_dates - 1)


def _sign_stability(series: FloatArray, n_subperiods: int) -> float:
    """Share of equal consecutive pieces whose mean has the sign of the whole."""
    if series.size < n_subperiods:
        return np.nan
    means = [piece.mean() for piece in np.array_split(series, n_subperiods)]
    return float(np.mean(np.sign(means) == np.sign(series.mean())))


def best_horizons(
    by_horizon: Sequence[HorizonFigures], n_horizons: int
) -> tuple[HorizonFigures, ...]:
    """Each factor's horizon with the largest |t|; the first one if none has a t."""
    groups = [by_horizon[i : i + n_horizons] for i in range(0, len(by_horizon), n_horizons)]
    return tuple(
        max(group, key=lambda row: np.nan_to_num(abs(row.nw_t), nan=-1.0)) for group in groups
    )


def discovery_q_values(best: Sequence[HorizonFigures], n_horizons: int, method: str) -> FloatArray:
    """Smallest false discovery rate at which each factor counts as found; NaN if not judged.

    A factor's p-value is its smallest over horizons times their number (Bonferroni).
    """
    p_values = np.minimum(np.array([row.p_value for row in best]) * n_horizons, 1.0)
    return false_discovery_q_values(p_values, DISCOVERY_METHODS[method])


def inflation(correlation: FloatArray, k: int, kept: list[int]) -> float:
    """VIF of factor `k` against the kept others: 1 / (1 - R2) from mean rank correlations."""
    others = [j for j in kept if j != k]
    row = correlation[k, others]
    if not np.isfinite(correlation[k, k]):
        return np.nan
    inner = np.nan_to_num(correlation[np.ix_(others, others)], nan=0.0)
    row = np.nan_to_num(row, nan=0.0)
    explained = float(row @ np.linalg.pinv(inner, rcond=1e-6, hermitian=True) @ row)
    # A mean of pairwise matrices need not be positive semi-definite, so R2 may leave [0, 1].
    return 1.0 / max(1.0 - max(explained, 0.0), MIN_UNEXPLAINED)
