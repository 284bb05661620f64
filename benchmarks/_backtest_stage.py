"""The backtest stage of a study, 3,000 stocks: all that `pipeline.strategies.trade_all` does.

Equal weight, minimum variance and the scores of one model, without and under the overlay, forecasts
of VaR, sweeps of costs and sizes. Prices and scores are random: the work does not depend on them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.model_results import ModelResult
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import trade_all
from alphakeel.risk.volatility import ew_volatility

STEP = 5

Floats = npt.NDArray[np.float64]


class _Panel(dict[str, Floats]):
    """The fields that the sweep of sizes reads, on business days."""

    @property
    def fields(self) -> list[str]:
        return list(self)

    @property
    def observations(self) -> npt.NDArray[np.datetime64]:
        return np.busday_offset("2006-01-02", np.arange(len(self["close"])))


def _prices(rng: np.random.Generator, n_dates: int, n_assets: int) -> Floats:
    """A market, eleven sectors, own shocks; a tenth of the stocks list later, a fifth end."""
    common = 0.007 * rng.standard_t(5, (n_dates, 12))
    returns = common[:, :1] * rng.uniform(0.5, 1.5, n_assets)
    returns += 0.6 * common[:, 1 + rng.integers(0, 11, n_assets)]
    returns += rng.uniform(0.006, 0.023, n_assets) * rng.standard_t(5, (n_dates, n_assets))
    prices = np.asarray(50.0 * np.exp(np.cumsum(np.clip(0.7 * returns, -0.2, 0.2), axis=0)))
    day = np.arange(n_dates)[:, None]
    begin = np.where(rng.random(n_assets) < 0.1, rng.integers(0, n_dates, n_assets), 0)
    end = np.where(rng.random(n_assets) < 0.2, rng.integers(0, n_dates, n_assets), n_dates)
    prices[(day < begin) | (day >= end)] = np.nan
    return prices


def stage_seconds(seed: int, n_dates: int, n_assets: int) -> tuple[float, int, int]:
    """CPU seconds of the stage on the last two fifths of the days; these days, and decisions."""
    rng = np.random.default_rng(seed)
    prices = _prices(rng, n_dates, n_assets)
    alive, start = ~np.isnan(prices), n_dates - 2 * n_dates // 5
    returns = np.full_like(prices, np.nan)
    returns[1:] = prices[1:] / prices[:-1] - 1.0
    decisions = np.arange(start, n_dates, STEP)
    eligible = (alive & (np.cumsum(alive, axis=0) > 120))[decisions]
    config = StudyConfig(models=("linear",))
    config = replace(config, report=replace(config.report, sensitivity=True))
    simulator = Simulator(
        returns=returns,
        price=prices[start:],
        tradable=(alive & (rng.random(prices.shape) > 0.002))[start:],
        eligible=eligible,
        sectors=None,
        history=np.nanmean(returns[1:start], axis=1),
        bear=None,
        decisions=decisions,
        start=start,
        lag=1,
        market=None,
        cost_per_side=config.costs.cost_per_side,
        wealth=1.0,
    )
    scores = rng.normal(size=eligible.shape)
    for i in range(1, len(scores)):
        scores[i] = 0.9 * scores[i - 1] + 0.19**0.5 * scores[i]
    none = np.empty((0, 0))
    model = ModelResult(
        "linear", "Linear", np.where(eligible, scores, np.nan), none, none, none, history=[]
    )
    volumes = rng.lognormal(14.0, 1.0, prices.shape)
    panel = _Panel(close=prices, accounting_close=prices, volume=np.where(alive, volumes, np.nan))
    dataset = cast(Any, SimpleNamespace(panel=panel))
    volatility = ew_volatility(returns)[decisions]
    begin = time.process_time()
    trade_all({"linear": model}, volatility, simulator, cast(Dataset, dataset), config)
    return time.process_time() - begin, n_dates - start, len(decisions)
