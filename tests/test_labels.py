"""Pandas arguments a day, or a stock, apart are refused by whatever takes several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphakeel.errors import DataError
from alphakeel.portfolio.exposure import limit_exposure
from alphakeel.portfolio.heuristics import long_short_quantile, minimum_variance, top_quantile
from alphakeel.portfolio.overlay import overlay
from alphakeel.risk.stress import portfolio_shock, replay_table, shock_table, spread_returns
from alphakeel.risk.value_at_risk import portfolio_var, scenario_var, tracking_scale
from alphakeel.risk.volatility import ex_ante_volatility, portfolio_returns
from alphakeel.stats.cross_section import ic, rank_ic, zscore
from alphakeel.stats.performance import summary
from alphakeel.stats.sharpe import sharpe_differences
from alphakeel.stats.var_backtests import dynamic_quantile, evaluate, exceedances, tick_loss

N = 120
DAYS = pd.bdate_range("2015-01-01", periods=N + 1)
RNG = np.random.default_rng(0)
ONE = pd.Series(RNG.normal(0.0, 0.01, N), DAYS[:N])
LATER = pd.Series(RNG.normal(0.0, 0.01, N), DAYS[1:])
TABLE = pd.DataFrame(RNG.normal(0.0, 0.01, (N, 4)), DAYS[:N], list("ABCD"))
TABLE_LATER = TABLE.set_axis(DAYS[1:])
OTHER_STOCKS = TABLE.set_axis(list("BCDE"), axis=1)
YES, YES_LATER = TABLE > -1.0, TABLE_LATER > -1.0
# Decisions on the last two days, and portfolios of them.
LAST = np.array([N - 2, N - 1])
HELD, HELD_EARLY = TABLE.abs().iloc[LAST], TABLE.abs().iloc[:2]
OTHER_HELD = HELD.set_axis(list("BCDE"), axis=1)

CALLS: dict[str, Callable[[], Any]] = {
    "sharpe_differences": lambda: sharpe_differences(ONE, LATER, n_bootstrap=50),
    "summary of cash": lambda: summary(ONE, riskless=LATER),
    "exceedances": lambda: exceedances(ONE, LATER.abs()),
    "evaluate": lambda: evaluate(ONE, LATER.abs()),
    "tick_loss": lambda: tick_loss(ONE, LATER.abs()),
    "dynamic_quantile": lambda: dynamic_quantile((ONE > 0.0).astype(float), LATER.abs()),
    "ic of dates": lambda: ic(TABLE, TABLE_LATER),
    "rank_ic of stocks": lambda: rank_ic(TABLE, OTHER_STOCKS),
    "zscore": lambda: zscore(TABLE, YES_LATER),
    "portfolio_shock": lambda: portfolio_shock(TABLE.abs(), TABLE, LATER),
    "replay_table": lambda: replay_table({"own": LATER}, ONE, ONE.index.to_numpy()),
    "shock_table": lambda: shock_table({"own": ONE}, {"a": ONE, "b": LATER}),
    "spread_returns": lambda: spread_returns(TABLE, TABLE_LATER),
    "tracking_scale": lambda: tracking_scale(ONE, LATER.abs()),
    "portfolio_returns": lambda: portfolio_returns(ONE, TABLE_LATER),
    "overlay": lambda: overlay(ONE, decided=ONE > -1.0, target_volatility=0.1, volatility=LATER),
    "top_quantile": lambda: top_quantile(TABLE, TABLE_LATER.abs(), eligible=YES),
    "scenario_var of days": lambda: scenario_var(HELD_EARLY, TABLE, LAST),
    "scenario_var of stocks": lambda: scenario_var(OTHER_HELD, TABLE, LAST),
    "portfolio_var": lambda: portfolio_var(HELD, TABLE, ONE[:2], first=N - 2),
    "ex_ante_volatility": lambda: ex_ante_volatility(HELD_EARLY, TABLE, LAST),
    "minimum_variance": lambda: minimum_variance(TABLE, LAST, YES[:2]),
    "limit_exposure": lambda: limit_exposure(OTHER_HELD, TABLE, LAST, limits={}),
    "long_short_quantile": lambda: long_short_quantile(TABLE, TABLE.abs(), eligible=YES_LATER),
}


@pytest.mark.parametrize("name", CALLS)
def test_labels_that_differ_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"do not have the same (rows|columns)"):
        CALLS[name]()


def test_the_same_labels_are_taken() -> None:
    with_labels, without = rank_ic(TABLE, TABLE * 2.0), rank_ic(TABLE.to_numpy(), TABLE * 2.0)
    np.testing.assert_array_equal(with_labels, without)
    (gain,) = sharpe_differences(ONE, ONE.to_numpy()[::-1].copy(), n_bootstrap=50)
    assert np.isfinite(gain.low)
