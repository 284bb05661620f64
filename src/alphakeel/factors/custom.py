"""A user's own factors, from a user's own Python file: loaded from its path, hashed, checked.

::

    from alphakeel import factor

    @factor(lookback=20, fields=("close", "volume"), family="volume")
    def my_factor(close, volume):
        ...

The decorated function is handed the fields it names, each an array of all dates and stocks, and
returns an array of the same shape. Whatever it does wrong is reported in one sentence with the file
and the line.

Running a study with such a file runs the file: name only a file that you trust. Its hash is
recorded among the study's versions, so that a changed file is another study.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.own_columns import own_fields
from alphakeel.data.panel import sector_codes
from alphakeel.data.validation import PANEL_FIELDS
from alphakeel.errors import ConfigError
from alphakeel.factors import FACTORS
from alphakeel.factors.arrays import PanelArrays
from alphakeel.factors.base import Factor, FactorSet, compute_factors
from alphakeel.user_code import line_of_error, place_of, run_file

__all__ = [
    "CustomFactors",
    "FactorFault",
    "check_factors",
    "column_factors",
    "factor",
    "fault_of",
    "load_factors",
    "own_values",
    "source_location",
]

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]

FIELDS = (*PANEL_FIELDS, "sector", "market_index", "member")
# Rows at which a study tries whether a factor reads the future or more past than its lookback.
_TRIALS = 3
# Sums over windows that begin elsewhere differ by rounding, relative to the values of the date.
_TOLERANCE = 1e-4


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


def source_location(made: Factor) -> str:
    """File and line of a factor's function, as `my_factors.py, line 12`."""
    return place_of(made.func)


def _call(func: Callable[..., Any], label: str, given: dict[str, Array]) -> Array:
    """What the function returns, as float64; its mistakes as one sentence."""
    code = inspect.unwrap(func).__code__
    file = PurePath(code.co_filename).name
    shape = next(iter(given.values())).shape
    try:
        # A mean over stocks that are not listed yet is NaN, and needs no warning.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            returned = func(**given)
    except (Exception, SystemExit) as error:
        line = line_of_error(code.co_filename, error) or code.co_firstlineno
        raise ConfigError(
            f"factor {label!r} ({file}, line {line}) fails: {type(error).__name__}: {error}."
        ) from error
    place = f"factor {label!r} ({file}, line {code.co_firstlineno})"
    try:
        out = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{place} must return an array of numbers, not {type(returned).__name__}."
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


