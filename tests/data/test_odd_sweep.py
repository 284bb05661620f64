"""Odd tables that a generator makes: each is read to the last digit, or refused for a known reason.

One small market is written in a shape, a language, an encoding, a form of dates and of numbers, in
units and in a container that are drawn, so that every choice meets most of the others.
"""

from __future__ import annotations

import datetime as dt
import gzip
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.errors import DataError

N_TABLES, N_GROUPS, N_DAYS = 216, 8, 34

# Headers of the same table elsewhere: date, open, high, low, close, volume, ticker.
HEADERS = {
    "english": "Date,Open,High,Low,Close,Volume,Ticker",
    "capitals": "DATE,OPEN,HIGH,LOW,CLOSE,VOLUME,SYMBOL",
    "prices": "trade_date,open_price,high_price,low_price,close_price,vol,ts_code",
    "brackets": "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<TICKER>",
    "qlib": "datetime,$open,$high,$low,$close,$volume,instrument",
    "settle": "Date,Open,High,Low,Settle,Volume,Symbol",
    "letters": "t,o,h,l,c,v,symbol",
    "polish": "Data,Otwarcie,Najwyższy,Najniższy,Zamknięcie,Wolumen,Symbol",
    "polish, plain": "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen,Ticker",
    "german": "Datum,Eröffnung,Hoch,Tief,Schluss,Volumen,Symbol",
    "german, erster": "Datum,Erster,Hoch,Tief,Schlusskurs,Stücke,Kürzel",
    "french": "Date,Ouverture,Plus haut,Plus bas,Clôture,Volume,Symbole",
    "french, short": "Date,Ouv.,+Haut,+Bas,Dernier,Vol.,Code",
    "spanish": "Fecha,Apertura,Máximo,Mínimo,Cierre,Volumen,Símbolo",
    "portuguese": "Data,Abertura,Máxima,Mínima,Fechamento,Volume,Código",
    "italian": "Data,Apertura,Massimo,Minimo,Chiusura,Volume,Simbolo",
    "dutch": "Datum,Opening,Hoog,Laag,Slot,Volume,Symbool",
    "swedish": "Datum,Öppning,Högst,Lägst,Stängning,Volym,Symbol",
    "turkish": "Tarih,Açılış,Yüksek,Düşük,Kapanış,Hacim,Sembol",
    "russian": "Дата,Откр.,Макс.,Мин.,Цена,Объём,Тикер",
    "korean": "날짜,시가,고가,저가,종가,거래량,종목코드",
    "japanese": "日付,始値,高値,安値,終値,出来高,銘柄コード",
    "chinese": "日期,开盘,最高,最低,收盘,成交量,股票代码",
    "chinese, traditional": "日期,開盤價,最高價,最低價,收盤價,成交股數,證券代號",
}
ENCODINGS = {
    "polish": ("utf-8", "cp1250"),
    "german": ("utf-8-sig", "latin-1", "cp1252"),
    "dutch": ("utf-8", "latin-1"),
    "german, erster": ("utf-8", "latin-1"),
    "french": ("utf-8", "latin-1"),
    "spanish": ("utf-8", "latin-1"),
    "portuguese": ("utf-16", "latin-1"),
    "swedish": ("utf-8", "latin-1"),
    "turkish": ("utf-8", "cp1254"),
    "russian": ("utf-8", "cp1251"),
    "korean": ("utf-8", "cp949"),
    "japanese": ("utf-8", "cp932"),
    "chinese": ("utf-8", "gb18030", "gbk", "utf-16"),
    "chinese, traditional": ("utf-8", "big5"),
}
SHAPES = (
    *("a file a stock", "a file a stock with indicators", "long", "long by stock"),
    *("long with a counter", "wide", "a file a field", "three header rows"),
)
DATES: dict[str, Callable[[dt.date], str]] = {
    "iso": lambda d: f"{d:%Y-%m-%d}",
    "iso, slashes": lambda d: f"{d:%Y/%m/%d}",
    "iso, short": lambda d: f"{d.year}/{d.month}/{d.day}",
    "compact": lambda d: f"{d:%Y%m%d}",
    "dots": lambda d: f"{d:%d.%m.%Y}",
    "british": lambda d: f"{d:%d/%m/%Y}",
    "american": lambda d: f"{d.month}/{d.day}/{d.year}",
    "named": lambda d: f"{d:%b %d, %Y}",
    "named, day first": lambda d: f"{d:%d-%b-%Y}",
    "named, short": lambda d: f"{d:%d-%b-%y}",
    "midnight": lambda d: f"{d:%Y-%m-%d} 00:00:00",
    "zone": lambda d: f"{d:%Y-%m-%d}T00:00:00+09:00",
    "close of trading": lambda d: f"{d:%Y-%m-%d} 16:00:00",
    "american, midnight": lambda d: f"{d.month}/{d.day}/{d.year} 0:00",
    "seconds": lambda d: f"{(d - dt.date(1970, 1, 1)).days * 86400}",
    "milliseconds": lambda d: f"{(d - dt.date(1970, 1, 1)).days * 86_400_000}",
    "Excel": lambda d: f"{(d - dt.date(1899, 12, 30)).days}",
    "two digits": lambda d: f"{d:%d.%m.%y}",
    "chinese": lambda d: f"{d.year}年{d.month}月{d.day}日",
}
# Between cells, before decimals, between thousands.
MARKS = (
    *((",", ".", ""), (",", ".", ","), (";", ",", ""), (";", ",", "."), (";", ".", "")),
    *(("\t", ".", ""), ("\t", ",", "."), ("|", ".", ","), (";", ",", "\u00a0"), (";", ".", "'")),
    (",", ",", ""),
)
UNITS = (
    *("shares", "shares", "money in units", "money in thousands", "lots", "lots in thousands"),
    *("volume is money", "1.5M", "dollars", "no volume"),
)
MISSING = ("", "NA", "null", "-", "n/a", "#N/A", "NaN", "--")
LEVELS = ((0.05, 4), (1.2, 3), (50.0, 2), (50.0, 6), (730.0, 0), (5300.0, 2), (71000.0, 0))
CONTAINERS = ("csv", "csv", "csv", "txt", "csv.gz", "zip", "parquet")
NAMES = (
    *(("A", "BRK.B", "XOM"), ("000001", "000333", "600000"), ("1.HK", "5.HK", "700.HK")),
    *(
        ("NA", "NULL", "TRUE"),
        ("1E5", "2E5", "INF"),
        ("LOW", "OPEN", "T"),
        ("sh600000", "sz1", "x"),
    ),
)


