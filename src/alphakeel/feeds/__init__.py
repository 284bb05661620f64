"""Feeds of market data: one small file per source, and the session that asks them."""
