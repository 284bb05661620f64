"""Does reality agree with the backtest? From the journal, and the prices that came after.

What the journal recommended is traded by the simulator of the study, and held against what the
backtest said: Rank IC, returns, VaR, turnover, the factors' distributions. One sentence follows: it
agrees, it does not, or nothing can be said yet, and then how many more days that needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm
from skfolio.containers import AssetPanel

from alphakeel.backtest.ledger import Ledger
from alphakeel.errors import DataError
from alphakeel.evaluation.recommendation import NOTHING
from alphakeel.live.decision import live_folder
from alphakeel.live.drift import factor_drift, read_fills, slippage
from alphakeel.live.journal import Entry, Journal
from alphakeel.live.replay import Replay, later_fits, plan_of, replay, same_past
from alphakeel.pipeline.simulator import Simulator
from alphakeel.stats import bootstrap, newey_west
from alphakeel.stats import performance as metrics
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.var_backtests import conditional_coverage, exceedances, kupiec
from alphakeel.storage.saved_runs import SavedRun, open_run

__all__ = ["Monitor", "Verdict", "days_needed", "monitor_run", "verdict_of"]

Floats = npt.NDArray[np.float64]

# Chance of a false alarm, over all tests together, and of seeing that an edge is gone.
ALPHA, POWER = 0.05, 0.8
PATHS = 2000
AGREES, CANNOT_SAY, DISAGREES = "agrees", "cannot say yet", "does not agree"


@dataclass(frozen=True)
class Verdict:
    """One of the three verdicts, the sentence that says why, and the days that are still needed."""

    word: str
    sentence: str
    days_needed: int | None


@dataclass(frozen=True, eq=False)
class Monitor:
    """What came of the decisions of one strategy.

    Attributes
    ----------
    run, strategy : str
    verdict : Verdict
    retrain : tuple of (bool, str)
        Whether to fit anew now, and why.
    decisions : DataFrame
        One row a decision in the journal: day, stocks, invested, return until the next one, rank_ic
        (NaN while the returns it is about are not known), same (as the replay of the backtest, to
        the bit), hindsight (written long after its day).
    measures : DataFrame
        measure, live, expected, low, high, p, n: what reality gave against the backtest.
    drift : DataFrame
        factor, psi, usual (what 95 % of past windows of this length stayed under), drifted.
    ledger : Ledger
        The journal's decisions, traded as in the backtest.
    days : ndarray of datetime64[D]
        Of the ledger.
    cone : ndarray of shape (n_days, 3)
        Wealth from 1: low end, median and high end of what the backtest leads to expect.
    """

    run: str
    strategy: str
    verdict: Verdict
    retrain: tuple[bool, str]
    decisions: pd.DataFrame
    measures: pd.DataFrame
    drift: pd.DataFrame
    ledger: Ledger | None
    days: npt.NDArray[np.datetime64]
    cone: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.run,
            "strategy": self.strategy,
            "verdict": self.verdict.word,
            "sentence": self.verdict.sentence,
            "days_needed": self.verdict.days_needed,
            "retrain": self.retrain[0],
            "retrain_reason": self.retrain[1],
            **{name: _records(getattr(self, name)) for name in ("decisions", "measures", "drift")},
        }


def monitor_run(
    run: SavedRun | str | Path,
    panel: AssetPanel,
    *,
    strategy: str | None = None,
    fills: str | Path | None = None,
    day: np.datetime64 | str | None = None,
    own: Replay | None = None,
) -> Monitor:
    """Hold the journal of a run against its backtest.

    Parameters
    ----------
    run : SavedRun or path
    panel : AssetPanel
        The data of the run and what came after.
    strategy : str, optional
        As in `decide`; by default the recommended one.
    fills : path, optional
        CSV of what was traded: date, ticker, side, shares, price.
    day : date, optional
        Look no further than this day, in the data and in the journal.
    own : Replay, optional
        Of this strategy to this day, with the factors of every decision; made if it is not given.

    Raises
    ------
    DataError
        If the journal has no decision of this strategy, or the data cannot be used.
    """
    opened = run if isinstance(run, SavedRun) else open_run(run)
    label = opened.recommendation().strategy if strategy is None else strategy
    label = NOTHING if label.casefold() == NOTHING.casefold() else opened.label_of(label)
    until = None if day is None else np.datetime64(str(day), "D")
    entries = Journal(live_folder(opened) / "journal").entries(label)
    entries = tuple(entry for entry in entries if until is None or entry.day <= until)
    if not entries:
        raise DataError(
            f"the journal of the run {opened.name} has no decision for {label}: `alphakeel today` "
            "makes one a day."
        )
    if label == NOTHING:
        return _of_nothing(opened, entries)
    if own is None:
        model = opened.model_of(label)
        extra = later_fits(opened, model, live_folder(opened) / "models")
        live, cut = plan_of(opened, panel, until, extra)
        same = same_past(opened, panel, lambda: live.plan.panel_hash)
        own = replay(opened, live, cut, label, extra, same=same)
    _refuse_unknown(entries, own)
    return _monitor(own, entries, None if fills is None else read_fills(fills))


def _refuse_unknown(entries: tuple[Entry, ...], own: Replay) -> None:
    """Refuse data that lack a day or a stock of the journal."""
    days, assets = set(own.dataset.dates.tolist()), set(map(str, own.dataset.assets))
    for entry in entries:
        lost = sorted(set(entry.weights) - assets)
        if entry.day.item() not in days or lost:
            what = f"the stock {lost[0]}" if lost else f"the day {entry.day}"
            raise DataError(
                f"the journal has a decision of {entry.day}, and the data do not have {what}: give "
                "the data that it was made on and what came after."
            )


def _of_nothing(run: SavedRun, entries: tuple[Entry, ...]) -> Monitor:
    rows = [{"day": str(entry.day), "stocks": 0, "invested": 0.0} for entry in entries]
    verdict = Verdict(CANNOT_SAY, "cannot say: nothing is held, so nothing can disagree.", None)
    nothing = pd.DataFrame()
    return Monitor(
        run=run.name,
        strategy=NOTHING,
        verdict=verdict,
        retrain=(False, "nothing is held."),
        decisions=pd.DataFrame(rows),
        measures=nothing,
        drift=nothing,
        ledger=None,
        days=np.array([entry.day for entry in entries]),
        cone=np.ones((len(entries), 3)),
    )


def _monitor(own: Replay, entries: tuple[Entry, ...], fills: pd.DataFrame | None) -> Monitor:
    dataset, start = own.dataset, _row(own, entries[0].day)
    days = dataset.dates[start:]
    ledger = _trade(own, entries, start)
    ics = _live_ics(own, entries)
    decisions = _decision_table(own, entries, ledger, start, ics)
    past = _past_returns(own, entries[0].day)
    cone = _cone(past, len(days), own.config.seed)
    rows = [
        *_ic_measure(own, ics, entries[0].day),
        *_return_measure(past, ledger, own.config.seed),
        *_var_measure(own, entries, ledger, start),
        *_turnover_measure(own, ledger),
        *slippage(fills, own),
    ]
    columns = ["measure", "live", "expected", "low", "high", "p", "n"]
    measures = pd.DataFrame(rows, columns=columns)
    drift = factor_drift(own, entries[0].day)
    needed = _needed(own, past, entries[0].day)
    verdict = verdict_of(measures, needed, len(days) - 1)
    return Monitor(
        run=own.run.name,
        strategy=own.label,
        verdict=verdict,
        retrain=_retrain(own, drift, verdict),
        decisions=decisions,
        measures=measures,
        drift=drift,
        ledger=ledger,
        days=days,
        cone=cone,
    )


def _row(own: Replay, day: np.datetime64) -> int:
    return int(np.searchsorted(own.dataset.dates, day))


def _weights(own: Replay, entry: Entry) -> Floats:
    place = {str(name): k for k, name in enumerate(own.dataset.assets)}
    weights = np.zeros(len(place))
    for name, value in entry.weights.items():
        weights[place[name]] = value
    return weights


def _trade(own: Replay, entries: tuple[Entry, ...], start: int) -> Ledger:
    """Trade the journal: every new decision on its day, and the first one whatever it is."""
    days = slice(start, len(own.dataset.dates))
    simulator = Simulator.of(own.dataset, own.config, days)
    targets = np.full(simulator.price.shape, np.nan)
    for number, entry in enumerate(entries):
        if number == 0 or entry.decision["new"]:
            targets[_row(own, entry.day) - start] = _weights(own, entry)
    return simulator.trade_daily(targets, own.portfolio.margin).ledger


def _live_ics(own: Replay, entries: tuple[Entry, ...]) -> dict[np.datetime64, float]:
    """Rank IC of the scores of each decision, at the longest horizon, where it is known."""
    out: dict[np.datetime64, float] = {}
    if own.model is None:
        return out
    place = {str(name): k for k, name in enumerate(own.dataset.assets)}
    longest = int(np.argmax(own.dataset.horizons))
    for entry in entries:
        at = np.flatnonzero(own.dataset.dates[own.dataset.decisions] == entry.decided)
        if not len(at) or not entry.scores or entry.decided in out:
            continue
        scores = np.full((1, len(place)), np.nan)
        for name, value in entry.scores.items():
            if name in place:
                scores[0, place[name]] = value
        forward = own.dataset.forward[at[:1], :, longest]
        known = float(rank_ic(scores, forward)[0])
        if np.isfinite(known):
            out[entry.decided] = known
    return out


def _decision_table(
    own: Replay,
    entries: tuple[Entry, ...],
    ledger: Ledger,
    start: int,
    ics: dict[np.datetime64, float],
) -> pd.DataFrame:
    growth = np.concatenate([[1.0], np.cumprod(1.0 + ledger.net_returns)])
    ends = [*(_row(own, entry.day) for entry in entries[1:]), start + len(ledger.wealth) - 1]
    rows = []
    for entry, end in zip(entries, ends, strict=True):
        at, weights = _row(own, entry.day) - start, _weights(own, entry)
        rows.append(
            {
                "day": str(entry.day),
                "stocks": int(np.count_nonzero(weights)),
                "invested": float(weights.sum()),
                "return": float(growth[end - start + 1] / growth[at + 1] - 1.0),
                "rank_ic": ics.get(entry.decided, np.nan) if entry.decision["new"] else np.nan,
                "same": _as_replayed(own, entry, weights),
                "hindsight": entry.in_hindsight,
            }
        )
    return pd.DataFrame(rows)


def _as_replayed(own: Replay, entry: Entry, weights: Floats) -> bool:
    """Whether the journal has what the backtest, replayed on today's data, has on that day."""
    row = _row(own, entry.day) - own.simulator.start
    if entry.decision["new"]:
        return bool(np.array_equal(own.portfolio.targets[row], weights))
    latest = _row(own, entry.decided) - own.simulator.start
    pending = latest + own.simulator.lag > row
    source = own.portfolio.targets[latest] if pending else own.portfolio.ledger.weights[row]
    return bool(np.array_equal(source, weights))