@dataclass(frozen=True)
class Odd:
    """The choices of one table."""

    number: int
    shape: str
    language: str
    encoding: str
    date: str
    marks: tuple[str, str, str]
    units: str
    missing: str
    level: tuple[float, int]
    container: str
    names: tuple[str, ...]
    newest_first: bool
    banner: bool
    line_end: str

    @classmethod
    def drawn(cls, number: int) -> Odd:
        """A table by its number."""
        rng = np.random.default_rng([7, number])

        def one(of: Sequence) -> object:
            return of[int(rng.integers(len(of)))]

        language, date = list(HEADERS)[number % len(HEADERS)], one(list(DATES))
        encodings = ENCODINGS.get(language, ("utf-8", "utf-8-sig", "utf-16"))
        if date == "chinese":
            encodings = tuple(e for e in encodings if e.startswith(("utf", "gb", "big")))
        if (marks := one(MARKS))[2] == "\u00a0":
            encodings = ("utf-8",)
        return cls(
            number,
            one(SHAPES),
            language,
            one(encodings),
            date,
            marks,
            one(UNITS),
            one(MISSING),
            one(LEVELS),
            one(CONTAINERS),
            one(NAMES),
            bool(rng.random() < 0.3),
            bool(rng.random() < 0.15),
            one(("\n", "\n", "\r\n")),
        )


@cache
def market(odd: Odd) -> dict[str, pd.DataFrame]:
    """Bars and volume of three stocks on weekdays, rounded as written; some are missing."""
    rng = np.random.default_rng([11, odd.number])
    start, digits = odd.level
    frames = {}
    days = pd.bdate_range("2015-01-05", periods=N_DAYS + 2).delete([9, 27])
    for position, name in enumerate(odd.names):
        close = start * np.exp(np.cumsum(rng.normal(0, 0.02, N_DAYS)) + rng.uniform(0, 1.0))
        opened = close * np.exp(rng.normal(0, 0.008, N_DAYS))
        high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.006, N_DAYS)))
        low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.006, N_DAYS)))
        bars = {"open": opened, "high": high, "low": low, "close": close}
        frame = pd.DataFrame(bars, days).round(digits)
        frame["volume"] = rng.integers(1000, 90_000, N_DAYS) * 100
        frame["amount"] = ((frame["high"] + frame["low"]) / 2 * frame["volume"]).round(0)
        frame.iloc[3 + 10 * position + int(rng.integers(8)), :4] = np.nan
        frames[name] = frame
    return frames


def number_text(value: float, digits: int, odd: Odd) -> str:
    """A number as the table writes it."""
    if np.isnan(value):
        return odd.missing
    _, point, thousands = odd.marks
    text = f"{value:,.{digits}f}" if thousands else f"{value:.{digits}f}"
    return text.translate({ord(","): thousands, ord("."): point})


