"""Long and short: equal sides, inside their limits, blind to the future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.heuristics import cap_gross, long_short_quantile, top_quantile


def random_decisions(seed: int, n_rows: int = 12, n_assets: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_rows, n_assets)).cumsum(axis=0)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    scores[rng.random(n_rows) < 0.1] = np.nan
    betas = rng.normal(1.0, 0.5, scores.shape)
    betas[rng.random(scores.shape) < 0.1] = np.nan
    return {
        "scores": scores,
        "volatility": rng.uniform(0.1, 0.6, scores.shape),
        "eligible": rng.random(scores.shape) < 0.8,
        "betas": betas,
    }


class TestByHand:
    def test_three_against_three_by_inverse_volatility(self) -> None:
        scores = np.array([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
        volatility = np.array([[0.1, 0.2, 0.2, 0.4, 0.4, 0.2]])
        eligible = np.ones((1, 6), dtype=bool)
        found = long_short_quantile(
            scores, volatility, eligible=eligible, quantile=0.5, weight_cap=1.0, smoothing=1.0
        )
        # 1 / volatility: 10, 5, 5 long and 2.5, 2.5, 5 short, each side worth all the wealth.
        np.testing.assert_allclose(found, [[0.5, 0.25, 0.25, -0.25, -0.25, -0.5]], rtol=1e-14)
        half = long_short_quantile(
            scores, volatility, eligible=eligible, quantile=0.5, weight_cap=1.0, gross=1.0
        )
        np.testing.assert_allclose(half, found / 2.0, rtol=1e-14)

    def test_in_beta_the_heavier_side_gives_way(self) -> None:
        scores, volatility = np.array([[4.0, 3.0, 2.0, 1.0]]), np.full((1, 4), 0.2)
        betas = np.array([[0.5, 0.7, 1.2, np.nan]])  # unknown counts as 1
        found = long_short_quantile(
            scores,
            volatility,
            eligible=np.ones((1, 4), dtype=bool),
            betas=betas,
            quantile=0.5,
            weight_cap=1.0,
        )
        # Longs carry 0.6 and shorts 1.1: the shorts shrink to 6 / 11.
        np.testing.assert_allclose(found, [[0.5, 0.5, -3.0 / 11.0, -3.0 / 11.0]], rtol=1e-14)

    @pytest.mark.parametrize("betas", [[-1.0, 1.0], [0.0, 1.0]])
    def test_betas_that_no_scale_can_balance_are_not_held(self, betas: list[float]) -> None:
        found = long_short_quantile(
            np.array([[2.0, 1.0]]),
            np.full((1, 2), 0.2),
            eligible=np.ones((1, 2), dtype=bool),
            betas=np.array([betas]),
            quantile=0.5,
            weight_cap=1.0,
        )
        np.testing.assert_array_equal(found, 0.0)

    def test_the_gross_is_scaled_down_only_where_it_is_too_large(self) -> None:
        weights = np.array([[1.2, -1.2], [0.3, -0.2], [np.nan, np.nan]])
        found = cap_gross(weights, 2.0)
        np.testing.assert_allclose(found[0], [1.0, -1.0])
        np.testing.assert_array_equal(found[1:], weights[1:])


class TestProperties:
    @given(
        seed=st.integers(0, 10**6),
        gross=st.floats(0.3, 4.0),
        cap=st.floats(0.05, 1.0),
        smoothing=st.floats(0.1, 1.0),
        in_beta=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_neutral_and_inside_every_limit(
        self, seed: int, gross: float, cap: float, smoothing: float, in_beta: bool
    ) -> None:
        inputs = random_decisions(seed)
        betas = inputs.pop("betas")
        found = long_short_quantile(
            **inputs,
            betas=betas if in_beta else None,
            gross=gross,
            weight_cap=cap,
            smoothing=smoothing,
        )
        silent = np.isnan(inputs["scores"]).all(axis=1)
        np.testing.assert_array_equal(np.isnan(found).all(axis=1), silent)
        made = found[~silent]
        load = np.nan_to_num(betas, nan=1.0)[~silent] if in_beta else np.ones(made.shape)
        assert np.abs((made * load).sum(axis=1)).max(initial=0.0) < 1e-12
        assert np.abs(made).sum(axis=1).max(initial=0.0) <= gross * (1.0 + 1e-12)
        assert np.abs(made).max(initial=0.0) <= cap * (1.0 + 1e-12)
        assert not made[~inputs["eligible"][~silent]].any()

    def test_full_steps_are_the_difference_of_two_long_books(self) -> None:
        inputs = random_decisions(3)
        del inputs["betas"]
        settled = {"quantile": 0.2, "weight_cap": 1.0, "smoothing": 1.0}
        found = long_short_quantile(**inputs, **settled)
        best = top_quantile(**inputs, **settled)
        worst = top_quantile(**{**inputs, "scores": -inputs["scores"]}, **settled)
        np.testing.assert_allclose(found, best - worst, rtol=1e-13, atol=1e-16)
        assert (np.nan_to_num(found) < 0.0).any()

    @pytest.mark.parametrize("seed", range(3))
    def test_scrambled_future_leaves_the_past_to_the_bit(self, seed: int) -> None:
        inputs, other = random_decisions(seed), random_decisions(seed + 100)
        base = long_short_quantile(**inputs)
        for i in (0, 5, 10):
            mixed = {
                name: np.concatenate([values[: i + 1], other[name][i + 1 :]])
                for name, values in inputs.items()
            }
            np.testing.assert_array_equal(long_short_quantile(**mixed)[: i + 1], base[: i + 1])

    @pytest.mark.parametrize("wrong", [{"gross": 0.0}, {"quantile": 0.6}, {"weight_cap": 0.0}])
    def test_settings_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigError):
            long_short_quantile(**random_decisions(0), **wrong)

    def test_shapes(self) -> None:
        inputs = random_decisions(0)
        with pytest.raises(DataError, match="betas have shape"):
            long_short_quantile(**{**inputs, "betas": inputs["betas"][:-1]})
