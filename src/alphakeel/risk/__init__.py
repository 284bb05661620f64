"""Forecasts of risk on plain arrays: volatility, covariance, VaR, regimes and stress."""
