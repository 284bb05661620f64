"""Everything alphakeel raises on purpose.

::

    AlphakeelError
    ├── DataError          the data are wrong: names field, ticker and date
    ├── ConfigError        a setting is unknown, out of range or contradicts another
    ├── NotFittedError     predict before fit
    └── ConvergenceError   a fit diverged: names seed, step, factor and stock

The command line turns the first three into one sentence and exit code 2; anything else is
a bug and exits with 1.
"""

from __future__ import annotations

__all__ = [
    "AlphakeelError",
    "ConfigError",
    "ConvergenceError",
    "DataError",
    "LookAheadWarning",
    "NotFittedError",
    "ResumeWarning",
]


class AlphakeelError(Exception):
    """Base of every error that alphakeel raises on purpose."""


class DataError(AlphakeelError, ValueError):
    """Input data that cannot be trusted; the message names field, ticker and date."""


class ConfigError(AlphakeelError, ValueError):
    """A setting that is unknown, out of range or at odds with another."""


class NotFittedError(AlphakeelError, ValueError, AttributeError):
    """An estimator was asked to predict before it was fitted."""


class ConvergenceError(AlphakeelError, ArithmeticError):
    """A fit produced numbers that are not finite.

    Attributes
    ----------
    factor, asset : int, optional
        Columns of the input that stands out, in the numbering of the arrays that were fitted.
        None where the fit cannot tell.

    Examples
    --------
    >>> ConvergenceError("training diverged", factor=1, asset=7).asset
    7
    """

    def __init__(self, *args: object, factor: int | None = None, asset: int | None = None) -> None:
        super().__init__(*args)
        self.factor, self.asset = factor, asset


class LookAheadWarning(UserWarning):
    """A chosen option reads data from after the day it describes."""


class ResumeWarning(UserWarning):
    """A checkpoint cannot be used; what it holds is computed again."""
