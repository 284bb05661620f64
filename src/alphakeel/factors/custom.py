"""A user's own factors: a function of arrays, marked with `factor`.

The decorated function is handed the fields it names, each an array of all dates and stocks, and
returns an array of the same shape. Whatever it does wrong is told in one sentence with the file
and the line. :mod:`alphakeel.custom_factors` loads such functions from a file.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError
from alphakeel.factors.arrays import PanelArrays
from alphakeel.factors.base import Factor

__all__ = ["factor", "line_in", "where"]

Array = NDArray[Any]


def factor(
    *,
    lookback: int,
    fields: Sequence[str],
    family: str = "custom",
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Factor]:
    """Make a factor of a function of your own.

    Parameters
    ----------
    lookback : int
        Rows of history behind a value, its own row included, at least 1.
    fields : sequence of str
        Fields that the function takes, by keyword: each an array of shape (n_dates, n_assets),
        float64, NaN where missing, read-only. ``sector`` comes as integer codes, -1 where unknown.
    family : str
        Group of factors that say similar things.
    name : str, optional
        The function's own name by default.

    Returns
    -------
    callable
        Turns the function into a `Factor`. The function returns (n_dates, n_assets), NaN where
        unknown, made of rows up to each row; its docstring's first line is the factor's formula.

    Raises
    ------
    ConfigError
        If `lookback` or `fields` make no sense, or the function does not take the fields.

    Examples
    --------
    >>> @factor(lookback=1, fields=("close", "volume"), family="volume")
    ... def money(close, volume):
    ...     "log(close * volume)"
    ...     return np.log(close * volume)
    >>> money.name, money.fields, money.formula
    ('money', ('close', 'volume'), 'log(close * volume)')
    """
    if isinstance(lookback, bool) or not isinstance(lookback, int) or lookback < 1:
        raise ConfigError(f"lookback is {lookback!r}: give a whole number of rows, 1 or more.")
    if isinstance(fields, str):
        raise ConfigError(f"fields is the text {fields!r}: write ({fields!r},).")
    wanted = tuple(fields)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ConfigError(f"fields is {wanted!r}: name each field that the function takes, once.")

    def make(func: Callable[..., Any]) -> Factor:
        label = name or func.__name__
        try:
            inspect.signature(func).bind(**dict.fromkeys(wanted))
        except TypeError as error:
            raise ConfigError(
                f"factor {label!r} must be a function of {' and '.join(wanted)}: {error}."
            ) from error

        def values(arrays: PanelArrays) -> Array:
            given = {f: arrays.sectors if f == "sector" else arrays[f] for f in wanted}
            return _call(func, label, {f: _read_only(array) for f, array in given.items()})

        values.__wrapped__ = func  # type: ignore[attr-defined]  # where it stands in its file
        formula = (inspect.getdoc(func) or "").partition("\n")[0].removesuffix(".")
        return Factor(label, family, lookback, wanted, values, formula, "custom", whole=True)

    return make


def where(made: Factor) -> str:
    """File and line of a factor's function, as `my_factors.py, line 12`."""
    code = inspect.unwrap(made.func).__code__
    return f"{PurePath(code.co_filename).name}, line {code.co_firstlineno}"


def line_in(filename: str, error: BaseException) -> int | None:
    """The line of a file at which an error was raised; None if it came from elsewhere."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == filename
    ]
    return lines[-1] if lines else None


def _call(func: Callable[..., Any], label: str, given: dict[str, Array]) -> Array:
    """What the function returns, as float64; its mistakes as one sentence."""
    code = inspect.unwrap(func).__code__
    file = PurePath(code.co_filename).name
    shape = next(iter(given.values())).shape
    try:
        # A mean over stocks that are not listed yet is NaN, and not worth a word.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = func(**given)
    except (Exception, SystemExit) as error:
        line = line_in(code.co_filename, error) or code.co_firstlineno
        raise ConfigError(
            f"factor {label!r} ({file}, line {line}) fails: {type(error).__name__}: {error}."
        ) from error
    place = f"factor {label!r} ({file}, line {code.co_firstlineno})"
    try:
        out = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{place} must return an array of numbers, not {type(found).__name__}."
        ) from error
    if out.shape != shape:
        raise ConfigError(
            f"{place} returns an array of shape {out.shape}, but its fields have {shape}: return "
            "one value per date and stock."
        )
    return out


def _read_only(array: Array) -> Array:
    view = array.view()
    view.setflags(write=False)
    return view
