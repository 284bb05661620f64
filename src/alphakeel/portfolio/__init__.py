"""Scores to weights to returns, on plain arrays.

Forecasts of risk (:mod:`.forecast`), target weights (:mod:`.allocation`), what trading costs
(:mod:`.costs`) and what a market allows (:mod:`.rules`; whole markets in :mod:`.presets`), and
what a portfolio that follows the targets truly earns (:mod:`.backtest`).
Nothing here knows of panels, tickers, files or settings: time is axis 0, stocks are axis 1.
"""
