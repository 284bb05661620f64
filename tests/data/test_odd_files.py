"""Files as people have them, in other languages, encodings and units: read rightly or refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import inspect_path, load_panel
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
