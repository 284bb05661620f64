"""Tables for people: no text of the data becomes a formula where a spreadsheet opens them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alphakeel as ak
from alphakeel.data.spreadsheets import write_csv
from alphakeel.storage.runs import save_run
from small_study import PRICES, study_of

FORMULAS = ("=cmd|' /C calc'!A0", "+A1", "-A1", "@SUM(A1)", "\t=A1", "-", "=")


def written(frame: pd.DataFrame, folder: Path, *, index: bool = False) -> pd.DataFrame:
    write_csv(frame, folder / "table.csv", index=index)
    header, *rows = cells_of(folder / "table.csv")
    return pd.DataFrame(rows, columns=header)


def cells_of(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.reader(text))


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_formulas_are_escaped_in_every_kind_of_text(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"ticker": pd.Series(FORMULAS, dtype=kind)})
    assert list(written(frame, tmp_path)["ticker"]) == [f"'{text}" for text in FORMULAS]
    assert list(frame["ticker"]) == [*FORMULAS], "the caller's table is as it was"


def test_no_part_of_a_text_becomes_a_cell_of_its_own(tmp_path: Path) -> None:
    texts = ["a\r=A1", "\r=A1", "a\n=A1", "a,=A1", 'a"=A1']
    found = written(pd.DataFrame({"x": texts}), tmp_path)
    assert list(found["x"]) == ["a =A1", "' =A1", "a\n=A1", "a,=A1", 'a"=A1']


def test_numbers_and_other_texts_are_left_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "number": [-1.5, np.nan, 3.0],
            "whole": [-1, 0, 1],
            "mixed": pd.Series([-2.5, "=A1", None], dtype=object),
            "text": ["a=b", "-0.25", "+1e-3"],
            "day": pd.to_datetime(["2020-01-01", "2020-01-02", None]),
        }
    )
    found = written(frame, tmp_path)
    assert list(found["number"]) == ["-1.5", "", "3.0"]
    assert list(found["whole"]) == ["-1", "0", "1"]
    assert list(found["mixed"]) == ["-2.5", "'=A1", ""]
    assert list(found["text"]) == ["a=b", "-0.25", "+1e-3"]
    assert list(found["day"]) == ["2020-01-01", "2020-01-02", ""]


def test_steps_of_the_attribution_keep_their_names(tmp_path: Path) -> None:
    steps = ["+ scores", "+ allocation", "+ overlay", "+ scores|x"]
    found = written(pd.DataFrame({"rung": steps}), tmp_path)
    assert list(found["rung"]) == [*steps[:3], "'+ scores|x"]


def test_headers_and_index_too(tmp_path: Path) -> None:
    index = pd.MultiIndex.from_tuples([("=a", -1), ("b", 2)], names=["@name", "n"])
    found = written(pd.DataFrame({"=x": [1, 2], "-3": [1, 2]}, index), tmp_path, index=True)
    assert list(found.columns) == ["'@name", "n", "'=x", "-3"]
    assert found.iloc[:, :2].to_numpy().tolist() == [["'=a", "-1"], ["b", "2"]]


def test_a_table_without_formulas_is_the_same_bytes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.25, -2.0], "b": ["x", None]}, pd.Index(["p", "q"], name="date"))
    write_csv(frame, tmp_path / "table.csv", index=True)
    frame.to_csv(tmp_path / "plain.csv")
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_every_table_of_a_run_with_such_tickers(tmp_path: Path) -> None:
    names = dict(zip(PRICES["ticker"].unique(), ("=cmd", "+A", "@B", "-C"), strict=False))
    prices = PRICES.assign(ticker=PRICES["ticker"].replace(names))
    gap = (prices["ticker"] == "=cmd") & (prices["date"] == prices["date"].unique()[200])
    fields = ["open", "high", "low", "close", "adj_close"]
    prices.loc[gap, [f for f in fields if f in prices]] = np.nan
    run = save_run(study_of(prices), tmp_path)
    assert "'=cmd" in set(pd.read_csv(run / "cleaning_ledger.csv")["ticker"])
    files = sorted(run.rglob("*.csv"))
    assert len(files) > 10
    steps = {"+ scores", "+ allocation", "+ overlay"}  # of the attribution, not of the data
    for file in files:
        texts = {cell for row in cells_of(file) for cell in row if cell.startswith(tuple("=+@-"))}
        assert all(is_number(cell) for cell in texts - steps), file.name


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_no_other_place_writes_csv() -> None:
    source = Path(ak.__file__).parent
    found = {p.name for p in source.rglob("*.py") if "to_csv(" in p.read_text(encoding="utf-8")}
    assert found == {"spreadsheets.py"}