def _past_returns(own: Replay, day: np.datetime64) -> Floats:
    """Net returns of the strategy in the backtest, on the days before the journal began."""
    before = own.days < day
    return np.asarray(own.portfolio.ledger.net_returns[before])


def _paths(past: Floats, n_days: int, seed: int) -> Floats:
    """Wealth of resampled futures of the backtest, (PATHS, n_days), from 1."""
    block = bootstrap.default_block_length(past[:, None])
    length = max(len(past), n_days)
    rows = bootstrap.bootstrap_indices(length, block, PATHS, np.random.default_rng(seed))[
        :, :n_days
    ]
    return np.asarray(np.cumprod(1.0 + past[rows % len(past)], axis=1))


def _cone(past: Floats, n_days: int, seed: int) -> Floats:
    """Low end, median and high end of wealth after each live day, (n_days, 3); row 0 is 1."""
    cone = np.ones((n_days, 3))
    if len(past) >= 20 and n_days > 1:
        tails = (ALPHA / 2.0, 0.5, 1.0 - ALPHA / 2.0)
        cone[1:] = np.quantile(_paths(past, n_days - 1, seed), tails, axis=0).T
    return cone


def _ic_series(own: Replay, day: np.datetime64) -> Floats:
    """Rank IC of the backtest's decisions before a day, at the longest horizon."""
    if own.model is None or own.scores is None:
        return np.empty(0)
    longest = int(np.argmax(own.dataset.horizons))
    known = own.dataset.decisions + own.dataset.lag + own.dataset.horizons[longest]
    rows = np.flatnonzero(known < _row(own, day))
    if not len(rows):
        return np.empty(0)
    series = np.asarray(rank_ic(own.scores[rows], own.dataset.forward[rows, :, longest]))
    return series[np.isfinite(series)]


