"""Scores to target weights, on plain arrays: heuristics, optimisation, and the overlay.

Nothing here knows of panels, tickers, files or settings: time is axis 0, stocks are axis 1.
"""
