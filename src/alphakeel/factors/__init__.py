"""Panel to features; the forward-looking targets live in `targets` alone."""

from __future__ import annotations

from alphakeel.factors.base import Factor, FactorSet, compute_factors, factor_table, standardise
from alphakeel.factors.market_factors import MARKET_FACTORS
from alphakeel.factors.stock_factors import FUNDAMENTAL_FACTORS, PRICE_FACTORS, VOLUME_FACTORS

__all__ = ["FACTORS", "Factor", "FactorSet", "compute_factors", "factor_table", "standardise"]

FACTORS: tuple[Factor, ...] = (
    *PRICE_FACTORS,
    *VOLUME_FACTORS,
    *MARKET_FACTORS,
    *FUNDAMENTAL_FACTORS,
)
"""Every built-in factor, of stocks and of the market."""
