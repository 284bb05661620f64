"""The prepared data set that every fit, forecast and backtest reads, computed once.

A panel is cleaned, its factors are computed and ranked on every decision, beside the forward
returns. Study, search, validation curve, audit and the skfolio adapter read the same frozen value,
so that none of them can evaluate other numbers than the study trades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.data.cleaning import CleaningLedger, CleanResult, clean
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.data.validation import REPORT_FIELDS
from alphakeel.errors import DataError
from alphakeel.factors.base import FactorSet, compute_factors, standardise
from alphakeel.factors.custom import check_factors
from alphakeel.factors.screening_statistics import CrossSections, cross_sections
from alphakeel.factors.targets import forward_returns, holding_returns, rank_forward
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import Tracker
from alphakeel.provenance import cautions, describe_fields
from alphakeel.risk.volatility import ew_volatility
from alphakeel.stats.rolling import simple_returns, trailing_beta
from alphakeel.stats.splits import rows_ahead

__all__ = ["Dataset", "assemble_dataset", "check_sample", "prepare_dataset", "reach_back"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

# Fewer stocks on a date have no meaningful correlation.
_LEAST_STOCKS = 5
_MANY_STOCKS = 50  # of which no rule of cleaning leaves fewer than that
# Work of cleaning, and of factors, on the progress bar, in fits of one network.
WORK = 1.0
# Fields that, but for a few settings, factors alone read.
_OF_FACTORS = {
    *("open", "high", "low", "market_cap", "earnings_to_price", "book_to_price"),
    *REPORT_FIELDS,
}
# Days of a market beta, and those it needs.
BETA_WINDOW, BETA_LEAST = 252, 120


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where a data set comes from, and what cleaning changed.

    Attributes
    ----------
    panel_hash : str
        SHA-256 of the whole panel as handed in.
    ledger : CleaningLedger
        Every number that cleaning changed, and every exclusion from the sample.
    quality : DataFrame
        Coverage of each field as handed in.
    omitted : mapping of str to str
        Factors that could not be computed from the data, with the reason.
    cautions : tuple of str
        What a reader should know: survivorship, definitions that the data forced, ...
    """

    panel_hash: str
    ledger: CleaningLedger
    quality: pd.DataFrame
    omitted: Mapping[str, str]
    cautions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A panel prepared for fits and backtests. Only targets and forward returns are of the future.

    A *decision* is a day at whose close scores are made and weights decided. Inputs of fits are
    given on decisions, prices on every day.

    Attributes
    ----------
    panel : AssetPanel
        Cleaned, n_dates days of n_assets stocks.
    sample : ndarray of shape (n_dates, n_assets) of bool
        In the sample, by what was known at each close.
    price : ndarray of shape (n_dates, n_assets)
        Accounting close, with dividends; NaN while a stock is not listed.
    last_price : ndarray of shape (n_dates, n_assets)
        The same, carried forward past a delisting.
    returns : ndarray of shape (n_dates, n_assets)
        Simple daily returns of `price`, fractions; NaN where either price is missing.
    decisions : ndarray of shape (n_decisions,) of int
        Days of the decisions, as rows of the panel, in order.
    features : float32 ndarray of shape (n_decisions, n_assets, n_factors)
        Ranks of the factors over the sample with unit variance; 0 where missing.
    raw : float32 ndarray of shape (n_decisions, n_assets, n_factors)
        Factor values in their own units; NaN where missing.
    market : float32 ndarray of shape (n_decisions, n_series)
        Series that are the same for all stocks; NaN where unknown.
    targets : float32 ndarray of shape (n_decisions, n_assets, n_horizons)
        Ranks of forward returns; NaN where unknown.
    forward : ndarray of shape (n_decisions, n_assets, n_horizons)
        Forward log returns from the trade on; NaN where unknown.
    volatility : ndarray of shape (n_decisions, n_assets)
        Exponentially weighted, known at the decision, in the unit that it was given in.
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks that are ranked, fitted and scored: in the sample, and with a price of the day.
    names, families : tuple of str
        Of the last axis of `features`.
    market_names : tuple of str
        Of the last axis of `market`.
    lag : int
        Days from decision to trade.
    horizons : tuple of int
        Days that targets span.
    provenance : Provenance or None
        None where the panel was taken as it is.
    daily : Dataset or None
        The same with every day up to the last decision as one, row d on day d, without `raw`; None
        where no model reads the days between decisions.
    """

    panel: AssetPanel
    sample: Bools
    price: Floats
    last_price: Floats
    returns: Floats
    decisions: Rows
    features: npt.NDArray[np.float32]
    raw: npt.NDArray[np.float32]
    market: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    forward: Floats
    volatility: Floats
    eligible: Bools
    names: tuple[str, ...]
    families: tuple[str, ...]
    market_names: tuple[str, ...]
    lag: int
    horizons: tuple[int, ...]
    provenance: Provenance | None = None
    daily: Dataset | None = None

    @property
    def dates(self) -> npt.NDArray[np.datetime64]:
        """Days of the panel, (n_dates,), datetime64[D]."""
        return np.asarray(self.panel.observations, dtype="datetime64[D]")

    @property
    def assets(self) -> npt.NDArray[np.str_]:
        """Tickers, (n_assets,)."""
        return np.asarray(self.panel.asset_names).astype(str)

    @property
    def tradable(self) -> Bools:
        """Where a stock has a price of the day to trade at, (n_dates, n_assets)."""
        return np.asarray(self.panel.estimation_mask)

    @cached_property
    def market_index(self) -> Floats | None:
        """Level of the market index on every day, (n_dates,); None without one, or with gaps."""
        level = market_index(self.panel)
        return level if level is not None and np.isfinite(level).all() else None

    @cached_property
    def sections(self) -> CrossSections:
        """Statistics of every factor on each decision, from that cross-section and its target.

        A fold may read those of its training decisions only.
        """
        return cross_sections(self.raw, self.targets, self.eligible, self.names)

    @cached_property
    def betas(self) -> Floats | None:
        """Market betas over the last year, (n_dates, n_assets); None without an index.

        NaN with fewer than `BETA_LEAST` known days.
        """
        level = market_index(self.panel)
        if level is None:
            return None
        index = simple_returns(level[:, None])
        return trailing_beta(self.returns, index, BETA_WINDOW, min_count=BETA_LEAST)

    @property
    def first(self) -> int:
        """The first decision with a stock in the sample; DataError if there is none."""
        filled = np.flatnonzero(self.eligible.any(axis=1))
        if not len(filled):
            raise DataError(
                "no stock is fit for the sample before the test: give more history, or lower "
                "cleaning.min_history."
            )
        return int(filled[0])

    def columns(self, names: Sequence[str]) -> list[int]:
        """Positions of factors on the last axis of `features`."""
        return [self.names.index(name) for name in names]

    def features_of(self, names: Sequence[str], decisions: slice) -> npt.NDArray[np.float32]:
        """Factors on some decisions, contiguous; not copied where they are all factors in order."""
        columns, own = self.columns(names), self.features[decisions]
        if columns == list(range(len(self.names))):
            return np.ascontiguousarray(own)
        return np.take(own, columns, axis=2)

    def holding_returns(self, decisions: Rows | slice) -> Floats:
        """Daily returns from a decision's trade to the next one's, (n, longest, n_assets).

        NaN on the days after a shorter one, and throughout where the next one is not known.
        """
        rows = np.arange(len(self.decisions))[decisions]
        following = np.append(self.decisions[1:], len(self.price))
        return holding_returns(self.returns, self.decisions[rows], following[rows], lag=self.lag)

    def in_unit(self, unit: str) -> Dataset:
        """The same with targets in another unit, "volatility" or "return": see `TargetConfig`.

        Everything else is shared.
        """
        scale = self.volatility if unit == "volatility" else None
        targets = rank_forward(self.forward, self.sample[self.decisions], scale)
        daily = None if self.daily is None else self.daily.in_unit(unit)
        return replace(self, targets=targets, daily=daily)

    def forward_of(self, horizon: int) -> Floats:
        """Forward log returns of any horizon in days, (n_decisions, n_assets), NaN if unknown."""
        return forward_returns(self.last_price, lag=self.lag, horizon=horizon, rows=self.decisions)

    def rows_ahead(self, span: int, decisions: Rows | slice = slice(None)) -> int:
        """Decisions until `span` days have passed, at most, among these."""
        return rows_ahead(self.decisions[decisions], span)

    def days_of(self, block: slice) -> slice:
        """Days of a block of decisions: from its first to the day before the one after its last."""
        after = block.stop < len(self.decisions)
        stop = self.decisions[block.stop] if after else len(self.price)
        return slice(int(self.decisions[block.start]), int(stop))

    def cut(self, days: slice = slice(None), assets: slice = slice(None)) -> Dataset:
        """Some of the days and stocks (slices of step 1); every array is a view.

        Nothing is computed again: ranks are those among all stocks, and targets of the last
        decisions reach past the cut, so that a fit needs its purge as before.

        Examples
        --------
        >>> import alphakeel as ak
        >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
        >>> dataset = prepare_dataset(panel, Plan.of(panel, ak.StudyConfig()))
        >>> half = dataset.cut(slice(0, 450), slice(0, 6))
        >>> half.features.shape, half.features.base is not None
        ((90, 6, 45), True)
        """
        start, stop, _ = days.indices(len(self.price))
        first, last = np.searchsorted(self.decisions, (start, stop))
        inside = slice(int(first), int(last))
        by_day = {name: getattr(self, name)[start:stop, assets] for name in _DAILY}
        decided = {name: getattr(self, name)[inside, assets] for name in _DECIDED}
        return replace(
            self,
            panel=self.panel.isel(observations=slice(start, stop), assets=assets),
            decisions=self.decisions[inside] - start,
            market=self.market[inside],
            daily=None if self.daily is None else self.daily.cut(days, assets),
            **by_day,
            **decided,
        )

    def on(self, rows: Rows) -> Dataset:
        """The same on some of the decisions, by their place among them; their arrays are copies."""
        decided = {name: getattr(self, name)[rows] for name in _DECIDED}
        own = {"decisions": self.decisions[rows], "market": self.market[rows], **decided}
        return replace(self, **own)


# Arrays by day and stock, and by decision and stock.
_DAILY = ("sample", "price", "last_price", "returns")
_DECIDED = ("features", "raw", "targets", "forward", "volatility", "eligible")


def prepare_dataset(
    panel: AssetPanel,
    plan: Plan,
    tracker: Tracker | None = None,
    *,
    since: int = 0,
    lean: bool = False,
    owned: bool = False,
) -> Dataset:
    """Clean a panel, compute its factors, and rank them and the forward returns.

    Parameters
    ----------
    panel : AssetPanel
        No day after its last one is read.
    plan : Plan
        Of this panel, or of more days than it has.
    tracker : Tracker, optional
        Of cleaning and factors, `WORK` each.
    since : int, default=0
        The first decision whose factors are asked for: only the days that those read are gone
        through, and on earlier decisions there are none (`features` 0, `raw` and `market` NaN).
    lean : bool, default=False
        Without what no decision reads: `provenance`, `raw` (which has no factors then), and the
        fields of the panel that no factor and no setting asks for.
    owned : bool, default=False
        Of a lean data set's panel these fields, and those that cleaning changes, are taken out.

    Returns
    -------
    Dataset
        `volatility` is annual.

    Raises
    ------
    ConfigError
        If a user's own factor reads the future, or has no values.
    DataError
        If the sample has too few stocks to train on, or to test on.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> dataset = prepare_dataset(panel, Plan.of(panel, ak.StudyConfig()))
    >>> dataset.targets.shape
    (180, 12, 2)
    """
    config, tracker = plan.config, tracker or Tracker(None, 2.0 * WORK)
    with tracker.task("cleaning", WORK):
        given = _without_idle(panel, plan, owned=owned) if lean else panel
        keywords = config.cleaning.keywords()
        cleaning = clean(given, **keywords, record=not lean, owned=owned and lean)
        price = cleaning.panel["accounting_close"]
        returns = simple_returns(price)
    with tracker.task("factors", WORK):
        rows = _rows_wanted(plan, since, daily=plan.reads_days)
        factors = _factors(cleaning.panel, plan, since, rows[1])
    dataset = assemble_dataset(
        cleaning.panel,
        factors,
        price=price,
        returns=returns,
        volatility=ew_volatility(returns, halflife=config.allocation.volatility_halflife),
        sample=cleaning.eligible & universe_mask(panel),
        decisions=rows[0],
        lag=config.target.lag,
        horizons=config.target.horizons,
        unit=config.target.unit,
        since=len(rows[0]) - len(rows[1]),
        lean=lean,
        provenance=None if lean else _describe(panel, plan, cleaning, factors),
    )
    if plan.reads_days:
        daily = replace(dataset, raw=dataset.raw[..., :0].copy(), provenance=None)
        dataset = replace(dataset.on(plan.decisions), daily=daily)
    _refuse_thin_sample(dataset.eligible, plan)
    return dataset


def _describe(
    panel: AssetPanel, plan: Plan, cleaning: CleanResult, factors: FactorSet
) -> Provenance:
    """Where the numbers come from, and what was done to them."""
    found = cautions(panel, factors, plan.name, plan.config, cleaning.jumps)
    return Provenance(
        panel_hash=plan.panel_hash,
        ledger=cleaning.ledger,
        quality=describe_fields(panel),
        omitted=factors.omitted,
        cautions=(*found, *plan.notes),
    )


def _rows_wanted(plan: Plan, since: int, *, daily: bool) -> tuple[Rows, Rows]:
    """Days on which a data set has rows, and those of them whose factors are computed.

    Decisions; or, where a model reads them, all days up to the last decision. Factors are asked for
    from the decision `since` on.
    """
    if not daily:
        return plan.decisions, plan.decisions[since:]
    days = np.arange(plan.decisions[-1] + 1)
    return days, days[plan.decisions[since] :] if since else days


def reach_back(dataset: Dataset, plan: Plan, since: int) -> Dataset:
    """A lean data set with its factors, the library of the plan, from an earlier decision on."""
    own = dataset if dataset.daily is None else dataset.daily
    days, wanted = _rows_wanted(plan, since, daily=dataset.daily is not None)
    factors = _factors(dataset.panel, plan, since, wanted)
    before = len(days) - len(wanted)
    features = _after(before, standardise(factors.values, own.eligible[before:]), 0.0)
    own = replace(own, features=features, market=_after(before, factors.market, np.nan))
    if dataset.daily is None:
        return own
    at = dataset.decisions
    return replace(dataset, features=own.features[at], market=own.market[at], daily=own)


def _factors(panel: AssetPanel, plan: Plan, since: int, days: Rows) -> FactorSet:
    """Factors of a cleaned panel on some days, none of them before a decision."""
    first = _first_day_read(plan, since)
    read = panel.isel(observations=slice(first, None)) if first else panel
    if not plan.custom.factors:
        return compute_factors(read, plan.library, rows=days - first)
    factors = compute_factors(read, plan.library)
    check_factors(plan.custom, read, factors)
    return factors.at(days - first)


def _without_idle(panel: AssetPanel, plan: Plan, *, owned: bool) -> AssetPanel:
    """A panel without the fields that no factor of the plan and no setting reads."""
    config = plan.config
    named = {name for factor in plan.library for name in factor.fields}
    relative = config.allocation.method == "enhanced_index"
    if relative or config.allocation.benchmark == "cap_weight" or config.cleaning.drop_small > 0.0:
        named.add("market_cap")
    rest = panel if owned else panel.copy()
    for name in (_OF_FACTORS - named) & set(panel.fields):
        del rest[name]
    return rest


def _first_day_read(plan: Plan, since: int) -> int:
    """The first day that the factors of a decision and of later ones read.

    A factor's bits on a day hang on the days of its lookback alone, which the tests of the
    factors hold it to.
    """
    if not since:
        return 0
    longest = max(factor.lookback for factor in plan.library)
    return max(0, int(plan.decisions[since]) - longest + 1)


def assemble_dataset(
    panel: AssetPanel,
    factors: FactorSet,
    *,
    price: Floats,
    returns: Floats,
    volatility: Floats,
    sample: Bools,
    decisions: Rows,
    lag: int,
    horizons: Sequence[int],
    unit: str = "volatility",
    since: int = 0,
    lean: bool = False,
    provenance: Provenance | None = None,
) -> Dataset:
    """Take factors and forward returns on the decisions, and rank them.

    Arguments as the attributes of `Dataset`, on all days of the panel. A forward return is divided
    by the stock's own volatility before it is ranked, unless `unit` is "return": where the unit is
    chosen later, `Dataset.in_unit` gives the other. Factors are given on the decisions from `since`
    on; a `lean` data set has no factors in `raw`.
    """
    last_price = pd.DataFrame(price).ffill().to_numpy()
    known = [forward_returns(last_price, lag=lag, horizon=h, rows=decisions) for h in horizons]
    forward, decided = np.stack(known, axis=-1), volatility[decisions]
    eligible = (sample & panel.estimation_mask)[decisions]
    raw = _after(since, factors.values[..., :0].copy() if lean else factors.values, np.nan)
    features = _after(since, standardise(factors.values, eligible[since:]), 0.0)
    return Dataset(
        panel=panel,
        sample=sample,
        price=price,
        last_price=last_price,
        returns=returns,
        decisions=decisions,
        features=features,
        raw=raw,
        market=_after(since, factors.market, np.nan),
        targets=rank_forward(forward, sample[decisions], None if unit == "return" else decided),
        forward=forward,
        volatility=decided,
        eligible=eligible,
        names=factors.names,
        families=factors.families,
        market_names=factors.market_names,
        lag=lag,
        horizons=tuple(horizons),
        provenance=provenance,
    )


def _after(since: int, values: npt.NDArray[np.float32], filler: float) -> npt.NDArray[np.float32]:
    """Values by decision, after as many rows of a filler as there are decisions before them."""
    if not since:
        return values
    out = np.zeros((since + len(values), *values.shape[1:]), dtype=values.dtype)
    if filler != 0.0:  # zeros that nobody writes take no memory
        out[:since] = filler
    out[since:] = values
    return out


def check_sample(panel: AssetPanel, plan: Plan) -> None:
    """Refuse what `prepare_dataset` would refuse for too few stocks, before anything is computed.

    Nothing is cleaned where far more stocks than needed are listed and have their history.

    Raises
    ------
    DataError
        If the sample has too few stocks to train on, or to test on.
    """
    if not plan.folds:
        return
    settings = plan.config.cleaning
    listed = universe_mask(panel) & panel.estimation_mask
    days = np.cumsum(~np.isnan(panel["adj_close"]), axis=0, dtype=np.int32)
    known = (listed & (days >= settings.min_history))[plan.decisions].sum(axis=1)
    if all((known[part] >= _MANY_STOCKS).sum() >= 2 for part in _parts(plan).values()):
        return
    cleaning = clean(panel, **settings.keywords())
    eligible = cleaning.eligible & universe_mask(panel) & cleaning.panel.estimation_mask
    _refuse_thin_sample(eligible[plan.decisions], plan)


def _refuse_thin_sample(eligible: Bools, plan: Plan) -> None:
    """Refuse a sample with too few stocks for the first fit, or for the test."""
    breadth = eligible.sum(axis=1)
    for where, part in _parts(plan).items():
        number = breadth[part]
        if (number >= _LEAST_STOCKS).sum() < 2:
            raise DataError(
                f"the sample has at most {number.max(initial=0)} stocks on the {len(number)} "
                f"decision dates {where}, and at least {_LEAST_STOCKS} are needed: give more "
                "stocks, or a longer history of them, or loosen [cleaning]."
            )


def _parts(plan: Plan) -> dict[str, slice | Rows]:
    """The decisions that need a sample, by what they are for."""
    if not plan.folds:
        return {}
    first = plan.folds[0]
    return {"to train on": first.train, "of the test": slice(first.test.start, None)}
