"""Which settings to choose, on years before the test, and how far to believe it."""
