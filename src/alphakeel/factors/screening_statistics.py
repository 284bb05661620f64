"""The statistics that a factor is screened by: IC, Rank IC, correlation, coverage, t and VIF.

One pass over the dates, a block at a time, keeps the statistics of each date's cross-section; a
fold then averages the dates of its training rows. Factors and targets of a block are ranked
together, and every sum that a correlation over jointly known pairs needs is one matrix product,
because unknown entries are zeros. Factor and target are each ranked among the stocks where *they*
are known. Where both are known for the same stocks the Rank IC is Spearman's, to rounding;
otherwise it is the correlation of those ranks over the pairs. `stats.cross_section.rank_ic` ranks
every pair of masks anew: it is the reference, and the tests bound the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import DataError
from alphakeel.stats.blas_threads import one_blas_thread
from alphakeel.stats.cross_section import centred_ranks, date_blocks, order_dates, row_sums
from alphakeel.stats.newey_west import default_lags, false_discovery_q_values, newey_west_tstat

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
    "horizon_figures",
    "newey_west_lags",
]

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

# Values in a block of dates: half a megabyte, and a block stays in cache.
BLOCK_VALUES = 1 << 16
# Whole units in a standard deviation.
_UNIT = 2.0**16
DISCOVERY_METHODS: dict[str, Literal["bh", "by"]] = {
    "benjamini_hochberg": "bh",
    "benjamini_yekutieli": "by",
}
# Below this share of unexplained variance a factor counts as a combination of the others.
MIN_UNEXPLAINED = 1e-6


@dataclass(frozen=True, eq=False)
class CrossSections:
    """Statistics of the factors in each date's cross-section, from that date's row alone."""

    ic: FloatArray  # (n_dates, n_factors, n_horizons) with what followed; NaN where undefined
    rank_ic: FloatArray  # ... of the factor's ranks
    correlation: FloatArray  # (n_dates, n_factors, n_factors) float32, of ranks; NaN as above
    known: NDArray[np.int_]  # (n_dates, n_factors) eligible stocks on which a factor is known
    eligible: NDArray[np.int_]  # (n_dates,) stocks inside the mask
    min_assets: int  # fewest jointly known stocks for which a correlation is defined

    def on(self, rows: slice | NDArray[np.intp]) -> CrossSections:
        """Only these dates; views if `rows` is a slice."""
        return CrossSections(
            self.ic[rows],
            self.rank_ic[rows],
            self.correlation[rows],
            self.known[rows],
            self.eligible[rows],
            self.min_assets,
        )

    def coverage(self) -> NDArray[np.float64]:
        """Share of the eligible stock-days on which each factor is known, (n_factors,)."""
        return self.known.sum(axis=0) / max(int(self.eligible.sum()), 1)

    def mean_correlation(self) -> NDArray[np.float64]:
        """Mean rank correlation of every two factors, NaN where they never met."""
        total = np.nansum(self.correlation, axis=0, dtype=np.float64)
        met = np.isfinite(self.correlation).sum(axis=0)
        return np.divide(total, met, out=np.full(total.shape, np.nan), where=met > 0)


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
    mask: BoolArray | None = None,
    names: Sequence[str] | None = None,
    min_assets: int = 5,
) -> CrossSections:
    """Rank and correlate each date's cross-section, once for all the folds that will average it.

    Parameters
    ----------
    values : ndarray of shape (n_dates, n_assets, n_factors)
        Factor values, raw or ranked, NaN where unknown.

    targets : ndarray of shape (n_dates, n_assets) or (n_dates, n_assets, n_horizons)
        What followed each row, as log returns or ranks; NaN where unknown.

    mask : ndarray of shape (n_dates, n_assets), bool, optional
        True where the stock was eligible. None: everywhere.

    names : sequence of str of length n_factors, optional
        What errors call the factors. Default `factor_0, factor_1, ...`.

    min_assets : int, default=5
        Fewest jointly known stocks for which a date's correlation is defined.

    Returns
    -------
    sections : CrossSections
        A date's figures follow from its own row alone, to the bit. But the targets of a date look
        past it: a fold may use ``sections.on(rows)`` of its purged training rows only.

    Raises
    ------
    DataError
        If shapes disagree, names repeat, or a value is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.random.default_rng(0).standard_normal((100, 30, 2))
    >>> sections = cross_sections(values, targets=values[..., 0])
    >>> sections.on(slice(0, 80)).rank_ic.mean(axis=0).round(2)
    array([[ 1.  ],
           [-0.03]])
    """
    values, targets, mask = check_arrays(values, targets, mask)
    (n_dates, n_assets, n_factors), n_horizons = values.shape, targets.shape[2]
    labels, _ = check_names(names, None, n_factors)
    columns = [f"factor {name!r}" for name in labels] + [f"target {h}" for h in range(n_horizons)]
    sections = CrossSections(
        ic=np.empty((n_dates, n_factors, n_horizons)),
        rank_ic=np.empty((n_dates, n_factors, n_horizons)),
        correlation=np.empty((n_dates, n_factors, n_factors), dtype=np.float32),
        known=np.empty((n_dates, n_factors), dtype=np.int64),
        eligible=np.count_nonzero(mask, axis=1),
        min_assets=min_assets,
    )
    step = max(1, BLOCK_VALUES // (len(columns) * n_assets))
    with one_blas_thread():
        for start in range(0, n_dates, step):
            block = slice(start, start + step)
            rows = _stock_rows(values[block], targets[block], mask[block])
            _refuse_infinite(rows, start, columns)
            _fill_block(sections, block, rows)
    return sections


def _fill_block(sections: CrossSections, block: slice, rows: NDArray[np.float32]) -> None:
    """Write the figures of a block of dates, from its stock rows."""
    n_factors, least = sections.known.shape[1], sections.min_assets
    known = ~np.isnan(rows)
    ones = known.astype(np.float64)
    among = _rank_correlation(_ranked(rows, known), ones, least)
    sections.ic[block] = _pearson(_centred(rows, ones), ones, n_factors, least)
    sections.rank_ic[block] = among[:, :n_factors, n_factors:]
    sections.correlation[block] = among[:, :n_factors, :n_factors]
    sections.known[block] = np.count_nonzero(known[:, :n_factors], axis=2)


def _stock_rows(values: FloatArray, targets: FloatArray, mask: BoolArray) -> NDArray[np.float32]:
    """Factors, then targets, as (B, K + H, N): stocks side by side, NaN outside the mask."""
    n_factors = values.shape[2]
    rows = np.empty((len(values), n_factors + targets.shape[2], values.shape[1]), dtype=np.float32)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused as such
        rows[:, :n_factors] = values.transpose(0, 2, 1)
        rows[:, n_factors:] = targets.transpose(0, 2, 1)
    np.copyto(rows, np.float32(np.nan), where=~mask[:, None, :])
    return rows


def _refuse_infinite(rows: NDArray[np.float32], start: int, columns: Sequence[str]) -> None:
    infinite = np.isinf(rows)
    if infinite.any():
        date, k, asset = np.argwhere(infinite)[0]
        raise DataError(
            f"{columns[k]} is infinite at row {start + date}, asset column {asset}; set it to NaN, "
            "or mend its computation, before screening."
        )


def _ranked(rows: NDArray[np.float32], known: BoolArray) -> FloatArray:
    """``2 * rank - (n + 1)`` over the last axis: whole numbers, 0 where unknown."""
    flat, valid = rows.reshape(-1, rows.shape[-1]), known.reshape(-1, rows.shape[-1])
    ranks = np.empty(flat.shape)
    for part in date_blocks(flat):
        ok = valid[part]
        ranks[part] = centred_ranks(order_dates(flat[part], ok), ok)
    return ranks.reshape(rows.shape)


def _rank_correlation(ranks: FloatArray, ones: FloatArray, min_assets: int) -> FloatArray:
    """Correlation of every two rows of ranks over the stocks where both are known, (B, M, M)."""
    ones_turned = ones.transpose(0, 2, 1)
    total, square = ranks @ ones_turned, np.square(ranks) @ ones_turned
    own = _mean_square(ranks, ones)
    return _correlation(
        ones @ ones_turned,
        (total, total.transpose(0, 2, 1)),
        (square, square.transpose(0, 2, 1)),
        ranks @ ranks.transpose(0, 2, 1),
        (own[:, :, None], own[:, None, :]),
        min_assets,
    )


def _pearson(centred: FloatArray, ones: FloatArray, n_factors: int, min_assets: int) -> FloatArray:
    """Correlation of each factor with each target where both are known, (B, K, H)."""
    x, x_ones = centred[:, :n_factors], ones[:, :n_factors]
    y, y_ones = (part[:, n_factors:].transpose(0, 2, 1) for part in (centred, ones))
    own = _mean_square(centred, ones)
    return _correlation(
        x_ones @ y_ones,
        (x @ y_ones, x_ones @ y),
        (np.square(x) @ y_ones, x_ones @ np.square(y)),
        x @ y,
        (own[:, :n_factors, None], own[:, None, n_factors:]),
        min_assets,
    )


def _mean_square(x: FloatArray, ones: FloatArray) -> FloatArray:
    """Mean square of each row's known values, (B, M)."""
    return np.asarray(np.square(x).sum(axis=-1) / np.maximum(ones.sum(axis=-1), 1.0))


