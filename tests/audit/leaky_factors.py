"""Factors that read the future, each with a twin that does the same with the past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import filtfilt, lfilter

from alphakeel import factor

CLOSE = ("adj_close",)
ALL = 10_000  # rows: a twin that reads all of its past
MONTH, WEEK = 21, 5  # rows
ONCE = 487  # a row


def returns(price: Any, days: int = 1) -> Any:
    return pd.DataFrame(np.log(price)).diff(days).to_numpy(copy=True)


def ahead(values: Any, days: int) -> Any:
    return pd.DataFrame(values).shift(-days).to_numpy()


def row_of(values: Any) -> Any:
    return np.arange(len(values))


@factor(lookback=2, fields=CLOSE)
def next_return(adj_close):
    return ahead(returns(adj_close), 1)


@factor(lookback=2, fields=CLOSE)
def last_return(adj_close):
    return returns(adj_close)


@factor(lookback=21, fields=CLOSE)
def centred_mean(adj_close):
    price = pd.DataFrame(adj_close)
    return price / price.rolling(21, center=True, min_periods=5).mean()


@factor(lookback=21, fields=CLOSE)
def trailing_mean(adj_close):
    price = pd.DataFrame(adj_close)
    return price / price.rolling(21, min_periods=5).mean()


@factor(lookback=1, fields=("earnings_to_price",))
def full_sample_zscore(earnings_to_price):
    value = pd.DataFrame(earnings_to_price)
    return (value - value.mean()) / value.std()


@factor(lookback=ALL, fields=("earnings_to_price",))
def expanding_zscore(earnings_to_price):
    value = pd.DataFrame(earnings_to_price)
    return (value - value.expanding(20).mean()) / value.expanding(20).std()


@factor(lookback=1, fields=("book_to_price",))
def rank_over_all_dates(book_to_price):
    ranks = pd.Series(book_to_price.ravel()).rank().to_numpy()
    return ranks.reshape(book_to_price.shape)


@factor(lookback=1, fields=("book_to_price",))
def rank_of_the_day(book_to_price):
    return pd.DataFrame(book_to_price).rank(axis=1)


def _component(sample: Any, rows: Any) -> Any:
    """Loading-weighted distance from the first principal component of a sample."""
    direction = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)[2][0]
    direction = direction * np.sign(direction.sum())
    return rows - (rows @ direction)[:, None] * direction


@factor(lookback=2, fields=CLOSE)
def full_sample_component(adj_close):
    daily = np.nan_to_num(returns(adj_close))
    return _component(daily, daily)


@factor(lookback=ALL, fields=CLOSE)
def component_of_the_past(adj_close):
    daily = np.nan_to_num(returns(adj_close))
    out = np.full_like(daily, np.nan)
    for start in range(120, len(daily), 120):
        out[start : start + 120] = _component(daily[:start], daily[start : start + 120])
    return out


@factor(lookback=20, fields=CLOSE)
def backfilled(adj_close):
    return pd.DataFrame(returns(adj_close)).rolling(20).std().bfill()


@factor(lookback=25, fields=CLOSE)
def carried(adj_close):
    return pd.DataFrame(returns(adj_close)).rolling(20).std().ffill(limit=5)


@factor(lookback=2, fields=("book_to_price",))
def interpolated(book_to_price):
    return pd.DataFrame(book_to_price).interpolate(limit_area="inside")


@factor(lookback=6, fields=("book_to_price",))
def last_known_value(book_to_price):
    return pd.DataFrame(book_to_price).ffill(limit=5)


@factor(lookback=2, fields=("open", "close"))
def next_gap(open, close):  # noqa: A002
    return np.log(ahead(open, 1) / close)


@factor(lookback=2, fields=("open", "close"))
def last_gap(open, close):  # noqa: A002
    return np.log(open / pd.DataFrame(close).shift(1).to_numpy())


@factor(lookback=22, fields=CLOSE)
def one_day_a_month(adj_close):
    leaky = (row_of(adj_close) % MONTH == 7)[:, None]
    return np.where(leaky, ahead(returns(adj_close), 1), returns(adj_close, 20))


@factor(lookback=22, fields=CLOSE)
def other_window_one_day_a_month(adj_close):
    other = (row_of(adj_close) % MONTH == 7)[:, None]
    return np.where(other, returns(adj_close), returns(adj_close, 20))


@factor(lookback=6, fields=CLOSE)
def one_date_only(adj_close):
    out = returns(adj_close, 5)
    later = ahead(returns(adj_close), 1)
    out[ONCE : ONCE + 1] = later[ONCE : ONCE + 1]
    return out


@factor(lookback=6, fields=CLOSE)
def another_window_on_one_date(adj_close):
    out = returns(adj_close, 5)
    out[ONCE : ONCE + 1] = returns(adj_close)[ONCE : ONCE + 1]
    return out


def of_the_largest(market_cap: Any) -> Any:
    return market_cap == np.nanmax(market_cap, axis=1, keepdims=True)


@factor(lookback=6, fields=("adj_close", "market_cap"))
def one_stock_only(adj_close, market_cap):
    out = returns(adj_close, 5)
    return np.where(of_the_largest(market_cap), ahead(out, 5), out)


@factor(lookback=11, fields=("adj_close", "market_cap"))
def one_stock_lags(adj_close, market_cap):
    return np.where(of_the_largest(market_cap), returns(adj_close, 10), returns(adj_close, 5))


@factor(lookback=6, fields=CLOSE)
def last_days_only(adj_close):
    late = (row_of(adj_close) >= 490)[:, None]
    return np.where(late, ahead(returns(adj_close), 1), returns(adj_close, 5))


@factor(lookback=6, fields=CLOSE)
def other_window_of_late(adj_close):
    late = (row_of(adj_close) >= 490)[:, None]
    return np.where(late, returns(adj_close), returns(adj_close, 5))


@factor(lookback=1, fields=CLOSE)
def month_end_for_all_its_days(adj_close):
    total = pd.DataFrame(np.log(adj_close))
    month = row_of(adj_close) // MONTH
    return total.groupby(month).transform("last") - total.groupby(month).transform("first")


@factor(lookback=2 * MONTH, fields=CLOSE)
def month_end_from_then_on(adj_close):
    total = pd.DataFrame(np.log(adj_close))
    month = row_of(adj_close) // MONTH
    size = total.groupby(month).last() - total.groupby(month).first()
    return size.shift(1).reindex(month).to_numpy()


@factor(lookback=2 * WEEK, fields=CLOSE)
def week_labelled_by_its_start(adj_close):
    out = np.full_like(adj_close, np.nan)
    out[::WEEK] = ahead(adj_close, WEEK - 1)[::WEEK]
    return returns(pd.DataFrame(out).ffill(limit=WEEK - 1).to_numpy(), WEEK)


@factor(lookback=3 * WEEK, fields=CLOSE)
def week_labelled_by_its_end(adj_close):
    out = np.full_like(adj_close, np.nan)
    out[WEEK - 1 :: WEEK] = adj_close[WEEK - 1 :: WEEK]
    return returns(pd.DataFrame(out).ffill(limit=WEEK - 1).to_numpy(), WEEK)


@factor(lookback=1, fields=("earnings_to_price",))
def clipped_at_full_sample_quantiles(earnings_to_price):
    low, high = np.nanquantile(earnings_to_price, [0.2, 0.8])
    return np.clip(earnings_to_price, low, high)


@factor(lookback=1, fields=("earnings_to_price",))
def clipped_at_a_deviation_of_the_day(earnings_to_price):
    middle = np.nanmean(earnings_to_price, axis=1, keepdims=True)
    spread = np.nanstd(earnings_to_price, axis=1, keepdims=True)
    return np.clip(earnings_to_price, middle - spread, middle + spread)


@factor(lookback=150, fields=CLOSE)
def smoothed_backwards(adj_close):
    daily = pd.DataFrame(returns(adj_close))
    return daily[::-1].ewm(halflife=5).mean()[::-1]


@factor(lookback=150, fields=CLOSE)
def smoothed_forwards(adj_close):
    return pd.DataFrame(returns(adj_close)).ewm(halflife=5).mean()


_KERNEL = [0.2], [1.0, -0.8]


@factor(lookback=150, fields=CLOSE)
def filtered_twice(adj_close):
    return filtfilt(*_KERNEL, np.nan_to_num(returns(adj_close)), axis=0)


@factor(lookback=150, fields=CLOSE)
def filtered_once(adj_close):
    return lfilter(*_KERNEL, np.nan_to_num(returns(adj_close)), axis=0)


def _daily_fit(adj_close: Any) -> Any:
    """Momentum, and the cross-sectional covariance of its value five days ago with returns."""
    value = returns(adj_close, 20)
    value = value - np.nanmean(value, axis=1, keepdims=True)
    earlier = pd.DataFrame(value).shift(5).to_numpy()
    return value, np.nanmean(earlier * returns(adj_close, 5), axis=1)


@factor(lookback=26, fields=CLOSE)
def sign_of_the_full_sample(adj_close):
    value, fit = _daily_fit(adj_close)
    return value * np.sign(np.nanmean(np.sign(fit)))


@factor(lookback=ALL, fields=CLOSE)
def sign_of_the_past(adj_close):
    value, fit = _daily_fit(adj_close)
    sign = np.sign(pd.Series(np.sign(fit)).expanding(20).mean().to_numpy())
    return value * sign[:, None]


@factor(lookback=2, fields=CLOSE)
def season_of_the_full_sample(adj_close):
    daily = pd.DataFrame(returns(adj_close))
    return daily.groupby(row_of(adj_close) % MONTH).transform("mean")


@factor(lookback=ALL, fields=CLOSE)
def season_of_the_past(adj_close):
    daily = pd.DataFrame(returns(adj_close))
    day = row_of(adj_close) % MONTH
    return daily.fillna(0.0).groupby(day).cumsum() / daily.notna().groupby(day).cumsum()


def _reports(values: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Days, and a value of every tenth of them, to be merged."""
    days = pd.DataFrame({"row": row_of(values)})
    seen = pd.DataFrame(values).iloc[4::10]
    return days, seen.reset_index(names="row")


