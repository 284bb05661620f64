"""Every leak that we can think of is found, and its honest twin passes.

The table in docs/audit.md lists the same cases, and a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import leaky_factors as made
import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

import alphakeel as ak
from alphakeel.audit import Finding, run_audit
from alphakeel.audit.adjustment import adjusted_when, check_fields, check_levels
from alphakeel.audit.coverage import check_every_date
from alphakeel.audit.evidence import check_targets
from alphakeel.audit.lookahead import (
    all_values,
    check_factor_values,
    factor_cuts,
    prepare_study,
)
from alphakeel.audit.messages import check_joins, check_missing, check_sectors
from alphakeel.audit.run import check_costs, check_gaps, check_purge
from alphakeel.audit.survivorship import (
    check_members,
    check_publication,
    check_restated,
    check_table,
)
from alphakeel.config import (
    CleaningConfig,
    CostConfig,
    FactorConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
)
from alphakeel.factors import FACTORS
from alphakeel.factors.base import Factor
from alphakeel.factors.custom import own_values
from alphakeel.pipeline import plan
from helpers import with_fields

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("momentum_3_1", "reversal_5", "earnings_yield", "size")
QUICK = StudyConfig(
    models=("linear",),
    factors=FactorConfig(exclude=tuple(f.name for f in FACTORS if f.name not in KEPT)),
    cleaning=CleaningConfig(min_history=60),
    walk_forward=WalkForwardConfig(refit_every=100, rebalance=10),
    target=TargetConfig(horizons=(5,)),
    jobs=1,
)
Findings = list[Finding]


@cache
def small() -> AssetPanel:
    """Gaps, late listings, and an adjusted close that starts from the first day's price."""
    return ak.simulate_market(
        n_assets=20,
        n_dates=520,
        seed=3,
        delisting_rate=0.1,
        listing_rate=0.1,
        suspension_rate=0.01,
    ).panel


@cache
def back_adjusted() -> AssetPanel:
    """The same with splits after the end, which only a later download knows."""
    splits = 2.0 ** np.random.default_rng(0).integers(-2, 3, 20)
    return with_fields(small(), adj_close=small()["adj_close"] * splits)


@cache
def wide() -> AssetPanel:
    """Sixty stocks over six years, of which six leave, with splits of about a third of them."""
    panel = ak.simulate_market(
        n_assets=60, n_dates=1500, seed=3, delisting_rate=0.1, listing_rate=0.05
    ).panel
    rng = np.random.default_rng(1)
    shares = np.ones(panel.active_mask.shape)
    for stock in rng.choice(60, 20, replace=False):
        shares[int(rng.integers(200, 1300)) :, stock] = 2.0
    fields = {name: panel[name] / shares for name in ("open", "high", "low", "close")}
    return with_fields(panel, **fields, volume=panel["volume"] * shares)


@cache
def survivors() -> AssetPanel:
    return ak.simulate_market(
        n_assets=16, n_dates=600, seed=3, delisting_rate=0.0, listing_rate=0.0
    ).panel