def _overlap(own: Replay) -> int:
    """Decisions by which two labels can overlap."""
    return own.dataset.rows_ahead(max(own.dataset.horizons))


def _step(own: Replay) -> float:
    """Trading days between two decisions, by the days that there were: weeks have holidays."""
    return float(np.diff(own.dataset.decisions).mean())


def _deviation(series: Floats, lags: int) -> float:
    """Long-run standard deviation of one value of a series, for the mean of many."""
    t = newey_west.newey_west_tstat(series, lags).t
    mean = float(series.mean())
    if not np.isfinite(t) or t == 0.0:
        return float(series.std(ddof=1))
    return abs(mean / t) * float(np.sqrt(len(series)))


def _ic_measure(
    own: Replay, ics: dict[np.datetime64, float], day: np.datetime64
) -> list[tuple[Any, ...]]:
    """Mean live Rank IC against the backtest's mean, with the interval it should lie in."""
    past, live = _ic_series(own, day), np.array(list(ics.values()))
    if len(past) < 10 or not len(live):
        return []
    one = _deviation(past, _overlap(own))
    spread = one * float(np.sqrt(1.0 / len(live) + 1.0 / len(past)))
    z = (live.mean() - past.mean()) / spread if spread > 0.0 else 0.0
    reach = norm.ppf(1.0 - ALPHA / 2.0) * spread
    mean = float(past.mean())
    p = 2.0 * float(norm.sf(abs(z)))
    return [("Rank IC", float(live.mean()), mean, mean - reach, mean + reach, p, len(live))]


