"""Risk head against EWMA and HAR on real prices: volatility, 5 % quantile, out of sample.

python benchmarks/risk_head.py --data ../shared/data/us            # two training windows
python benchmarks/risk_head.py --data ../shared/data/us --yearly   # refitted each year
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

import alphakeel as ak
from alphakeel.data.panel import universe_mask
from alphakeel.models.har import HARForecaster, returns_ahead, volatility_target
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.risk.volatility import ew_volatility
from alphakeel.stats.newey_west import newey_west_tstat

Floats = NDArray[np.float64]

LEVEL, HORIZON, DAYS, STEP = 0.05, 20, 5, 5
HISTORY = 500
LAGS = 8  # weekly rows with 20-day targets overlap over three
NORMAL = float(norm.ppf(LEVEL)) / np.sqrt(252.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """Daily returns, decision days, who counts on them, and what followed."""

    returns: Floats
    decisions: NDArray[np.intp]
    mask: NDArray[np.bool_]
    years: NDArray[np.int64]
    volatility: Floats
    ahead: Floats


def load(path: str, top: int) -> Sample:
    panel = ak.load_panel(path, universe="members", top=top)
    close = np.asarray(panel["adj_close"], dtype=np.float64)
    returns = np.full(close.shape, np.nan)
    returns[1:] = close[1:] / close[:-1] - 1.0
    decisions = np.arange(60, len(returns), STEP)
    days = np.asarray(panel.observations, dtype="datetime64[D]")
    return Sample(
        returns,
        decisions,
        universe_mask(panel)[decisions],
        days[decisions].astype("datetime64[Y]").astype(int) + 1970,
        volatility_target(returns, decisions, HORIZON),
        returns_ahead(returns, decisions, DAYS),
    )


def historical_quantile(sample: Sample) -> Floats:
    """Quantile of each stock's last 500 returns, by order statistic; NaN below 250 of them."""
    out = np.full(sample.mask.shape, np.nan)
    for i, row in enumerate(sample.decisions):
        window = np.sort(sample.returns[max(0, row - HISTORY + 1) : row + 1], axis=0)
        known = np.isfinite(window).sum(axis=0)
        pick = np.maximum(np.ceil(LEVEL * known).astype(int) - 1, 0)
        value = np.take_along_axis(window, pick[None], axis=0)[0]
        out[i] = np.where(known >= HISTORY // 2, value, np.nan)
    return out


def forecast(
    sample: Sample, last_training_year: int, seed: int
) -> dict[str, tuple[Floats | None, Floats | None]]:
    """Volatility (annual) and quantile (daily) of each method, from fits up to a year."""
    fit = sample.years <= last_training_year
    training: dict[str, Any] = {"decisions": sample.decisions[fit], "mask": sample.mask[fit]}
    ewma = ew_volatility(sample.returns)[sample.decisions]
    har = HARForecaster(HORIZON).fit(sample.returns, **training)
    har_volatility = har.predict(sample.returns, decisions=sample.decisions)
    network = RiskForecaster(horizon=HORIZON, days=DAYS, level=LEVEL, seed=seed, device="cpu")
    network.fit(sample.returns, **training)
    risk = network.predict(sample.returns, decisions=sample.decisions)
    return {
        "EWMA, normal": (ewma, NORMAL * ewma),
        "HAR, normal": (har_volatility, NORMAL * har_volatility),
        "historical, 500 days": (None, historical_quantile(sample)),
        "network": (risk.volatility, risk.quantile),
    }


def report(
    title: str, sample: Sample, methods: dict[str, tuple[Floats | None, Floats | None]]
) -> None:
    """Judge all methods on the same stock-dates and print a row each.

    R2 and mean error of 20-day log volatility, exceedances (%) and tick loss (basis points) of the
    quantile.
    """
    used = sample.mask & np.isfinite(sample.volatility)
    for parts in methods.values():
        for part in parts:
            if part is not None:
                used &= np.isfinite(part)
    truth = sample.volatility[used]
    spread = np.square(truth - truth.mean()).sum()
    by_date = {}
    print(f"{title}: {used.sum():,} stock-dates on {used.any(axis=1).sum()} dates")
    for name, (volatility, quantile) in methods.items():
        fit = " |  "
        if volatility is not None:
            error = np.where(used, sample.volatility - np.log(volatility), np.nan)
            r2 = 1.0 - np.nansum(error**2) / spread
            fit = f"{r2:.3f} | {np.nanmean(error):+.3f}"
            by_date[name] = np.nanmean(error[used.any(axis=1)] ** 2, axis=1)
        assert quantile is not None
        gap = (sample.ahead - quantile[..., None])[used]
        gap = gap[np.isfinite(gap)]
        tick = np.maximum(LEVEL * gap, (LEVEL - 1.0) * gap).mean()
        print(f"| {name} | {fit} | {100 * (gap < 0).mean():.2f} | {1e4 * tick:.2f} |")
    gain = newey_west_tstat(by_date["HAR, normal"] - by_date["network"], LAGS)
    print(f"squared error of HAR less the network's, per date: t = {gain.t:.1f}")


def within(sample: Sample, first: int, last: int) -> Sample:
    """The same sample with the decisions of other years masked."""
    years = (sample.years >= first) & (sample.years <= last)
    return replace(sample, mask=sample.mask & years[:, None])


def yearly(
    sample: Sample, first: int, last: int, seed: int
) -> dict[str, tuple[Floats | None, Floats | None]]:
    """Forecasts of each year from a fit up to the year before."""
    pieces = {year: forecast(sample, year - 1, seed) for year in range(first, last + 1)}
    joined: dict[str, tuple[Floats | None, Floats | None]] = {}
    for name, parts in pieces[first].items():
        whole = [None if part is None else np.full_like(part, np.nan) for part in parts]
        for year, methods in pieces.items():
            chosen = sample.years == year
            for target, part in zip(whole, methods[name], strict=True):
                if target is not None and part is not None:
                    target[chosen] = part[chosen]
        joined[name] = (whole[0], whole[1])
    return joined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder in alphakeel's own format")
    parser.add_argument("--top", type=int, default=300, help="stocks with most money traded")
    parser.add_argument("--yearly", action="store_true", help="fit anew each year, 2006 to 2016")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    options = parser.parse_args()
    sample = load(options.data, options.top)
    start = time.process_time()
    if options.yearly:
        report(
            "refitted yearly, test 2006-2016",
            within(sample, 2006, 2016),
            yearly(sample, 2006, 2016, options.seed),
        )
    else:
        for last, first_test, last_test in ((2005, 2006, 2010), (2010, 2011, 2016)):
            title = f"trained to {last}, test {first_test}-{last_test}"
            report(
                title, within(sample, first_test, last_test), forecast(sample, last, options.seed)
            )
    print(f"{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
