"""Data that need no network: real prices shipped with skfolio, and our own simulator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd
from skfolio.containers import AssetPanel
from skfolio.datasets import load_sp500_dataset, load_sp500_index

from alphakeel.data.panel import panel_from_wide
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, DataError

__all__ = ["BUNDLED", "SECTORS", "BundledData", "load_bundled"]

SECTORS: Mapping[str, str] = MappingProxyType(
    {
        "AAPL": "Information Technology",
        "AMD": "Information Technology",
        "BAC": "Financials",
        "BBY": "Consumer Discretionary",
        "CVX": "Energy",
        "GE": "Industrials",
        "HD": "Consumer Discretionary",
        "JNJ": "Health Care",
        "JPM": "Financials",
        "KO": "Consumer Staples",
        "LLY": "Health Care",
        "MRK": "Health Care",
        "MSFT": "Information Technology",
        "PEP": "Consumer Staples",
        "PFE": "Health Care",
        "PG": "Consumer Staples",
        "RRC": "Energy",
        "UNH": "Health Care",
        "WMT": "Consumer Staples",
        "XOM": "Energy",
    }
)


@dataclass(frozen=True)
class BundledData:
    """What is known about a bundled data set."""

    title: str  # one line for a report
    test_window: tuple[str, str] | None  # dates that a study tests; None: the data's last part
    caution: str  # what the data cannot tell, for a report's notes


BUNDLED: Mapping[str, BundledData] = MappingProxyType(
    {
        "sp500": BundledData(
            title="20 S&P 500 stocks, adjusted daily closes 1990-2022 (shipped with skfolio)",
            test_window=("2010-01-01", "2020-12-31"),
            caution=(
                "The 20 stocks were chosen because they survived from 1990 to 2022: levels of "
                "return are flattered for every strategy, equal weight included; compare "
                "strategies with one another, not with the index."
            ),
        ),
        "synthetic": BundledData(
            title="Simulated market with a planted signal",
            test_window=None,
            caution="The market is simulated; its signal is known and stronger than real ones.",
        ),
    }
)


def load_bundled(name: str = "sp500", **kwargs: Any) -> AssetPanel:
    """Load a data set that comes with the installation.

    Parameters
    ----------
    name : {"sp500", "synthetic"}
        "sp500": adjusted daily closes of 20 S&P 500 stocks with the index level and today's GICS
        sectors, 1990-01-02 to 2022-12-28, as shipped inside skfolio (no network). Beware of
        **survivorship**: these are companies that lived through all 33 years, so that every
        long-only result is flattered; no volumes, no valuations. "synthetic": a simulated market,
        see `simulate_market`.
    **kwargs
        For "synthetic", the arguments of `simulate_market`, such as `n_assets` and `seed`.

    Returns
    -------
    AssetPanel
        "sp500": fields `adj_close` (dividends and splits adjusted, USD), `sector`,
        `market_index` (S&P 500 price index).

    Raises
    ------
    DataError
        If there is no such data set.
    ConfigError
        If an argument does not fit the data set.

    Examples
    --------
    >>> panel = load_bundled("sp500")
    >>> panel.active_mask.shape, str(panel.observations[0]), str(panel.observations[-1])
    ((8313, 20), '1990-01-02', '2022-12-28')
    """
    if name == "sp500":
        if kwargs:
            raise ConfigError(f"load_bundled('sp500') takes no option {next(iter(kwargs))!r}.")
        return _sp500()
    if name == "synthetic":
        accepted = list(simulate_market.__kwdefaults__ or {})
        for option in kwargs:
            if option not in accepted:
                near = difflib.get_close_matches(option, accepted, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(accepted)}."
                raise ConfigError(f"load_bundled('synthetic') has no option {option!r}; {hint}")
        return simulate_market(**kwargs).panel
    near = difflib.get_close_matches(str(name).lower(), BUNDLED, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(BUNDLED)}."
    raise DataError(f"there is no bundled data set {name!r}; {hint}")


def _sp500() -> AssetPanel:
    index = load_sp500_index()
    level = pd.Series(index.iloc[:, 0].to_numpy(), index=index.index, name="market_index")
    return panel_from_wide({"adj_close": load_sp500_dataset()}, sector=SECTORS, index=level)