def columns_of(odd: Odd, frame: pd.DataFrame) -> dict[str, list[str]]:
    """The cells of one stock by field, as text in the table's units."""
    digits = odd.level[1]
    sign = "$" if odd.units == "dollars" else ""
    cells = {
        name: [
            number_text(v, digits, odd) if np.isnan(v) else sign + number_text(v, digits, odd)
            for v in frame[name]
        ]
        for name in ("open", "high", "low", "close")
    }
    volume, amount = frame["volume"].to_numpy(dtype=float), frame["amount"].to_numpy()
    if odd.units == "no volume":
        return cells
    if odd.units == "1.5M":
        return {**cells, "volume": [number_text(v / 1e6, 4, odd) + "M" for v in volume]}
    if odd.units == "volume is money":
        volume = amount
    if odd.units.startswith("lots"):
        volume = volume / 100
    told = odd.shape.startswith(("a file a stock", "long"))
    if not told:  # there is no room for the money traded, which tells the unit of volume
        volume = frame["volume"].to_numpy(dtype=float)
    cells["volume"] = [number_text(v, 0, odd) for v in volume]
    if told and odd.units not in ("shares", "dollars"):
        scale, places = (1e3, 3) if odd.units.endswith("thousands") else (1.0, 0)
        cells["amount"] = [number_text(v / scale, places, odd) for v in amount]
    return cells


