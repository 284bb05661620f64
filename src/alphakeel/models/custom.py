"""A user's own models, from a user's own Python file: what is marked there, and how it is called.

::

    from alphakeel import model

    @model(label="Extra trees")
    def extra_trees(seed):
        return ExtraTreesRegressor(200, min_samples_leaf=200, random_state=seed)

The decorated function returns an estimator that is still to be fitted: one of scikit-learn's kind,
or one with the methods of `alphakeel.models.base.Forecaster`. Whatever it does wrong is reported in
one sentence with the file and the line. Nothing of it is ever saved: a run fits it, and `today`
fits it again.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError
from alphakeel.models.persistence import ModelState
from alphakeel.models.restore import restore
from alphakeel.progress import CancelledError
from alphakeel.user_code import line_of_error, place_of

__all__ = [
    "CustomModels",
    "Fitted",
    "OwnForecaster",
    "OwnModel",
    "fitted_model",
    "model",
    "package_versions",
]

Floats32 = NDArray[np.float32]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LABEL = re.compile(r"\w[\w .,()-]{0,39}")
# Keywords by which a `fit` says that it takes dates x stocks x factors.
_OF_SEQUENCES = ("mask", "market")


def model(*, label: str, name: str | None = None) -> Callable[[Callable[[int], Any]], OwnModel]:
    """Make a model of a function of your own.

    Parameters
    ----------
    label : str
        What tables and figures call it: up to 40 letters, digits, spaces and ``.,()-``.
    name : str, optional
        What the settings call it; the function's own name by default. Lower-case letters, digits
        and underscores.

    Returns
    -------
    callable
        Turns the function into an `OwnModel`. The function takes the study's seed and returns a
        new estimator that is still to be fitted; its docstring's first line says what it is.

    Raises
    ------
    ConfigError
        If name or label cannot be used, or it is no function of a seed.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> @model(label="Strong ridge")
    ... def strong_ridge(seed):
    ...     "Ridge of strength 1,000 on the ranks of the factors."
    ...     return Ridge(1000.0, random_state=seed)
    >>> strong_ridge.name, strong_ridge.label, strong_ridge(0)
    ('strong_ridge', 'Strong ridge', Ridge(alpha=1000.0, random_state=0))
    """
    if not isinstance(label, str) or not _LABEL.fullmatch(label) or label != label.strip():
        raise ConfigError(
            f"label is {label!r}: give up to 40 letters, digits, spaces and .,()- that begin with "
            "a letter or a digit."
        )

    def make(func: Callable[[int], Any]) -> OwnModel:
        if not inspect.isfunction(func):
            raise ConfigError(f"@model marks a function of the seed, not {func!r}.")
        own = name or func.__name__
        if not _NAME.fullmatch(own):
            raise ConfigError(
                f"model {own!r} ({place_of(func)}) has no name for settings: take lower-case "
                "letters, digits and underscores, a letter first."
            )
        try:
            inspect.signature(func).bind(0)
        except TypeError as error:
            raise ConfigError(
                f"model {own!r} ({place_of(func)}) must be a function of the seed: {error}."
            ) from error
        about = (inspect.getdoc(func) or "").partition("\n")[0].removesuffix(".")
        return OwnModel(own, label, about, func)

    return make


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A model of the user's, by the function that makes it; made by `model`.

    Attributes
    ----------
    name, label, about : str
        In the settings, in tables, and the first line of its docstring.
    func : callable
        Takes the seed, returns a new estimator.
    digest : str
        SHA-256 of its file; "" where it was not loaded from one.
    """

    name: str
    label: str
    about: str
    func: Callable[[int], Any]
    digest: str = ""

    def __call__(self, seed: int) -> Any:
        """A new estimator, as the function returns it."""
        return self.func(seed)

    @property
    def place(self) -> str:
        """The beginning of a sentence about it, with file and line."""
        return f"model {self.name!r} ({place_of(self.func)})"

    def estimator(self, seed: int) -> Any:
        """A new estimator, refused where it could not be fitted."""
        made = self.call("", self.func, seed)
        if isinstance(made, type):
            raise ConfigError(
                f"{self.place} returns the class {made.__name__}: return an estimator, "
                f"{made.__name__}(...)."
            )
        if not callable(getattr(made, "fit", None)) or not callable(getattr(made, "predict", None)):
            raise ConfigError(
                f"{self.place} returns {_a(made)}, which has no fit and predict: return an "
                "estimator as scikit-learn's are."
            )
        return made

    def check(self, seed: int) -> Any:
        """An estimator, after the function was seen to make a new one at each call."""
        made = self.estimator(seed)
        if made is self.estimator(seed):
            raise ConfigError(
                f"{self.place} returns the same object at every call: make a new one inside the "
                "function, for folds are fitted side by side."
            )
        self.takes_sequences(made)
        if callable(params := getattr(made, "get_params", None)):
            self.call("get_params", params)  # `package_versions` reads them
        return made

    def takes_sequences(self, estimator: Any) -> bool:
        """Whether its fit takes dates x stocks x factors, with mask and market, or a table."""
        try:
            known = inspect.signature(estimator.fit).parameters
        except (TypeError, ValueError):  # of compiled code
            return False
        given = [word for word in _OF_SEQUENCES if word in known]
        if len(given) == 1:
            raise ConfigError(
                f"{self.place}: fit of its {type(estimator).__name__} takes {given[0]} alone; take "
                "fit(X, y) for tables, or fit(features, targets, *, mask, market) for sequences."
            )
        return bool(given)

    def call(self, what: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call code of the user's; its mistakes as one sentence. `what` names a method."""
        try:
            return function(*args, **keywords)
        except CancelledError:
            raise
        except (Exception, SystemExit) as error:
            line = line_of_error(inspect.unwrap(self.func).__code__.co_filename, error)
            where = f" in {what}" if what else ""
            said = " ".join(str(error).split()).removesuffix(".")
            raise ConfigError(
                f"model {self.name!r} ({place_of(self.func, line)}) fails{where}: "
                f"{type(error).__name__}: {said}."
            ) from error

    def scores(self, returned: Any, shape: tuple[int, ...]) -> Floats32:
        """What a predict has returned, checked."""
        wanted = "one score a row" if len(shape) == 1 else "one score a date and stock"
        try:
            out = np.asarray(returned, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.place}: predict returns {_a(returned)}: return an array of numbers, "
                f"{wanted}."
            ) from error
        if out.shape != shape:
            raise ConfigError(
                f"{self.place}: predict returns an array of shape {out.shape} where {shape} was "
                f"asked for: return {wanted}."
            )
        with np.errstate(over="ignore"):
            scores = out.astype(np.float32)
        if np.isinf(scores).any():
            raise ConfigError(
                f"{self.place}: predict returns an infinite score: return a number, or NaN where "
                "the model cannot say."
            )
        return scores


