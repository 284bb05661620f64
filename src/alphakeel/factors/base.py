"""A factor, and the pass over a panel that computes them all.

A `Factor` is a pure function that names the fields it reads, the exact number of
rows it looks back, its formula and its source. `compute_factors` hands it a block of assets and
collects the values; `standardise` turns values into what a model is fed.

Day t means its close: a value in row t is made of rows up to t and nothing later. Forward returns
are in `factors.targets` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.panel import market_index, sector_codes, universe_mask
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors.arrays import CrossSection, PanelArrays, cross_section
from alphakeel.progress import run_in_threads
from alphakeel.stats.cross_section import rank_scaled
from alphakeel.stats.rolling import column_blocks

__all__ = ["Factor", "FactorSet", "compute_factors", "factor_table", "standardise"]

Array = NDArray[Any]

EQUAL_WEIGHT_NOTE = (
    "The panel has no market_index: the market is the equal-weight mean simple return of the "
    "universe's stocks of the day."
)


@dataclass(frozen=True)
class Factor:
    """One factor: a pure function of a panel's past, with what a reader needs to judge it.

    Attributes
    ----------
    name : str
        For example ``"momentum_12_1"``; numbers are trading days or, there, months.
    family : str
        Groups of factors that say similar things: ``"momentum"``, ``"value"``, ...
    lookback : int
        Rows of history behind a value, its own row included: row t depends on rows
        t - lookback + 1 to t, all of them and no other.
    fields : tuple of str
        Panel fields that it reads. The index is not among them: without one the market is the
        equal-weight mean of the universe.
    func : callable
        From `PanelArrays` to (n_dates, n_assets), or, for a market-wide series, from
        `CrossSection` to (n_dates,). NaN where unknown.
    formula : str
        In words and symbols; P is the adjusted close, r its daily log return, m the market's.
    source : str
        Paper with DOI, or ``"practice"``.
    scope : {"stock", "market"}
        One value per stock and date, or one per date.
    whole : bool
        `func` sees all stocks at once. The library's own factors see a block of stocks at a time,
        which is quicker; they compare stocks through the `CrossSection` only.
    """

    name: str
    family: str
    lookback: int
    fields: tuple[str, ...]
    func: Callable[[Any], Array]
    formula: str
    source: str
    scope: Literal["stock", "market"] = "stock"
    whole: bool = False


@dataclass(frozen=True, eq=False)
class FactorSet:
    """Factor values of a panel.

    Attributes
    ----------
    values : float32 ndarray of shape (n_dates, n_assets, n_factors)
        Raw values in each factor's own unit, on the dates that were asked for; NaN where unknown
        and where the stock is not listed.
    market : float32 ndarray of shape (n_dates, n_market_series)
        Market-wide series; NaN where unknown.
    names, families : tuple of str
        Of the last axis of `values`.
    market_names : tuple of str
        Of the last axis of `market`.
    omitted : mapping of str to str
        Factors left out, by name, with the reason.
    notes : tuple of str
        Definitions that the panel's fields forced.
    lookback : int
        Rows of history that the longest of the factors needs.
    """

    values: NDArray[np.float32]
    market: NDArray[np.float32]
    names: tuple[str, ...]
    families: tuple[str, ...]
    market_names: tuple[str, ...]
    omitted: Mapping[str, str]
    notes: tuple[str, ...]
    lookback: int

    def at(self, rows: NDArray[np.intp]) -> FactorSet:
        """The values on some of its dates."""
        return replace(self, values=self.values[rows], market=self.market[rows])


def compute_factors(
    panel: Any,
    factors: Sequence[Factor] | None = None,
    eligible: Array | None = None,
    *,
    rows: NDArray[np.intp] | None = None,
) -> FactorSet:
    """Compute factors for every stock and date of a panel.

    Parameters
    ----------
    panel : skfolio.containers.AssetPanel
        With `adj_close` and whichever other fields there are; never written to.
    factors : sequence of Factor, optional
        `alphakeel.factors.FACTORS` by default.
    eligible : boolean ndarray of shape (n_dates, n_assets), optional
        Stocks that make up cross-sectional aggregates (industry returns, the equal-weight market,
        breadth, ...); by default the members among the active stocks. Values are computed for
        every active stock, eligible or not: a model may want a stock's past from before it joined.
    rows : ndarray of int, optional
        The dates whose values are wanted, all by default: the memory that they take is less.

    Returns
    -------
    FactorSet
        Factors whose fields are absent, or that need more dates than there are, are in
        `omitted` with the reason.

    Raises
    ------
    ConfigError
        If two factors share a name.
    DataError
        If `eligible` has another shape than the panel, or no factor can be computed.

    Examples
    --------
    >>> from skfolio.containers import AssetPanel
    >>> from alphakeel.factors import FACTORS
    >>> price = np.exp(np.random.default_rng(0).normal(0.0, 0.01, (30, 3)).cumsum(axis=0))
    >>> dates = np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]")
    >>> panel = AssetPanel({"adj_close": price}, dates, ["A", "B", "C"])
    >>> computed = compute_factors(panel)
    >>> computed.values.shape[:2], computed.names[:2]
    ((30, 3), ('reversal_5', 'reversal_21'))
    >>> computed.omitted["size"]
    'needs market_cap, which this panel lacks'
    """
    chosen = _all_factors() if factors is None else tuple(factors)
    _check_names(chosen)
    usable, omitted = _usable(chosen, panel)
    if not usable:
        raise DataError(f"no factor can be computed: {_listing(omitted)}")
    stock = tuple(f for f in usable if f.scope == "stock")
    market = tuple(f for f in usable if f.scope == "market")
    blocks = _Blocks(panel, usable, eligible)
    index = market_index(panel)
    # Noise in one stock (a price of 1e30, a zero divisor) is that stock's NaN, not a warning.
    with np.errstate(all="ignore"):
        table = cross_section(blocks, index, blocks.n_sectors)
        kept = slice(None) if rows is None else rows
        series = [_finite(f.func(table)[kept]) for f in market]
        values = _stock_values(blocks, table, stock, kept)
    return FactorSet(
        values=values,
        market=np.stack(series, axis=1) if series else np.empty((len(values), 0), np.float32),
        names=tuple(f.name for f in stock),
        families=tuple(f.family for f in stock),
        market_names=tuple(f.name for f in market),
        omitted=omitted,
        notes=(EQUAL_WEIGHT_NOTE,) if index is None else (),
        lookback=max(f.lookback for f in usable),
    )


def standardise(values: Array, mask: Array) -> NDArray[np.float32]:
    """Each date's values as float32 ranks of mean 0 and variance 1: what a model is fed.

    0 (the middle of the ranking) where the value is unknown, the stock is masked, or all stocks
    tie.

    Examples
    --------
    >>> values = np.array([[[3.0], [1.0], [2.0], [np.nan]]], dtype=np.float32)
    >>> standardise(values, np.ones((1, 4), dtype=bool))[0, :, 0].round(2)
    array([ 1.22, -1.22,  0.  ,  0.  ], dtype=float32)
    """
    if values.ndim != 3 or mask.shape != values.shape[:2]:
        raise DataError(
            f"values have shape {values.shape} and mask {mask.shape}; give (n_dates, n_assets, "
            "n_factors) and (n_dates, n_assets)"
        )
    n_dates, n_assets, n_factors = values.shape
    out = np.empty(values.shape, dtype=np.float32)
    for start in range(0, n_dates if out.size else 0, _RANK_DATES):
        rows = slice(start, min(start + _RANK_DATES, n_dates))
        # Ranking wants each factor's cross-section contiguous.
        by_factor = np.ascontiguousarray(np.moveaxis(values[rows], 2, 0), dtype=np.float32)
        keep = np.broadcast_to(mask[rows], by_factor.shape).reshape(-1, n_assets)
        ranks = rank_scaled(by_factor.reshape(-1, n_assets), keep)
        np.copyto(ranks, 0.0, where=np.isnan(ranks))
        out[rows] = np.moveaxis(ranks.reshape(n_factors, -1, n_assets), 0, 2)
    return out


def factor_table(factors: Sequence[Factor] | None = None) -> str:
    """Factors (all by default) as a Markdown table, one row each."""
    rows = [
        "| name | scope | family | rows | fields | formula | source |",
        "|---|---|---|---:|---|---|---|",
    ]
    for f in _all_factors() if factors is None else factors:
        fields = ", ".join(f.fields)
        rows.append(
            f"| {f.name} | {f.scope} | {f.family} | {f.lookback} | {fields} | {f.formula} "
            f"| {f.source} |"
        )
    return "\n".join(rows) + "\n"


# Blocks of assets that are computed side by side.
BLOCKS_AT_ONCE = 2
# Dates ranked together: 32 of 500 stocks by 40 factors are 2.5 MB of float32.
_RANK_DATES = 32


class _Blocks:
    """A panel as blocks of assets, each with contiguous columns."""

    def __init__(self, panel: Any, factors: Sequence[Factor], eligible: Array | None) -> None:
        shape = (panel.n_observations, panel.n_assets)
        if eligible is not None and np.shape(eligible) != shape:
            raise DataError(
                f"eligible has shape {np.shape(eligible)}, but the panel has {shape[0]} dates "
                f"and {shape[1]} assets"
            )
        needed = {name for f in factors for name in f.fields} | {"adj_close"}
        self.fields = {name: panel[name] for name in sorted(needed - {"sector"})}
        self.active = panel.active_mask
        members = universe_mask(panel) if eligible is None else np.asarray(eligible, dtype=bool)
        self.universe = members & self.active
        self.sectors = sector_codes(panel) if "sector" in needed else None
        self.n_assets = panel.n_assets

    @property
    def n_sectors(self) -> int | None:
        """Number of sector codes in use."""
        return None if self.sectors is None else int(self.sectors.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[PanelArrays]:
        return (self.arrays(block) for block in column_blocks(self.n_assets))

    def arrays(self, block: slice, table: CrossSection | None = None) -> PanelArrays:
        """Return the arrays of one block."""
        return PanelArrays(
            {
                name: np.ascontiguousarray(values[:, block], dtype=np.float64)
                for name, values in self.fields.items()
            },
            np.ascontiguousarray(self.universe[:, block]),
            None if self.sectors is None else np.ascontiguousarray(self.sectors[:, block]),
            table,
        )


def _stock_values(
    blocks: _Blocks,
    table: CrossSection,
    factors: Sequence[Factor],
    rows: slice | NDArray[np.intp],
) -> NDArray[np.float32]:
    """Values of the stock-wide factors, (n_rows, n_assets, n_factors)."""
    active = blocks.active[rows]
    values = np.empty((*active.shape, len(factors)), dtype=np.float32)

    def fill(block: slice) -> None:
        arrays = blocks.arrays(block, table)
        unlisted = ~active[:, block]
        # Factors are gathered one after the other and turned to (dates, assets, factors) together:
        # writing each straight to its stride in `values` costs six times as much.
        stage = np.empty((len(factors), *unlisted.shape), dtype=np.float32)
        with np.errstate(all="ignore"):  # which is each thread's own
            for k, factor in enumerate(factors):
                if not factor.whole:
                    stage[k] = _finite(factor.func(arrays)[rows])
                    np.copyto(stage[k], np.nan, where=unlisted)
        values[:, block] = np.moveaxis(stage, 0, 2)

    calls = [partial(fill, block) for block in column_blocks(active.shape[1])]
    run_in_threads(calls, BLOCKS_AT_ONCE)
    for k, factor in enumerate(factors):
        if factor.whole:
            own = _finite(factor.func(blocks.arrays(slice(None), table))[rows])
            values[:, :, k] = np.where(active, own, np.nan)
    return values


def _finite(x: Array) -> NDArray[np.float32]:
    """A float32 copy with NaN for infinities, also for what float32 cannot hold."""
    out = x.astype(np.float32)
    np.copyto(out, np.nan, where=np.isinf(out))
    return out


def _usable(factors: Sequence[Factor], panel: Any) -> tuple[tuple[Factor, ...], dict[str, str]]:
    """Factors that the panel can feed, and the reasons against the others."""
    present, dates = set(panel.fields), panel.observations
    usable, omitted = [], {}
    for factor in factors:
        lacking = [name for name in factor.fields if name not in present]
        if lacking:
            omitted[factor.name] = f"needs {' and '.join(lacking)}, which this panel lacks"
        elif factor.lookback > len(dates):
            omitted[factor.name] = (
                f"needs {factor.lookback} dates of history but the panel has {len(dates)} "
                f"({dates[0]} to {dates[-1]})"
            )
        else:
            usable.append(factor)
    return tuple(usable), omitted


def _listing(omitted: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {reason}" for name, reason in omitted.items())


def _check_names(factors: Sequence[Factor]) -> None:
    seen: set[str] = set()
    for factor in factors:
        if factor.name in seen:
            raise ConfigError(f"two factors are called {factor.name!r}; rename one")
        seen.add(factor.name)


def _all_factors() -> tuple[Factor, ...]:
    # The families import `Factor` from here, so their list can be read only once it is wanted.
    from alphakeel.factors import FACTORS

    return FACTORS
