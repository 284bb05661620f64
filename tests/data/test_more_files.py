"""Packed files, workbooks, short years, series, factors of a day, units of market value."""

from __future__ import annotations

import io
import zipfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.errors import DataError

DAYS = pd.bdate_range("2015-01-01", periods=40, name="date")


def prices(n: int = 3, seed: int = 0) -> pd.DataFrame:
    """Dates down, stocks across."""
    walk = np.random.default_rng(seed).normal(0, 0.01, (len(DAYS), n)).cumsum(axis=0)
    return pd.DataFrame(50 * np.exp(walk), DAYS, [f"S{i}" for i in range(n)]).round(3)


def long_table(n: int = 3) -> pd.DataFrame:
    """One row per date and stock, with volume of about a hundredth of a million shares."""
    frame = prices(n).stack().rename("close").rename_axis(["date", "ticker"]).reset_index()
    return frame.assign(volume=np.random.default_rng(1).integers(9_000, 11_000, len(frame)))


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_panel(path)
    return str(caught.value)


class TestZip:
    def test_one_table_is_read(self, tmp_path: Path) -> None:
        file = zipped(tmp_path / "all.zip", all__csv=prices().to_csv(), __MACOSX="x")
        np.testing.assert_array_equal(load_panel(file)["adj_close"], prices().to_numpy())

    def test_one_archive_per_stock(self, tmp_path: Path) -> None:
        for name in ("AAA", "BBB"):
            text = prices()[["S0"]].set_axis(["close"], axis=1).to_csv()
            zipped(tmp_path / f"{name}.csv.zip", **{f"{name}__csv": text})
        assert load_panel(tmp_path).asset_names.tolist() == ["AAA", "BBB"]

    def test_prices_of_a_folder(self, tmp_path: Path) -> None:
        zipped(tmp_path / "prices.csv.zip", prices__csv=long_table().to_csv(index=False))
        assert load_panel(tmp_path).active_mask.shape == (40, 3)

    def test_several_tables_none_and_damage_are_refused(self, tmp_path: Path) -> None:
        assert "2 tables (a.csv, b.csv)" in refusal(
            zipped(tmp_path / "two.zip", a__csv="x", b__csv="y")
        )
        assert "no CSV file" in refusal(zipped(tmp_path / "no.zip", a__doc="x"))
        whole = zipped(tmp_path / "w.zip", a__csv=prices().to_csv()).read_bytes()
        (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
        assert refusal(tmp_path / "cut.zip") == "cut.zip is damaged zip: download it again."

    def test_a_bomb_is_refused(self, tmp_path: Path) -> None:
        file = zipped(tmp_path / "bomb.zip", a__csv="date,A,B\n" + "0" * 200_000_000)
        assert "unpacks to more than 60 times its size" in refusal(file)


class TestWorkbook:
    def test_one_sheet_is_read(self, tmp_path: Path) -> None:
        pytest.importorskip("openpyxl", reason="the extra `excel` is not installed")
        table = prices()
        table.to_excel(tmp_path / "all.xlsx")
        np.testing.assert_allclose(load_panel(tmp_path / "all.xlsx")["adj_close"], table)
        with pd.ExcelWriter(tmp_path / "two.xlsx") as book:
            table.to_excel(book, sheet_name="prices")
            table.to_excel(book, sheet_name="volume")
        assert "2 sheets (prices, volume)" in refusal(tmp_path / "two.xlsx")

    def test_without_the_extra_the_sentence_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
        file = zipped(tmp_path / "all.xlsx", a__xml="<x/>")
        assert "needs openpyxl: pip install 'alphakeel[excel]'" in refusal(file)


class TestShortYears:
    @pytest.mark.parametrize("form", ["%d/%m/%y", "%m/%d/%y", "%y-%m-%d"])
    def test_one_order_alone_can_be_meant(self, form: str, tmp_path: Path) -> None:
        table = prices()
        table.index = table.index.strftime(form)
        table.to_csv(tmp_path / "p.csv")
        panel = load_panel(tmp_path / "p.csv")
        assert panel.observations.astype("datetime64[D]").tolist() == [d.date() for d in DAYS]

    def test_what_can_be_read_twice_is_refused(self, tmp_path: Path) -> None:
        table = prices()[:5]
        table.index = ["01-02-03", "02-03-04", "03-02-05", "05-04-06", "06-05-04"]
        table.to_csv(tmp_path / "p.csv", index_label="date")
        assert "write it like 2015-01-31" in refusal(tmp_path / "p.csv")


class TestSeriesOfOneSymbol:
    def test_the_shares_are_kept_and_it_is_said(self, tmp_path: Path) -> None:
        shares = long_table().assign(series="EQ")
        bonds = shares[shares["ticker"] == "S1"].assign(series="N1", close=1000.0)
        other = shares[shares["ticker"] == "S2"].assign(series="BE")
        table = pd.concat([bonds, shares[shares["ticker"] != "S2"], other])
        table.to_csv(tmp_path / "all.csv", index=False)
        report = inspect_path(tmp_path / "all.csv")
        assert not report.problems
        assert any(
            "40 rows of other series than EQ" in note and "N1" in note for note in report.notes
        )
        np.testing.assert_array_equal(load_panel(tmp_path / "all.csv")["close"], prices())


class TestFactorOfADay:
    @pytest.mark.parametrize("shift", [0, 1])
    def test_on_the_day_of_the_fall_or_the_one_before(self, shift: int, tmp_path: Path) -> None:
        table = long_table().assign(AdjustmentFactor=1.0)
        true = prices().to_numpy()
        split = (table["ticker"] == "S1") & (table["date"] >= DAYS[20])
        table.loc[split, "close"] /= 2.0
        day = (table["ticker"] == "S1") & (table["date"] == DAYS[20 - shift])
        table.loc[day, "AdjustmentFactor"] = 0.5
        table.to_csv(tmp_path / "all.csv", index=False)
        panel = load_panel(tmp_path / "all.csv")
        np.testing.assert_allclose(panel["adj_close"], true, rtol=1e-6)
        assert panel["close"][20, 1] == pytest.approx(true[20, 1] / 2)

    def test_a_factor_that_the_close_does_not_follow_is_not_used(self, tmp_path: Path) -> None:
        table = long_table().assign(AdjustmentFactor=1.0)
        table.loc[60, "AdjustmentFactor"] = 0.5
        table.to_csv(tmp_path / "all.csv", index=False)
        notes = " ".join(inspect_path(tmp_path / "all.csv").notes)
        assert "does not step where AdjustmentFactor does" in notes


class TestMarketValues:
    def table(self, unit: float = 1.0) -> pd.DataFrame:
        table = long_table()
        return table.assign(market_cap=table["close"] * 1_000_000 / unit)

    def test_in_the_currency_needs_no_word(self, tmp_path: Path) -> None:
        self.table().to_csv(tmp_path / "all.csv", index=False)
        assert "market_cap" not in " ".join(inspect_path(tmp_path / "all.csv").notes)

    def test_in_thousands_throughout_is_noted(self, tmp_path: Path) -> None:
        self.table(1000.0).to_csv(tmp_path / "all.csv", index=False)
        assert "market_cap is not in the currency" in " ".join(
            inspect_path(tmp_path / "all.csv").notes
        )

    def test_one_stock_in_thousands_is_refused(self, tmp_path: Path) -> None:
        table = self.table()
        table.loc[table["ticker"] == "S1", "market_cap"] /= 1000.0
        table.to_csv(tmp_path / "all.csv", index=False)
        assert "market_cap of S1 is in another unit" in refusal(tmp_path / "all.csv")

    def test_another_unit_from_a_date_on_is_refused(self, tmp_path: Path) -> None:
        for part, unit in (("a", 1.0), ("b", 1000.0)):
            table = self.table(unit)
            later = table["date"] >= DAYS[20]
            table[later == (part == "b")].to_csv(tmp_path / f"prices_{part}.csv", index=False)
        message = refusal(tmp_path)
        assert f"market_cap of S0 changes by 1,000 times on {DAYS[20]:%Y-%m-%d}" in message


@pytest.mark.parametrize(
    ("head", "mark"),
    [
        ("<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", ","),
        ("<TICKER>;<PER>;<DATE>;<TIME>;<CLOSE>;<VOL>", ";"),
    ],
)
def test_finam(head: str, mark: str, tmp_path: Path) -> None:
    lines = io.StringIO()
    table = prices()
    for day, row in table.iterrows():
        for name, price in row.items():
            bar = [price, price * 1.01, price * 0.99, price] if "<OPEN>" in head else [price]
            cells = [name, "D", f"{day:%Y%m%d}", "000000", *(f"{x:.5f}" for x in bar), "1000"]
            lines.write(mark.join(map(str, cells)) + "\n")
    (tmp_path / "all.txt").write_text(f"{head}\n{lines.getvalue()}", encoding="utf-8")
    np.testing.assert_allclose(load_panel(tmp_path / "all.txt")["close"], table)


def test_metatrader(tmp_path: Path) -> None:
    head = "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
    for name, column in prices(2).items():
        rows = [
            f"{day:%Y.%m.%d}\t{x:.3f}\t{x * 1.01:.3f}\t{x * 0.99:.3f}\t{x:.3f}\t10\t1000\t1"
            for day, x in column.items()
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    np.testing.assert_allclose(load_panel(tmp_path)["close"], prices(2), rtol=1e-9)


def test_arrays_of_a_panel_are_its_own(tmp_path: Path) -> None:
    """A close that stands in for `adj_close` is not the same memory; what ended is blank."""
    days = pd.bdate_range("2015-01-01", periods=60)
    rows = [(d, t, 5.0 + k % 7, k) for t in "ABC" for k, d in enumerate(days)]
    frame = pd.DataFrame(rows, columns=["date", "ticker", "close", "volume"])
    frame.loc[(frame["ticker"] == "C") & (frame["date"] > days[20]), "close"] = np.nan
    frame.to_csv(tmp_path / "all.csv", index=False)
    panel = load_panel(tmp_path / "all.csv")
    arrays = [panel[name] for name in ("close", "adj_close", "volume")]
    assert not any(np.shares_memory(a, b) for a, b in combinations(arrays, 2))
    assert np.isnan(panel["volume"][21:, 2]).all()
    columns = list(inspect_path(tmp_path / "all.csv").samples)
    assert columns == ["date", "ticker", "close", "volume"]
    twice = frame[["date", "ticker"]].assign(market_cap=1e9)
    twice.iloc[5] = twice.iloc[4]
    twice.to_csv(tmp_path / "valuation_daily.csv", index=False)
    problems = [problem.message for problem in inspect_path(tmp_path).problems]
    assert "has two rows for A on 2015-01-07" in problems[0]


def test_stocks_of_different_periods_are_told_so(tmp_path: Path) -> None:
    rows = ["date,ticker,close", "2015-01-01,A,5", "2015-01-02,A,6", "2016-01-04,B,5"]
    (tmp_path / "all.csv").write_text("\n".join([*rows, "2016-01-05,B,6", ""]))
    with pytest.raises(DataError, match=r"no two stocks trade on the same date .A from 2015-01-01"):
        load_panel(tmp_path / "all.csv")
