"""Which rows of a data set a model reads and learns from: the decisions, or every day.

With ``network.rows = "days"`` networks that are not under limits read all trading days up to a
decision, while everything else (screens, folds, other models, portfolios) stays on decisions. A fit
is still given by its training decisions, and a forecast by the decisions that it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig
from alphakeel.errors import DataError
from alphakeel.model_factory import reads_days
from alphakeel.pipeline.calendar import days_apart
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.plan import Plan

__all__ = ["ModelRows", "days_of_rows"]

Rows = slice | npt.NDArray[np.intp]
Values = TypeVar("Values", bound=npt.NDArray[Any])


@dataclass(frozen=True, eq=False)
class ModelRows:
    """The rows that one model reads, and how decisions are found among them.

    Attributes
    ----------
    dataset : Dataset
        Whose rows are those that the model reads.
    decided : ndarray of shape (n_decisions,) of int, or None
        The row of each decision; None where rows are decisions.
    step : int
        Rows from a decision to the next, about.

    Examples
    --------
    >>> import alphakeel as ak
    >>> from alphakeel.pipeline.dataset import prepare_dataset
    >>> from alphakeel.pipeline.plan import Plan
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> config = ak.StudyConfig(models=("lstm",), network=ak.NetworkConfig(rows="days"))
    >>> dataset = prepare_dataset(panel, Plan.of(panel, config))
    >>> dataset.decisions[[0, 9]], ModelRows.of(dataset, "lstm", config).training(slice(0, 10))
    (array([ 4, 49]), slice(4, 50, None))
    >>> ModelRows.of(dataset, "linear", config).training(slice(0, 10))
    slice(0, 10, None)
    """

    dataset: Dataset
    decided: npt.NDArray[np.intp] | None = None
    step: int = 1

    @classmethod
    def of(cls, dataset: Dataset, model: str, config: StudyConfig) -> ModelRows:
        """The rows of one model by the settings; DataError if the data set lacks the days."""
        if not reads_days(model, config):
            return cls(dataset)
        if dataset.daily is None:
            raise DataError(
                f'network.rows = "days" lets {model} read every day, and this data set was '
                "prepared without them: prepare it with that setting, and the model among models."
            )
        return cls(dataset.daily, dataset.decisions, days_apart(config.walk_forward.rebalance))

    def training(self, decisions: Rows) -> Rows:
        """Rows to learn from, for some training decisions in order.

        Of days those from the first to the last decision of every run of decisions without a gap:
        no label reaches further than that of the run's last decision, nor begins before its first
        decision, so that what a purge and an embargo leave out stays out.
        """
        if self.decided is None:
            return decisions
        taken = np.arange(len(self.decided))[decisions]
        runs = np.split(taken, np.flatnonzero(np.diff(taken) > 1) + 1)
        spans = [slice(int(self.decided[run[0]]), int(self.decided[run[-1]]) + 1) for run in runs]
        if len(spans) == 1:
            return spans[0]
        return np.concatenate([np.arange(span.start, span.stop) for span in spans])

    def until(self, stop: int) -> int:
        """Number of rows up to the last of the first `stop` decisions, from the first row on."""
        if self.decided is None or stop == 0:
            return stop
        return int(self.decided[stop - 1]) + 1

    def span(self, block: slice) -> slice:
        """Rows from the first to the last decision of a block."""
        return slice(self.until(block.start + 1) - 1, self.until(block.stop))

    def at(self, block: slice, first: int = 0) -> Rows:
        """The rows of the decisions of a block, counted from a first one."""
        if self.decided is None:
            return slice(block.start - first, block.stop - first)
        return self.decided[block] - first

    def decision_from(self, row: int) -> int:
        """The first decision at a row or after it."""
        return row if self.decided is None else int(np.searchsorted(self.decided, row))

    def on_decisions(self, values: Values, stop: int) -> Values:
        """Of values by row those of the first `stop` decisions."""
        return values if self.decided is None else values[self.decided[:stop]]  # type: ignore[return-value]


def days_of_rows(model: str, plan: Plan) -> npt.NDArray[np.intp]:
    """The day of each row that a model reads, up to the last decision."""
    if reads_days(model, plan.config):
        return np.arange(plan.decisions[-1] + 1)
    return plan.decisions