def _return_measure(past: Floats, ledger: Ledger, seed: int) -> list[tuple[Any, ...]]:
    """Return since the first decision against the cone of the backtest."""
    live = ledger.net_returns[1:]
    if len(past) < 20 or not len(live):
        return []
    ends = _paths(past, len(live), seed)[:, -1] - 1.0
    earned = float(np.prod(1.0 + live) - 1.0)
    low, middle, high = np.quantile(ends, (ALPHA / 2.0, 0.5, 1.0 - ALPHA / 2.0))
    below, above = int((ends <= earned).sum()), int((ends >= earned).sum())
    p = min(1.0, 2.0 * (min(below, above) + 1.0) / (len(ends) + 1.0))
    return [("return", earned, float(middle), float(low), float(high), p, len(live))]


def _var_measure(
    own: Replay, entries: tuple[Entry, ...], ledger: Ledger, start: int
) -> list[tuple[Any, ...]]:
    """Share of days beyond the VaR that the journal forecast, with Kupiec's and both tests."""
    forecast = np.full(len(ledger.net_returns), np.nan)
    for entry in entries:
        value = entry.decision["risk"].get("var_95_held")
        forecast[_row(own, entry.day) - start] = np.nan if value is None else value
    hits = exceedances(ledger.net_returns, forecast)
    hits[:2] = np.nan  # the first trade is on the second day: nothing was held before
    if not np.isfinite(hits).any():
        return []
    coverage, both = kupiec(hits), conditional_coverage(hits)
    rate, n = coverage.rate, coverage.n
    nan = float("nan")
    return [
        ("VaR 95 % exceeded", rate, coverage.expected, nan, nan, coverage.p_value, n),
        ("VaR 95 %, frequency and clusters", rate, both.expected, nan, nan, both.p_value, n),
    ]


