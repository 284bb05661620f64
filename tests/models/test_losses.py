"""Losses against their NumPy twins, and their gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from alphakeel.models.losses import ScoreLoss, daily_ic, mean_daily_ic, mean_square
from alphakeel.stats.cross_section import ic
from references import mse


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, targets (zero where unknown) and what is known: 6 dates, 9 stocks, 2 horizons."""
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((2, 6, 9, 2))
    known = rng.random((6, 9, 2)) > 0.2
    known[1, 4:] = False  # four stocks: no correlation
    targets[3, :, 0] = 1.5  # no spread in the target: no correlation
    return torch.tensor(scores), torch.tensor(targets * known), torch.tensor(known)


def as_arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]


def test_daily_ic_equals_that_of_numpy(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = as_arrays(*case)
    found, defined = as_arrays(*daily_ic(*case))
    for h in range(2):
        expected = ic(scores[..., h], targets[..., h], known[..., h])
        np.testing.assert_array_equal(defined[:, h], np.isfinite(expected))
        np.testing.assert_allclose(found[:, h], np.nan_to_num(expected), atol=1e-7)
    assert not defined[1].any()
    assert not defined[3, 0]


def test_mean_daily_ic_leaves_out_undefined_dates(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = as_arrays(*case)
    twin = [np.nanmean(ic(scores[..., h], targets[..., h], known[..., h])) for h in range(2)]
    np.testing.assert_allclose(mean_daily_ic(*case).numpy(), twin, atol=1e-7)


def test_mean_square_error_equals_that_of_numpy(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = case
    twin = mse(*as_arrays(scores, targets, known))
    assert float(mean_square(scores - targets, known)) == pytest.approx(twin, rel=1e-12)


def test_score_loss_is_the_weighted_sum(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = case
    parts = ScoreLoss(ic_weight=0.7, mse_weight=0.2)(scores, targets, known)
    ics = mean_daily_ic(scores, targets, known)
    expected = 0.7 * (1 - ics).sum()
    expected += 0.2 * mean_square(scores - targets, known) + 1e-3 * mean_square(scores, known)
    assert float(parts.total) == pytest.approx(float(expected), rel=1e-12)
    assert float(parts.ic) == pytest.approx(float(ics.mean()), rel=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, y, k: daily_ic(s, y, k)[0],
        mean_daily_ic,
        lambda s, y, k: mean_square(s - y, k),
        lambda s, y, k: ScoreLoss(1.0, 0.1)(s, y, k).total,
    ],
    ids=["daily_ic", "mean_daily_ic", "mse", "score_loss"],
)
def test_gradients(case: tuple[torch.Tensor, ...], loss: object) -> None:
    scores, targets, known = case
    scores = scores.clone().requires_grad_()
    assert gradcheck(lambda s: loss(s, targets, known), scores)  # type: ignore[operator]


def test_ic_ignores_scale_and_level(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = case
    level = torch.linspace(-2, 2, 6, dtype=torch.float64)[:, None, None]
    plain, _ = daily_ic(scores, targets, known)
    moved, _ = daily_ic(3 * scores + level, targets, known)
    torch.testing.assert_close(moved, plain, atol=1e-6, rtol=0)


def test_unknown_entries_cannot_matter(case: tuple[torch.Tensor, ...]) -> None:
    scores, targets, known = case
    wild = torch.where(known, scores, 1e9).requires_grad_()
    calm = scores.clone().requires_grad_()
    for x in (wild, calm):
        ScoreLoss(1.0, 0.1)(x, targets, known).total.backward()
    assert torch.equal(wild.grad, calm.grad)
    assert (wild.grad[~known] == 0).all()


def test_equal_scores_and_empty_dates_have_finite_gradients() -> None:
    scores = torch.zeros(3, 6, 1, requires_grad=True)
    targets = torch.randn(3, 6, 1, generator=torch.Generator().manual_seed(0))
    known = torch.ones(3, 6, 1, dtype=torch.bool)
    known[2] = False
    ScoreLoss(1.0, 0.1)(scores, targets, known).total.backward()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[2] == 0).all()
    assert (scores.grad[0] != 0).any()