def of_factor(factor: Factor, panel: AssetPanel | None = None) -> Findings:
    """What the audit finds on a user's factor: cuts, every date, levels."""
    data = small() if panel is None else panel

    def compute(other: Any) -> Any:
        return own_values(factor, other)[..., None]

    values, names, rng = compute(data), (factor.name,), np.random.default_rng(0)
    assert np.isfinite(values).any()
    n_dates = len(values)
    for row in factor_cuts(n_dates, n_dates // 2):
        found = check_factor_values(data, (factor,), values, names, row, rng)
        if found:
            return list(found.values())
    found, _ = check_every_date(data, compute, values, names, factor.lookback, 90, rng)
    if not found:
        found = check_levels(data, compute, values, names, adjusted_when(data), rng)
    return list(found.values())


def of_field(**fields: Any) -> Findings:
    """What is found in the target test of a panel with other fields."""
    factors = tuple(f for f in FACTORS if f.name in KEPT)
    base = prepare_study(with_fields(small(), **fields), QUICK, factors)
    return check_targets(base, all_values(base.dataset.panel, factors, base.dataset.names))


def later(values: Any, days: int) -> Any:
    """Values of some days later; earlier with a negative number."""
    return pd.DataFrame(values).shift(-days).to_numpy()


def near_target(days: int) -> Any:
    price = small()["adj_close"]
    noise = np.random.default_rng(0).normal(0.0, 0.03, price.shape)
    return np.log(later(price, days) / later(price, days - 5)) + noise


# Fundamentals


def reported(delay: Callable[[Any, int], int], *, yearly_stocks: int = 0) -> Findings:
    """Earnings whose figures change some rows after each quarter's end, stock by stock."""
    panel = wide()
    quarter = pd.factorize(pd.DatetimeIndex(panel.observations).to_period("Q"))[0]
    ends = np.flatnonzero(np.diff(quarter)) + 1
    rng = np.random.default_rng(0)
    figure = np.ones(panel.active_mask.shape)
    for stock in range(panel.n_assets):
        for end in ends[:: 4 if stock < yearly_stocks else 1]:
            figure[end + delay(rng, stock) :, stock] *= np.exp(rng.normal(0.0, 0.2))
    data = with_fields(panel, earnings_to_price=figure / panel["market_cap"])
    return check_publication(data, None)


def filing(rng: Any, _stock: int) -> int:
    return int(rng.integers(20, 43))


def table(days: int) -> Findings:
    ends = pd.to_datetime(["2015-03-31", "2015-06-30"])
    return check_table(
        pd.DataFrame(
            {
                "ticker": ["A", "A"],
                "period_end": ends,
                "available_date": ends + pd.Timedelta(days=days),
                "eps": [1.0, 1.1],
            }
        )
    )


def restated(scale: float, field: str) -> Findings:
    then = small()[np.arange(400)].to_panel()
    return check_restated(with_fields(small(), **{field: scale * small()[field]}), then)


# Membership


def membership(member: Any, panel: AssetPanel) -> Findings:
    data = with_fields(panel, member=np.asarray(member, dtype=np.float64))
    return [check_members(data), *check_joins(data)]


def of_the_last_day(panel: AssetPanel, row: int) -> Any:
    """The half with the largest market values on a row, on all days."""
    cap = np.nan_to_num(panel["market_cap"][row], nan=0.0)
    return np.broadcast_to(cap > np.median(cap), panel.active_mask.shape)


def around_best(when: int, *, sign: float = 1.0) -> Findings:
    """Members for half a year from some days after the start of each stock's best 60 days.

    With sign -1: members until then, counted from the worst 60 days.
    """
    price = np.log(pd.DataFrame(wide()["adj_close"]).ffill().to_numpy())
    gain = sign * np.nan_to_num(later(price, 60) - price, nan=-np.inf)
    start = gain[200:1200].argmax(axis=0) + 200 + when
    rows = np.arange(len(price))[:, None]
    inside = (rows >= start) & (rows < start + 125) if sign > 0 else rows < start
    return membership(inside, wide())


def winners() -> Any:
    price = pd.DataFrame(wide()["adj_close"])
    gain = (price.ffill().iloc[-1] / price.bfill().iloc[0]).to_numpy()
    return np.broadcast_to(gain > np.median(gain), wide().active_mask.shape)


def coin() -> Any:
    drawn = np.random.default_rng(4).random(60) < 0.5
    drawn[int(np.argmin(wide().active_mask[-1]))] = True  # one that leaves
    return np.broadcast_to(drawn, wide().active_mask.shape)


# Missing figures, labels, levels


def without(missing: Any, field: str = "earnings_to_price") -> Findings:
    return check_missing(with_fields(wide(), **{field: np.where(missing, np.nan, wide()[field])}))


def losses() -> Any:
    """Loss-makers: half the quarters of those that leave, a tenth of the others'."""
    gone = ~wide().active_mask[-1]
    n_dates = len(wide().active_mask)
    rng = np.random.default_rng(0)
    quarters = rng.random((n_dates // 63 + 1, 60)) < np.where(gone, 0.5, 0.1)
    return np.repeat(quarters, 63, axis=0)[:n_dates]


def sectors(codes: Any) -> Findings:
    panel = wide().copy(deep=True)
    field = panel.fields["sector"]
    drawn = np.where(panel.active_mask, codes, -1).astype(field.values.dtype)
    panel.fields["sector"] = field.with_values(drawn)
    return check_sectors(panel)


def by_return(days: int) -> Any:
    """Labels 0 and 1: below and above the median return, of some days to come or past."""
    price = pd.DataFrame(wide()["adj_close"])
    move = np.log(price.shift(-days) / price) if days > 0 else np.log(price / price.shift(-days))
    held = move.iloc[:: abs(days)].reindex(move.index, method="ffill")
    return held.gt(held.median(axis=1), axis=0).to_numpy() * 1


def levels(**fields: Any) -> Findings:
    return check_fields(with_fields(wide(), **fields))


def cap_of_todays_shares() -> Any:
    panel = wide()
    shares = panel["market_cap"] / panel["close"]
    last = pd.DataFrame(shares).ffill().to_numpy()[-1]
    return panel["close"] * last


def split_adjusted_volume() -> Any:
    panel = wide()
    ratio = pd.DataFrame(panel["adj_close"] / panel["close"])
    steps = np.log(ratio).diff()
    splits = np.exp(steps.where(steps > 0.5, 0.0).cumsum())
    return panel["volume"] * (splits.iloc[-1] / splits)


# Settings


def purge(*, short: bool) -> Findings:
    """Folds as the plan makes them, or with training up to the first test day."""
    config = replace(QUICK, target=TargetConfig(horizons=(20,)))
    honest = plan._make_folds

    def make(*args: Any) -> Any:
        folds = honest(*args)
        return tuple(replace(f, train=slice(f.train.start, f.test.start)) for f in folds)

    with pytest.MonkeyPatch.context() as patch:
        if short:
            patch.setattr(plan, "_make_folds", make)
        return [check_purge(ak.run_study(small(), config))]


def gaps(how: str) -> Findings:
    cleaning = replace(QUICK.cleaning, gap_fill=how)
    config = replace(QUICK, cleaning=cleaning)
    return [check_gaps(prepare_study(small(), config, FACTORS[:1]))]


@cache
def audited(lag: int) -> Findings:
    config = replace(QUICK, target=TargetConfig(horizons=(5,)))
    object.__setattr__(config.target, "lag", lag)  # the settings refuse 0
    return list(run_audit(small(), config).findings)


@dataclass(frozen=True)
class Case:
    """A leak and its twin, each as the findings of the audit's own checks."""

    leak: str
    twin: str
    test: str
    found: Callable[[], Findings]
    passed: Callable[[], Findings]
    verdict: str = "leak"


def factors(leak: str, twin: str, one: Factor, other: Factor, test: str = "factors") -> Case:
    return Case(leak, twin, test, lambda: of_factor(one), lambda: of_factor(other))


CASES = (
    factors("tomorrow's return", "today's return", made.next_return, made.last_return),
    factors("tomorrow's open", "today's open", made.next_gap, made.last_gap),
    factors("centred moving average", "trailing", made.centred_mean, made.trailing_mean),
    factors(
        "mean and deviation of the full sample",
        "of the past",
        made.full_sample_zscore,
        made.expanding_zscore,
    ),
    factors(
        "ranks over all dates",
        "over the day's stocks",
        made.rank_over_all_dates,
        made.rank_of_the_day,
    ),
    factors(
        "principal component of the full sample",
        "of the past",
        made.full_sample_component,
        made.component_of_the_past,
    ),
    factors("gaps filled backward", "filled forward", made.backfilled, made.carried),
    factors("gaps interpolated", "last value carried", made.interpolated, made.last_known_value),
    factors(
        "tomorrow's return on one day a month",
        "another window on one day a month",
        made.one_day_a_month,
        made.other_window_one_day_a_month,
    ),
    factors(
        "tomorrow's return on one date",
        "another window on one date",
        made.one_date_only,
        made.another_window_on_one_date,
    ),
    factors(
        "later returns of one stock a day",
        "earlier ones of one stock a day",
        made.one_stock_only,
        made.one_stock_lags,
    ),
    factors(
        "tomorrow's return on the last 30 days",
        "another window then",
        made.last_days_only,
        made.other_window_of_late,
    ),
    factors(
        "month-end value on all its days",
        "from the month's end on",
        made.month_end_for_all_its_days,
        made.month_end_from_then_on,
    ),
    factors(
        "week labelled by its start",
        "by its end",
        made.week_labelled_by_its_start,
        made.week_labelled_by_its_end,
    ),
    factors(
        "clipped at quantiles of the full sample",
        "at a deviation of the day",
        made.clipped_at_full_sample_quantiles,
        made.clipped_at_a_deviation_of_the_day,
    ),
    factors(
        "exponential smoothing run backward",
        "run forward",
        made.smoothed_backwards,
        made.smoothed_forwards,
    ),
    factors(
        "filter run both ways (filtfilt)",
        "one way (lfilter)",
        made.filtered_twice,
        made.filtered_once,
    ),
    factors(
        "sign chosen by the full sample's IC",
        "by the past's",
        made.sign_of_the_full_sample,
        made.sign_of_the_past,
    ),
    factors(
        "seasonal mean of the full sample",
        "of the past",
        made.season_of_the_full_sample,
        made.season_of_the_past,
    ),
    factors(
        "as-of merge to the nearest report",
        "to the last one",
        made.merged_nearest,
        made.merged_backward,
    ),
    factors(
        "as-of merge to the next report",
        "to the last one before the day",
        made.merged_forward,
        made.merged_backward_without_the_day,
    ),
    factors(
        "standardised among stocks listed later too",
        "among the day's stocks",
        made.among_later_stocks_too,
        made.among_the_stocks_of_the_day,
    ),
    factors(
        "the target itself", "the same of the past", made.target_itself, made.target_of_the_past
    ),
    factors(
        "distance to a peak to come",
        "to the last peak",
        made.distance_to_a_later_peak,
        made.distance_to_the_peak,
    ),
    factors(
        "share of the sample that is over",
        "days since its start",
        made.share_of_the_sample_gone,
        made.age_in_days,
    ),
    Case(
        "level of back-adjusted prices",
        "level of raw prices",
        "levels",
        lambda: of_factor(made.low_adjusted_price, back_adjusted()),
        lambda: of_factor(made.low_raw_price, back_adjusted()),
    ),
    Case(
        "adjusted to raw price",
        "illiquidity by raw money volume",
        "levels",
        lambda: of_factor(made.adjustment_to_come, back_adjusted()),
        lambda: of_factor(made.illiquidity, back_adjusted()),
    ),
    Case(
        "field that is nearly the target",
        "that is nearly a past return",
        "target",
        lambda: of_field(earnings_to_price=near_target(6)),
        lambda: of_field(earnings_to_price=near_target(0)),
    ),
    Case(
        "market value dated a day early",
        "a day late",
        "target",
        lambda: of_field(market_cap=later(small()["market_cap"], 1)),
        lambda: of_field(market_cap=later(small()["market_cap"], -1)),
    ),
    Case(
        "fundamentals dated at the period's end",
        "filed 20 to 42 days later",
        "fundamentals",
        lambda: reported(lambda _rng, _stock: 0),
        lambda: reported(filing),
    ),
    Case(
        "the same for a quarter of the stocks",
        "yearly filings of a quarter of them",
        "fundamentals",
        lambda: reported(lambda rng, stock: 0 if stock < 15 else filing(rng, stock)),
        lambda: reported(filing, yearly_stocks=15),
    ),
    Case(
        "the same for one stock",
        "one that files at the next quarter's end, give or take a week",
        "fundamentals",
        lambda: reported(lambda rng, stock: 0 if stock == 7 else filing(rng, stock)),
        lambda: reported(
            lambda rng, stock: int(rng.integers(56, 70)) if stock == 7 else filing(rng, stock)
        ),
    ),
    Case(
        "reports available before their period is over",
        "40 days after",
        "fundamentals",
        lambda: table(-3),
        lambda: table(40),
    ),
    Case(
        "values restated since an earlier download",
        "adjusted prices rescaled since",
        "restated",
        lambda: restated(1.02, "book_to_price"),
        lambda: restated(0.5, "adj_close"),
    ),
    Case(
        "membership of the last day",
        "of each day",
        "survivorship",
        lambda: membership(of_the_last_day(survivors(), -1), survivors()),
        lambda: membership(
            survivors()["market_cap"] > np.median(survivors()["market_cap"], axis=1)[:, None],
            survivors(),
        ),
    ),
    Case(
        "fixed list of stocks that never leave",
        "fixed list with some that do",
        "survivorship",
        lambda: membership(
            np.broadcast_to(wide().active_mask[-1] & (np.arange(60) < 45), (1500, 60)), wide()
        ),
        lambda: membership(np.broadcast_to(np.arange(60) < 30, (1500, 60)), wide()),
    ),
    Case(
        "universe of the later winners",
        "of stocks drawn by lot",
        "survivorship",
        lambda: membership(winners(), wide()),
        lambda: membership(coin(), wide()),
    ),
    Case(
        "membership that starts before each stock's best 60 days",
        "after them",
        "membership",
        lambda: around_best(-1),
        lambda: around_best(60),
    ),
    Case(
        "membership that ends before each stock's worst 60 days",
        "after them",
        "membership",
        lambda: around_best(-1, sign=-1.0),
        lambda: around_best(60, sign=-1.0),
    ),
    Case(
        "survivors only",
        "with the stocks that left",
        "survivorship",
        lambda: [check_members(survivors())],
        lambda: [check_members(wide())],
        verdict="warning",
    ),
    Case(
        "figures of survivors only",
        "missing for loss-makers, who leave more often",
        "missing",
        lambda: without(np.broadcast_to(~wide().active_mask[-1], wide().active_mask.shape)),
        lambda: without(losses()),
    ),
    Case(
        "sectors named after later returns",
        "after past returns",
        "membership",
        lambda: sectors(by_return(60)),
        lambda: sectors(by_return(-60)),
    ),
    Case(
        "volumes adjusted for later splits",
        "raw volumes",
        "levels",
        lambda: levels(volume=split_adjusted_volume()),
        lambda: levels(),
    ),
    Case(
        "market value of today's shares",
        "of the day's",
        "levels",
        lambda: levels(market_cap=cap_of_todays_shares()),
        lambda: levels(),
    ),
    Case(
        "market value by adjusted prices",
        "by raw ones",
        "levels",
        lambda: levels(market_cap=1e6 * wide()["adj_close"]),
        lambda: levels(),
    ),
    Case(
        "market index dated a day early",
        "a day late",
        "levels",
        lambda: levels(market_index=later(wide()["market_index"], 1)),
        lambda: levels(market_index=later(wide()["market_index"], -1)),
    ),
    Case(
        "gap_fill = interpolate",
        "carry",
        "gaps",
        lambda: gaps("interpolate"),
        lambda: gaps("carry"),
    ),
    Case(
        "purge too short",
        "as the labels reach",
        "purge",
        lambda: purge(short=True),
        lambda: purge(short=False),
    ),
    Case("lag = 0", "lag = 1", "execution", lambda: audited(0), lambda: audited(1)),
    Case(
        "no costs",
        "10 basis points",
        "costs",
        lambda: [check_costs(replace(QUICK, costs=CostConfig(cost_per_side=0.0)))],
        lambda: [check_costs(QUICK)],
        verdict="warning",
    ),
)
IDS = [case.leak for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_leak_is_found(case: Case) -> None:
    findings = case.found()
    assert any(f.test == case.test and f.verdict == case.verdict for f in findings), findings
    # Two tests ask about members, and both may find the same.
    known = {case.test, "survivorship"} if case.test == "membership" else {case.test}
    assert {f.test for f in findings if f.verdict == "leak"} <= known, findings


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_honest_twin_passes(case: Case) -> None:
    findings = case.passed()
    allowed = {"ok", "warning"} if case.verdict == "leak" else {"ok"}
    assert all(f.verdict in allowed for f in findings), findings


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A study with three leaks, two of them in a file of factors, and two honest factors."""
    names = ("one_day_a_month", "low_adjusted_price", "low_raw_price", "trailing_mean")
    file = tmp_path_factory.mktemp("factors") / "mine.py"
    file.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from leaky_factors import {', '.join(names)}\n"
    )
    data = with_fields(
        back_adjusted(),
        earnings_to_price=np.where(small().active_mask[-1], small()["earnings_to_price"], np.nan),
        market_index=later(small()["market_index"], 1),
    )
    config = replace(QUICK, factors=replace(QUICK.factors, custom=str(file)))
    return list(run_audit(data, config).findings)


class TestThroughTheWholeAudit:
    """What the checks find by themselves, `run_audit` reports; the other runs are cases above."""

    def test_each_leak_by_its_test(self, found: Findings) -> None:
        leaks = {(f.test, f.factor) for f in found if f.verdict == "leak"}
        assert leaks == {
            ("factors", "one_day_a_month"),
            ("levels", "low_adjusted_price"),
            ("levels", "market_index"),
        }

    def test_the_honest_study_says_what_is_covered(self) -> None:
        findings = audited(1)
        assert not [f for f in findings if f.verdict == "leak"], findings
        (factors_found,) = (f for f in findings if f.test == "factors")
        assert re.search(r"1, 5 or 21 days ahead .* \d+ % of the dates", factors_found.evidence)


def test_table_in_the_docs_is_this_list() -> None:
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    section = text.partition("## Leaks and their honest twins")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!leak|---)(.+) \|$", section, flags=re.MULTILINE)
    listed = [tuple(cell.strip() for cell in row.split(" | ")) for row in rows]
    outcome = {"leak": "found", "warning": "found (warning)"}
    assert listed == [(c.leak, c.twin, c.test, outcome[c.verdict], "passes") for c in CASES]
    assert len(listed) >= 30
