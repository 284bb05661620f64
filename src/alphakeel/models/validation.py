"""Which rows an ensemble is fitted on, which choose the state to keep, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.losses import MIN_ASSETS
from alphakeel.models.networks import SequenceNetwork, run
from alphakeel.stats.crosssection import rank_ic, zscore
from alphakeel.stats.folds import split_validation

__all__ = ["MIN_CHUNK", "Sample", "mean_of_heads", "split_rows", "validator", "with_lead"]

Floats32 = NDArray[np.float32]

# Training on fewer counted rows than this is a mistake in the settings, not a study.
MIN_CHUNK = 8


@dataclass(frozen=True, eq=False)
class Sample:
    """What an ensemble is fitted and validated on.

    Attributes
    ----------
    features : float32 ndarray of shape (n_dates, n_assets, n_factors)
    series : float32 ndarray of shape (n_dates, n_series)
        Scaled market series.
    goals : float32 ndarray of shape (n_dates, n_assets, n_horizons)
        NaN where not known.
    n_fit : int
        Rows to fit on, from the first.
    block : slice, optional
        Rows to validate on.
    """

    features: Floats32
    series: Floats32
    goals: Floats32
    n_fit: int
    block: slice | None

    @property
    def fitted(self) -> tuple[Floats32, Floats32, Floats32]:
        """Features, series and goals of the rows to fit on."""
        rows = slice(0, self.n_fit)
        return self.features[rows], self.series[rows], self.goals[rows]


def split_rows(
    n_dates: int, *, burn_in: int, validation_share: float, purge: int
) -> tuple[int, slice | None]:
    """Rows to fit on, and the validation block at the end, with the purge between them.

    Raises
    ------
    ConfigError
        If too few rows are left to fit on.

    Examples
    --------
    >>> split_rows(100, burn_in=10, validation_share=0.2, purge=5)
    (75, slice(80, 100, None))
    """
    fit, block = slice(0, n_dates), None
    if validation_share > 0:
        fit, block = split_validation(fit, validation_share, purge)
    if fit.stop - burn_in < MIN_CHUNK:
        raise ConfigError(
            f"burn_in of {burn_in} rows leaves fewer than {MIN_CHUNK} of the {fit.stop} rows to "
            f"fit on (of {n_dates}, less validation_share {validation_share:g} and purge {purge}); "
            "shorten it or give more rows"
        )
    return fit.stop, block


def with_lead(rows: slice, burn_in: int) -> slice:
    """Rows together with those before them that build up the state.

    Examples
    --------
    >>> with_lead(slice(30, 40), 26), with_lead(slice(10, 40), 26)
    (slice(4, 40, None), slice(0, 40, None))
    """
    return slice(max(0, rows.start - burn_in), rows.stop)


def validator(network: SequenceNetwork, sample: Sample, burn_in: int) -> Callable[[], float] | None:
    """What gives the mean Rank IC of a network over the validation block, as the network stands.

    Raises
    ------
    DataError
        If no date of the block can have one.
    """
    block = sample.block
    if block is None:
        return None
    goals = sample.goals[block]
    known: NDArray[np.bool_] = np.any(np.isfinite(goals), axis=2)
    if known.sum(axis=1).max() < MIN_ASSETS:
        raise DataError(
            f"no date of the validation block (the last {block.stop - block.start} rows) has "
            f"{MIN_ASSETS} stocks with a known target; set validation_share to 0 to do without"
        )
    # The purge is about targets, not features: the rows before the block may be seen.
    seen = with_lead(block, burn_in)

    def rank_ic_now() -> float:
        heads = run(network, sample.features[seen], sample.series[seen])
        by_date = rank_ic(mean_of_heads(heads[block.start - seen.start :], known), goals)
        return float(np.nanmean(by_date)) if np.isfinite(by_date).any() else 0.0

    return rank_ic_now


def mean_of_heads(heads: Floats32, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over heads of their z-scores per date, (n_dates, n_assets); NaN where not present."""
    total = np.zeros(present.shape)
    for head in range(heads.shape[2]):
        total += zscore(heads[..., head], present)
    return total / heads.shape[2]