def rows_text(odd: Odd, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows with a header as the text of a file, quoted where a cell holds the mark."""
    mark = odd.marks[0]
    lines = [
        mark.join(f'"{cell}"' if mark in cell else cell for cell in row) for row in (header, *rows)
    ]
    title = [f"Prices of {len(odd.names)} companies; made by hand"] if odd.banner else []
    return odd.line_end.join([*title, *lines, ""])


def write(odd: Odd, folder: Path) -> Path:
    """Write the market; the path to read."""
    frames, words = market(odd), HEADERS[odd.language].split(",")
    fields = ("open", "high", "low", "close", "volume")
    word_of = {"date": words[0], **dict(zip(fields, words[1:6], strict=True)), "ticker": words[6]}
    word_of["amount"] = "成交额" if odd.language == "chinese" else "amount"
    cells = {name: columns_of(odd, frame) for name, frame in frames.items()}
    days = [DATES[odd.date](day.date()) for day in next(iter(frames.values())).index]
    order = range(N_DAYS)[::-1] if odd.newest_first else range(N_DAYS)
    tables: dict[str, tuple[list[str], list[list[str]]]] = {}
    kept = list(next(iter(cells.values())))
    if odd.shape.startswith("a file a stock"):
        for name, own in cells.items():
            header = [word_of["date"], *(word_of[field] for field in kept)]
            rows = [[days[t], *(own[field][t] for field in kept)] for t in order]
            if odd.shape.endswith("indicators"):
                for n in range(2, 14):
                    mean = frames[name]["close"].rolling(n, min_periods=1).mean()
                    header.append(f"SMA_{n}")
                    for row, t in zip(rows, order, strict=True):
                        row.append(number_text(mean.iloc[t], odd.level[1], odd))
            tables[name] = header, rows
    elif odd.shape.startswith("long"):
        header = [word_of["date"], word_of["ticker"], *(word_of[field] for field in kept)]
        pairs = [(t, name) for t in order for name in cells]
        if odd.shape == "long by stock":
            pairs = [(t, name) for name in cells for t in order]
        rows = [[days[t], name, *(cells[name][f][t] for f in kept)] for t, name in pairs]
        if odd.shape == "long with a counter":
            header = ["", *header]
            rows = [[str(k), *row] for k, row in enumerate(rows)]
        tables["all"] = header, rows
    elif odd.shape == "three header rows":
        pairs = [(field, name) for field in fields if field in kept for name in cells]
        header = ["Price", *(field.title() for field, _ in pairs)]
        head = [["Ticker", *(name for _, name in pairs)], ["Date", *[""] * len(pairs)]]
        rows = [[days[t], *(cells[name][field][t] for field, name in pairs)] for t in order]
        tables["all"] = header, head + rows
    else:
        chosen = ("close",) if odd.shape == "wide" else fields
        for field in chosen:
            if field in kept:
                rows = [[days[t], *(own[field][t] for own in cells.values())] for t in order]
                tables["prices_of_all" if odd.shape == "wide" else field] = (
                    [word_of["date"], *cells],
                    rows,
                )
    for stem, (header, rows) in tables.items():
        pack(odd, folder / stem, header, rows)
    return folder


def pack(odd: Odd, path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Write one table in its container."""
    file = path.with_name(f"{path.name}.{odd.container}")
    if odd.container == "parquet":
        if odd.shape == "three header rows":
            pairs = zip(header[1:], rows[0][1:], strict=True)
            header, rows = ["Date", *(f"({n!r}, {t!r})" for n, t in pairs)], rows[2:]
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        pd.DataFrame(columns).to_parquet(file, index=False)
        return
    raw = rows_text(odd, header, rows).encode(odd.encoding)
    if odd.container == "csv.gz":
        file.write_bytes(gzip.compress(raw, 1))
    elif odd.container == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{path.name}.csv", raw)
    else:
        file.write_bytes(raw)


def misread(odd: Odd, path: Path) -> str:
    """What is not as it was written; empty if all is."""
    panel, frames = load_panel(path), market(odd)
    names = sorted(frames)
    if panel.asset_names.tolist() != names:
        return f"stocks {panel.asset_names.tolist()}"
    days = frames[names[0]].index.to_numpy().astype("M8[D]")
    if not np.array_equal(panel.observations.astype("M8[D]"), days):
        return f"dates {panel.observations[:3]}"
    source_of = {name: name for name in ("open", "high", "low", "close", "volume")}
    if odd.shape == "wide":
        source_of = {"adj_close": "close"}
    for field, source in source_of.items():
        expected = np.column_stack([frames[t][source] for t in names]).astype(float)
        tolerance = 0.0
        if field == "volume":
            if odd.units == "no volume":
                if field in panel:
                    return "a volume where none was written"
                continue
            told = odd.shape.startswith(("a file a stock", "long"))
            if odd.units == "volume is money" and told:  # money by the average is divided by close
                expected = np.where(np.isnan(panel["close"]), np.nan, expected)
                tolerance = 0.03
            tolerance = max(tolerance, {"1.5M": 1e-3, "shares": 0.0}.get(odd.units, 1e-12))
        if field not in panel:
            return f"no {field}"
        same = np.isclose(panel[field], expected, rtol=tolerance, atol=0, equal_nan=True)
        if not same.all():
            at = tuple(np.argwhere(~same)[0])
            return f"{field} {panel[field][at]} for {expected[at]}"
    return ""


# Why a table of the sweep may be refused; a number like 5.000, with nothing that tells, is either.
REASONS = ("can mean a thousand or a decimal", "can mean a decimal or thousands", "a return of")


@pytest.mark.parametrize("group", range(N_GROUPS))
def test_odd_tables_are_read_right_or_refused(group: int, tmp_path: Path) -> None:
    """216 tables in all, drawn anew by their numbers: none is read wrong in silence."""
    wrong, refused = [], []
    for number in range(group, N_TABLES, N_GROUPS):
        odd, folder = Odd.drawn(number), tmp_path / str(number)
        folder.mkdir()
        write(odd, folder)
        try:
            fault = misread(odd, folder)
        except DataError as error:
            refused.append(odd)
            fault = "" if any(reason in str(error) for reason in REASONS) else str(error)
        if fault:
            wrong.append(f"{fault}: {odd}")
    assert not wrong, "\n".join(wrong)
    assert len(refused) <= 0.4 * N_TABLES / N_GROUPS
    # Only numbers of three decimals, or of none between points, can be read in two ways.
    assert {odd.level[1] for odd in refused} <= {0, 3}


def test_every_choice_is_drawn() -> None:
    drawn = [Odd.drawn(number) for number in range(N_TABLES)]
    for name, choices in (
        *(("shape", SHAPES), ("language", HEADERS), ("date", DATES), ("marks", MARKS)),
        *(("units", UNITS), ("missing", MISSING), ("level", LEVELS), ("container", CONTAINERS)),
    ):
        counts = Counter(getattr(odd, name) for odd in drawn)
        assert set(counts) == set(choices)
        assert min(counts.values()) >= 3


def test_one_stock_in_any_language_is_one_stock(tmp_path: Path) -> None:
    for number, language in enumerate(HEADERS):
        odd = Odd.drawn(number)
        odd = replace(odd, language=language, shape="a file a stock", level=(50.0, 2))
        odd = replace(odd, names=("XOM",), container="csv", encoding="utf-8", units="shares")
        folder = tmp_path / str(number)
        folder.mkdir()
        write(odd, folder)
        report = inspect_path(folder / "XOM.csv")
        assert report.problems[0].message.startswith("there is 1 stock")
        bars = {"date", "open", "high", "low", "close", "volume"}
        assert {field for _, field in report.columns} >= bars
