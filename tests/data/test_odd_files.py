"""Files as people have them, in other languages, encodings and units: read rightly or refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.assembly import join_asof
from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.data.panel import panel_from_wide
from alphakeel.data.tickers import match_tickers
from alphakeel.errors import DataError

DAYS = pd.bdate_range("2015-01-01", periods=40, name="Date")


def bars(seed: int = 0, n: int = 40, start: float = 50.0) -> pd.DataFrame:
    """Open, high, low, close and volume of one stock, as a market makes them."""
    rng = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(rng.normal(0, 0.015, n)))
    opened = np.concatenate([[start], close[:-1]]) * np.exp(rng.normal(0, 0.005, n))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.006, n)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.006, n)))
    volume = rng.integers(100_000, 900_000, n)
    frame = pd.DataFrame(
        {"open": opened, "high": high, "low": low, "close": close}, pd.DatetimeIndex(DAYS[:n])
    ).round(2)
    return frame.assign(volume=volume).rename_axis("date")


def refusal(path: Path) -> str:
    """The one sentence with which a path is refused, the same by both readers."""
    with pytest.raises(DataError) as caught:
        load_panel(path)
    message = str(caught.value)
    assert message.endswith(".")
    assert ". " not in message
    assert message.isprintable()
    assert inspect_path(path).problems
    return message


def text_of(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


class TestTickers:
    def test_decimals_are_no_tickers(self, tmp_path: Path) -> None:
        frame = pd.DataFrame(
            {"date": DAYS[[0, 0, 1, 1]], "ticker": [0.5, 1.5] * 2, "close": [1.0, 2, 3, 4]}
        )
        frame.to_parquet(tmp_path / "all.parquet")
        message = refusal(tmp_path / "all.parquet")
        assert "row 1: ticker 0.5 is a decimal number" in message
        assert "all.parquet" in message

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_whole_numbers_stored_as_decimals(self, ending: str, tmp_path: Path) -> None:
        codes = [600000.0, 1.0, 600000.0, 1.0, np.nan]
        frame = pd.DataFrame(
            {"date": DAYS[[0, 0, 1, 1, 1]], "ticker": codes, "close": [1.0, 2, 3, 4, 5]}
        )[:4]
        file = tmp_path / f"all.{ending}"
        frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
        assert load_panel(file).asset_names.tolist() == ["1", "600000"]

    def test_case_only_and_never_together(self, tmp_path: Path) -> None:
        names = ("ab", "ab", "AB", "AB")
        rows = [f"{DAYS[k]:%Y-%m-%d},{names[k]},{5 + k}" for k in range(4)]
        rows += [f"{DAYS[k]:%Y-%m-%d},XOM,{1 + k}" for k in range(4)]
        message = refusal(text_of(tmp_path / "all.csv", ["date,ticker,close", *rows]))
        assert "AB and ab differ in case" in message

    def test_case_only_on_the_same_dates_is_noted(self, tmp_path: Path) -> None:
        file = text_of(
            tmp_path / "all.csv", ["date,BACpK,BACPK", "2015-01-01,25,16", "2015-01-02,26,17"]
        )
        assert load_panel(file).asset_names.tolist() == ["BACPK", "BACpK"]
        assert any("two stocks" in n and "BACPK and BACpK" in n for n in inspect_path(file).notes)

    def test_unicode_forms_are_one_ticker(self, tmp_path: Path) -> None:
        name = "Zürich"
        forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
        assert forms[0] != forms[1]
        rows = [f"{DAYS[k]:%Y-%m-%d},{forms[k]},{5 + k}" for k in range(2)]
        rows += [f"{DAYS[k]:%Y-%m-%d},XOM,{5 - k}" for k in range(2)]
        panel = load_panel(text_of(tmp_path / "all.csv", ["date,ticker,close", *rows]))
        assert panel.asset_names.tolist() == ["XOM", name]
        np.testing.assert_array_equal(panel["close"][:, 1], [5, 6])


class TestPointsAndCommas:
    @pytest.mark.parametrize("elsewhere", ["12.500.000", "1.234,50", "0,5"])
    def test_thousands_by_the_other_numbers(self, elsewhere: str, tmp_path: Path) -> None:
        lines = ["date;ticker;close;note"]
        for day in ("2015-01-01", "2015-01-02"):
            lines += [f"{day};A;5.000;{elsewhere}", f"{day};B;7.{day[-2:]}0;{elsewhere}"]
        panel = load_panel(text_of(tmp_path / "all.csv", lines))
        np.testing.assert_array_equal(panel["close"], [[5000, 7010], [5000, 7020]])

    @pytest.mark.parametrize(("sign", "letter"), [("$", ""), ("", "M")])
    def test_signs_and_letters_leave_the_doubt(
        self, sign: str, letter: str, tmp_path: Path
    ) -> None:
        lines = ["date;A;B", *(f"2015-01-0{k};{sign}5.00{k}{letter};{sign}7.1{k}0" for k in (1, 2))]
        assert "can mean a decimal or thousands" in refusal(text_of(tmp_path / "all.csv", lines))

    @pytest.mark.parametrize("elsewhere", ["12.5", "1,234.50", "0.500"])
    def test_decimals_by_the_other_numbers(self, elsewhere: str, tmp_path: Path) -> None:
        lines = ["date;ticker;close;note"]
        for day in ("2015-01-01", "2015-01-02"):
            lines += [f"{day};A;5.000;{elsewhere}", f"{day};B;7.{day[-2:]}0;{elsewhere}"]
        panel = load_panel(text_of(tmp_path / "all.csv", lines))
        np.testing.assert_array_equal(panel["close"], [[5, 7.01], [5, 7.02]])

    def test_a_plain_large_number_has_no_thousands_marks(self, tmp_path: Path) -> None:
        lines = ["date;ticker;close;volume"]
        for day in ("2015-01-01", "2015-01-02"):
            lines += [f"{day};A;5.000;123456", f"{day};B;7.{day[-2:]}0;99"]
        panel = load_panel(text_of(tmp_path / "all.csv", lines))
        np.testing.assert_array_equal(panel["close"], [[5, 7.01], [5, 7.02]])

    def test_refused_where_nothing_tells(self, tmp_path: Path) -> None:
        lines = ["date;ticker;close"]
        for day in ("2015-01-01", "2015-01-02"):
            lines += [f"{day};A;830", f"{day};B;7.{day[-2:]}0"]
        message = refusal(text_of(tmp_path / "all.csv", lines))
        for word in ("row 3", "close '7.010'", "decimal or thousands", "all.csv"):
            assert word in message

    def test_between_commas_a_point_is_a_point(self, tmp_path: Path) -> None:
        lines = ["date,A,B", "2015-01-01,5.000,7.125", "2015-01-02,5.010,7"]
        file = text_of(tmp_path / "all.csv", lines)
        np.testing.assert_array_equal(load_panel(file)["adj_close"], [[5, 7.125], [5.01, 7]])


def test_a_price_too_small_to_compute_with_is_found_by_check(tmp_path: Path) -> None:
    prices = pd.DataFrame({"A": [1.0, 1.1], "TINY": [1e-310, 1.1e-310]}, DAYS[:2])
    prices.to_csv(tmp_path / "all.csv")
    message = refusal(tmp_path / "all.csv")
    assert "adj_close of TINY on 2015-01-01" in message
    assert "below 1e-12" in message


class TestNoTable:
    @pytest.mark.parametrize(
        ("start", "words"),
        [
            (b"PK\x03\x04\x14\0\x06\0", "a zip archive or an Excel workbook, not text"),
            (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document, not text"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook, not text"),
            (b"PAR1\x15\x04", "a Parquet file under another name"),
            (b"\x1f\x8b\x08\0", "compressed (gzip)"),
            (b"<!DOCTYPE html>\n<html>", "an HTML page"),
            (b'{"AAPL": [1, 2]}', "JSON"),
        ],
    )
    def test_is_named(self, start: bytes, words: str, tmp_path: Path) -> None:
        (tmp_path / "bad.csv").write_bytes(start + b" more of it \xff\n" * 9)
        message = refusal(tmp_path / "bad.csv")
        assert words in message
        assert message.startswith("bad.csv")

    @pytest.mark.parametrize("line", [1, 3])
    def test_an_open_quote_is_located(self, line: int, tmp_path: Path) -> None:
        lines = ["date,ticker,close", "2015-01-01,A,5", "2015-01-01,B,6", "2015-01-02,A,7"]
        lines[line] = lines[line].replace(",", ',"', 1)
        message = refusal(text_of(tmp_path / "all.csv", lines))
        assert f"row {line + 1} of all.csv opens a quote" in message


class TestLinesAboveTheHeader:
    TABLE = ("date,A,B", "2015-01-01,5,6", "2015-01-02,5.5,6.5")

    @pytest.mark.parametrize(
        "above",
        [
            ["# made by hand"],
            ["# made by hand, with commas, in 2015", "#", ""],
            ["https://example.com/data.csv"],
            ["A title", "", "made in 2015"],
            ["A title,,", ",,"],
            ["Prices, made in 2015"],
            ["Prices; of A and B", "in dollars"],
        ],
    )
    def test_are_left_out_and_noted(self, above: list[str], tmp_path: Path) -> None:
        file = text_of(tmp_path / "all.csv", [*above, *self.TABLE])
        np.testing.assert_array_equal(load_panel(file)["adj_close"], [[5, 6], [5.5, 6.5]])
        assert any("above the header" in note for note in inspect_path(file).notes)

    def test_rows_are_counted_from_the_top(self, tmp_path: Path) -> None:
        file = text_of(tmp_path / "all.csv", ["# one", "# two", *self.TABLE, "2015-01-05,x,7"])
        assert "row 6: price of A on 2015-01-05 is 'x'" in refusal(file)
        file = text_of(tmp_path / "all.csv", ["# one", "# two", *self.TABLE, "2015-01-05,7"])
        assert "row 6 has 2 cells" in refusal(file)

    def test_a_header_behind_a_mark(self, tmp_path: Path) -> None:
        file = text_of(tmp_path / "all.csv", [f"# {self.TABLE[0]}", *self.TABLE[1:]])
        np.testing.assert_array_equal(load_panel(file)["adj_close"], [[5, 6], [5.5, 6.5]])


class TestStockOrStocks:
    UNKNOWN = ("Dato", "Abning", "Hojeste", "Laveste", "Slutkurs", "Omsaetning")

    @pytest.mark.parametrize("rows", [6, 40])
    @pytest.mark.parametrize("extra", [0, 25])
    @pytest.mark.parametrize("folder", [False, True])
    def test_unknown_words_are_told_by_their_numbers(
        self, rows: int, extra: int, folder: bool, tmp_path: Path
    ) -> None:
        for seed, name in enumerate(("NOVO", "MAERSK")):
            frame = bars(seed, n=rows).set_axis(list(self.UNKNOWN[1:]), axis=1)
            for n in range(2, 2 + extra):
                frame[f"SMA_{n}"] = frame["Slutkurs"].rolling(n, min_periods=1).mean()
            frame.rename_axis(self.UNKNOWN[0]).to_csv(tmp_path / f"{name}.csv")
        message = refusal(tmp_path if folder else tmp_path / "NOVO.csv")
        assert "the prices of one stock" in message
        assert "'Hojeste' the highest and 'Laveste' the lowest" in message

    @pytest.mark.parametrize("seed", range(30))
    def test_stocks_of_one_price_are_not_taken_for_bars(self, seed: int, tmp_path: Path) -> None:
        """Up to 100 stocks that start within a tenth of each other."""
        rng = np.random.default_rng(seed)
        n = int(rng.choice([8, 20, 40]))
        k = int(rng.choice([4, 12, 40, 100]))
        paths = np.cumsum(rng.normal(0, 0.02, (n, k)), axis=0) + rng.uniform(0, 0.1, k)
        frame = pd.DataFrame(50 * np.exp(paths), DAYS[:n], [f"S{i:03}" for i in range(k)])
        frame.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_assets == k

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            (
                "Dato,Abning,Hojeste,Laveste,Slutkurs,Volumen",
                "looks like Nasdaq Nordic with Danish",
            ),
            ("Data,Otwarcie,Najw.,Najniższy kurs,Zamkn.,Wolumen", "Stooq with Polish headers"),
            ("datadate,prcod,prchd,prcld,prccd,cshtrd", "Compustat: rename 'datadate' to date, "),
            ("day,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "like Bloomberg: rename 'PX_OPEN' to"),
        ],
    )
    def test_the_nearest_known_shape_is_named(
        self, header: str, words: str, tmp_path: Path
    ) -> None:
        frame = bars(0).rename_axis(header.split(",")[0]).set_axis(header.split(",")[1:], axis=1)
        frame.to_csv(tmp_path / "all.csv")
        assert words in refusal(tmp_path / "all.csv")

    def test_no_shape_is_named_that_is_not_near(self, tmp_path: Path) -> None:
        lines = ["when,what,weight", "soon,a,5", "later,b,6"]
        message = refusal(text_of(tmp_path / "x.csv", lines))
        assert "are not understood" in message
        assert "looks like" not in message

    @pytest.mark.parametrize(("scale", "unit"), [(1.0, "per cent"), (0.01, "fractions")])
    def test_returns_by_month_are_said_to_be_returns(
        self, scale: float, unit: str, tmp_path: Path
    ) -> None:
        """Two lines of words, a line without, a heading, and months as their only dates."""
        lines = ["Made from the database of 2017,,", "Missing data are -99.99,,", ",,"]
        lines += ["  Average returns -- Monthly,,", ",Agric,Food "]
        drawn = (scale * np.random.default_rng(0).normal(0.5, 5.0, (24, 2))).round(4)
        lines += [f"{1960 + k // 12}{k % 12 + 1:02},{a},{b}" for k, (a, b) in enumerate(drawn)]
        message = refusal(text_of(tmp_path / "48.csv", lines))
        assert f"begins in line 5 and seems to hold returns in {unit}: a study needs" in message

    @pytest.mark.parametrize("word", ["Kod spółki", "instrument_name"])
    def test_a_column_of_tickers_without_a_known_name(self, word: str, tmp_path: Path) -> None:
        stacked({"AAA": bars(0), "BBB": bars(1)}).rename(columns={"ticker": word}).to_csv(
            tmp_path / "all.csv", index=False
        )
        message = refusal(tmp_path / "all.csv")
        assert f"{word!r} tells their rows apart (AAA, BBB): if it holds the tickers" in message

    @pytest.mark.parametrize("mark", [",", ";"])
    def test_numbers_are_no_header(self, mark: str, tmp_path: Path) -> None:
        rows = [f"{1420416000 + 86400 * k}{mark}{50 + k}.25{mark}60.5" for k in range(4)]
        assert "has no header" in refusal(text_of(tmp_path / "all.csv", rows))

    def test_a_volume_is_never_a_ticker(self, tmp_path: Path) -> None:
        lines = ["Dato,Volume,Kurs", "2015-01-01,1000,5", "2015-01-02,1100,6"]
        message = refusal(text_of(tmp_path / "x.csv", lines))
        assert "column 'Volume' of x.csv is no ticker" in message
        assert "'Kurs'" in message

    @pytest.mark.parametrize("missing", [[], ["LAST"], ["PRICE", "LOW"]])
    @pytest.mark.parametrize("folder", [False, True])
    def test_tickers_that_are_words(self, missing: list, folder: bool, tmp_path: Path) -> None:
        words = ["LOW", "OPEN", "BP", "ST", "TIC", "CODE", "LAST", "PRICE", "PE", "DAY", "T", "C"]
        words = sorted(set(words) - set(missing))
        rng = np.random.default_rng(1)
        prices = np.exp(np.cumsum(rng.normal(0, 0.01, (40, len(words))), axis=0))
        prices = np.round(prices * rng.permutation(np.linspace(20, 90, len(words))), 2)
        file = tmp_path / ("adj_close.csv" if folder else "all.csv")
        pd.DataFrame(prices, DAYS, words).to_csv(file)
        panel = load_panel(tmp_path if folder else file)
        assert panel.asset_names.tolist() == words
        np.testing.assert_array_equal(panel["adj_close"], prices)
        if not folder:
            assert any("for the tickers of stocks" in note for note in inspect_path(file).notes)

    @pytest.mark.parametrize("word", ["TIC", "CODE", "LAST", "PRICE", "ASSET", "STOCK", "LOW", "V"])
    def test_one_word_among_tickers(self, word: str, tmp_path: Path) -> None:
        frame = pd.DataFrame({"XOM": [50.0, 51], word: [20.5, 20.75], "BP": [6.0, 5.9]}, DAYS[:2])
        frame.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").asset_names.tolist() == sorted(frame.columns)

    def test_a_name_is_the_ticker_where_nothing_else_is(self, tmp_path: Path) -> None:
        lines = ["date,close,Name"]
        lines += [f"{DAYS[k // 2]:%Y-%m-%d},{5 + k},{'AB'[k % 2]}" for k in range(8)]
        file = text_of(tmp_path / "all.csv", lines)
        assert load_panel(file).asset_names.tolist() == ["A", "B"]
        days = pd.bdate_range("2010-01-01", periods=500)  # sorted by name: dates repeat late
        rows = ((day, k, name) for name in "AB" for k, day in enumerate(days, 5))
        lines = ["date,close,Name", *(f"{day:%Y-%m-%d},{k},{name}" for day, k, name in rows)]
        file = text_of(tmp_path / "all.csv", lines)
        assert load_panel(file).asset_names.tolist() == ["A", "B"]

    def test_a_company_name_in_each_file_is_no_ticker(self, tmp_path: Path) -> None:
        for seed, name in enumerate(("AAPL", "XOM")):
            bars(seed).assign(Name=f"{name} Inc.").to_csv(tmp_path / f"{name}.csv")
        assert load_panel(tmp_path).asset_names.tolist() == ["AAPL", "XOM"]

    def test_symbols_with_an_exchange_are_no_fields(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"BAS GY": [50.0, 51], "MAX US": [20.5, 20.75]}, DAYS[:2])
        frame.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").asset_names.tolist() == ["BAS GY", "MAX US"]

    def test_a_counter_is_left_out(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"date": DAYS[:4], "A": [1.0, 2, 3, 4], "B": [4.0, 3, 2, 1]})
        frame.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").asset_names.tolist() == ["A", "B"]
        notes = inspect_path(tmp_path / "all.csv").notes
        assert any("numbers its rows and is left out" in note for note in notes)

    def test_a_field_in_the_name_of_a_lone_file(self, tmp_path: Path) -> None:
        frame = bars(0)[["open", "high", "low", "close"]].set_axis(list("ABCD"), axis=1)
        frame.to_csv(tmp_path / "all.csv")
        assert "the prices of one stock" in refusal(tmp_path / "all.csv")
        (tmp_path / "all.csv").rename(tmp_path / "adj_close.csv")
        assert load_panel(tmp_path / "adj_close.csv").n_assets == 4
        (tmp_path / "adj_close.csv").rename(tmp_path / "volume.csv")
        assert "there are no prices" in refusal(tmp_path / "volume.csv")

    def test_every_file_of_a_field_is_shown_with_its_tickers(self, tmp_path: Path) -> None:
        for name in ("close", "volume"):
            pd.DataFrame(1.0 + np.eye(4), DAYS[:4], list("ABCD")).to_csv(tmp_path / f"{name}.csv")
        columns = dict(inspect_path(tmp_path).columns)
        assert columns["4 columns of close.csv (A, B, C, ...)"] == "close by ticker"
        assert columns["4 columns of volume.csv (A, B, C, ...)"] == "volume by ticker"

    def test_files_with_three_header_rows(self, tmp_path: Path) -> None:
        frames = {name: bars(seed) for seed, name in enumerate(("AAPL", "AMZN"))}
        for name, frame in frames.items():
            fields = [field.title() for field in frame.columns]
            head = [",".join(["Price", *fields]), ",".join(["Ticker", *[name] * 5]), "Date,,,,,"]
            rows = frame.to_csv(header=False).splitlines()
            text_of(tmp_path / f"{name}.csv", [*head, *rows])
        panel = load_panel(tmp_path)
        assert panel.asset_names.tolist() == ["AAPL", "AMZN"]
        for field in ("open", "high", "low", "close", "volume"):
            expected = np.column_stack([frame[field] for frame in frames.values()])
            np.testing.assert_array_equal(panel[field], expected)
        again = tmp_path / "again"
        again.mkdir()
        for file in ("AAPL.csv", "AMZN.csv"):
            (again / file).write_bytes((tmp_path / "AAPL.csv").read_bytes())
        assert "is in two files" in refusal(again)

    def test_prices_across_in_our_folder(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"A": [1.0, 2], "B": [2.0, 1]}, DAYS[:2])
        frame.to_csv(tmp_path / "prices.csv")
        securities = pd.DataFrame({"symbol": ["A", "B"], "sector": ["Energy", "Tech"]})
        securities.to_csv(tmp_path / "securities.csv", index=False)
        panel = load_panel(tmp_path)
        assert panel.asset_names.tolist() == ["A", "B"]
        assert panel.fields["sector"].levels.tolist() == ["Energy", "Tech"]


def stacked(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per date and stock."""
    return pd.concat([f.assign(ticker=t).reset_index() for t, f in frames.items()])