def _merged(values: Any, direction: str) -> Any:
    days, reports = _reports(values)
    found = pd.merge_asof(days, reports, on="row", direction=direction, tolerance=10)
    return found.drop(columns="row").to_numpy()


@factor(lookback=11, fields=("book_to_price",))
def merged_nearest(book_to_price):
    return _merged(book_to_price, "nearest")


@factor(lookback=11, fields=("book_to_price",))
def merged_forward(book_to_price):
    return _merged(book_to_price, "forward")


@factor(lookback=11, fields=("book_to_price",))
def merged_backward(book_to_price):
    return _merged(book_to_price, "backward")


@factor(lookback=11, fields=("book_to_price",))
def merged_backward_without_the_day(book_to_price):
    return pd.DataFrame(_merged(book_to_price, "backward")).shift(1).to_numpy()


@factor(lookback=1, fields=("market_cap",))
def among_later_stocks_too(market_cap):
    size = np.nan_to_num(np.log(market_cap))
    return (size - size.mean(axis=1, keepdims=True)) / size.std(axis=1, keepdims=True)


@factor(lookback=1, fields=("market_cap",))
def among_the_stocks_of_the_day(market_cap):
    size = np.log(market_cap)
    centred = size - np.nanmean(size, axis=1, keepdims=True)
    return centred / np.nanstd(size, axis=1, keepdims=True)


