"""What portfolios are measured against: the benchmark of the settings, from a data set.

A benchmark enters the allocation (method ``"enhanced_index"``), and the tables of active returns.
Equal weight is a strategy of every study, and so is the benchmark by market value where it is
chosen: both are traded by the rules and costs of all. An index is known by its returns, which pay
no costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig
from alphakeel.data.panel import market_index
from alphakeel.errors import DataError
from alphakeel.model_factory import CAP_WEIGHT, EQUAL_WEIGHT, INDEX
from alphakeel.pipeline.dataset import Dataset
from alphakeel.portfolio import heuristics
from alphakeel.portfolio.benchmark import cap_weights, style_exposures
from alphakeel.stats.rolling import last_known, simple_returns

__all__ = ["Benchmark", "benchmark_label", "benchmark_of", "describe_benchmark", "index_returns"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LABELS = {"equal_weight": EQUAL_WEIGHT, "cap_weight": CAP_WEIGHT, "index": INDEX}
RELATIVE = "enhanced_index"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The benchmark of the settings at the decisions of a simulator.

    Attributes
    ----------
    weights : ndarray of shape (n_decisions, n_assets) or None
        None for an index.
    returns : ndarray of shape (n_dates,) or None
        Simple daily returns of the index; None where the weights are known.
    styles : ndarray of shape (n_decisions, n_assets, n_styles) or None
        Standardised exposures of the stocks; None without a style limit.
    style_names : tuple of str
    """

    weights: Floats | None
    returns: Floats | None
    styles: Floats | None = None
    style_names: tuple[str, ...] = ()

    def keywords(self) -> dict[str, Any]:
        """As arguments of `portfolio.optimisation.allocate`."""
        return {
            "benchmark": self.weights,
            "benchmark_returns": self.returns,
            "styles": self.styles,
        }


def benchmark_label(config: StudyConfig) -> str:
    """What a reader calls the benchmark of the settings."""
    return LABELS[config.allocation.benchmark]


def benchmark_of(
    dataset: Dataset, config: StudyConfig, decided: slice, eligible: Bools
) -> Benchmark | None:
    """The benchmark on some decisions, a range of `dataset.decisions`.

    None where nothing asks for it: equal weight, and an index, are of no use to other methods.
    """
    alloc = config.allocation
    relative, kind = alloc.method == RELATIVE, alloc.benchmark
    if not relative and kind != "cap_weight":
        return None
    if kind == "index":
        return Benchmark(None, index_returns(dataset))
    days = dataset.decisions[decided]
    value = _market_value(dataset, days)
    if kind == "cap_weight":
        if value is None:
            raise DataError(
                'allocation.benchmark = "cap_weight" needs market values, and the data have no '
                "column market_cap."
            )
        weights = cap_weights(value, eligible, dataset.dates[days])
    else:
        weights = heuristics.equal_weight(eligible)
    if not relative or alloc.style_limit is None:
        return Benchmark(weights, None)
    names, styles = style_exposures(
        dataset.returns,
        days,
        eligible,
        volatility=dataset.volatility[decided],
        market_value=value,
        betas=None if dataset.betas is None else dataset.betas[days],
    )
    return Benchmark(weights, None, styles, names)


def _market_value(dataset: Dataset, days: npt.NDArray[np.intp]) -> Floats | None:
    """Last market value known at the close of some days; None where the data have none."""
    if "market_cap" not in dataset.panel.fields:
        return None
    value = np.asarray(dataset.panel["market_cap"], np.float64)
    return np.asarray(last_known(value)[0][days])


def index_returns(dataset: Dataset) -> Floats | None:
    """Simple daily returns of the market index, (n_dates,); None without one."""
    level = market_index(dataset.panel)
    return None if level is None else simple_returns(level[:, None])[:, 0]


def describe_benchmark(config: StudyConfig, benchmark: Benchmark | None) -> tuple[str, ...]:
    """Sentences on the benchmark and on what is limited against it; none where nothing is."""
    alloc, text = config.allocation, []
    if alloc.method == RELATIVE:
        label = benchmark_label(config)
        limits = [
            f"{words} of at most {100.0 * value:g} %"
            for words, value in (
                ("a forecast tracking error", alloc.tracking_error_limit),
                ("a deviation of each stock's weight", alloc.active_weight_limit),
                ("a deviation of each sector's weight", alloc.sector_limit),
            )
            if value is not None
        ]
        if alloc.style_limit is not None and benchmark is not None:
            limits.append(
                f"a deviation of each style ({', '.join(benchmark.style_names)}) of at most "
                f"{alloc.style_limit:g} standard deviations"
            )
        bounds = f", with {', '.join(limits)}" if limits else ", without a limit"
        text.append(f"Scored stocks are held against the benchmark {label}{bounds}.")
        if alloc.benchmark == "index":
            text.append(
                "The weights of the index are not known: the portfolio is held against its returns."
            )
    if alloc.hedge:
        costs = config.costs
        text.append(
            "Hedged portfolios sell their beta to the market index short, by futures: it costs "
            f"{100.0 * costs.hedge_rate:g} % a year of its value and "
            f"{100.0 * costs.hedge_cost_per_side:g} % a trade, and is secured by "
            f"{100.0 * costs.hedge_margin:g} % in cash, assumed."
        )
    return tuple(text)
