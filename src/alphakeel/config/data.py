"""Settings of the data: where they come from, what is an error in them, which factors enter."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from alphakeel.settings import Section, common_option, option

__all__ = [
    "CleaningConfig",
    "DataConfig",
    "FactorConfig",
    "ScreenConfig",
]


@dataclass(frozen=True)
class DataConfig(Section):
    """[data] Where prices come from."""

    source: str = common_option(
        "sp500", "bundled data set (sp500, synthetic) or the path of a file or folder of prices"
    )
    start: dt.date | None = common_option(None, "first date to read, as YYYY-MM-DD (default: all)")
    end: dt.date | None = common_option(None, "last date to read, as YYYY-MM-DD (default: all)")
    universe: str = common_option(
        "members",
        "members: stocks in the index at the time; all: every stock; csi300, ...: members of an "
        "index that the data name",
    )
    top: int = common_option(
        0, "number of stocks kept, those with the largest trailing dollar volume (0: all)", low=0
    )
    columns: tuple[str, ...] = option(
        (), "columns of your own that are kept as fields, each a factor as it stands"
    )
    delisting_return: float = option(
        0.0,
        "return assumed for stocks whose prices end and that state none (0: the last price counts)",
        within=(-1, 1),
    )


@dataclass(frozen=True)
class CleaningConfig(Section):
    """[cleaning] What counts as an error in the data, and which stocks are fit for the sample."""

    max_gap: int = option(5, "trading days for which a missing price is filled in", within=(0, 60))
    gap_fill: str = option(
        "carry",
        "how a missing price is filled in; carry: by the last price; interpolate: the paper's way, "
        "which reads the future",
        choices=("carry", "interpolate"),
    )
    spike_sigmas: float = option(
        8.0,
        "trailing robust standard deviations beyond which the move of a price is suspect",
        low=2,
    )
    spike_min_move: float = option(
        0.2, "smallest move of a price, a fraction, that can be suspect", within=(0.01, 10)
    )
    stale_days: int = option(
        10, "trading days at one and the same price that make a stock stale", low=2
    )
    min_history: int = option(
        252, "trading days of record that a stock needs to enter the sample", low=1
    )
    max_missing: float = option(
        0.1,
        "share of the last year's days on which a stock of the sample may lack a price",
        within=(0, 1),
    )
    winsor_limit: float = option(
        10.0,
        "robust standard deviations from the date's median to which valuation ratios are pulled in",
        low=1,
    )
    min_price: float = option(
        0.0,
        "smallest traded close, in the data's currency, at which a stock may enter the sample",
        low=0,
    )
    drop_illiquid: float = option(
        0.0,
        "share of a date's stocks left out, those with the smallest trailing dollar volume",
        within=(0, 0.9),
    )
    drop_small: float = option(
        0.0,
        "share of a date's stocks left out, those with the smallest market value",
        within=(0, 0.9),
    )


@dataclass(frozen=True)
class FactorConfig(Section):
    """[factors] What the models see."""

    exclude: tuple[str, ...] = option((), "factors to leave out, by name")
    custom: str = common_option("", "path of a Python file with factors of your own (empty: none)")


@dataclass(frozen=True)
class ScreenConfig(Section):
    """[screen] Which factors are selected, on training rows only."""

    min_coverage: float = option(
        0.5, "smallest share of stock-days on which a factor has to be known", within=(0, 1)
    )
    min_abs_t: float = option(
        1.0, "smallest Newey-West |t| that a factor's Rank IC has to reach at some horizon", low=0
    )
    max_correlation: float = option(
        0.9,
        "mean rank correlation of two factors above which only the stronger one stays",
        within=(0, 1),
    )
    networks_keep_weak: bool = option(
        True, "networks also see factors that are weak alone: they may count in combination"
    )
    min_keep: int = option(
        5, "number of factors that stay whatever the verdict, the strongest first", low=1
    )
    false_discovery_rate: float | None = option(
        None,
        "expected share of false factors among those that pass, over all that were tried "
        "(default: off)",
        within=(0.001, 0.999),
    )
    discovery_method: str = option(
        "benjamini_hochberg",
        "how the false discovery rate is controlled: benjamini_hochberg, or benjamini_yekutieli, "
        "valid under any dependence",
        choices=("benjamini_hochberg", "benjamini_yekutieli"),
    )
