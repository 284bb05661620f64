"""What has moved since the fit and in trading: the factors' distributions, and prices paid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import DataError
from alphakeel.files import regular_file
from alphakeel.live.replay import Replay

__all__ = ["factor_drift", "population_stability", "read_fills", "slippage"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 10
# Least share of a bin: an empty one would make the index infinite.
LEAST = 1e-4
# By the usual reading 0.1 is a small change and 0.25 a large one.
LARGE = 0.25
# Past windows that say what is usual.
LEAST_WINDOWS = 5
FILL_COLUMNS = ("date", "ticker", "side", "shares", "price")


def population_stability(expected: Ints, actual: Ints) -> float:
    r"""Population stability index of two histograms over the same bins.

    :math:`\sum_b (q_b - p_b) \log (q_b / p_b)` of their shares: 0 for equal ones.

    Examples
    --------
    >>> population_stability(np.array([50, 50]), np.array([25, 75])).__round__(3)
    0.275
    """
    p, q = (np.maximum(x / max(x.sum(), 1), LEAST) for x in (expected, actual))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def factor_drift(own: Replay, day: np.datetime64) -> pd.DataFrame:
    """How far the factors of the last fit have moved from what it was trained on.

    Histograms of the raw values over the stocks of the sample, in tenths of the training values;
    the live ones begin with `day`. Stocks of a date move together, so that a short window is always
    off by something: `usual` is what 95 % of as long windows between training and `day` (or of the
    training itself, where those are too few) stayed under.

    Returns
    -------
    DataFrame
        factor, psi, usual, drifted (above both `usual` and 0.25); the largest first. Empty without
        a model.
    """
    columns = ["factor", "psi", "usual", "drifted"]
    dataset, plan = own.dataset, own.live.plan
    live = np.flatnonzero(dataset.dates[dataset.decisions] >= day)
    if own.model is None or not len(live):
        return pd.DataFrame(columns=columns)
    train = plan.folds[-1].train
    rows = []
    for name in own.factors:
        values = dataset.raw[:, :, dataset.names.index(name)]
        counts = _counts_by_decision(values, dataset.eligible, train)
        if counts is None:
            continue
        base, window = counts[train].sum(axis=0), len(live)
        psi = population_stability(base, counts[live].sum(axis=0))
        usual = _usual(counts, base, train.start, int(live[0]), window)
        rows.append((name, psi, usual, bool(psi > LARGE and not psi <= usual)))
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("psi", ascending=False, ignore_index=True, kind="stable")


def _counts_by_decision(
    values: npt.NDArray[Any], eligible: npt.NDArray[np.bool_], train: slice
) -> Ints | None:
    """Stocks in each tenth of the training values, by decision, (n_decisions, BINS)."""
    known = eligible & np.isfinite(values)
    trained = values[train][known[train]]
    if len(trained) < 10 * BINS:
        return None
    edges = np.unique(np.quantile(trained, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, values, side="right")
    counts = np.zeros((len(values), len(edges) + 1), dtype=np.int64)
    for k in range(len(edges) + 1):
        counts[:, k] = ((bins == k) & known).sum(axis=1)
    return counts


def _usual(counts: Ints, base: Ints, first: int, until: int, window: int) -> float:
    """What 95 % of the windows before stay under; NaN where there are too few."""
    starts = range(first, until - window + 1, max(1, window // 2))
    past = [population_stability(base, counts[s : s + window].sum(axis=0)) for s in starts]
    return float(np.quantile(past, 0.95)) if len(past) >= LEAST_WINDOWS else float("nan")


def read_fills(path: str | Path) -> pd.DataFrame:
    """Read what was traded: a CSV with the columns date, ticker, side, shares and price.

    Raises
    ------
    DataError
        If it cannot be read, or a row is not whole; names the row.
    """
    place = Path(path)
    try:
        frame = pd.read_csv(regular_file(place), dtype=str, keep_default_na=False)
    except OSError as error:
        raise DataError(f"cannot read {place}: {error.strerror}.") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{place} is no table of fills: {error}.") from error
    frame.columns = [str(name).strip().casefold() for name in frame.columns]
    missing = [name for name in FILL_COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{place} lacks the column {missing[0]} of {', '.join(FILL_COLUMNS)}.")
    out = pd.DataFrame({"ticker": frame["ticker"].str.strip()})
    out["side"] = frame["side"].str.strip().str.casefold()
    out["date"] = pd.to_datetime(frame["date"], errors="coerce")
    for name in ("shares", "price"):
        out[name] = pd.to_numeric(frame[name], errors="coerce")
    wrong = (
        out["date"].isna()
        | ~out["side"].isin(["buy", "sell"])
        | ~(out["shares"] > 0.0)
        | ~(out["price"] > 0.0)
    )
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy())) + 2
        raise DataError(
            f"{place}, row {row}: give a date, buy or sell, and shares and price above 0."
        )
    return out


def slippage(fills: pd.DataFrame | None, own: Replay) -> list[tuple[Any, ...]]:
    """Cost of the prices paid against the close of their day, as a share of the value traded.

    It is held against the cost of a side that the backtest assumes; nothing without fills.

    Raises
    ------
    DataError
        If a fill is of a stock or of a day that the data do not have.
    """
    if fills is None or not len(fills):
        return []
    panel = own.dataset.panel
    close = np.asarray(panel["close"] if "close" in panel.fields else own.dataset.price)
    place = {str(name): k for k, name in enumerate(own.dataset.assets)}
    days = own.dataset.dates
    value = paid = 0.0
    for fill in fills.to_dict("records"):
        day = np.datetime64(fill["date"], "D")
        row = int(np.searchsorted(days, day))
        known = fill["ticker"] in place and row < len(days) and days[row] == day
        price = close[row, place[fill["ticker"]]] if known else np.nan
        if not np.isfinite(price):
            raise DataError(
                f"the fills have {fill['ticker']} on {day}, and the data have no close of it then."
            )
        sign = 1.0 if fill["side"] == "buy" else -1.0
        value += fill["shares"] * price
        paid += sign * fill["shares"] * (fill["price"] - price)
    assumed = own.config.costs.cost_per_side if own.simulator.market is None else np.nan
    nan = float("nan")
    return [("slippage of a side", paid / value, float(assumed), nan, nan, nan, len(fills))]