@dataclass(frozen=True)
class CustomFactors:
    """The factors of one file, in its order, with its name and SHA-256; empty without a file."""

    factors: tuple[Factor, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def column_factors(columns: Sequence[str]) -> tuple[Factor, ...]:
    """Columns that a user keeps, as factors as they stand.

    Raises
    ------
    ConfigError
        If a name is that of a known field or of a factor.

    Examples
    --------
    >>> column_factors(["Short Interest"])[0].name
    'short_interest'
    """
    taken = {built_in.name for built_in in FACTORS}
    names = tuple(own_fields(columns).values())
    for name in names:
        if name in taken:
            raise ConfigError(
                f"data.columns names {name!r}, and a built-in factor has that name: give it "
                f'another, as "my_{name} = {name}" does.'
            )
    return tuple(
        Factor(name, "own column", 1, (name,), itemgetter(name), "as given", "data")
        for name in names
    )


def load_factors(
    path: str | Path, *, columns: Sequence[str] = (), fields: Collection[str] = ()
) -> CustomFactors:
    """Load the factors of a Python file.

    Parameters
    ----------
    path : str or Path
        Of the file; "" for none. The file is run, as a module of its own.
    columns : sequence of str
        Columns of the data that are kept as fields, each a factor as it stands.
    fields : collection of str
        Further fields that the panel has.

    Returns
    -------
    CustomFactors

    Raises
    ------
    ConfigError
        If the file cannot be read or run, holds no factor, or a factor has the name of another
        one or reads a field that no panel has; with file and line.

    Examples
    --------
    >>> load_factors("").factors
    ()
    """
    if not str(path):
        return CustomFactors()
    file = run_file(path, "factors")
    factors = tuple(file.marked(Factor))
    if not factors:
        raise ConfigError(
            f"{file.name} holds no factor: mark a function with @factor(lookback=..., fields=...)."
        )
    _check_names(factors, tuple(own_fields(columns).values()), fields)
    return CustomFactors(factors, {f"factors.custom {file.name}": f"sha256:{file.digest}"})


def _check_names(
    factors: Sequence[Factor], columns: Sequence[str], fields: Collection[str]
) -> None:
    """Refuse names in use and fields that no panel has."""
    taken = {built_in.name: "a built-in factor" for built_in in FACTORS}
    taken |= dict.fromkeys(columns, "a column in data.columns, which is a factor already")
    known = dict.fromkeys((*FIELDS, *columns, *fields))
    for own in factors:
        place = f"factor {own.name!r}"
        if own.whole:
            place += f" ({source_location(own)})"
        if own.name in taken:
            raise ConfigError(f"{place} has the name of {taken[own.name]}: choose another.")
        taken[own.name] = "another factor of the file"
        for field in own.fields:
            if field not in known:
                near = difflib.get_close_matches(field, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
                raise ConfigError(
                    f"{place} reads the field {field!r}, which is neither a field of the panel nor "
                    f"in data.columns: add it there if it is a column of your data; {hint}"
                )


def check_factors(custom: CustomFactors, panel: Any, computed: FactorSet) -> None:
    """Refuse factors that read the future or beyond their lookback, or are always NaN.

    A few rows of the panel they were `computed` on are tried; `alphakeel audit` tries many, in more
    ways.
    """
    for own in custom.factors:
        if own.name in computed.names:
            fault = fault_of(own, panel, computed.values[..., computed.names.index(own.name)])
            if fault is not None:
                place = f"factor {own.name!r} ({source_location(own)})"
                raise ConfigError(f"{place} {fault.sentence}")


@dataclass(frozen=True)
class FactorFault:
    """What is wrong with a factor; the sentence lacks its subject, day and stock are "" if none."""

    kind: Literal["all_nan", "future", "lookback"]
    sentence: str
    day: str = ""
    ticker: str = ""


def fault_of(own: Factor, panel: Any, values: Floats) -> FactorFault | None:
    """What is wrong with a factor's values of shape (n_dates, n_assets), the future first."""
    if np.isnan(values).all():
        return FactorFault(
            "all_nan", "is NaN for every stock on every date: check its formula and its fields."
        )
    known = np.flatnonzero(np.isfinite(values[:-1]).any(axis=1))
    if not len(known):
        return None
    rows = known[np.linspace(0, len(known) - 1, _TRIALS).astype(int)]
    past = {row: _last_values(own, panel[np.arange(row + 1)]) for row in rows}
    for row in rows:
        if (moved := differs(values[row], past[row])).any():
            day, stock = _where(panel, row, moved)
            return FactorFault(
                "future",
                f"reads the future: its value for {stock} on {day} changes when later days are "
                "removed; use rows up to each row only.",
                day,
                stock,
            )
    for row in rows:
        window = _last_values(own, panel[np.arange(max(0, row + 1 - own.lookback), row + 1)])
        if (moved := differs(past[row], window)).any():
            day, stock = _where(panel, row, moved)
            return FactorFault(
                "lookback",
                f"reads more than its lookback of {own.lookback} rows: its value for {stock} on "
                f"{day} changes when older days are removed; state a larger lookback.",
                day,
                stock,
            )
    return None


def _where(panel: Any, row: int, moved: NDArray[np.bool_]) -> tuple[str, str]:
    """The day of a row, and the first stock that moved."""
    day = np.datetime_as_string(panel.observations[row].astype("datetime64[D]"))
    return str(day), str(panel.asset_names[int(np.argmax(moved))])


def differs(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Where two arrays of values, (..., n_assets), differ by more than rounding."""
    known = np.isfinite(a) & np.isfinite(b)
    a0, b0 = np.where(known, a, 0.0), np.where(known, b, 0.0)
    scale = np.abs(a0).max(axis=-1, keepdims=True, initial=0.0)
    rounding = _TOLERANCE * (np.abs(a0) + 0.01 * scale)
    return (np.isfinite(a) != np.isfinite(b)) | (np.abs(a0 - b0) > rounding)


def own_values(own: Factor, panel: Any) -> Floats:
    """Values of a user's factor, (n_dates, n_assets), as `compute_factors` would give them.

    Without the market series that a user's factor cannot read, which cost more than the factor.
    """
    fields = {
        name: np.ascontiguousarray(panel[name], dtype=np.float64)
        for name in own.fields
        if name != "sector"
    }
    sectors = sector_codes(panel) if "sector" in own.fields else None
    active = np.asarray(panel.active_mask)
    with np.errstate(all="ignore"):
        out = own.func(PanelArrays(fields, active, sectors)).astype(np.float32)
    np.copyto(out, np.nan, where=np.isinf(out) | ~active)
    return out


def _last_values(own: Factor, view: Any) -> Floats:
    """The factor's values on the last row of a piece of a panel."""
    anyhow = dataclasses.replace(own, lookback=1)  # also where there is less history than it wants
    return compute_factors(view.to_panel(), (anyhow,)).values[-1, :, 0]
