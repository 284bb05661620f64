"""A gallery of your own factors: copy what you need into a file of your own.

A factor is a function of panel fields, each an array of dates x stocks, oldest date first. Row t
of what it returns is made of rows up to t. Name the file in the settings and run the study:

    [factors]
    custom = "my_factors.py"

    alphakeel audit --config study.toml      # tries to catch the factors looking ahead
    alphakeel run --config study.toml

Run by itself it prints what the factors say about a simulated market:

    python examples/my_factors.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from alphakeel import factor


@factor(lookback=11, fields=("adj_close",), family="trend")
def acceleration_5(adj_close):
    """log(P[t] / P[t-5]) - log(P[t-5] / P[t-10])."""
    log_price = np.log(adj_close)
    change = np.full_like(log_price, np.nan)
    change[5:] = log_price[5:] - log_price[:-5]
    out = np.full_like(change, np.nan)
    out[5:] = change[5:] - change[:-5]
    return out


@factor(lookback=40, fields=("close", "volume"), family="volume")
def quiet_volume_40(close, volume):
    """-std(log(close * volume), 40): pandas does as well as NumPy."""
    money = pd.DataFrame(np.log(close * volume))
    return -money.rolling(40, min_periods=30).std()


@factor(lookback=2, fields=("adj_close", "sector"), family="industry", name="sector_surprise_1")
def sector_surprise(adj_close, sector):
    """The day's return less the median of the sector: stocks may be compared on their date."""
    out = np.full_like(adj_close, np.nan)
    out[1:] = adj_close[1:] / adj_close[:-1] - 1.0
    for code in np.unique(sector[sector >= 0]):
        inside = (sector == code) & np.isfinite(out)
        there = inside.any(axis=1)
        day = np.where(inside, out, np.nan)[there]
        out[there] = np.where(inside[there], day - np.nanmedian(day, axis=1)[:, None], out[there])
    return np.where(sector >= 0, out, np.nan)


@factor(lookback=1, fields=("earnings_to_price", "book_to_price"), family="value")
def value_blend(earnings_to_price, book_to_price):
    """Mean of the date's ranks of E/P and B/P."""
    ranks = [
        pd.DataFrame(x).rank(axis=1, pct=True).to_numpy()
        for x in (earnings_to_price, book_to_price)
    ]
    return (ranks[0] + ranks[1]) / 2.0


def main() -> pd.DataFrame:
    """Print each factor's Rank IC with the return of the five days after the next close."""
    import alphakeel as ak
    from alphakeel.factors.targets import forward_returns
    from alphakeel.stats.cross_section import rank_ic

    panel = ak.simulate_market(n_assets=60, n_dates=600, seed=1, signal=0.2).panel
    custom = ak.load_factors(__file__)
    found = ak.compute_factors(panel, custom.factors)
    forward = forward_returns(panel["adj_close"], horizon=5)
    table = pd.DataFrame(
        {
            "family": found.families,
            "formula": [own.formula for own in custom.factors],
            "rank_ic": [np.nanmean(rank_ic(x, forward)) for x in np.moveaxis(found.values, 2, 0)],
        },
        index=pd.Index(found.names, name="factor"),
    )
    print(table.round(3).to_string())
    return table


if __name__ == "__main__":
    main()
