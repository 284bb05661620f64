"""Files and folders: every layout gives the same panel, and says how it was understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from alphakeel.data.columns import field_of
from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.data.panel import panel_from_long, panel_to_long
from alphakeel.data.parsing import parse_dates, read_numbers
from alphakeel.errors import ConfigError, DataError

DAYS = pd.bdate_range("2015-01-01", periods=70, name="date")
TICKERS = ["000001", "AAPL", "BRK.B", "NA"]


@pytest.fixture(scope="module")
def long() -> pd.DataFrame:
    """All fields, with a late listing, a suspension and losses."""
    rng = np.random.default_rng(0)
    grid = pd.MultiIndex.from_product([DAYS, TICKERS], names=["date", "ticker"])
    n = len(grid)
    close = (50 + np.cumsum(rng.normal(0, 0.5, (70, 4)), axis=0)).round(2).ravel()
    frame = pd.DataFrame(
        {
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "adj_close": (close / 3).round(4),
            "volume": rng.integers(0, 10_000, n).astype(float),
            "market_cap": close * 1e6,
            "pe": np.where(np.arange(n) % 7 == 0, 0.0, rng.normal(15, 10, n).round(3)),
            "pb": np.where(np.arange(n) % 5 == 0, np.nan, 2.0),
            "sector": np.tile(["Energy", "Tech", "Tech", "Bank"], 70),
        },
        index=grid,
    ).reset_index()
    late = (frame["ticker"] == "AAPL") & (frame["date"] < DAYS[10])
    idle = (frame["ticker"] == "NA") & frame["date"].isin(DAYS[30:33])
    return frame[~late & ~idle].reset_index(drop=True)


def check(panel: object, long: pd.DataFrame, names: tuple[str, ...] = ("adj_close",)) -> None:
    assert panel.asset_names.tolist() == TICKERS
    for name in names:
        wide = long.pivot(index="date", columns="ticker", values=name)
        np.testing.assert_allclose(panel[name], wide.to_numpy(), rtol=1e-15, err_msg=name)


ALL = ("open", "high", "low", "close", "adj_close", "volume", "market_cap")


class TestSpecialTreatment:
    """A daily flag beside the prices, however it is written; blank says no."""

    FLAGS = np.array([1.0, 0.0, np.nan, 1.0])

    @pytest.mark.parametrize(
        "words",
        [
            ["1", "0", "", "1"],
            ["True", "False", "", "TRUE"],
            ["yes", "no", "-", "y"],
            [1.0, 0.0, None, 1.0],
            [True, False, None, True],
        ],
    )
    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    @pytest.mark.parametrize("name", ["st", "isST", "是否ST"])
    def test_rows(self, words: list, ending: str, name: str, tmp_path: Path) -> None:
        frame = pd.DataFrame({"date": DAYS[:4], "code": "000001", "close": [5.0, 6.0, 5.0, 5.5]})
        other = frame.assign(code="000002")
        frame[name], other[name] = words, None
        both, file = pd.concat([frame, other]), tmp_path / f"all.{ending}"
        both[name] = both[name].astype(object)
        both.to_csv(file, index=False) if ending == "csv" else both.to_parquet(file)
        np.testing.assert_array_equal(load_panel(file)["st"], np.c_[self.FLAGS, [np.nan] * 4])

    def test_one_file_per_stock_and_wide(self, tmp_path: Path) -> None:
        for ticker in ("000001", "ST"):
            (tmp_path / f"{ticker}.csv").write_text(
                "date,close,ST\n2015-01-01,5,true\n2015-01-02,6,\n2015-01-05,5,0\n"
            )
        panel = load_panel(tmp_path)
        assert panel.asset_names.tolist() == ["000001", "ST"]
        np.testing.assert_array_equal(panel["st"][:, 1], [1.0, np.nan, 0.0])
        wide = tmp_path / "wide"
        wide.mkdir()
        (wide / "close.csv").write_text("date,000001,ST\n2015-01-01,5,6\n2015-01-02,6,5\n")
        (wide / "st.csv").write_text("date,000001,ST\n2015-01-01,true,\n2015-01-02,1,no\n")
        panel = load_panel(wide)
        np.testing.assert_array_equal(panel["st"], [[1.0, np.nan], [1.0, 0.0]])
        again = panel_from_long(panel_to_long(panel))
        np.testing.assert_array_equal(again["st"], panel["st"])
        # ST is also a ticker: a table of prices stays one.
        panel = load_panel(wide / "close.csv")
        assert panel.asset_names.tolist() == ["000001", "ST"]
        assert "st" not in panel

    @pytest.mark.parametrize("value", ["2", "0.5", "-1", "maybe"])
    def test_anything_else_is_refused_by_ticker_and_date(self, value: str, tmp_path: Path) -> None:
        file = tmp_path / "all.csv"
        file.write_text(
            "date,ticker,close,st\n2015-01-01,A,5,0\n2015-01-01,B,5,\n"
            f"2015-01-02,A,6,1\n2015-01-02,B,6,{value}\n"
        )
        with pytest.raises(DataError, match=r"st of B on 2015-01-02 is .*1.* or 0") as caught:
            load_panel(file)
        assert "\n" not in str(caught.value)
        wide = tmp_path / "wide"
        wide.mkdir()
        (wide / "close.csv").write_text("date,A,B\n2015-01-01,5,6\n2015-01-02,6,5\n")
        (wide / "st.csv").write_text(f"date,A,B\n2015-01-01,0,1\n2015-01-02,,{value}\n")
        with pytest.raises(DataError, match=r"st of B on 2015-01-02 is .*1.* or 0"):
            load_panel(wide)


class TestLayouts:
    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_long(self, ending: str, long: pd.DataFrame, tmp_path: Path) -> None:
        file = tmp_path / f"all.{ending}"
        long.to_csv(file, index=False) if ending == "csv" else long.to_parquet(file)
        panel = load_panel(file)
        check(panel, long, ALL)
        pe = long.pivot(index="date", columns="ticker", values="pe").to_numpy()
        with np.errstate(divide="ignore"):
            expected = np.where(pe == 0, np.nan, 1 / pe)
        np.testing.assert_allclose(panel["earnings_to_price"], expected, rtol=1e-15)
        assert np.nanmax(panel["book_to_price"]) == 0.5
        assert panel.fields["sector"].levels.tolist() == ["Bank", "Energy", "Tech"]
        assert (panel["sector"][10:, 1] == 2).all()
        report = inspect_path(file)
        assert report.layout == "long"
        assert ("pe", "pe") in report.columns
        assert (report.n_dates, report.n_assets) == (70, 4)
        assert (report.first_date, report.last_date) == ("2015-01-01", "2015-04-08")

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_wide(self, ending: str, long: pd.DataFrame, tmp_path: Path) -> None:
        file = tmp_path / f"prices.{ending}"
        wide = long.pivot(index="date", columns="ticker", values="adj_close")
        wide.to_csv(file) if ending == "csv" else wide.to_parquet(file)
        check(load_panel(file), long)
        assert inspect_path(file).layout == "wide"

    def test_wide_with_tickers_that_are_words(self, tmp_path: Path) -> None:
        file = tmp_path / "prices.csv"
        frame = pd.DataFrame({"LOW": [1.0, 2.0], "OPEN": [2.0, 3.0], "XOM": [5.0, 6.0]}, DAYS[:2])
        frame.to_csv(file)
        assert load_panel(file).asset_names.tolist() == ["LOW", "OPEN", "XOM"]

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_one_file_per_stock(self, ending: str, long: pd.DataFrame, tmp_path: Path) -> None:
        for ticker, frame in long.groupby("ticker"):
            frame = frame.drop(columns=["ticker", "sector"])
            file = tmp_path / f"{ticker}.{ending}"
            frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
        panel = load_panel(tmp_path)
        check(panel, long, ALL)
        assert inspect_path(tmp_path).layout == "per-ticker"

    def test_one_wide_file_per_field(self, long: pd.DataFrame, tmp_path: Path) -> None:
        for name in ("adj_close", "volume"):
            wide = long.pivot(index="date", columns="ticker", values=name)
            wide.to_csv(tmp_path / f"{name}.csv")
        check(load_panel(tmp_path), long, ("adj_close", "volume"))

    def test_long_files_in_a_folder(self, long: pd.DataFrame, tmp_path: Path) -> None:
        first = long["date"] < DAYS[35]
        long[first].to_csv(tmp_path / "b_early.csv", index=False)
        long[~first].to_csv(tmp_path / "a_late.csv", index=False)
        check(load_panel(tmp_path), long, ALL)
        assert not any("sorted" in note for note in inspect_path(tmp_path).notes)
        long[first].to_csv(tmp_path / "c_again.csv", index=False)
        with pytest.raises(DataError, match="000001 has 2 rows for 2015-01-01"):
            load_panel(tmp_path)

    def test_two_header_rows(self, long: pd.DataFrame, tmp_path: Path) -> None:
        wide = long.pivot(index="date", columns="ticker", values=["adj_close", "volume"])
        names = {"adj_close": "Adj Close", "volume": "Volume"}
        for name, levels in (("one.csv", ["Price", "Ticker"]), ("two.csv", ["Ticker", "Price"])):
            table = wide.rename(columns=names).rename_axis(
                index="Date", columns=["Price", "Ticker"]
            )
            table.reorder_levels(levels, axis=1).to_csv(tmp_path / name)
            check(load_panel(tmp_path / name), long, ("adj_close", "volume"))

    def test_prices_only_are_noted(self, long: pd.DataFrame, tmp_path: Path) -> None:
        file = tmp_path / "all.csv"
        long[["date", "ticker", "close"]].to_csv(file, index=False)
        panel = load_panel(file)
        np.testing.assert_array_equal(panel["adj_close"], panel["close"])
        assert any("without dividends" in note for note in inspect_path(file).notes)


VENDORS = {
    "yahoo": ["Date", "Ticker", "Open", "High", "Low", "Close", "Adj Close", "Volume"],
    "pooksoft": ["timestamp", "symbol", "open", "high", "low", "close", "AdjClosePrice", "vol"],
    "crsp": ["date", "PERMNO", "OPENPRC", "ASKHI", "BIDLO", "PRC", "adj_price", "VOL"],
    "tushare": ["trade_date", "ts_code", "open", "high", "low", "close", "adj close", "vol"],
    "akshare": ["日期", "股票代码", "开盘", "最高", "最低", "收盘", "adjclose", "成交量"],
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_vendors_columns(vendor: str, long: pd.DataFrame, tmp_path: Path) -> None:
    names = ["date", "ticker", "open", "high", "low", "close", "adj_close", "volume"]
    frame = long[names].copy()
    frame["date"] = frame["date"].dt.strftime("%Y%m%d")
    frame.columns = VENDORS[vendor]
    file = tmp_path / "all.csv"
    frame.to_csv(file, index=False)
    check(load_panel(file), long, tuple(names[2:]))


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("P/E", "pe"),
        ("PE_TTM", "pe"),
        ("peTTM", "pe"),
        ("pbMRQ", "pb"),
        ("Market Cap", "market_cap"),
        ("total_mv", "market_cap"),
        ("mkt_cap", "market_cap"),
        ("E/P", "earnings_to_price"),
        ("bp", "book_to_price"),
        ("GICS Sector", "sector"),
        ("industry", "sector"),
        ("Last", "close"),
        ("Datetime", "date"),
        ("code", "ticker"),
        ("Dividends", None),
        ("AAPL", None),
    ],
)
def test_spellings(column: str, field: str | None) -> None:
    assert field_of(column) == field


class TestOurFolder:
    @pytest.fixture
    def folder(self, long: pd.DataFrame, tmp_path: Path) -> Path:
        prices = long[["date", "ticker", "close", "adj_close", "volume"]]
        prices = prices.rename(columns={"ticker": "symbol"})
        prices[prices["date"] >= DAYS[20]].to_parquet(tmp_path / "prices.parquet")
        prices[prices["date"] < DAYS[20]].to_parquet(tmp_path / "prices_early.parquet")
        values = long[["date", "ticker", "pe", "pb", "market_cap"]]
        values.rename(columns={"ticker": "symbol"}).to_parquet(tmp_path / "valuation_daily.parquet")
        pd.DataFrame(
            {
                "symbol": [*TICKERS, "GONE"],
                "sector": ["Communication", "Tech", "Bank", None, "x"],
                "sector_2016": ["Tech", None, "Bank", None, "x"],
            }
        ).to_parquet(tmp_path / "securities.parquet")
        pd.DataFrame({"date": DAYS, "symbol": "^X", "close": np.arange(70) + 1.0}).to_parquet(
            tmp_path / "index.parquet"
        )
        pd.DataFrame(
            {
                "ticker": ["PINGAN", "AAPL", "OLD"],
                "symbol": ["000001", "AAPL", None],
                "start_date": [DAYS[0], DAYS[40], DAYS[0]],
                "end_date": [DAYS[50], pd.NaT, DAYS[9]],
            }
        ).to_parquet(tmp_path / "index_membership.parquet")
        return tmp_path

    def test_everything_is_joined(self, folder: Path, long: pd.DataFrame) -> None:
        panel = load_panel(folder, universe="all")
        check(panel, long, ("close", "adj_close", "volume", "market_cap"))
        assert "member" not in panel
        labels = panel.decode_categorical_field("sector")[-1]
        assert labels.tolist() == ["Tech", "Tech", "Bank", "MISSING"]
        np.testing.assert_array_equal(panel["market_index"][:, 0], np.arange(70) + 1.0)
        report = inspect_path(folder)
        assert report.layout == "folder"
        assert not report.problems
        notes = " | ".join(report.notes)
        assert "sector of 1 stocks is column sector of securities.parquet" in notes
        assert "1 of 2 members on 2015-01-01" in notes

    def test_members(self, folder: Path) -> None:
        panel = load_panel(folder)
        assert panel.asset_names.tolist() == ["000001", "AAPL"]
        np.testing.assert_array_equal(np.flatnonzero(panel["member"][:, 0]), np.arange(50))
        assert panel.active_mask[51:, 0].all(), "a stock that left the index is still traded"
        np.testing.assert_array_equal(panel["member"][10:40, 1], 0.0)

    def test_members_of_one_of_several_indices(self, folder: Path) -> None:
        spells = pd.DataFrame(
            {"symbol": list(TICKERS[1:3]), "start_date": DAYS[0], "end_date": pd.NaT}
        )
        spells.to_parquet(folder / "members_small.parquet")
        assert load_panel(folder).asset_names.tolist() == ["000001", "AAPL"]
        panel = load_panel(folder, universe="small")
        assert panel.asset_names.tolist() == sorted(TICKERS[1:3])
        with pytest.raises(ConfigError, match=r"no file members_large: .* or one of small"):
            load_panel(folder, universe="large")

    def test_only_members_of_the_window(self, folder: Path) -> None:
        with pytest.raises(DataError, match="1 stock, but at least 2"):
            load_panel(folder, start=DAYS[55])
        with pytest.raises(DataError, match="1 stock, but at least 2"):
            load_panel(folder, end=DAYS[30].date())

    def test_csv_works_as_well(self, folder: Path, long: pd.DataFrame) -> None:
        for file in folder.glob("*.parquet"):
            pd.read_parquet(file).to_csv(file.with_suffix(".csv"), index=False)
            file.unlink()
        check(load_panel(folder, universe="all"), long, ("adj_close", "market_cap"))

    def test_a_broken_side_file_is_a_problem(self, folder: Path) -> None:
        (folder / "index.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(DataError, match=r"index\.parquet"):
            load_panel(folder)
        spells = pd.DataFrame({"symbol": ["AAPL"], "start_date": ["soon"], "end_date": [None]})
        spells.to_parquet(folder / "index_membership.parquet")
        assert len(inspect_path(folder).problems) == 2

    def test_unused_files_are_named(self, folder: Path) -> None:
        pd.DataFrame({"a": [1]}).to_csv(folder / "extra.csv")
        reports = pd.DataFrame({"symbol": ["AAPL"], "eps": [1.0]})
        reports.to_csv(folder / "fundamentals.csv", index=False)
        notes = " ".join(inspect_path(folder).notes)
        assert "extra.csv" in notes
        assert "fundamentals.csv is not used" in notes


class TestWindow:
    @pytest.fixture
    def file(self, long: pd.DataFrame, tmp_path: Path) -> Path:
        path = tmp_path / "all.parquet"
        long.to_parquet(path)
        return path

    def test_start_and_end(self, file: Path) -> None:
        panel = load_panel(file, start="2015-01-05", end=DAYS[29].date())
        assert panel.observations[0] == np.datetime64("2015-01-05")
        assert panel.observations[-1] == np.datetime64(DAYS[29], "D")
        with pytest.raises(DataError, match="no date from 2016-01-01"):
            load_panel(file, start="2016-01-01")
        with pytest.raises(DataError, match="start 'spring'"):
            load_panel(file, start="spring")
        with pytest.raises(ConfigError, match="universe"):
            load_panel(file, universe="some")

    def test_nothing_after_the_end_matters(
        self, file: Path, long: pd.DataFrame, tmp_path: Path
    ) -> None:
        noisy, rng = long.copy(), np.random.default_rng(0)
        later = noisy["date"] > DAYS[40]
        for name in ("close", "adj_close", "volume"):
            noisy.loc[later, name] *= rng.uniform(0.5, 2.0, later.sum())
        noisy = noisy[~later | (noisy["ticker"] != "NA")]
        other = tmp_path / "noisy.parquet"
        noisy.to_parquet(other)
        for top in (None, 2):
            one = load_panel(file, end=DAYS[40].date(), top=top)
            two = load_panel(other, end=DAYS[40].date(), top=top)
            np.testing.assert_array_equal(one.asset_names, two.asset_names)
            np.testing.assert_array_equal(one.active_mask, two.active_mask)
            for name in one.keys():  # noqa: SIM118
                np.testing.assert_array_equal(one[name], two[name])

    def test_top(self, file: Path) -> None:
        panel = load_panel(file, top=2)
        assert (np.nansum(panel["member"], axis=1) <= 2).all()
        assert np.nansum(panel["member"], axis=1).max() == 2


class TestParsing:
    def test_report_is_json(self, long: pd.DataFrame, tmp_path: Path) -> None:
        file = tmp_path / "all.csv"
        long.assign(close=-1).to_csv(file, index=False)
        document = json.loads(json.dumps(inspect_path(file).to_dict()))
        assert document["problems"][0]["ticker"] == "000001"
        assert document["problems"][0]["date"] == "2015-01-01"
        assert document["problems"][0]["field"] == "close"

    def test_problems_are_limited(self, tmp_path: Path) -> None:
        file = tmp_path / "all.csv"
        pd.DataFrame(-1.0, DAYS, [f"S{i}" for i in range(50)]).to_csv(file)
        assert len(inspect_path(file).problems) == 1000
        with pytest.raises(DataError, match="at least 999 more"):
            load_panel(file)

    @pytest.mark.parametrize(
        ("texts", "days"),
        [
            (["2015-01-31", "2015/02/01"], ["2015-01-31", "2015-02-01"]),
            (["31.01.2015", "01.02.2015"], ["2015-01-31", "2015-02-01"]),
            (["1/31/2015", "2/1/2015"], ["2015-01-31", "2015-02-01"]),
            (["31/1/2015", "1/2/2015"], ["2015-01-31", "2015-02-01"]),
            ([20150131, 20150201], ["2015-01-31", "2015-02-01"]),
            (["Jan 31, 2015", "Feb 01, 2015"], ["2015-01-31", "2015-02-01"]),
            (["31-Jan-2015", "01-Feb-2015"], ["2015-01-31", "2015-02-01"]),
            (["2015-01-31T23:30:00Z", "2015-02-01 00:30:00+00:00"], ["2015-01-31", "2015-02-01"]),
            (["2015-01-31 00:00:00", "2015-02-01 16:00"], ["2015-01-31", "2015-02-01"]),
        ],
    )
    def test_dates(self, texts: list[object], days: list[str]) -> None:
        found, faults = parse_dates(pd.Series(texts))
        assert not faults
        assert found.astype(str).tolist() == days

    @pytest.mark.parametrize(
        ("texts", "numbers"),
        [
            (["1.5", "-2", "1e3"], [1.5, -2, 1000]),
            (["1,234.5", "7"], [1234.5, 7]),
            (["1.234,5", "1.234"], [1234.5, 1234]),
            (["12,5", "1,250"], [12.5, 1.25]),
            (["1.234.567", "1"], [1234567, 1]),
            (["1 234,5", "99"], [1234.5, 99]),
            (["1'234.50", "99"], [1234.5, 99]),
            (["", "NA", " - "], [np.nan] * 3),
            (["103.27M", "2.5k", "1B", "7", "-"], [103.27e6, 2500, 1e9, 7, np.nan]),
            (["1,5K", "31,77M"], [1500, 31.77e6]),
            (["$3204.4", " $3,204.50", "-$1"], [3204.4, 3204.5, -1]),
        ],
    )
    def test_numbers(self, texts: list[str], numbers: list[float]) -> None:
        values, faults, _ = read_numbers({"x": pa.chunked_array([texts])}, where="")
        assert not faults
        np.testing.assert_array_equal(values["x"], numbers)


READERS: dict[str, Callable[[Path], object]] = {"load": load_panel, "inspect": inspect_path}


@pytest.mark.parametrize("reader", READERS)
def test_the_file_is_not_changed(reader: str, long: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    long.to_csv(file, index=False)
    before = file.read_bytes()
    READERS[reader](file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]


def test_numbers_of_a_column_in_pieces_are_read_in_order() -> None:
    pieces = pa.chunked_array([[1, None], [], [2**53 + 2]], type=pa.int64())
    thirds = pa.chunked_array([[0.5], [None, 1 / 3]], type=pa.float32())
    values, faults, note = read_numbers({"volume": pieces, "close": thirds}, where="")
    np.testing.assert_array_equal(values["volume"], [1.0, np.nan, 2.0**53 + 2])
    np.testing.assert_array_equal(values["close"], [0.5, np.nan, np.float32(1 / 3)])
    assert (faults, note) == ({}, "")