def _centred(rows: NDArray[np.float32], ones: FloatArray) -> FloatArray:
    """Z-scores over the last axis in whole units of 2^-16, 0 where unknown.

    Sums of products of whole numbers are exact: no stock that is unknown on a date can move a bit
    of it, and the order of the stocks cannot either.
    """
    clean = np.where(np.isnan(rows), 0.0, rows.astype(np.float64))
    count = np.maximum(ones.sum(axis=-1, keepdims=True), 1.0)
    clean -= row_sums(clean)[..., None] / count
    clean *= ones
    # The largest goes first, so that squares cannot overflow.
    largest = np.maximum(clean.max(axis=-1, keepdims=True), -clean.min(axis=-1, keepdims=True))
    clean /= np.where(largest > 0, largest, 1.0)
    spread = np.sqrt(row_sums(np.square(clean))[..., None] / count)
    clean *= _UNIT / np.where(spread > 0, spread, 1.0)
    return np.rint(clean, out=clean)


def _correlation(
    count: FloatArray,
    total: tuple[FloatArray, FloatArray],
    square: tuple[FloatArray, FloatArray],
    product: FloatArray,
    own: tuple[FloatArray, FloatArray],
    min_assets: int,
) -> FloatArray:
    """Pearson from sums over the pairs of x, y, x², y² and xy; NaN where undefined.

    Every such sum is a matrix product, because unknown entries are zeros, and exact, because the
    others are whole numbers. `own` are the mean squares of x and y by themselves: what hardly
    varies over the pairs beside them is constant.
    """
    safe = np.maximum(count, 1.0)
    mean_x, mean_y = (part / safe for part in total)
    var_x = square[0] / safe - mean_x**2
    var_y = square[1] / safe - mean_y**2
    cov = product / safe - mean_x * mean_y
    varies = (var_x > 1e-6 * own[0]) & (var_y > 1e-6 * own[1])
    defined = (count >= min_assets) & varies
    scale = np.sqrt(np.where(defined, var_x * var_y, 1.0))
    return np.where(defined, np.clip(cov / scale, -1.0, 1.0), np.nan)


def horizon_figures(
    sections: CrossSections, names: Sequence[str], horizons: Sequence[int], n_subperiods: int
) -> list[HorizonFigures]:
    """Summarise the daily IC of every factor at every horizon, factor by factor."""
    rows = []
    for k, name in enumerate(names):
        for h, horizon in enumerate(horizons):
            series = sections.rank_ic[:, k, h]
            defined = series[np.isfinite(series)]
            mean_ic, ic_t, _ = _mean_and_t(sections.ic[:, k, h], horizon)
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
    return min(max(default_lags(n_dates), horizon - 1), n_dates - 1)


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
    """Smallest false discovery rate at which each factor is a discovery; NaN if not tested.

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