def _a(value: Any) -> str:
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


class OwnForecaster:
    """A model of the user's behind the methods of `Forecaster`.

    `estimator_` is the user's object once it is fitted; `reads` the kind of dependence on other
    rows that is allowed: "row", only its own; "past", its own date and those before.
    """

    own: OwnModel
    seed: int
    estimator_: Any
    reads: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """What stands for the model in the fingerprint of a fit."""
        return {"model": self.own.name, "code": self.own.digest, "seed": self.seed}

    def state(self) -> ModelState:
        """Refused: a state never holds code."""
        raise ConfigError(f"{self.own.place} is code of yours, and a fit of it cannot be saved.")


# What is left of a fit: the state of one of our models, or the user's object itself.
Fitted = ModelState | OwnForecaster


def fitted_model(fitted: Fitted) -> Any:
    """The fitted model, restored from its state where it has one."""
    return restore(fitted) if isinstance(fitted, ModelState) else fitted


@dataclass(frozen=True)
class CustomModels:
    """The models of one file, with what else can move their numbers; empty without a file.

    `versions` are the SHA-256 of the file, and packages that the estimators come from.
    """

    models: tuple[OwnModel, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def get(self, name: str) -> OwnModel | None:
        """The one of a name; None for a model of ours."""
        return next((own for own in self.models if own.name == name), None)

    @property
    def labels(self) -> dict[str, str]:
        """Labels by name."""
        return {own.name: own.label for own in self.models}


def package_versions(estimators: Iterable[Any]) -> dict[str, str]:
    """Versions of the distributions that estimators come from, with those inside of them.

    >>> from sklearn.linear_model import Ridge
    >>> list(package_versions([Ridge()]))
    ['scikit-learn']
    """
    tops = {
        base.__module__.partition(".")[0]
        for estimator in estimators
        for part in _parts(estimator)
        for base in type(part).__mro__
    }
    # One pass over all that is installed, since a module may be named otherwise than its package.
    by_module = metadata.packages_distributions()
    found = {name for top in tops for name in by_module.get(top, ())}
    return {name: metadata.version(name) for name in sorted(found)}


def _parts(estimator: Any) -> list[Any]:
    """An estimator, and those among its parameters, as in a pipeline."""
    params = getattr(estimator, "get_params", None)
    inner = (
        params(deep=True).values()
        if callable(params)
        else getattr(estimator, "__dict__", {}).values()
    )
    return [estimator, *(part for part in inner if hasattr(part, "fit"))]
