"""`alphakeel fetch` from a folder on this machine, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from alphakeel.cli import app
from alphakeel.data.store import DataStore

DAYS = pd.bdate_range("2015-01-01", "2015-03-31")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "stooq"
    place.mkdir()
    head = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    for number, ticker in enumerate(("AAA.US", "BBB.US", "CCC.US")):
        close = 10 + number + np.sin(np.arange(len(DAYS)))
        rows = [f"{ticker},D,{d:%Y%m%d},000000,{c},{c + 1},{c - 1},{c},100,0"
                for d, c in zip(DAYS, close, strict=True)]  # fmt: skip
        (place / f"{ticker.lower()}.txt").write_text("\n".join([head, *rows]))
    return place


def fetch(folder: Path, store: Path, *more: str):
    words = ["fetch", "stooq", "--folder", str(folder), "--out", str(store), *more]
    return CliRunner().invoke(app, words)


ALL = ("--universe", "all", "--start", "2015-01-01", "--end", "2015-02-27")


def test_a_fetch_fills_a_store_that_check_and_update_read(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = fetch(folder, store, *ALL)
    assert result.exit_code == 0, result.output
    assert "126 bars" in result.output
    assert "the last day is 2015-02-27" in result.output
    checked = CliRunner().invoke(app, ["check", str(store)])
    assert checked.exit_code == 0, checked.output
    assert "store" in checked.output
    result = fetch(folder, store, "--update", "--end", "2015-03-31", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["added"]["bars"] == 3 * 22
    assert report["last_day"] == "2015-03-31"
    assert DataStore(store).verify() == []


def test_a_fetch_says_what_is_doubtful_in_what_it_brought(folder: Path, tmp_path: Path) -> None:
    file = folder / "bbb.us.txt"
    lines = file.read_text().splitlines()
    for day in ("20150129", "20150312"):
        row = next(i for i, line in enumerate(lines) if f",{day}," in line)
        words = lines[row].split(",")
        words[4:8] = [str(3 * float(price)) for price in words[4:8]]
        lines[row] = ",".join(words)
    file.write_text("\n".join(lines))
    first = fetch(folder, tmp_path / "store", *ALL)
    assert first.exit_code == 0, first.output
    assert "bad tick" in first.output
    later = fetch(folder, tmp_path / "store", "--update", "--end", "2015-03-31", "--json")
    report = json.loads(later.output)
    told = [(f["ticker"], f["date"]) for f in report["findings"] if f["kind"] == "bad tick"]
    assert told == [("BBB.US", "2015-03-12")], "that of January was told before"
    assert report["finding_counts"]["bad tick"] == 1


def test_something_missing_is_a_table_and_exit_2(folder: Path, tmp_path: Path) -> None:
    (folder / "bbb.us.txt").write_text("Exceeded the daily hits limit")
    store = tmp_path / "store"
    result = fetch(folder, store, *ALL)
    assert result.exit_code == 2
    assert "BBB.US" in result.output
    assert "blocked" in result.output
    assert "CCC.US         bars          not asked" in result.output
    assert "2 of the answers of stooq are missing" in result.output
    assert "nothing was stored" in result.output
    assert not DataStore(store).parts
    partial = fetch(folder, store, *ALL, "--allow-partial")
    assert partial.exit_code == 0, partial.output
    assert "2 answers are missing, and were accepted" in partial.output
    assert [m["ticker"] for m in DataStore(store).requests["stooq"]["missing"]] == [
        "BBB.US",
        "CCC.US",
    ]


def test_a_failed_update_leaves_the_store_and_states_its_age(folder: Path, tmp_path) -> None:
    store = tmp_path / "store"
    assert fetch(folder, store, *ALL).exit_code == 0
    before = {file: file.read_bytes() for file in store.rglob("*.parquet")}
    (folder / "aaa.us.txt").write_text("<html>We have moved</html>")
    result = fetch(folder, store, "--update", "--end", "2015-03-31")
    assert result.exit_code == 2
    assert "the store still holds everything up to 2015-02-27 (" in result.output
    assert {file: file.read_bytes() for file in store.rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fetch", "nasdaq", "--universe", "x", "--start", "2015-01-01"], "is no source"),
        (["fetch", "edgar", "--universe", "A,B", "--start", "2015-01-01"], "--contact"),
        (["fetch", "qlib", "--universe", "all", "--start", "2015-01-01"], "--folder"),
        (["fetch", "yahoo", "--start", "2015-01-01"], "--universe"),
        (["fetch", "yahoo", "--universe", "A,B"], "--start"),
        (["fetch", "yahoo", "--universe", "A,B", "--start", "soon"], "2005-01-31"),
        (["fetch", "yahoo", "--update", "--start", "2015-01-01"], "--update repeats"),
        (["fetch", "yahoo", "--update"], "there is no store at"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, text: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


def test_a_store_of_another_source_or_place_is_named(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert fetch(folder, store, *ALL).exit_code == 0
    moved = store.rename(tmp_path / "moved")
    words = ["fetch", "yahoo", "--update", "--out", str(moved)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "was not fetched from yahoo but from stooq" in " ".join(result.output.split())
    lost = fetch(folder, store, "--update")
    assert lost.exit_code == 2
    assert "there is no store at" in lost.output
    assert fetch(folder, moved, "--update", "--end", "2015-02-27").exit_code == 0


def test_a_universe_without_a_stock_is_refused(folder: Path, tmp_path: Path) -> None:
    for name, text in (("store", "holds no stock"), (",", "names no ticker")):
        result = fetch(folder, tmp_path / "store", "--universe", name, *ALL[2:])
        assert result.exit_code == 2, result.output
        assert text in result.output


def test_a_part_of_a_store_leads_to_the_store(folder: Path, tmp_path: Path) -> None:
    assert fetch(folder, tmp_path / "store", *ALL).exit_code == 0
    result = CliRunner().invoke(app, ["run", "--data", str(tmp_path / "store" / "bars")])
    assert result.exit_code == 2
    assert "it is a part of a store" in " ".join(result.output.split())


def test_where_no_store_can_be_is_said(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("date")
    locked = tmp_path / "locked"
    (locked / ".lock").mkdir(parents=True)  # as good as no right to write it
    for place, text in ((file, "it is a file"), (file / "store", "no store can be made at"),
                        (locked, "cannot be written")):  # fmt: skip
        result = fetch(folder, place, *ALL)
        assert result.exit_code == 2, result.output
        assert text in " ".join(result.output.split())


def test_what_a_source_does_not_offer_is_said(folder: Path, tmp_path: Path) -> None:
    result = fetch(folder, tmp_path / "store", *ALL, "--what", "fundamentals")
    assert result.exit_code == 2
    assert "stooq does not offer fundamentals" in result.output