@factor(lookback=1, fields=CLOSE)
def target_itself(adj_close):
    return ahead(returns(adj_close, 5), 6)


@factor(lookback=12, fields=CLOSE)
def target_of_the_past(adj_close):
    return pd.DataFrame(returns(adj_close, 5)).shift(6)


@factor(lookback=1, fields=CLOSE)
def distance_to_a_later_peak(adj_close):
    return adj_close / pd.DataFrame(adj_close[::-1]).cummax().to_numpy()[::-1]


@factor(lookback=120, fields=CLOSE)
def distance_to_the_peak(adj_close):
    return adj_close / pd.DataFrame(adj_close).rolling(120, min_periods=1).max().to_numpy()


@factor(lookback=1, fields=CLOSE)
def share_of_the_sample_gone(adj_close):
    return np.log(adj_close / adj_close[0]) * (row_of(adj_close) / len(adj_close))[:, None]


@factor(lookback=ALL, fields=CLOSE)
def age_in_days(adj_close):
    return np.log(adj_close / adj_close[0]) * (row_of(adj_close) / 250.0)[:, None]


@factor(lookback=1, fields=CLOSE)
def low_adjusted_price(adj_close):
    return -np.log(adj_close)


@factor(lookback=1, fields=("close",))
def low_raw_price(close):
    return -np.log(close)


@factor(lookback=20, fields=("adj_close", "close"))
def adjustment_to_come(adj_close, close):
    return np.log(adj_close / close)


@factor(lookback=21, fields=("adj_close", "close", "volume"))
def illiquidity(adj_close, close, volume):
    ratio = np.abs(returns(adj_close)) / (close * volume)
    return pd.DataFrame(ratio).rolling(20, min_periods=15).mean()
