"""What is kept of a degree study that was killed: the forecasts of every network that was done."""

from __future__ import annotations

from alphakeel.resume import Kept
from alphakeel.tuning.objective import Forecast

__all__ = ["KeptForecasts"]


class KeptForecasts(Kept):
    """Forecasts of single networks, by the number of their job and of their seed.

    Examples
    --------
    >>> KeptForecasts(None, "key").find(0, 0) is None
    True
    """

    def find(self, job: int, seed: int) -> dict[str, Forecast] | None:
        """What a finished network forecast for each period, if it is kept."""
        kept = self._get(f"{job}-{seed}")
        if kept is None:
            return None
        weights = kept["weights"]
        return {period: Forecast(x, weights.get(period)) for period, x in kept["scores"].items()}

    def keep(self, job: int, seed: int, forecasts: dict[str, Forecast]) -> None:
        """Keep what a finished network forecast."""
        weights = {p: own.weights for p, own in forecasts.items() if own.weights is not None}
        scores = {period: own.scores for period, own in forecasts.items()}
        self._put(f"{job}-{seed}", {"scores": scores, "weights": weights})
