"""A study that cannot end is refused in one sentence, before anything is fitted."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from small_study import DAYS, PRICES, day, study_of, without_index

TICKERS = sorted(PRICES["ticker"].unique())


REFUSED: dict[str, tuple[dict[str, dict[str, Any]], tuple[str, ...]]] = {
    "a test of nine days": (
        {"walk_forward": {"test_start": day(-9)}},
        ("walk_forward", "6 test days and 2 decisions", "at least 10"),
    ),
    "two days, traded daily": (
        {"walk_forward": {"test_start": day(-2), "rebalance": 1}},
        ("2 test days", "at least 10"),
    ),
    "nothing to confirm": (
        {"report": {"confirm_from": "2100-01-01"}},
        ("report.confirm_from 2100-01-01", "0 days", "at least 10"),
    ),
    "one day to confirm": (
        {"report": {"confirm_from": day(-1)}},
        ("report.confirm_from", "1 days", f"to {day(-1)}"),
    ),
    "no factor": (
        {"factors": {"exclude": [factor.name for factor in FACTORS]}},
        ("factors.exclude", "keep at least one"),
    ),
    "no stock is dear enough": (
        {"cleaning": {"min_price": 1e9}},
        ("at most 0 stocks", "to train on", "[cleaning]"),
    ),
}


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    def test_one_sentence_before_any_fit(self, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_fit(*_: Any) -> None:
            raise AssertionError("a model was fitted")

        monkeypatch.setattr("alphakeel.pipeline.fitting.fit_and_score", no_fit)
        changed, words = REFUSED[case]
        with pytest.raises((ConfigError, DataError)) as caught:
            study_of(PRICES, **changed)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize(
        ("kept", "where"),
        [(PRICES["ticker"].isin(TICKERS[:3]), "to train on"),
         ((PRICES["date"] < DAYS[330]) | PRICES["ticker"].isin(TICKERS[:3]), "of the test")],
        ids=["three stocks", "three left in the test"],
    )  # fmt: skip
    def test_too_few_stocks(self, kept: pd.Series, where: str) -> None:
        with pytest.raises(DataError, match=f"at most 3 stocks on .* {where}.*at least 5"):
            study_of(PRICES[kept])

    def test_china_without_closes_as_traded(self) -> None:
        with pytest.raises(DataError, match=r"column `close`.*set costs.preset to \"flat\"\.$"):
            study_of(PRICES.drop(columns="close"), costs={"preset": "cn"})

    @pytest.mark.parametrize("gap", [DAYS[:100], DAYS[300:303], DAYS], ids=["late", "gap", "none"])
    def test_bear_exposure_needs_the_index_of_every_day(self, gap: Any) -> None:
        frame = without_index(lambda date: date.isin(gap))
        with pytest.raises(DataError, match=r"bear_exposure.*value on every day.*\.$"):
            study_of(frame, overlay={"bear_exposure": 0.5})
