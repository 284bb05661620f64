"""Features in, scores out: the forecasters. The only folder that imports torch."""
