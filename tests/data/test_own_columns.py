"""Columns of no known name: kept as fields where they are asked for, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.data.own_columns import own_fields
from alphakeel.data.panel import panel_from_long, panel_from_wide, panel_to_long, panel_to_wide
from alphakeel.data.store import DataStore
from alphakeel.errors import ConfigError, DataError
from alphakeel.provenance import hash_panel

DAYS = pd.bdate_range("2015-01-01", periods=30, name="date")
TICKERS = ["AAA", "BBB", "CCC"]


def prices() -> pd.DataFrame:
    walk = np.random.default_rng(0).normal(0, 0.01, (30, 3)).cumsum(axis=0)
    return pd.DataFrame(50 * np.exp(walk), DAYS, TICKERS).round(4)


def interest() -> pd.DataFrame:
    """Dates down, stocks across, some unknown: never before the tenth day of the last stock."""
    values = np.random.default_rng(1).uniform(0.5, 2500.0, (30, 3)).round(4)
    values[4, 0] = values[:10, 2] = np.nan
    return pd.DataFrame(values, DAYS, TICKERS)


def long_table(name: str = "Short Interest", volume: bool = True) -> pd.DataFrame:
    fields = {"close": prices(), name: interest()}
    if volume:
        fields["volume"] = prices().round(0) * 1000
    parts = {n: f.rename_axis(columns="ticker").stack(future_stack=True) for n, f in fields.items()}
    return pd.DataFrame(parts).reset_index()


def as_csv(folder: Path) -> Path:
    long_table().to_csv(folder / "p.csv", index=False)
    return folder / "p.csv"


def with_decimal_comma(folder: Path) -> Path:
    table = long_table().rename(columns={"Short Interest": "SHORT_INTEREST"})
    table["SHORT_INTEREST"] = [
        "" if np.isnan(x) else f"{x:,.4f}".translate(str.maketrans(",.", ".,"))
        for x in table["SHORT_INTEREST"]
    ]
    table.to_csv(folder / "p.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    return folder / "p.csv"


def in_percent(folder: Path) -> Path:
    table = long_table()
    table["Short Interest"] = [
        "n/a" if np.isnan(x) else f"{100 * x:.2f} %" for x in table["Short Interest"]
    ]
    table.to_csv(folder / "p.tsv", index=False, sep="\t")
    return folder / "p.tsv"


def as_parquet(folder: Path) -> Path:
    long_table("shortInterest").to_parquet(folder / "p.parquet")
    return folder / "p.parquet"


def as_workbook(folder: Path) -> Path:
    pytest.importorskip("openpyxl")
    long_table().to_excel(folder / "p.xlsx", index=False)
    return folder / "p.xlsx"


def per_stock(folder: Path) -> Path:
    for ticker, rows in long_table().groupby("ticker"):
        kept = rows.drop(columns="ticker").dropna(axis=1, how="all")
        kept.to_csv(folder / f"{ticker}.csv", index=False)
    return folder


def wide_files(folder: Path) -> Path:
    prices().to_csv(folder / "adj_close.csv")
    interest()[["CCC", "AAA", "BBB"]].to_csv(folder / "Short Interest.csv")
    return folder


def two_header_rows(folder: Path) -> Path:
    blocks = pd.concat({"Close": prices(), "Short Interest": interest()}, axis=1)
    lines = [",".join(["Price", *blocks.columns.get_level_values(0)])]
    lines += [",".join(["Ticker", *blocks.columns.get_level_values(1)]), "Date" + 6 * ","]
    text = "\n".join(lines) + "\n" + blocks.to_csv(header=False)
    (folder / "p.csv").write_text(text)
    return folder / "p.csv"


def pairs_in_parquet(folder: Path) -> Path:
    pd.concat({"Close": prices(), "Short Interest": interest()}, axis=1).to_parquet(
        folder / "p.parquet"
    )
    return folder / "p.parquet"


def our_folder(folder: Path) -> Path:
    table = long_table()
    table.drop(columns="Short Interest").to_csv(folder / "prices.csv", index=False)
    beside = table[["date", "ticker", "Short Interest"]].rename(columns={"ticker": "symbol"})
    beside.assign(note="x").to_parquet(folder / "signals.parquet")
    return folder


def our_folder_wide(folder: Path) -> Path:
    our_folder(folder)
    (folder / "signals.parquet").unlink()
    interest().to_csv(folder / "short_interest.csv")
    return folder


def with_valuations(folder: Path) -> Path:
    our_folder(folder)
    (folder / "signals.parquet").rename(folder / "valuation_daily.parquet")
    return folder


def long_files(folder: Path) -> Path:
    our_folder(folder)
    (folder / "prices.csv").rename(folder / "closes.csv")
    return folder


def in_a_store(folder: Path) -> Path:
    bars = long_table()[["date", "ticker", "close", "volume"]]
    with DataStore(folder).writer() as writer:
        writer.append("bars", bars, source="by hand", adjustment="raw")
        writer.commit()
    interest().to_csv(folder / "short_interest.csv")
    return folder


LAYOUTS = [
    *(as_csv, with_decimal_comma, in_percent, as_parquet, as_workbook, per_stock, wide_files),
    *(two_header_rows, pairs_in_parquet, our_folder, our_folder_wide, with_valuations, long_files),
    in_a_store,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_values_from_every_layout(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    source = layout(tmp_path)
    panel = load_panel(source, columns=["Short  interest"])
    tolerance = 1e-15 if layout is in_percent else 0.0
    np.testing.assert_allclose(
        panel["short_interest"], interest().to_numpy(), rtol=tolerance, atol=0
    )
    report = inspect_path(source, columns=["short_interest"])
    assert report.problems == ()
    assert "known on 88% of stock-days, for 3 of 3 stocks" in "; ".join(report.notes)


def test_a_field_of_another_name(tmp_path: Path) -> None:
    long_table("融资余额").to_csv(tmp_path / "p.csv", index=False, encoding="gb18030")
    panel = load_panel(tmp_path / "p.csv", columns=["Margin Debt = 融资余额"])
    np.testing.assert_array_equal(panel["margin_debt"], interest().to_numpy())


@pytest.mark.parametrize("layout", [as_csv, per_stock, two_header_rows, our_folder])
def test_without_the_setting_nothing_is_kept(
    layout: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = layout(tmp_path)
    plain, kept = load_panel(source), load_panel(source, columns=["short_interest"])
    assert "short_interest" not in plain
    del kept.fields["short_interest"]
    assert hash_panel(kept) == hash_panel(plain)


def test_check_says_which_unused_columns_hold_numbers(tmp_path: Path) -> None:
    table = long_table().assign(note="x", ESG="3 %")
    table.to_csv(tmp_path / "p.csv", index=False)
    notes = inspect_path(tmp_path / "p.csv").notes
    assert "columns not used: Short Interest, note, ESG" in notes
    (told,) = (note for note in notes if "data.columns" in note)
    assert told.startswith("Short Interest, ESG hold numbers: add them to data.columns")
    assert any(
        "Short Interest holds numbers" in n for n in inspect_path(two_header_rows(tmp_path)).notes
    )


def test_not_listed_is_not_known_and_nothing_is_filled(tmp_path: Path) -> None:
    table = long_table()
    table.loc[(table["ticker"] == "BBB") & (table["date"] > DAYS[4]), "close"] = np.nan
    table.to_csv(tmp_path / "p.csv", index=False)
    values = load_panel(tmp_path / "p.csv", columns=["short_interest"])["short_interest"]
    assert np.isnan(values[5:, 1]).all()
    np.testing.assert_array_equal(values[:5], interest().to_numpy()[:5])


def test_a_wide_file_beside_one_file_per_stock(tmp_path: Path) -> None:
    for ticker, rows in long_table("Note").groupby("ticker"):
        rows.drop(columns="ticker").to_csv(tmp_path / f"{ticker}.csv", index=False)
    interest().to_csv(tmp_path / "short_interest.csv")
    report = inspect_path(tmp_path, columns=["short_interest"])
    assert report.layout == "per-ticker"
    assert report.unknown == ("Note",)
    assert report.panel is not None
    np.testing.assert_array_equal(report.panel["short_interest"], interest().to_numpy())


def test_values_of_days_without_prices_are_told(tmp_path: Path) -> None:
    our_folder_wide(tmp_path)
    table = interest()
    table.loc[pd.Timestamp("2015-01-03")] = 1.0
    table.sort_index().to_csv(tmp_path / "short_interest.csv")
    report = inspect_path(tmp_path, columns=["short_interest"])
    assert any("3 of 82 values of short_interest" in n and "2015-01-03" in n for n in report.notes)
    assert report.n_dates == 30


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["Adj Close"], r"'Adj Close', which is read anyway \(adj_close\)"),
        (["last"], r"which is read anyway \(close\)"),
        (["v"], r"which is read anyway \(volume\)"),
        (["Amount"], r"which is read anyway \(money traded"),
        (["leverage"], 'another field of a panel: .* as "my_leverage = leverage" does'),
        (["market index"], "another field of a panel"),
        (["ST. = leverage"], 'and st is another field of a panel: .* as "my_st = leverage" does'),
        (["融资余额"], 'a name in Latin letters: .* as "my_name = 融资余额" does'),
        (["a = ESG", "a = G"], "stands there twice"),
        (["ESG", "e.s.g."], "stands there twice"),
        (["%"], "no letter and no digit"),
    ],
)
def test_names_that_are_taken(columns: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        own_fields(columns)


@pytest.mark.parametrize(
    ("layout", "columns", "told"),
    [
        (as_csv, ["short_intrest"], r"'short_intrest', and p.csv has no such.*'Short Interest'\?"),
        (as_csv, ["esg"], r"'esg', .* the columns without another use are 'Short Interest'\."),
        (wide_files, ["esg"], "the name of Short Interest.csv is no field.*data.columns"),
    ],
)
def test_names_that_no_file_has(
    layout: Callable[[Path], Path], columns: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        load_panel(layout(tmp_path), columns=columns)
    assert str(caught.value).endswith((".", "?."))


def test_text_infinity_and_two_sources_are_refused(tmp_path: Path) -> None:
    table = long_table()
    table["Short Interest"] = table["Short Interest"].astype(object)
    table.loc[3, "Short Interest"] = "many"
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match="row 5: short_interest of AAA on 2015-01-02 is 'many', no"):
        load_panel(tmp_path / "p.csv", columns=["short_interest"])
    table.loc[3, "Short Interest"] = np.inf
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match="short_interest of AAA on 2015-01-02 is inf, not a finite"):
        load_panel(tmp_path / "p.csv", columns=["short_interest"])
    long_table().to_csv(tmp_path / "p.csv", index=False)
    interest().to_csv(tmp_path / "short_interest.csv")
    with pytest.raises(DataError, match=r"short_interest is in two files, short_interest\.csv one"):
        load_panel(tmp_path, columns=["short_interest"])


def test_frames_and_back() -> None:
    table = long_table("Analyst Revision")
    panel = panel_from_long(table, columns=["analyst revision"])
    np.testing.assert_array_equal(panel["analyst_revision"], interest().to_numpy())
    again = panel_from_long(panel_to_long(panel), columns=["analyst_revision"])
    assert hash_panel(again) == hash_panel(panel)
    frames = {"close": prices(), "ESG": panel_to_wide(panel, "analyst_revision")}
    wide = panel_from_wide(frames, columns=["ESG"])
    np.testing.assert_array_equal(wide["esg"], panel["analyst_revision"])
    with pytest.raises(DataError, match=r"'Analyst Revision' is not a field .* columns= to keep"):
        panel_from_long(table)
    with pytest.raises(DataError, match="columns names 'esg', which the frame has not"):
        panel_from_long(table, columns=["analyst revision", "esg"])
