"""Factors: nothing from the future, exact lookbacks, and numbers that others agree with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, skew
from skfolio.containers import AssetPanel, FieldCategorical

from alphakeel.data.validation import REPORT_FIELDS
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS, Factor, FactorSet, compute_factors, standardise
from alphakeel.factors.base import factor_table
from alphakeel.factors.stock_factors import VOLUME_FACTORS
from alphakeel.stats.rolling import COLUMN_BLOCK

N_DATES = 300
N_ASSETS = COLUMN_BLOCK + 4  # two blocks
SECTORS = np.arange(N_ASSETS) % 3
LATE, GONE, GONE_AT = 5, 6, 240  # one stock lists late, one leaves
EVERY = pytest.mark.parametrize("factor", FACTORS, ids=lambda f: f.name)
Fields = dict[str, np.ndarray]


def market_fields(seed: int = 0) -> Fields:
    """Random prices with gaps, dividends, volumes and ratios, and an index of their own."""
    rng = np.random.default_rng(seed)
    shape = (N_DATES, N_ASSETS)
    index = rng.normal(0.0002, 0.01, N_DATES)
    returns = index[:, None] + rng.normal(0.0, 0.02, shape)
    price = 50.0 * np.exp(returns.cumsum(axis=0))
    dividends = np.where(rng.random(shape) < 0.1, rng.uniform(0.002, 0.02, shape), 0.0)
    close = price * np.exp(-dividends.cumsum(axis=0))
    start = close * np.exp(rng.normal(0.0, 0.01, shape))
    fields = {
        "open": start,
        "high": np.maximum(start, close) * np.exp(rng.uniform(0.001, 0.01, shape)),
        "low": np.minimum(start, close) * np.exp(-rng.uniform(0.001, 0.01, shape)),
        "close": close,
        "adj_close": price,
        "volume": np.exp(rng.normal(12.0, 0.8, shape)),
        "market_cap": close * rng.uniform(1e7, 1e9, N_ASSETS),
        "earnings_to_price": rng.normal(0.05, 0.05, shape),
        "book_to_price": rng.uniform(0.2, 1.5, shape),
    }
    later = np.random.default_rng(seed + 1)  # leaves the numbers before as they are
    fields |= {name: later.normal(0.1, 0.1, shape) for name in REPORT_FIELDS}
    gaps = rng.random(shape) < 0.003
    for values in fields.values():
        values[gaps] = np.nan
        values[:40, LATE] = np.nan
        values[GONE_AT:, GONE] = np.nan
    fields["market_index"] = np.repeat(1000.0 * np.exp(index.cumsum())[:, None], N_ASSETS, axis=1)
    return fields


def make_panel(fields: Fields, sectors: np.ndarray | None = SECTORS) -> AssetPanel:
    shape = next(iter(fields.values())).shape
    active = np.ones((N_DATES, shape[1]), dtype=bool)
    active[:40, LATE] = False
    active[GONE_AT:, GONE] = False
    dates = np.datetime64("2020-01-01") + np.arange(N_DATES)
    contents: dict[str, Any] = {
        name: np.where(active, values, np.nan) for name, values in fields.items()
    }
    if sectors is not None:
        codes = np.where(active, sectors, -1).astype(np.int32)
        contents["sector"] = FieldCategorical(codes, levels=["energy", "banks", "software"])
    names = [f"S{i:02d}" for i in range(shape[1])]
    return AssetPanel(contents, dates, names, active_mask=active)


FIELDS = market_fields()
PANEL = make_panel(FIELDS)
ALL = compute_factors(PANEL)


def only(found: FactorSet) -> np.ndarray:
    """Values of the one factor in a set, (n_dates, n_assets) or (n_dates,)."""
    return found.values[:, :, 0] if found.names else found.market[:, 0]


def value(name: str, found: FactorSet = ALL) -> np.ndarray:
    if name in found.names:
        return found.values[:, :, found.names.index(name)]
    return found.market[:, found.market_names.index(name)]


def returns() -> pd.DataFrame:
    return np.log(pd.DataFrame(FIELDS["adj_close"])).diff()


def active() -> np.ndarray:
    return np.asarray(PANEL.active_mask)


def agree(name: str, expected: Any, rtol: float = 2e-6, atol: float = 1e-7) -> None:
    """Compare where both are known, and ask that most of it is."""
    found = value(name)
    expected = np.asarray(expected, dtype=np.float64)
    if expected.ndim == 2:
        expected = np.where(active(), expected, np.nan)
    known = np.isfinite(found)
    np.testing.assert_array_equal(known, np.isfinite(expected), err_msg=name)
    assert known.any()
    np.testing.assert_allclose(found[known], expected[known], rtol=rtol, atol=atol, err_msg=name)


class TestTime:
    @EVERY
    @pytest.mark.parametrize("noise", ["huge", "missing"])
    def test_the_future_is_not_read(self, factor: Factor, noise: str) -> None:
        t = 270
        rng = np.random.default_rng(1)
        fields = {name: values.copy() for name, values in FIELDS.items()}
        for values in fields.values():
            after = values[t + 1 :]
            after[...] = 1e30 * rng.random(after.shape) if noise == "huge" else np.nan
            after[rng.random(after.shape) < 0.3] = 1e-9
        scrambled = compute_factors(make_panel(fields), (factor,))
        np.testing.assert_array_equal(only(scrambled)[: t + 1], value(factor.name)[: t + 1])

    @EVERY
    @pytest.mark.parametrize("t", [N_DATES - 1, 261])
    def test_lookback_is_enough(self, factor: Factor, t: int) -> None:
        """The panel cut to the last `lookback` rows gives the very same bits."""
        cut = PANEL[t - factor.lookback + 1 : t + 1]
        found = only(compute_factors(cut, (factor,)))
        assert len(found) == factor.lookback
        np.testing.assert_array_equal(found[-1], value(factor.name)[t])
        assert np.isfinite(np.atleast_1d(found[-1])).any()

    @EVERY
    def test_lookback_is_not_too_long(self, factor: Factor) -> None:
        """The earliest row matters: some change to it, large or small, shows."""
        t, row = N_DATES - 1, N_DATES - factor.lookback
        rng = np.random.default_rng(2)
        seen = False
        for size in (1.05, 100.0):
            fields = {name: values.copy() for name, values in FIELDS.items()}
            for values in fields.values():
                values[row] *= size ** rng.choice([-1.0, 1.0], N_ASSETS, p=[0.3, 0.7])
            fields["market_index"][row] = FIELDS["market_index"][row] * size
            found = only(compute_factors(make_panel(fields), (factor,)))[t]
            seen |= not np.array_equal(found, value(factor.name)[t], equal_nan=True)
        assert seen

    def test_too_few_dates_is_a_reason_to_omit(self) -> None:
        found = compute_factors(PANEL[:100])
        assert found.omitted["momentum_12_1"] == (
            "needs 253 dates of history but the panel has 100 (2020-01-01 to 2020-04-09)"
        )
        assert found.lookback <= 100


class TestReference:
    """pandas, SciPy and plain loops."""

    def test_price_ratios(self) -> None:
        price = pd.DataFrame(FIELDS["adj_close"])
        agree("momentum_12_1", np.log(price.shift(21) / price.shift(252)))
        agree("momentum_6_1", np.log(price.shift(21) / price.shift(126)))
        agree("momentum_3_1", np.log(price.shift(21) / price.shift(63)))
        agree("reversal_5", -np.log(price / price.shift(5)))
        agree("reversal_21", -np.log(price / price.shift(21)))
        agree("mean_gap_20", price / price.rolling(20, min_periods=16).mean() - 1.0)
        agree("mean_gap_200", price / price.rolling(200, min_periods=160).mean() - 1.0)
        agree("distance_to_high_252", np.log(price / price.rolling(252, min_periods=202).max()))

    def test_shape_of_returns(self) -> None:
        r = returns()
        for window, least in ((20, 16), (60, 48), (252, 202)):
            agree(f"volatility_{window}", r.rolling(window, min_periods=least).std())
        agree("skewness_60", r.rolling(60, min_periods=48).skew(), rtol=1e-5)
        agree("max_return_21", r.rolling(21, min_periods=17).max())
        gains = r.clip(lower=0.0).rolling(14, min_periods=12).sum()
        losses = (-r).clip(lower=0.0).rolling(14, min_periods=12).sum()
        agree("relative_strength_14", gains / (gains + losses))
        short, long = (r.rolling(w, min_periods=m).std() for w, m in ((20, 16), (252, 202)))
        agree("volatility_trend", np.log(short / long), atol=1e-6)

    def test_sessions(self) -> None:
        start, high, low, close = (
            pd.DataFrame(FIELDS[name]) for name in ("open", "high", "low", "close")
        )
        day = np.log(close / start)
        agree("intraday_return_20", day.rolling(20, min_periods=16).mean())
        agree("overnight_return_20", (returns() - day).rolling(20, min_periods=16).mean())
        place = ((close - low) - (high - close)) / (high - low)
        agree("close_location_20", place.rolling(20, min_periods=16).mean())
        squares = np.log(high / low) ** 2 / (4.0 * np.log(2.0))
        agree("range_volatility_20", np.sqrt(squares.rolling(20, min_periods=16).mean()))

    def test_volume(self) -> None:
        traded = pd.DataFrame(FIELDS["close"] * FIELDS["volume"])
        mean = {w: traded.rolling(w, min_periods=-(-4 * w // 5)).mean() for w in (5, 20, 60, 252)}
        agree("dollar_volume_20", np.log(mean[20]))
        agree("volume_surprise_20", np.log(traded / mean[20]), atol=1e-6)
        agree("volume_trend_5_60", np.log(mean[5] / mean[60]), atol=1e-6)
        agree("volume_trend_20_252", np.log(mean[20] / mean[252]), atol=1e-6)
        agree("volume_variation_60", traded.rolling(60, min_periods=48).std() / mean[60])
        share = traded / FIELDS["market_cap"]
        agree("turnover_20", share.rolling(20, min_periods=16).mean())
        impact = (returns().abs() / traded).rolling(60, min_periods=48).mean()
        agree("illiquidity_60", np.log(impact))
        r = returns()
        up = (np.sign(r) * traded).rolling(20, min_periods=16).sum()
        agree("signed_volume_20", up / traded.where(r.notna()).rolling(20, min_periods=16).sum())
        logs = np.log(traded).where(r.notna())
        agree("price_volume_correlation_20", r.rolling(20, min_periods=16).corr(logs), rtol=1e-5)

    def test_fundamentals(self) -> None:
        earnings, book_value = (
            pd.DataFrame(FIELDS[name]) for name in ("earnings_to_price", "book_to_price")
        )
        agree("earnings_yield", earnings)
        agree("book_yield", book_value)
        agree("earnings_yield_change_252", earnings - earnings.shift(252))
        agree("book_yield_change_252", book_value - book_value.shift(252))
        agree("return_on_equity", earnings / book_value)
        agree("size", np.log(FIELDS["market_cap"]))
        for name in REPORT_FIELDS:
            agree(name, FIELDS[name])
        paid = returns() - np.log(pd.DataFrame(FIELDS["close"])).diff()
        paid = paid.where((paid > 0.001) & (paid < 0.15) | paid.isna(), 0.0)
        agree("dividend_yield_252", paid.rolling(252, min_periods=202).sum(), atol=1e-6)

    @pytest.mark.parametrize("stock", [0, 3, N_ASSETS - 1])
    def test_regressions_on_the_market(self, stock: int) -> None:
        t = N_DATES - 1
        y = returns().to_numpy()[:, stock]
        x = np.log(pd.Series(FIELDS["market_index"][:, 0])).diff().to_numpy()

        def fit(window: int, *, falling: bool = False) -> tuple[np.ndarray, float, np.ndarray]:
            rows = slice(t - window + 1, t + 1)
            known = np.isfinite(y[rows]) & ((x[rows] < 0.0) if falling else True)
            a, b = x[rows][known], y[rows][known]
            slope, intercept = np.polyfit(a, b, 1)
            return b - intercept - slope * a, slope, a - a.mean()

        e, slope, deviation = fit(252)
        expected = {
            "beta_252": slope,
            "downside_beta_252": fit(252, falling=True)[1],
            "residual_volatility_60": np.sqrt((fit(60)[0] ** 2).sum() / (len(fit(60)[0]) - 2)),
            "residual_skewness_252": skew(e),
            "coskewness_252": (e * deviation**2).mean()
            / (np.sqrt((e**2).mean()) * (deviation**2).mean()),
        }
        for name, number in expected.items():
            assert value(name)[t, stock] == pytest.approx(number, rel=1e-4, abs=1e-6), name
        known = np.isfinite(y[-252:])
        assert value("market_correlation_252")[t, stock] == pytest.approx(
            np.corrcoef(x[-252:][known], y[-252:][known])[0, 1], rel=1e-5
        )

    def test_industry_leaves_the_stock_itself_out(self) -> None:
        price = pd.DataFrame(FIELDS["adj_close"])
        simple = price.pct_change(fill_method=None).to_numpy()
        industry = np.full(simple.shape, np.nan)
        for i in range(N_ASSETS):
            others = [j for j in range(N_ASSETS) if j != i and SECTORS[j] == SECTORS[i]]
            industry[1:, i] = np.log1p(np.nanmean(simple[1:, others], axis=1))
        agree("industry_return_1", industry)
        # A stock has a sector from the day it lists.
        known = pd.DataFrame(np.where(active(), industry, np.nan))
        month = known.rolling(20, min_periods=16).sum()
        agree("industry_return_20", month, atol=1e-6)
        agree("industry_return_126", known.rolling(126, min_periods=101).sum(), atol=1e-6)
        agree("industry_gap_20", np.log(price / price.shift(20)) - month, atol=1e-6)

    def test_state_of_the_market(self) -> None:
        index = pd.Series(FIELDS["market_index"][:, 0])
        level, m = np.log(index), np.log(index).diff()
        agree("index_return_1", m)
        agree("index_return_5", m.rolling(5).sum())
        agree("index_return_20", m.rolling(20, min_periods=16).sum(), atol=1e-6)
        agree("index_return_60", m.rolling(60, min_periods=48).sum(), atol=1e-6)
        agree("index_volatility_20", m.rolling(20, min_periods=16).std())
        agree("index_volatility_60", m.rolling(60, min_periods=48).std())
        full = np.arange(N_DATES) >= 251
        np.testing.assert_allclose(
            value("index_trend_200")[full],
            (level - level.rolling(200).mean())[full],
            rtol=1e-4,
            atol=1e-7,
        )
        np.testing.assert_allclose(
            value("index_drawdown_252")[full],
            (1.0 - index / index.rolling(252).max())[full],
            rtol=1e-4,
            atol=1e-7,
        )

    def test_breadth(self) -> None:
        price = pd.DataFrame(FIELDS["adj_close"])
        mean = price.rolling(200, min_periods=160).mean()
        for name, reference in (("breadth_20", price.shift(20)), ("breadth_200", mean)):
            known = price.notna() & reference.notna()
            share = ((price > reference) & known).sum(axis=1) / known.sum(axis=1)
            agree(name, share)
        simple = price.pct_change(fill_method=None)
        agree("dispersion_20", simple.std(axis=1).rolling(20, min_periods=16).mean())
        variance = (returns().rolling(60, min_periods=48).std() ** 2).where(active())
        n = variance.count(axis=1)
        equal = np.log1p(simple.mean(axis=1)).rolling(60, min_periods=48).std() ** 2
        own = variance.mean(axis=1) / n
        correlation = (equal - own) / (np.sqrt(variance).mean(axis=1) ** 2 - own)
        agree("average_correlation_60", correlation, rtol=1e-4)
        # True correlation of the simulated stocks: 0.01^2 / (0.01^2 + 0.02^2) = 0.2.
        assert np.nanmean(value("average_correlation_60")) == pytest.approx(0.2, abs=0.06)


class TestProperties:
    def test_input_survives(self) -> None:
        before = {name: np.array(PANEL[name]) for name in PANEL.fields}
        compute_factors(PANEL)
        for name, values in before.items():
            np.testing.assert_array_equal(PANEL[name], values)

    def test_asset_order_is_irrelevant(self) -> None:
        order = np.random.default_rng(4).permutation(N_ASSETS)
        found = compute_factors(PANEL.isel(assets=order))
        np.testing.assert_allclose(found.values, ALL.values[:, order], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.market, ALL.market, rtol=1e-5, atol=1e-6)

    def test_alone_or_together(self) -> None:
        """A factor does not depend on which others are computed beside it."""
        for factor in FACTORS[::5]:
            np.testing.assert_array_equal(
                only(compute_factors(PANEL, (factor,))), value(factor.name)
            )

    def test_scale_of_the_adjusted_price_is_irrelevant(self) -> None:
        """A later split rescales all of the past: its level must not be a factor."""
        fields = FIELDS | {"adj_close": FIELDS["adj_close"] * 0.25}
        found = compute_factors(make_panel(fields))
        np.testing.assert_allclose(found.values, ALL.values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.market, ALL.market, rtol=1e-5, atol=1e-6)

    def test_flat_and_empty_stocks_are_unknown_not_infinite(self) -> None:
        fields = {name: values.copy() for name, values in FIELDS.items()}
        for name in ("open", "high", "low", "close", "adj_close"):
            fields[name][:, 0] = 10.0
        for name in ("volume", "market_cap", "book_to_price"):
            fields[name][:, 0] = 0.0
        for name, values in fields.items():
            if name != "market_index":
                values[:, 1] = np.nan
        found = compute_factors(make_panel(fields))
        assert not np.isinf(found.values).any()
        assert not np.isinf(found.market).any()
        for name in ("industry_return_1", "industry_return_20", "industry_return_126"):
            assert np.isfinite(value(name, found)[-1, 1])
        own = [k for k, f in enumerate(found.families) if f != "industry"]
        assert np.all(np.isnan(found.values[:, 1][:, own]))
        for name in ("skewness_60", "relative_strength_14", "dollar_volume_20", "size",
                     "turnover_20", "illiquidity_60", "close_location_20", "return_on_equity",
                     "market_correlation_252", "volatility_trend"):  # fmt: skip
            assert np.all(np.isnan(value(name, found)[:, 0])), name
        assert np.all(value("volatility_60", found)[60:, 0] == 0.0)

    def test_unlisted_stocks_have_no_values(self) -> None:
        assert np.all(np.isnan(ALL.values[~active()]))
        assert np.isfinite(value("volatility_252")[GONE_AT - 1, GONE])

    def test_a_stock_that_is_the_index(self) -> None:
        fields = FIELDS | {"adj_close": FIELDS["adj_close"].copy()}
        fields["adj_close"][:, 0] = FIELDS["market_index"][:, 0]
        found = compute_factors(make_panel(fields))
        assert value("beta_252", found)[-1, 0] == pytest.approx(1.0)
        assert value("residual_volatility_60", found)[-1, 0] == 0.0
        assert np.isnan(value("residual_skewness_252", found)[-1, 0])


class TestFields:
    def test_catalogue(self) -> None:
        assert len({f.name for f in FACTORS}) == len(FACTORS)
        assert sum(f.scope == "stock" for f in FACTORS) >= 25
        assert sum(f.scope == "market" for f in FACTORS) >= 10
        assert ALL.omitted == {}
        assert ALL.notes == ()
        assert ALL.lookback == max(f.lookback for f in FACTORS) == 253
        assert ALL.values.dtype == ALL.market.dtype == np.float32

    def test_factors_without_their_fields_are_omitted_by_name(self) -> None:
        found = compute_factors(make_panel({"adj_close": FIELDS["adj_close"]}, sectors=None))
        assert found.omitted["turnover_20"] == (
            "needs close and volume and market_cap, which this panel lacks"
        )
        assert found.omitted["industry_return_1"] == "needs sector, which this panel lacks"
        assert "momentum_12_1" in found.names
        assert set(found.omitted) | set(found.names) | set(found.market_names) == {
            f.name for f in FACTORS
        }

    def test_without_an_index_the_market_is_the_equal_weight_universe(self) -> None:
        fields = {name: values for name, values in FIELDS.items() if name != "market_index"}
        found = compute_factors(make_panel(fields))
        assert len(found.notes) == 1
        assert "equal-weight" in found.notes[0]
        simple = pd.DataFrame(FIELDS["adj_close"]).pct_change(fill_method=None).mean(axis=1)
        np.testing.assert_allclose(
            value("index_return_1", found), np.log1p(simple), rtol=1e-5, atol=1e-7
        )

    def test_eligible_stocks_make_the_aggregates(self) -> None:
        chosen = np.zeros((N_DATES, N_ASSETS), dtype=bool)
        chosen[:, :4] = True
        found = compute_factors(PANEL, eligible=chosen)
        price = pd.DataFrame(FIELDS["adj_close"]).iloc[:, :4]
        dispersion = price.pct_change(fill_method=None).std(axis=1)
        expected = dispersion.rolling(20, min_periods=16).mean()
        np.testing.assert_allclose(value("dispersion_20", found)[30:], expected[30:], rtol=1e-5)
        # Values are there for the others too; their own sector is judged by the chosen alone.
        np.testing.assert_array_equal(
            value("volatility_60", found)[:, 9], value("volatility_60")[:, 9]
        )
        np.testing.assert_allclose(
            value("industry_return_1", found)[-1, 7],
            np.log(FIELDS["adj_close"][-1, 1] / FIELDS["adj_close"][-2, 1]),
            rtol=1e-5,
        )
        # Stock 1 is the only one of its sector among the chosen: there are no others.
        assert np.isnan(value("industry_return_1", found)[-1, 1])

    def test_mistakes_are_named(self) -> None:
        with pytest.raises(ConfigError, match="two factors are called 'size'"):
            compute_factors(PANEL, (replace(FACTORS[0], name="size"),) * 2)
        with pytest.raises(DataError, match="eligible has shape"):
            compute_factors(PANEL, eligible=np.ones((3, 3), dtype=bool))
        prices_only = make_panel({"adj_close": FIELDS["adj_close"]}, sectors=None)
        with pytest.raises(DataError, match=r"no factor can be computed: .*needs close and volume"):
            compute_factors(prices_only, VOLUME_FACTORS)

    def test_the_documented_table_is_the_code(self) -> None:
        page = Path(__file__).resolve().parents[2] / "docs" / "factors.md"
        assert factor_table() in page.read_text(encoding="utf-8"), (
            "docs/factors.md is stale; replace its table by what "
            "python -c 'from alphakeel.factors import factor_table; print(factor_table())' prints"
        )


class TestStandardise:
    def test_ranks_of_unit_variance_and_zero_where_unknown(self) -> None:
        mask = active() & (np.random.default_rng(5).random((N_DATES, N_ASSETS)) < 0.9)
        before = ALL.values.copy()
        found = standardise(ALL.values, mask)
        np.testing.assert_array_equal(ALL.values, before)
        assert found.dtype == np.float32
        assert found.shape == ALL.values.shape
        for t in (0, 100, 299):
            for k in range(0, len(ALL.names), 7):
                known = mask[t] & np.isfinite(ALL.values[t, :, k])
                expected = np.zeros(N_ASSETS)
                if known.any():
                    ranks = rankdata(ALL.values[t, known, k])
                    expected[known] = (ranks - ranks.mean()) / (ranks.std() or 1.0)
                np.testing.assert_allclose(found[t, :, k], expected, rtol=1e-5, atol=1e-6)

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(DataError, match="values have shape"):
            standardise(ALL.values, active()[:10])
