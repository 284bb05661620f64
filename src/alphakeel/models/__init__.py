"""Features in, scores out: the forecasters, and the only wing that imports torch."""
