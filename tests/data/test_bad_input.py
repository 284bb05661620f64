"""Broken files, each of which is read rightly or refused with one clear sentence."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.errors import DataError

DAYS = ["2015-01-02", "2015-01-05", "2015-01-06", "2015-01-07"]
PRICES = {"AAPL": [100.0, 101.5, 99.25, 103.0], "MSFT": [40.0, 40.5, 41.0, 40.25]}
EXPECTED = np.array([PRICES["AAPL"], PRICES["MSFT"]]).T
HEADER = "date,ticker,adj_close,volume"


def good_lines() -> list[str]:
    rows = [
        f"{day},{ticker},{PRICES[ticker][t]},{1000 + t}"
        for t, day in enumerate(DAYS)
        for ticker in PRICES
    ]
    return [HEADER, *rows]


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def swap(old: str, new: str, times: int = -1) -> list[str]:
    text = "\n".join(good_lines())
    assert old in text
    return text.replace(old, new, times).split("\n")


def wrong_cell(field: str, value: str) -> list[str]:
    """The second line for AAPL (2015-01-05) with one cell replaced."""
    column = HEADER.split(",").index(field)
    lines = good_lines()
    cells = lines[3].split(",")
    cells[column] = value
    lines[3] = ",".join(cells)
    return lines


CELL = ("AAPL", "2015-01-05", "bad.csv")

# name: (what the file holds, words that the refusal must name)
REFUSED: dict[str, tuple[list[str] | bytes, tuple[str, ...]]] = {
    "nothing": (b"", ("bad.csv", "empty")),
    "only white space": (b" \n\n \n", ("bad.csv", "empty")),
    "one zero byte": (b"\0", ("bad.csv",)),
    "header only": ([HEADER], ("bad.csv", "no rows")),
    "no header": (good_lines()[1:], ("bad.csv", "no header", "2015-01-02")),
    "html": (
        ["<!DOCTYPE html><html><body>Too many requests</body></html>"],
        ("bad.csv", "HTML"),
    ),
    "json": (['{"date": ["2015-01-02"], "close": [1]}'], ("bad.csv", "JSON")),
    "zip": (b"PK\x03\x04\x14\0\0\0\x08\0 sheet", ("bad.csv", "not text")),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xfe\x80", ("bad.csv",)),
    "unknown columns": (["a,b,c", "1,2,3", "4,5,6"], ("bad.csv", "not understood")),
    "ragged, too many cells": (
        [*good_lines(), "2015-01-08,AAPL,104,1000,7"],
        ("row 10", "5 cells", "bad.csv"),
    ),
    "ragged, too few cells": ([*good_lines(), "2015-01-08,AAPL"], ("row 10", "2 cells")),
    "text in numbers": (
        wrong_cell("adj_close", "see note"),
        ("row 4", "'see note'", "adj_close", *CELL),
    ),
    "per cent in numbers": (wrong_cell("adj_close", "5%"), ("'5%'", "adj_close", *CELL)),
    "truth values in numbers": (wrong_cell("adj_close", "True"), ("'True'", *CELL)),
    "infinity": (wrong_cell("adj_close", "inf"), ("adj_close", "finite", *CELL)),
    "minus infinity in volume": (wrong_cell("volume", "-Infinity"), ("volume", *CELL)),
    "zero price": (wrong_cell("adj_close", "0"), ("adj_close", "positive", *CELL)),
    "negative price": (wrong_cell("adj_close", "-3.5"), ("adj_close", "-3.5", *CELL)),
    "huge price": (wrong_cell("adj_close", "1e30"), ("adj_close", "1e+30", *CELL)),
    "a move of 50,000 %": (wrong_cell("adj_close", "50000"), ("adj_close", "return", *CELL)),
    "a fall to nothing": (wrong_cell("adj_close", "1e-18"), ("adj_close", "return", *CELL)),
    "negative volume": (wrong_cell("volume", "-1"), ("volume", "negative", *CELL)),
    "a date twice": ([*good_lines(), "2015-01-05,AAPL,101.5,1001"], ("2 rows", *CELL)),
    "intraday rows": (
        swap("2015-01-05,MSFT", "2015-01-02 16:00,MSFT"),
        ("MSFT", "2 rows", "2015-01-02"),
    ),
    "a date in 1899": (swap("2015-01-02", "1899-12-31"), ("1899-12-31", "1900")),
    "a date in 2199": (swap("2015-01-07", "2199-01-01"), ("2199-01-01", "future")),
    "a day that does not exist": (wrong_cell("date", "2015-02-30"), ("row 4", "2015-02-30")),
    "no date": (wrong_cell("date", ""), ("row 4", "date is missing")),
    "a serial number for a date": (wrong_cell("date", "42009"), ("row 4", "'42009'")),
    "day and month in doubt": (
        ["date,ticker,adj_close", "01/02/2015,AAPL,1", "01/05/2015,MSFT,2"],
        ("row 2", "'01/02/2015'", "two different days"),
    ),
    "mixed time zones": (
        [
            line.replace("2015-01-05", "2015-01-05 00:00:00+09:00").replace(
                "2015-01-02", "2015-01-02 00:00:00-05:00"
            )
            for line in good_lines()[:5]
        ],
        ("time zone", "+09:00", "row 4"),
    ),
    "some times with a zone": (
        wrong_cell("date", "2015-01-05T00:00:00Z"),
        ("time zone", "row 4", "2015-01-05"),
    ),
    "a column twice": (
        [f"{line},{line.split(',')[-1]}" for line in good_lines()],
        ("'volume'", "twice"),
    ),
    "a column in two spellings": (
        [f"{line},{'Volume' if k == 0 else '1'}" for k, line in enumerate(good_lines())],
        ("volume", "Volume"),
    ),
    "one stock": ([line for line in good_lines() if "MSFT" not in line], ("1 stock",)),
    "one date": (good_lines()[:3], ("1 date",)),
    "all missing": (
        [
            ",".join([*line.split(",")[:2], "", ""]) if k else line
            for k, line in enumerate(good_lines())
        ],
        ("adj_close", "no value", "AAPL"),
    ),
    "no price ever moves": (
        [
            ",".join([*line.split(",")[:2], "5", "1"]) if k else line
            for k, line in enumerate(good_lines())
        ],
        ("no price ever changes", "AAPL"),
    ),
    "no ticker": (wrong_cell("ticker", " "), ("row 4", "ticker is missing")),
    "a ticker of 5,000 letters": (swap("MSFT", "M" * 5000), ("5000 characters", "MMMM...")),
    "markup in a ticker": (swap("MSFT", "<img src=x>"), ("markup", "<img src=x>")),
    "control characters in a ticker": (swap("MSFT", "MS\x1b[31mFT"), ("cannot be printed",)),
    "rows split otherwise than the header": (
        [line.replace(",", ";") if k else line for k, line in enumerate(good_lines())],
        ("1 cell", "4", "row 2"),
    ),
    "columns split by colons": ([line.replace(",", ":") for line in good_lines()], ("comma",)),
    "decimal commas between comma-separated cells": (
        [line.replace(".", ",") if "." in line else line for line in good_lines()],
        ("5 cells", "4"),
    ),
    "decimals in two ways": (
        [line.replace(",", ";").replace("99.25", "99,25") for line in good_lines()],
        ("two ways", "'99,25'"),
    ),
    "a thousand or a decimal": (
        ["date;ticker;adj_close"]
        + [f"{day};{ticker};1,{500 + t}" for t, day in enumerate(DAYS) for ticker in PRICES],
        ("thousand or a decimal", "'1,500'"),
    ),
    "several fields in wide columns": (
        ["date,AAPL_close,AAPL_volume", "2015-01-02,1,2", "2015-01-05,2,3"],
        ("AAPL_close", "stock and field"),
    ),
    "a stock's column twice": (
        ["date,AAPL,AAPL", "2015-01-02,1,2", "2015-01-05,2,3"],
        ("AAPL", "twice"),
    ),
    "returns in place of prices": (
        ["date,AAPL,MSFT", "2015-01-02,0.01,-0.02", "2015-01-05,0.03,0.01"],
        ("positive", "MSFT", "2015-01-02"),
    ),
    "utf-16 cut in half": ("\n".join(good_lines()).encode("utf-16")[:-1], ("not text",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_sentence(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    file = tmp_path / "bad.csv"
    file.write_bytes(content) if isinstance(content, bytes) else write(file, content)
    with pytest.raises(DataError) as caught:
        load_panel(file)
    message = str(caught.value)
    assert_one_sentence(message)
    for word in words:
        assert word in message, f"{word!r} is not named in: {message}"
    report = inspect_path(file)
    assert report.problems
    assert report.panel is None
    for problem in report.problems:
        assert_one_sentence(problem.message)


def assert_one_sentence(message: str) -> None:
    assert message.isprintable(), message
    assert message.endswith("."), message
    assert not message.endswith(".."), message
    assert ". " not in message, message
    assert 15 < len(message) < 400, message


def frame_csv(sep: str = ",", decimal: str = ".", **options: object) -> bytes:
    table = pd.DataFrame(PRICES, index=pd.Index(DAYS, name="Date")).reset_index()
    long = table.melt("Date", var_name="Symbol", value_name="Adj Close")
    return long.to_csv(index=False, sep=sep, decimal=decimal, **options).encode()


# name: what the file holds, in every case the prices above
READ: dict[str, Callable[[], bytes]] = {
    "as it should be": lambda: "\n".join(good_lines()).encode(),
    "shuffled rows": lambda: "\n".join([HEADER, *good_lines()[:0:-1]]).encode(),
    "windows line ends": lambda: "\r\n".join(good_lines()).encode(),
    "blank lines": lambda: "\n\n".join(good_lines()).encode(),
    "byte order mark": lambda: "\n".join(good_lines()).encode("utf-8-sig"),
    "utf-16": lambda: "\n".join(good_lines()).encode("utf-16"),
    "utf-16 without mark": lambda: "\n".join(good_lines()).encode("utf-16-le"),
    "latin-1": lambda: "\n".join(
        f"{line},{'name' if k == 0 else 'Société'}" for k, line in enumerate(good_lines())
    ).encode("latin-1"),
    "semicolons": lambda: frame_csv(";"),
    "tabs": lambda: frame_csv("\t"),
    "bars": lambda: frame_csv("|"),
    "decimal commas": lambda: frame_csv(";", ","),
    "decimal commas in quotes": lambda: frame_csv(",", ","),
    "quoted cells": lambda: frame_csv(quoting=1),
    "missing in all spellings": lambda: "\n".join(
        f"{line},{word}"
        for line, word in zip(
            good_lines(), ["PE", "", "NA", "null", "-", "NaN", "n/a", "None", "#N/A"], strict=True
        )
    ).encode(),
    "compact dates": lambda: "\n".join(good_lines()).replace("2015-01-", "201501").encode(),
    "day first": lambda: (
        "date,ticker,adj_close\n30/12/2014,AAPL,90\n30/12/2014,MSFT,39\n"
        + "\n".join(
            f"{day[8:]}/01/2015,{ticker},{PRICES[ticker][t]}"
            for t, day in enumerate(DAYS)
            for ticker in PRICES
        )
    ).encode(),
    "month first": lambda: (
        "date,ticker,adj_close\n12/30/2014,AAPL,90\n12/30/2014,MSFT,39\n"
        + "\n".join(
            f"01/{day[8:]}/2015,{ticker},{PRICES[ticker][t]}"
            for t, day in enumerate(DAYS)
            for ticker in PRICES
        )
    ).encode(),
    "new york with its summer time": lambda: (
        "date,ticker,adj_close\n"
        "2014-07-01 00:00:00-04:00,AAPL,90\n2014-07-01 00:00:00-04:00,MSFT,39\n"
        + "\n".join(
            f"{day} 00:00:00-05:00,{ticker},{PRICES[ticker][t]}"
            for t, day in enumerate(DAYS)
            for ticker in PRICES
        )
    ).encode(),
    "wide": lambda: pd.DataFrame(PRICES, index=DAYS).to_csv().encode(),
    "wide, newest first": lambda: pd.DataFrame(PRICES, index=DAYS)[::-1].to_csv().encode(),
    "wide with decimal commas": lambda: (
        pd.DataFrame(PRICES, index=DAYS).to_csv(sep=";", decimal=",").encode()
    ),
    "two header rows": lambda: (
        "Price,Adj Close,Adj Close,Volume,Volume\nTicker,AAPL,MSFT,AAPL,MSFT\nDate,,,,\n"
        + "\n".join(
            f"{day},{PRICES['AAPL'][t]},{PRICES['MSFT'][t]},1000,1000" for t, day in enumerate(DAYS)
        )
    ).encode(),
    "a holiday without prices": lambda: (
        pd.DataFrame(PRICES, index=DAYS).to_csv() + "2015-01-08,,\n"
    ).encode(),
    "an empty stock": lambda: pd.DataFrame({**PRICES, "ZZZ": ""}, index=DAYS).to_csv().encode(),
    "thousands": lambda: frame_csv().replace(b"100.0", b'"0,000,100.00"'),
}


@pytest.mark.parametrize("name", READ)
def test_read_rightly(name: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_bytes(READ[name]())
    panel = load_panel(file)
    assert panel.asset_names.tolist() == ["AAPL", "MSFT"]
    keep = np.isin(panel.observations, np.array(DAYS, dtype="datetime64[D]"))
    np.testing.assert_array_equal(panel["adj_close"][keep], EXPECTED)
    assert keep.sum() == len(DAYS)
    assert not inspect_path(file).problems


def test_choices_are_noted(tmp_path: Path) -> None:
    def notes(name: str) -> str:
        file = tmp_path / "odd.csv"
        file.write_bytes(READ[name]())
        return " ".join(inspect_path(file).notes)

    assert "sorted by date" in notes("shuffled rows")
    assert "Latin-1" in notes("latin-1")
    assert "decimal comma" in notes("decimal commas")
    assert "adjusted" in notes("wide")
    assert "2015-01-08" in notes("a holiday without prices")
    assert "ZZZ" in notes("an empty stock")


def test_a_constant_price_is_a_note(tmp_path: Path) -> None:
    file = write(
        tmp_path / "flat.csv",
        ["date,AAPL,FLAT", *(f"{day},{PRICES['AAPL'][t]},7" for t, day in enumerate(DAYS))],
    )
    assert any("FLAT never changes" in note for note in inspect_path(file).notes)
    assert load_panel(file).n_assets == 2


def test_every_problem_is_listed(tmp_path: Path) -> None:
    lines = wrong_cell("adj_close", "-3")
    lines[8] = lines[8].replace(str(PRICES["MSFT"][3]), "0")
    file = write(tmp_path / "bad.csv", lines)
    found = {(p.ticker, p.date, p.field) for p in inspect_path(file).problems}
    assert found == {
        ("AAPL", "2015-01-05", "adj_close"),
        ("MSFT", "2015-01-07", "adj_close"),
    }
    with pytest.raises(DataError, match=r"1 more: run `alphakeel check .*bad.csv`\)\.$"):
        load_panel(file)


def test_a_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    for ticker, prices in PRICES.items():
        pairs = zip(DAYS, prices, strict=True)
        write(tmp_path / f"{ticker}.csv", ["Date,Close", *(f"{day},{p}" for day, p in pairs)])
    write(tmp_path / "TSLA.csv", ["<html>429 Too Many Requests</html>"])
    write(tmp_path / "XOM.csv", ["Date,Close", "2015-01-02,abc"])
    messages = [problem.message for problem in inspect_path(tmp_path).problems]
    assert any("TSLA.csv" in message for message in messages)
    assert any("XOM" in message and "'abc'" in message for message in messages)


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "lz4": lambda data: pa.compress(data, codec="lz4", asbytes=True),
}


@pytest.mark.parametrize("name", ["prices.csv", "prices.csv.gz", "prices.parquet"])
@pytest.mark.parametrize("kind", PACKED)
def test_compressed_files_are_named(kind: str, name: str, tmp_path: Path) -> None:
    name = "prices.gz" if (kind, name) == ("gzip", "prices.csv.gz") else name
    file = tmp_path / name
    file.write_bytes(PACKED[kind]("\n".join(good_lines()).encode()))
    with pytest.raises(DataError, match=rf"^{name} is compressed \({kind}\).*unpack it\.$"):
        load_panel(file)


def test_a_folder_of_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "prices.csv.bz2").write_bytes(bz2.compress(b"date"))
    with pytest.raises(DataError, match=r"no CSV or Parquet file; prices\.csv\.bz2 is compressed"):
        load_panel(tmp_path)


@pytest.mark.parametrize("name", ["prices.csv.gz", "all.txt.gz", "ALL.CSV.GZ"])
def test_text_in_gzip_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress("\n".join(good_lines()).encode()))
    for path in (tmp_path, tmp_path / name):
        np.testing.assert_array_equal(load_panel(path)["adj_close"], EXPECTED)


def test_stocks_in_gzip_keep_their_names(tmp_path: Path) -> None:
    for ticker, prices in PRICES.items():
        lines = ["Date,Close", *(f"{d},{p}" for d, p in zip(DAYS, prices, strict=True))]
        (tmp_path / f"{ticker}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert load_panel(tmp_path).asset_names.tolist() == list(PRICES)


def test_a_gzip_bomb_is_refused_early(tmp_path: Path) -> None:
    packed = gzip.compress(b"date,A,B\n" + b"0" * 10_000_000) * 30
    (tmp_path / "prices.csv.gz").write_bytes(packed)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"prices\.csv\.gz unpacks to more than 60 times"):
        load_panel(tmp_path / "prices.csv.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join(good_lines()).encode())
    (tmp_path / "prices.csv.gz").write_bytes(packed[:-12])
    with pytest.raises(DataError, match=r"prices\.csv\.gz is damaged gzip"):
        load_panel(tmp_path / "prices.csv.gz")


@pytest.mark.parametrize("repeated_in", ["dictionary", "zstd"])
def test_a_parquet_bomb_is_refused_unread(
    repeated_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, n = tmp_path / "prices.parquet", 35_000_000
    prices = pa.table({"adj_close": pa.repeat(1.0, n)})
    pq.write_table(
        prices,
        file,
        compression="zstd",
        use_dictionary=repeated_in == "dictionary",
        row_group_size=n,
    )
    assert file.stat().st_size < 300_000
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"prices\.parquet unpacks from .* 200 times its size"):
        load_panel(file)


def test_a_column_that_never_changes_is_no_bomb(tmp_path: Path) -> None:
    frame = pd.DataFrame({"date": DAYS, "A": PRICES["AAPL"], "B": PRICES["MSFT"]})
    long = frame.melt("date", var_name="ticker", value_name="adj_close")
    long = long.assign(**{f"note {i}": "the same" for i in range(200)})
    long.to_parquet(tmp_path / "prices.parquet", index=False, compression="zstd")
    assert load_panel(tmp_path / "prices.parquet")["adj_close"].shape == (4, 2)


def test_parquet_that_is_none(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.parquet", good_lines())
    with pytest.raises(DataError, match=r"bad\.parquet"):
        load_panel(file)
    whole = tmp_path / "whole.parquet"
    pd.DataFrame(PRICES, index=pd.to_datetime(DAYS)).to_parquet(whole)
    file.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"bad\.parquet"):
        load_panel(file)


PARQUET = {
    "nested prices": ({"close": [[1.0, 2.0]] * 4}, "column 'close' holds list"),
    "nested tickers": ({"ticker": [["A"]] * 4}, "holds list"),
    "nested dates": ({"date": [{"y": 2015}] * 4}, "holds struct"),
    "text in numbers": ({"close": ["1", "2", "3", "x"]}, "row 4: close of B on 2015-01-05 is 'x'"),
    "truth values": ({"close": [True, False, True, True]}, "row 1: close of A .* 'True'"),
    "dates for prices": ({"close": pd.to_datetime(["2015-01-02"] * 4)}, "column 'close' holds"),
    "a number for dates": ({"date": [14201568001] * 4}, "row 1: date .14201568001. cannot be"),
    "no dates": ({"date": [None] * 4}, "row 1: date is missing"),
    "no tickers": ({"ticker": [None] * 4}, "row 1: ticker is missing"),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_of_wrong_types(name: str, tmp_path: Path) -> None:
    columns, words = PARQUET[name]
    file = tmp_path / "bad.parquet"
    days = ["2015-01-02", "2015-01-02", "2015-01-05", "2015-01-05"]
    good = {"date": days, "ticker": ["A", "B"] * 2, "close": [1.0, 2.0, 3.0, 4.0]}
    pd.DataFrame({**good, **columns}).to_parquet(file)
    with pytest.raises(DataError, match=words) as caught:
        load_panel(file)
    assert_one_sentence(str(caught.value).split(" (and ")[0].rstrip(".") + ".")


def test_text_in_a_wide_parquet(tmp_path: Path) -> None:
    file = tmp_path / "bad.parquet"
    pd.DataFrame({"date": DAYS[:2], "A": ["1", "2"], "B": ["1,5", "1,25"]}).to_parquet(file)
    np.testing.assert_array_equal(load_panel(file)["adj_close"], [[1, 1.5], [2, 1.25]])


PIECES = [
    b",",
    b";",
    b"\n",
    b'"',
    b"-",
    b".",
    b"1e999",
    b"nan",
    b"\xff",
    b"\0",
    b"<",
    b"date",
    b"\r",
]


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_is_read_or_refused(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(READ[list(READ)[seed % len(READ)]]())
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(content) + 1))
        if rng.random() < 0.5:
            content[at : at + int(rng.integers(0, 3))] = PIECES[rng.integers(len(PIECES))]
        else:
            del content[at : at + int(rng.integers(1, 20))]
    file = tmp_path / "damaged.csv"
    file.write_bytes(content)
    report = inspect_path(file)
    if report.problems:
        with pytest.raises(DataError) as caught:
            load_panel(file)
        assert str(caught.value).isprintable()
        assert str(caught.value).endswith(".")
    else:
        panel = load_panel(file)
        assert (panel["adj_close"][panel.estimation_mask] > 0).all()


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "missing.csv"):
        with pytest.raises(DataError, match="missing"):
            load_panel(path)
        with pytest.raises(DataError, match="missing"):
            inspect_path(path)
    with pytest.raises(DataError, match="no CSV or Parquet"):
        load_panel(tmp_path)
    (tmp_path / "readme.md").write_text("hello", encoding="utf-8")
    with pytest.raises(DataError, match="no CSV or Parquet"):
        load_panel(tmp_path)


def test_files_of_two_kinds(tmp_path: Path) -> None:
    write(tmp_path / "AAPL.csv", ["Date,Close", *(f"{day},5" for day in DAYS)])
    write(tmp_path / "all.csv", good_lines())
    with pytest.raises(DataError, match=r"AAPL\.csv.*all\.csv"):
        load_panel(tmp_path)


@pytest.mark.parametrize("name", ["html", "zero price", "markup in a ticker", "nothing"])
def test_command_line_exits_with_2(name: str, tmp_path: Path) -> None:
    cli = pytest.importorskip("alphakeel.cli")
    content, _ = REFUSED[name]
    file = tmp_path / "bad.csv"
    file.write_bytes(content) if isinstance(content, bytes) else write(file, content)
    result = CliRunner().invoke(cli.app, ["check", str(file)])
    assert result.exit_code == 2, result.output