class TestAdjustedPrices:
    """A split of 4:1 on day 20 of one stock, and the close at both levels."""

    @pytest.fixture
    def traded(self) -> dict[str, pd.DataFrame]:
        """As traded, with `factor`: adjusted = as traded x factor."""
        frames = {t: bars(k).assign(factor=2.0) for k, t in enumerate(("AAA", "BBB"))}
        split = frames["BBB"]
        split.iloc[20:, :4] /= 4
        split.iloc[20:, 5] *= 4
        return frames

    def adjusted(self, traded: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        frames = {}
        for ticker, frame in traded.items():
            new = frame.copy()
            new[["open", "high", "low", "close"]] = frame.iloc[:, :4].mul(frame["factor"], axis=0)
            new["volume"] = frame["volume"] / frame["factor"]
            frames[ticker] = new
        return frames

    def check_returns(self, path: Path, traded: dict[str, pd.DataFrame]) -> None:
        panel = load_panel(path)
        for column, frame in enumerate(traded.values()):
            level = frame["close"] * frame["factor"]
            prices = panel["adj_close"][:, column]
            np.testing.assert_allclose(prices[1:] / prices[:-1], level[1:] / level.to_numpy()[:-1])
            np.testing.assert_allclose(panel["close"][:, column], frame["close"])
            np.testing.assert_allclose(panel["open"][:, column], frame["open"])
            np.testing.assert_allclose(panel["volume"][:, column], frame["volume"])
        assert not any("no adjusted close" in note for note in inspect_path(path).notes)

    @pytest.mark.parametrize("name", ["factor", "$factor", "adj_factor"])
    @pytest.mark.parametrize("quoted", ["as traded", "adjusted"])
    def test_a_factor(self, name: str, quoted: str, traded: dict, tmp_path: Path) -> None:
        frames = traded if quoted == "as traded" else self.adjusted(traded)
        frame = stacked(frames).rename(columns={"factor": name})
        if name == "$factor":
            frame = frame.rename(columns={"close": "$close", "open": "$open", "volume": "$volume"})
        frame.to_csv(tmp_path / "all.csv", index=False)
        self.check_returns(tmp_path / "all.csv", traded)
        assert any("the factor" in note for note in inspect_path(tmp_path / "all.csv").notes)

    @pytest.mark.parametrize("name", ["$factor", "adj_factor"])
    def test_a_factor_that_never_steps_is_read_by_its_name(
        self, name: str, traded: dict, tmp_path: Path
    ) -> None:
        plain = {t: bars(k).assign(factor=2.0) for k, t in enumerate(traded)}
        frames = plain if name == "adj_factor" else self.adjusted(plain)
        stacked(frames).rename(columns={"factor": name}).to_csv(tmp_path / "all.csv", index=False)
        self.check_returns(tmp_path / "all.csv", plain)

    def test_later_rows_do_not_move_earlier_ones(self, traded: dict, tmp_path: Path) -> None:
        for name, frames in (("all", traded), ("cut", {t: f[:30] for t, f in traded.items()})):
            frame = stacked(frames).rename(columns={"factor": "adj_factor"})
            frame.to_csv(tmp_path / f"{name}.csv", index=False)
        whole, cut = (load_panel(tmp_path / f"{name}.csv") for name in ("all", "cut"))
        np.testing.assert_array_equal(whole["adj_close"][:30], cut["adj_close"])

    def test_stocks_at_two_levels_are_refused(self, traded: dict, tmp_path: Path) -> None:
        twin = {f"{t}2": f for t, f in self.adjusted(traded).items()}
        stacked(traded | twin).to_csv(tmp_path / "all.csv", index=False)
        assert "steps with the factor and that of others does not" in refusal(tmp_path / "all.csv")

    def test_a_missing_factor_is_located(self, traded: dict, tmp_path: Path) -> None:
        traded["BBB"].iloc[3, 5] = np.nan
        stacked(traded).to_csv(tmp_path / "all.csv", index=False)
        assert f"the factor of BBB on {DAYS[3]:%Y-%m-%d}" in refusal(tmp_path / "all.csv")

    @pytest.mark.parametrize("flag", [1, 2, 3])
    def test_baostocks_flag(self, flag: int, traded: dict, tmp_path: Path) -> None:
        frame = stacked(self.adjusted(traded)).drop(columns="factor").assign(adjustflag=flag)
        frame.to_csv(tmp_path / "all.csv", index=False)
        notes = " ".join(inspect_path(tmp_path / "all.csv").notes)
        assert ("adjusted already (adjustflag" in notes) == (flag < 3)
        assert ("there is no adjusted close" in notes) == (flag == 3)
        frame.iloc[5, list(frame.columns).index("adjustflag")] = 1 if flag > 1 else 3
        frame.to_csv(tmp_path / "all.csv", index=False)
        assert "adjustflag is 1 and" in refusal(tmp_path / "all.csv")

    @pytest.mark.parametrize("quoted", ["as traded", "adjusted"])
    def test_yfinance_with_splits(self, quoted: str, traded: dict, tmp_path: Path) -> None:
        frames = traded if quoted == "as traded" else self.adjusted(traded)
        for ticker, frame in frames.items():
            splits = np.where((np.arange(40) == 20) & (ticker == "BBB"), 4.0, 0.0)
            frame = frame.drop(columns="factor").assign(Dividends=0.0, **{"Stock Splits": splits})
            frame.to_csv(tmp_path / f"{ticker}.csv")
        notes = " ".join(inspect_path(tmp_path).notes)
        assert ("taken as adjusted already" in notes) == (quoted == "adjusted")
        assert ("there is no adjusted close" in notes) == (quoted == "as traded")

    def test_jquants(self, traded: dict, tmp_path: Path) -> None:
        frame = stacked(traded).rename(columns={"ticker": "Code", "close": "Close"})
        frame["AdjustmentClose"] = frame["Close"] * frame["factor"]
        frame.drop(columns="factor").to_csv(tmp_path / "all.csv", index=False)
        self.check_returns(tmp_path / "all.csv", traded)


class TestUnitOfVolume:
    """Money traded beside close and volume tells what the volume counts."""

    def write(self, path: Path, lot: float, unit: float, name: str = "amount") -> Path:
        frames = {t: bars(k, start=10.0 + 70 * k) for k, t in enumerate(("AAA", "BBB", "CCC"))}
        for frame in frames.values():
            average = (frame["high"] + frame["low"]) / 2
            frame[name] = (average * frame["volume"] / unit).round(3)
            frame["volume"] = frame["volume"] / lot
        stacked(frames).to_csv(path, index=False)
        return path

    def volumes(self) -> np.ndarray:
        return np.column_stack([bars(k)["volume"] for k in range(3)])

    @pytest.mark.parametrize("name", ["amount", "成交额", "money", "TurnoverValue"])
    @pytest.mark.parametrize(
        ("lot", "unit"), [(1, 1), (1, 1e3), (1, 1e4), (1, 1e5), (1, 1e6), (100, 1), (100, 1e3)]
    )
    def test_lots_become_shares(self, name: str, lot: float, unit: float, tmp_path: Path) -> None:
        file = self.write(tmp_path / "all.csv", lot, unit, name)
        np.testing.assert_allclose(load_panel(file)["volume"], self.volumes(), rtol=1e-12)
        noted = any("lots of 100" in note for note in inspect_path(file).notes)
        assert noted == (lot == 100)

    def test_money_becomes_shares(self, tmp_path: Path) -> None:
        file = self.write(tmp_path / "all.csv", 1, 1)
        frame = pd.read_csv(file)
        frame["volume"] = frame["amount"]
        frame.to_csv(file, index=False)
        panel = load_panel(file)
        money = frame["amount"].to_numpy().reshape(3, 40).T
        np.testing.assert_allclose(panel["volume"] * panel["close"], money)
        assert any("volume is money" in note for note in inspect_path(file).notes)

    @pytest.mark.parametrize("price", [0.01, 10, 1000])
    def test_money_becomes_shares_at_any_price(self, price: float, tmp_path: Path) -> None:
        """At these prices money / (close x money) is a power of ten, as where volume is in lots."""
        frames = {t: bars(k).assign(close=price) for k, t in enumerate(("AAA", "BBB"))}
        for k, frame in enumerate(frames.values()):
            frame["close"] *= np.exp(np.random.default_rng(k).normal(0, 0.02, 40).cumsum())
            frame["volume"] = frame["amount"] = (frame["volume"] * price).round()
        frame = stacked(frames)[["date", "ticker", "close", "volume", "amount"]]
        frame.to_csv(tmp_path / "all.csv", index=False)
        panel = load_panel(tmp_path / "all.csv")
        money = np.column_stack([frame["amount"] for frame in frames.values()])
        np.testing.assert_allclose(panel["volume"] * panel["close"], money)

    @pytest.mark.parametrize(("lot", "unit"), [(100, 1e4), (0.01, 1)])
    def test_what_cannot_be_told_is_refused(self, lot: float, unit: float, tmp_path: Path) -> None:
        """Lots beside ten thousands look like prices in hundredths."""
        message = refusal(self.write(tmp_path / "all.csv", lot, unit))
        assert "the money traded of AAA is 1e-2 of close x volume" in message

    def test_one_stock_in_another_unit_is_named(self, tmp_path: Path) -> None:
        file = self.write(tmp_path / "all.csv", 1, 1)
        frame = pd.read_csv(file)
        frame.loc[frame["ticker"] == "BBB", "volume"] /= 100
        frame.to_csv(file, index=False)
        assert "the money traded of BBB is 1e2" in refusal(file)

    def test_a_column_of_another_kind_says_nothing(self, tmp_path: Path) -> None:
        file = self.write(tmp_path / "all.csv", 1, 1)
        frame = pd.read_csv(file)
        frame["amount"] = np.random.default_rng(0).uniform(1, 1e9, len(frame))
        frame.to_csv(file, index=False)
        np.testing.assert_array_equal(load_panel(file)["volume"], self.volumes())


# The same four stocks in the files of other vendors.
KEYS = {
    "as they are": ["000001.SZ", "000333.SZ", "600000.SH", "600036.SH"],
    "no exchange": ["000001", "000333", "600000", "600036"],
    "lost zeros": ["1", "333", "600000", "600036"],
    "decimals": ["1.0", "333.0", "600000.0", "600036.0"],
    "prefixes": ["sz000001", "sz000333", "sh600000", "sh600036"],
    "other suffixes": ["000001.XSHE", "000333.XSHE", "600000.XSHG", "600036.XSHG"],
    "lower case": ["000001.sz", "000333.sz", "600000.sh", "600036.sh"],
}


class TestJoins:
    """Valuations, sectors, members and fundamentals under other spellings of the same tickers."""

    TICKERS = ("000001.SZ", "000333.SZ", "600000.SH", "600036.SH")

    def folder(self, path: Path, keys: list[str], tickers: tuple[str, ...] = TICKERS) -> Path:
        frames = {ticker: bars(k) for k, ticker in enumerate(tickers)}
        stacked(frames).to_csv(path / "prices.csv", index=False)
        values = pd.DataFrame({"symbol": keys, "market_cap": [1e9, 2e9, 3e9, 4e9]})
        values.merge(pd.Series(DAYS, name="date"), how="cross").to_csv(
            path / "valuation_daily.csv", index=False
        )
        sectors = pd.DataFrame({"symbol": keys, "sector": ["Bank", "Tech", "Bank", "Bank"]})
        sectors.to_csv(path / "securities.csv", index=False)
        spells = pd.DataFrame({"symbol": keys, "start_date": DAYS[0], "end_date": DAYS[20]})
        spells.to_csv(path / "index_membership.csv", index=False)
        return path

    @pytest.mark.parametrize("spelling", KEYS)
    @pytest.mark.parametrize("bare", [False, True])
    def test_are_found_and_counted(self, spelling: str, bare: bool, tmp_path: Path) -> None:
        tickers = tuple(t.split(".")[0] for t in self.TICKERS) if bare else self.TICKERS
        path = self.folder(tmp_path, KEYS[spelling], tickers)
        panel = load_panel(path)
        np.testing.assert_array_equal(panel["market_cap"], np.tile([1e9, 2e9, 3e9, 4e9], (40, 1)))
        levels = panel.fields["sector"].levels[panel["sector"][0]]
        assert levels.tolist() == ["Bank", "Tech", "Bank", "Bank"]
        assert (panel["member"][:20] == 1).all()
        notes = inspect_path(path).notes
        for file in ("valuation_daily.csv", "securities.csv", "index_membership.csv"):
            assert any(f"{file} names 4 of 4 stocks" in note for note in notes)

    def test_nothing_in_common_is_refused(self, tmp_path: Path) -> None:
        path = self.folder(tmp_path, ["A", "B", "C", "D"])
        messages = [problem.message for problem in inspect_path(path).problems]
        assert len(messages) == 3
        assert all("names 0 of the 4 stocks with prices: it has 'A' where" in m for m in messages)

    def test_below_half_is_refused(self, tmp_path: Path) -> None:
        path = self.folder(tmp_path, ["000001.SZ", "B", "C", "D"])
        assert "names 1 of the 4 stocks" in refusal(path)

    def test_two_stocks_of_one_number_are_not_mixed_up(self) -> None:
        tickers = ["000001.SH", "000001.SZ", "600000.SH"]
        match = match_tickers(["1", "600000"], tickers, what="x.csv")
        assert match.ticker_of == {"600000": "600000.SH"}
        match = match_tickers(["1", "000001", "600000"], tickers[1:], what="x.csv")
        assert match.ticker_of == {"600000": "600000.SH"}

    def test_letters_keep_their_dots(self) -> None:
        tickers = ["AAPL", "BF.B", "BRK.A", "BRK.B", "T"]
        keys = ["AAPL US Equity", "NYSE:T", "BRK.B", "BRK.A.N", "BF.B"]
        found = match_tickers(keys, tickers, what="x.csv").ticker_of
        assert [found[key] for key in keys] == ["AAPL", "T", "BRK.B", "BRK.A", "BF.B"]

    def test_fundamentals(self) -> None:
        prices = pd.DataFrame({t: bars(k)["close"] for k, t in enumerate(self.TICKERS)})
        panel = panel_from_wide({"adj_close": prices})
        reports = pd.DataFrame(
            {"ticker": KEYS["lost zeros"], "available_date": DAYS[0], "eps": range(4)}
        )
        found = join_asof(panel, reports, ["eps"], max_age_days=400)["eps"]
        np.testing.assert_array_equal(found[1], [0, 1, 2, 3])
        with pytest.raises(DataError, match="names 0 of the 4 stocks"):
            join_asof(panel, reports.assign(ticker=list("ABCD")), ["eps"], max_age_days=400)


def market(n_assets: int = 8, n: int = 120, seed: int = 3) -> pd.DataFrame:
    """Prices of stocks that share a market, as dates x tickers, on weekdays."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (n, 1)) + rng.normal(0, 0.01, (n, n_assets))
    days = pd.bdate_range("2015-01-01", periods=n, name="date")
    names = [f"S{i}" for i in range(n_assets)]
    return pd.DataFrame(np.exp(np.cumsum(returns, axis=0)) * 50, days, names)


class TestIndexAmongStocks:
    def level(self, prices: pd.DataFrame) -> pd.Series:
        return prices.pct_change().mean(axis=1).fillna(0).add(1).cumprod() * 2000

    @pytest.mark.parametrize("name", ["^GSPC", ".SPX", "SPX", "DAX", "000300.SH", "399001.SZ"])
    @pytest.mark.parametrize("layout", ["wide", "a file per stock"])
    def test_becomes_the_market_index(self, name: str, layout: str, tmp_path: Path) -> None:
        prices = market()
        level = self.level(prices)
        table = prices.assign(**{name: level})
        if layout == "wide" or name.startswith("."):  # a file of that name would be hidden
            table.to_csv(tmp_path / "all.csv")
        else:
            for ticker in table.columns:
                table[[ticker]].set_axis(["Close"], axis=1).to_csv(tmp_path / f"{ticker}.csv")
        panel = load_panel(tmp_path)
        assert panel.asset_names.tolist() == list(prices.columns)
        np.testing.assert_allclose(panel["market_index"][:, 0], level)
        note = f"{name} is no stock but an index or a rate, by name, and cannot be held: left out"
        assert f"{note}; {name} is taken as the market index" in inspect_path(tmp_path).notes

    def test_rates_and_fear_are_left_out_and_no_index(self, tmp_path: Path) -> None:
        prices, rng = market(), np.random.default_rng(0)
        other = {n: np.exp(np.cumsum(rng.normal(0, 0.01, 120))) for n in ("EUR=", "EURUSD=X")}
        table = prices.assign(**other, **{"^VIX": 1 / self.level(prices)})
        table.to_csv(tmp_path / "all.csv")
        panel = load_panel(tmp_path / "all.csv")
        assert panel.asset_names.tolist() == list(prices.columns)
        assert "market_index" not in panel

    @pytest.mark.parametrize("name", ["DAX", "SPX", "MARKET", "SMI"])
    def test_a_stock_of_an_indexs_name_stays(self, name: str, tmp_path: Path) -> None:
        prices = market()
        own = np.exp(np.cumsum(np.random.default_rng(9).normal(0, 0.02, 120)))
        prices.assign(**{name: own}).to_csv(tmp_path / "all.csv")
        assert name in load_panel(tmp_path / "all.csv").asset_names

    def test_ordinary_tickers_stay(self, tmp_path: Path) -> None:
        names = ["BRK.B", "000001.SZ", "600000.SH", "BF.B", "A", "sz000001", "0700.HK", "X"]
        market().set_axis(names, axis=1).to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_assets == len(names)

    def test_an_index_file_goes_before(self, tmp_path: Path) -> None:
        prices = market()
        for ticker, column in prices.assign(**{"^GSPC": self.level(prices)}).items():
            column.rename("Close").to_csv(tmp_path / f"{ticker}.csv")
        (self.level(prices) / 2).rename("close").to_csv(tmp_path / "index.csv")
        pd.DataFrame({"symbol": prices.columns, "sector": "Tech"}).to_csv(tmp_path / "sectors.csv")
        panel = load_panel(tmp_path)
        assert panel.asset_names.tolist() == list(prices.columns)
        np.testing.assert_allclose(panel["market_index"][:, 0], self.level(prices) / 2)
        assert panel.fields["sector"].levels.tolist() == ["Tech"]


class TestSpacing:
    @pytest.mark.parametrize(
        ("rule", "words"),
        [("W-FRI", "a week apart"), ("ME", "a month apart"), ("QE", "a quarter apart")],
    )
    @pytest.mark.parametrize("layout", ["wide", "long", "a file per stock"])
    def test_not_daily_is_refused(self, rule: str, words: str, layout: str, tmp_path: Path) -> None:
        prices = market(n=900).resample(rule).last().rename_axis("date")
        if layout == "wide":
            prices.to_csv(tmp_path / "all.csv")
        elif layout == "long":
            rows = prices.melt(ignore_index=False, var_name="ticker", value_name="close")
            rows.to_csv(tmp_path / "all.csv")
        else:
            for ticker in prices.columns:
                prices[ticker].rename("Close").to_csv(tmp_path / f"{ticker}.csv")
        message = refusal(tmp_path)
        assert words in message
        assert "give daily prices" in message

    def test_weekdays_that_differ_between_stocks_are_still_weeks(self, tmp_path: Path) -> None:
        prices = market(n=400)
        apart = {t: prices[t].iloc[k % 5 :: 5] for k, t in enumerate(prices)}
        rows = [weekly.rename("close").to_frame().assign(ticker=t) for t, weekly in apart.items()]
        pd.concat(rows).to_csv(tmp_path / "all.csv")
        assert "a week apart" in refusal(tmp_path)

    def test_holidays_and_gaps_are_daily(self, tmp_path: Path) -> None:
        prices = market(n=400)
        prices = prices.drop(prices.index[100:160]).drop(prices.index[::23], errors="ignore")
        prices.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_observations == len(prices)

    def test_prices_carried_over_weekends_are_left_out(self, tmp_path: Path) -> None:
        prices = market(n=300).drop(pd.Timestamp("2015-05-25"))
        prices.asfreq("D").ffill().to_csv(tmp_path / "all.csv")
        panel = load_panel(tmp_path / "all.csv")
        np.testing.assert_array_equal(panel["adj_close"], prices)
        assert any("weekends and holidays" in n for n in inspect_path(tmp_path / "all.csv").notes)

    def test_a_market_that_never_closes_is_noted(self, tmp_path: Path) -> None:
        prices = market(n=300)
        prices.index = pd.date_range("2015-01-01", periods=300, name="date")
        prices.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_observations == 300
        assert any("prices move on weekends" in n for n in inspect_path(tmp_path / "all.csv").notes)

    def test_a_week_from_sunday_to_thursday_is_daily(self, tmp_path: Path) -> None:
        prices = market(n=300)
        days = pd.date_range("2015-01-01", periods=600)
        prices.index = days[~days.day_of_week.isin([4, 5])][:300]
        prices.to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_observations == 300
        assert not any("weekends" in note for note in inspect_path(tmp_path / "all.csv").notes)

    @pytest.mark.parametrize("layout", ["wide", "long"])
    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_intraday_is_refused_as_such(self, layout: str, ending: str, tmp_path: Path) -> None:
        prices = market(n=40)
        prices.index = pd.date_range("2015-01-05 09:30", periods=40, freq="h", name="date")
        if layout == "long":
            prices = prices.melt(ignore_index=False, var_name="ticker", value_name="close")
        file = tmp_path / f"all.{ending}"
        prices = prices.reset_index()
        prices.to_csv(file, index=False) if ending == "csv" else prices.to_parquet(file)
        message = refusal(file)
        assert "several rows a day (2015-01-05 09:30:00 and 2015-01-05 10:30:00)" in message


def test_downloads_of_investing_com(tmp_path: Path) -> None:
    for seed, name in enumerate(("AAPL", "MSFT")):
        frame = bars(seed)[::-1]
        lines = ['"Date","Price","Open","High","Low","Vol.","Change %"']
        lines += [
            f'"{day:%b %d, %Y}","{1000 + row.close:,.2f}","{1000 + row.open:,.2f}",'
            f'"{1000 + row.high:,.2f}","{1000 + row.low:,.2f}","{row.volume / 1e6:.2f}M","0.1%"'
            for day, row in zip(frame.index, frame.itertuples(), strict=True)
        ]
        (tmp_path / f"{name} Historical Data.csv").write_text("\n".join(lines), "utf-8-sig")
    panel = load_panel(tmp_path)
    assert panel.asset_names.tolist() == ["AAPL", "MSFT"]
    frames = [bars(0), bars(1)]
    expected = np.column_stack([frame["close"] + 1000 for frame in frames])
    np.testing.assert_allclose(panel["close"], expected, rtol=1e-12)
    volume = np.column_stack([(frame["volume"] / 1e6).round(2) * 1e6 for frame in frames])
    np.testing.assert_allclose(panel["volume"], volume)


def test_downloads_of_nasdaq_com(tmp_path: Path) -> None:
    for seed, name in enumerate(("AMZN", "MSFT")):
        lines = ["Date, Close/Last, Volume, Open, High, Low"]
        lines += [
            f"{day:%m/%d/%Y}, ${row.close}, {row.volume}, ${row.open}, ${row.high}, ${row.low}"
            for day, row in zip(bars(seed).index, bars(seed).itertuples(), strict=True)
        ]
        text_of(tmp_path / f"{name}.csv", lines)
    panel = load_panel(tmp_path)
    for field in ("open", "high", "low", "close", "volume"):
        expected = np.column_stack([bars(seed)[field] for seed in (0, 1)])
        np.testing.assert_array_equal(panel[field], expected)


class TestCountedDates:
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "Excel"])
    @pytest.mark.parametrize("layout", ["wide", "long"])
    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_are_read(self, unit: str, layout: str, ending: str, tmp_path: Path) -> None:
        prices = market(n=60)
        days = prices.index.to_numpy()
        if unit == "Excel":
            counts = (days - np.datetime64("1899-12-30")) // np.timedelta64(1, "D")
        else:
            counts = days.astype(f"datetime64[{unit}]").astype(np.int64)
        table = prices.set_axis(pd.Index(counts, name="timestamp"))
        if layout == "long":
            table = table.melt(ignore_index=False, var_name="ticker", value_name="close")
        file, table = tmp_path / f"all.{ending}", table.reset_index()
        table.to_csv(file, index=False) if ending == "csv" else table.to_parquet(file)
        panel = load_panel(file)
        assert (panel.observations.astype("M8[D]") == days.astype("M8[D]")).all()
        np.testing.assert_array_equal(panel["adj_close"], prices)

    @pytest.mark.parametrize("text", ["42009", "160418", "16-04-18", "01/02/2015", "soon"])
    def test_a_text_that_is_no_date_is_named(self, text: str, tmp_path: Path) -> None:
        lines = ["Date,A,B", *(f"{text},{k},{k + 1}" for k in range(1, 5))]
        assert f"row 2: date {text!r} c" in refusal(text_of(tmp_path / "all.csv", lines))

    def test_excels_days_on_weekends_are_of_another_base(self, tmp_path: Path) -> None:
        lines = ["Date,A,B", *(f"{42002 + k},{50 + k},{60 - k}" for k in range(9))]
        assert "row 2: date '42002' cannot be read" in refusal(text_of(tmp_path / "x.csv", lines))


@pytest.mark.parametrize("first", ["field", "ticker"])
def test_parquet_with_pairs_of_names(first: str, tmp_path: Path) -> None:
    frames = {name: bars(seed) for seed, name in enumerate(("AAPL", "BRK.B"))}
    table = pd.concat(frames, axis=1).rename(columns=str.title, level=1)
    table = table if first == "ticker" else table.swaplevel(axis=1)
    table.to_parquet(tmp_path / "all.parquet")
    panel = load_panel(tmp_path / "all.parquet")
    assert panel.asset_names.tolist() == ["AAPL", "BRK.B"]
    for field in ("open", "high", "low", "close", "volume"):
        expected = np.column_stack([frame[field] for frame in frames.values()])
        np.testing.assert_array_equal(panel[field], expected)


def test_one_stock_says_what_was_taken_for_its_close(tmp_path: Path) -> None:
    lines = ["date,PRICE,CLOSE,MSFT", "2015-01-01,5,6,7", "2015-01-02,6,5,8"]
    assert "column 'CLOSE' was taken for its close" in refusal(text_of(tmp_path / "w.csv", lines))


def test_crsp_prices_and_returns(tmp_path: Path) -> None:
    """A midpoint, a split with a dividend, a return that is a letter, and a loss on delisting."""
    rng = np.random.default_rng(4)
    returns = rng.normal(0, 0.02, (30, 3))
    prices = 50 * np.exp(np.cumsum(np.log1p(returns), axis=0))
    returns[12, 0] = 0.05
    prices[12:, 0] *= prices[11, 0] * 0.5 / prices[12, 0]  # 2:1, and the price says nothing else
    rows = []
    for k, permno in enumerate((10001, 10002, 10003)):
        for t in range(30 if k < 2 else 20):
            price = -prices[t, k] if (t, k) == (5, 1) else prices[t, k]
            ret = "C" if t == 0 else f"{returns[t, k]:.10f}"
            rows.append(f"{DAYS[t]:%Y%m%d},{permno},{price:.8f},{ret},")
    rows.append(f"{DAYS[20]:%Y%m%d},10003,0,,-0.6")
    file = text_of(tmp_path / "crsp.csv", ["DATE,PERMNO,PRC,RET,DLRET", *rows])
    panel = load_panel(file)
    np.testing.assert_allclose(panel["close"][5, 1], prices[5, 1], rtol=1e-8)
    adjusted = panel["adj_close"]
    grown = adjusted[1:] / adjusted[:-1] - 1
    np.testing.assert_allclose(grown[:, :2], returns[1:30, :2], atol=1e-8)
    np.testing.assert_allclose(grown[:19, 2], returns[1:20, 2], atol=1e-8)
    np.testing.assert_allclose(grown[19, 2], -0.6)
    notes = " ".join(inspect_path(file).notes)
    assert "1 negative price is a midpoint of bid and ask" in notes
    assert "adj_close is made of the returns" in notes


def test_advice_keeps_a_loss(tmp_path: Path) -> None:
    file = text_of(
        tmp_path / "all.csv", ["date,A,B", "2015-01-01,5,6", "2015-01-02,5.5,0", "2015-01-05,5,"]
    )
    message = refusal(file)
    assert "price of B on 2015-01-02" in message or "adj_close of B on 2015-01-02" in message
    assert "if the shares became worthless, write a ten-thousandth" in message


def test_returns_are_told_as_such(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(0, 0.01, (20, 2)), DAYS[:20], ["A", "B"])
    frame.to_csv(tmp_path / "all.csv")
    assert "as if they were returns" in refusal(tmp_path / "all.csv")


class TestNoPrices:
    """Tables of other numbers, in a file that says nothing of what it holds."""

    def tables(self) -> dict[str, pd.DataFrame]:
        prices, rng = market(n=120), np.random.default_rng(5)
        noise = np.exp(rng.normal(0, 0.4, prices.shape))
        for t in range(1, 120):
            noise[t] = noise[t - 1] ** 0.5 * noise[t] ** 0.8  # today's volume is like yesterday's
        returns = prices.pct_change().dropna()
        return {
            "volume": (noise * 1e6).round() + 0 * prices,
            "turnover": noise * 0.01 + 0 * prices,
            "gross returns": returns + 1,
            "absolute returns": returns.abs() + 0.005,
        }

    @pytest.mark.parametrize("kind", ["volume", "turnover", "gross returns", "absolute returns"])
    def test_are_refused(self, kind: str, tmp_path: Path) -> None:
        self.tables()[kind].to_csv(tmp_path / "all.csv")
        assert "as returns and volume are" in refusal(tmp_path / "all.csv")

    def test_are_noted_where_they_are_called_prices(self, tmp_path: Path) -> None:
        self.tables()["turnover"].to_csv(tmp_path / "adj_close.csv")
        assert load_panel(tmp_path / "adj_close.csv").n_assets == 8
        notes = inspect_path(tmp_path / "adj_close.csv").notes
        assert any("make sure that it holds prices" in note for note in notes)

    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("n", [60, 250])
    def test_prices_are_prices(self, seed: int, n: int, tmp_path: Path) -> None:
        market(n_assets=2 + seed, n=n, seed=seed).to_csv(tmp_path / "all.csv")
        assert load_panel(tmp_path / "all.csv").n_observations == n

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    @pytest.mark.parametrize("zone", ["Asia/Tokyo", "Europe/Berlin"])
    def test_midnights_of_another_zone(self, zone: str, ending: str, tmp_path: Path) -> None:
        prices = market(n=70)
        prices.index = prices.index.tz_localize(zone).tz_convert("UTC")
        rows = prices.melt(ignore_index=False, var_name="ticker", value_name="close")
        file, rows = tmp_path / f"all.{ending}", rows.reset_index()
        rows.to_csv(file, index=False) if ending == "csv" else rows.to_parquet(file)
        assert "midnights of another time zone in UTC" in refusal(file)
