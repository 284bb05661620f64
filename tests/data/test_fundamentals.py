"""Reports to what was known on each date: trailing years, vintages, and nothing of tomorrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.fundamentals import facts_of_reports, known_figures
from alphakeel.data.loading import load_panel

ENDS = {"Q1": "03-31", "Q2": "06-30", "Q3": "09-30", "FY": "12-31"}


def reports(kind: str = "single", tickers: str = "AB") -> pd.DataFrame:
    """Quarters of 2013 to 2015; revenue of quarter q of year y is 10 (y - 2012) + q."""
    rows = []
    for ticker in tickers:
        for year in (2013, 2014, 2015):
            quarters = [10.0 * (year - 2012) + q for q in (1, 2, 3, 4)]
            for number, (period, end) in enumerate(ENDS.items()):
                single = period != "FY" and kind == "single"
                so_far = sum(quarters[: number + 1])
                available = pd.Timestamp(f"{year}-{end}") + pd.Timedelta(days=40)
                rows.append(
                    {
                        "symbol": ticker,
                        "period_end": pd.Timestamp(f"{year}-{end}"),
                        "available_date": available,
                        "period_type": period,
                        "flow": quarters[number] if single else so_far,
                        "equity": 100.0 + year - 2013,
                    }
                )
    return pd.DataFrame(rows)


def known_on(figures: pd.DataFrame, day: str, name: str) -> float:
    own = figures[(figures["ticker"] == "A") & (figures["available_date"] <= day)]
    return float(own.iloc[-1][name])


@pytest.mark.parametrize(("kind", "column"), [("single", "net_income"), ("ytd", "net_income_ytd")])
def test_a_trailing_year_is_the_same_from_quarters_and_years_so_far(kind, column) -> None:
    table = reports(kind).rename(columns={"flow": column})
    figures = known_figures(facts_of_reports(table))
    # 2014: 21 + 22 + 23 + 24 = 90; the quarters to March 2015: 90 - 21 + 31 = 100.
    assert known_on(figures, "2015-02-10", "net_income") == 90.0
    assert known_on(figures, "2015-02-08", "net_income") == 22 + 21 + 14 + 23
    assert known_on(figures, "2015-05-11", "net_income") == 100.0
    assert known_on(figures, "2015-05-11", "net_income_year_ago") == 50 - 11 + 21


def test_a_restatement_counts_from_its_own_filing(tmp_path: Path) -> None:
    table = reports("ytd").rename(columns={"flow": "net_income_ytd"})
    late = table[(table["period_end"] == "2014-12-31") & (table["symbol"] == "A")]
    late = late.assign(net_income_ytd=75.0, available_date=pd.Timestamp("2015-03-20"))
    figures = known_figures(facts_of_reports(pd.concat([table, late])))
    assert known_on(figures, "2015-03-19", "net_income") == 90.0
    assert known_on(figures, "2015-03-20", "net_income") == 75.0


def test_what_is_known_on_a_day_does_not_depend_on_later_reports() -> None:
    table = reports("ytd").rename(columns={"flow": "net_income_ytd"})
    whole = known_figures(facts_of_reports(table))
    for day in ("2014-03-01", "2014-12-01", "2015-06-01"):
        early = known_figures(facts_of_reports(table[table["available_date"] <= day]))
        kept = whole[whole["available_date"] <= day].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            early.sort_values(["ticker", "available_date"], ignore_index=True),
            kept.sort_values(["ticker", "available_date"], ignore_index=True),
        )


def test_a_missing_quarter_gives_no_year() -> None:
    table = reports("single").rename(columns={"flow": "net_income"})
    table = table[table["period_type"].isin(["Q1", "Q3"])]
    assert known_figures(facts_of_reports(table))["net_income"].isna().all()


def test_the_folder_format_brings_reports_to_the_panel_by_their_day(tmp_path: Path) -> None:
    days = pd.bdate_range("2014-01-01", "2015-12-31")
    prices = pd.DataFrame(
        [(day, ticker, 10.0 + 0.001 * number, 100.0) for ticker in "AB"
         for number, day in enumerate(days)], columns=["date", "symbol", "close", "volume"],
    )  # fmt: skip
    prices.to_parquet(tmp_path / "prices.parquet")
    table = reports("ytd").rename(columns={"flow": "net_income_ytd"})
    table["total_assets"] = 400.0
    table.to_parquet(tmp_path / "fundamentals.parquet")
    panel = load_panel(tmp_path)
    dates = panel.observations.astype("datetime64[D]")
    leverage, growth = panel["leverage"][:, 0], panel["earnings_growth"][:, 0]
    filed = np.datetime64("2015-02-09")
    before, after = leverage[dates == filed][0], leverage[dates == filed + 1][0]
    assert (before, after) == (299 / 400, 299 / 400)
    assert growth[dates == filed + 1][0] == (90 - 50) / 101
    assert growth[dates == filed][0] != growth[dates == filed + 1][0]
    shorter = load_panel(tmp_path, end="2015-02-09")
    np.testing.assert_array_equal(shorter["leverage"], panel["leverage"][: len(shorter["close"])])


def test_facts_of_other_items_are_no_figures() -> None:
    facts = facts_of_reports(reports().rename(columns={"flow": "revenue"}))
    made = known_figures(facts.assign(item="goodwill"))
    assert not len(made)
    assert {"ticker", "revenue", "equity"} <= set(made.columns)