def _turnover_measure(own: Replay, ledger: Ledger) -> list[tuple[Any, ...]]:
    """Turnover and costs of a year, live and in the backtest; not tested."""
    nan, n = float("nan"), len(ledger.wealth)
    if n < 3:
        return []
    past = own.portfolio.ledger
    year = metrics.PERIODS_PER_YEAR
    before = np.concatenate([[ledger.initial], ledger.wealth[:-1]])
    then = np.concatenate([[past.initial], past.wealth[:-1]])
    return [
        (
            "turnover a year",
            float(ledger.turnover[2:].mean() * year / 2.0),
            float(past.turnover[2:].mean() * year / 2.0),
            nan,
            nan,
            nan,
            n,
        ),
        (
            "costs a year",
            float((ledger.costs / before)[2:].mean() * year),
            float((past.costs / then)[2:].mean() * year),
            nan,
            nan,
            nan,
            n,
        ),
    ]


def days_needed(mean: float, deviation: float) -> float:
    """Observations after which the loss of a mean would be seen, with the chance `POWER`.

    One-sided at `ALPHA`: ``((z_alpha + z_power) deviation / mean)^2``; infinity unless the mean is
    above zero.

    Examples
    --------
    >>> round(days_needed(0.05, 0.1))
    25
    """
    if not mean > 0.0 or not np.isfinite(deviation):
        return float("inf")
    reach = norm.ppf(1.0 - ALPHA) + norm.ppf(POWER)
    return float((reach * deviation / mean) ** 2)


def _needed(own: Replay, past: Floats, day: np.datetime64) -> float:
    """Trading days after which it would be seen that the edge of the backtest is gone."""
    series = _ic_series(own, day)
    if len(series) >= 10:
        number = days_needed(float(series.mean()), _deviation(series, _overlap(own)))
        return number * _step(own) + max(own.dataset.horizons) + own.dataset.lag
    if len(past) >= 20:
        return days_needed(float(past.mean()), float(past.std(ddof=1)))
    return float("inf")


def verdict_of(measures: pd.DataFrame, needed: float, n_days: int) -> Verdict:
    """The verdict in one sentence.

    It does not agree where a test rejects at `ALPHA` over the number of tests; it agrees where none
    does and enough days have passed that a lost edge would have been seen.
    """
    tested = measures[np.isfinite(measures["p"])] if len(measures) else measures
    level = ALPHA / max(len(tested), 1)
    failed = tested[tested["p"] < level] if len(tested) else tested
    if len(failed):
        parts = [
            f"{row['measure']} is {row['live']:.3g} where {row['expected']:.3g} was expected "
            f"(p {row['p']:.2g})"
            for row in failed.to_dict("records")
        ]
        return Verdict(DISAGREES, f"does not agree: {'; '.join(parts)}.", None)
    if n_days >= needed:
        return Verdict(
            AGREES,
            f"agrees: none of {len(tested)} tests rejects the backtest, and after {n_days} days a "
            f"lost edge would have been seen with a chance of {POWER:.0%}.",
            None,
        )
    if not np.isfinite(needed):
        return Verdict(
            CANNOT_SAY,
            "cannot say: the backtest itself shows no edge above zero that more days could "
            "confirm.",
            None,
        )
    more = int(np.ceil(needed - n_days))
    return Verdict(
        CANNOT_SAY,
        f"cannot say yet: no test rejects, but {n_days} days are too few; {more:,} more are needed "
        f"to see a lost edge with a chance of {POWER:.0%}.",
        more,
    )


def _retrain(own: Replay, drift: pd.DataFrame, verdict: Verdict) -> tuple[bool, str]:
    """Whether to fit anew now, and why."""
    if own.model is None:
        return False, "this strategy has nothing to fit."
    if own.live.refit_due is not None:
        return True, f"the next fit was planned for {own.live.refit_due}: `today --refit` makes it."
    moved = drift[drift["drifted"]] if len(drift) else drift
    names = ", ".join(moved["factor"].head(3)) if len(moved) else ""
    if verdict.word == DISAGREES:
        also = f", and {names} drifted" if names else ""
        return True, f"reality does not agree with the backtest{also}: look for the cause first."
    if len(moved) * 3 > len(drift) > 0:
        return True, (
            f"{len(moved)} of {len(drift)} factors drifted from what the last fit saw ({names})."
        )
    usual = f"; {names} drifted, others did not" if names else ""
    return False, f"the last fit is in time{usual}."


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]
