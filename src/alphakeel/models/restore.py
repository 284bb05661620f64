"""From a saved state back to a forecaster, of the classes named here and of no other."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.persistence import ModelState, Persistent

__all__ = ["KNOWN", "class_of", "restore"]

# A state names its class; it never brings code along. The file of each is imported when one is
# asked for: torch takes more than a second, and a linear model does not need it.
KNOWN = {
    "LinearForecaster": "linear",
    "LSTMForecaster": "sequence",
    "GRUForecaster": "sequence",
    "AttentionForecaster": "sequence",
    "CNNLSTMForecaster": "sequence",
    "MLPForecaster": "sequence",
    "LightGBMForecaster": "tabular",
    "SupportVectorForecaster": "tabular",
    "RiskLimitedLSTM": "constrained",
    "RiskLimitedGRU": "constrained",
    "RiskLimitedAttention": "constrained",
    "RiskLimitedCNNLSTM": "constrained",
    "HARForecaster": "har",
    "RiskForecaster": "risk_network",
}


def class_of(name: str) -> type[Persistent]:
    """One of the `KNOWN` classes."""
    found: type[Persistent] = getattr(import_module(f"alphakeel.models.{KNOWN[name]}"), name)
    return found


def restore(state: ModelState, *, device: str | None = None) -> Any:
    """Restore a fitted forecaster from its `state`.

    On the same machine and device it predicts what the saved one did, to the bit. `device` is
    where a network shall run, if not where its parameters say; classes without a device ignore
    it. DataError if the class is unknown, or the arrays do not fit its description.

    Examples
    --------
    >>> import numpy as np
    >>> from alphakeel.models.linear import LinearForecaster
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((50, 30, 2))
    >>> model = LinearForecaster().fit(features, features[..., 0])
    >>> again = restore(model.state())
    >>> bool((again.predict(features) == model.predict(features)).all())
    True
    """
    name = state.meta.get("class")
    if isinstance(name, str) and name in KNOWN:
        return _of_class(class_of(name), state, device)
    raise DataError(
        f"the saved model is of the unknown class {name!r}; this version of alphakeel knows "
        f"{', '.join(KNOWN)}"
    )


def _of_class(known: type[Persistent], state: ModelState, device: str | None) -> Any:
    overrides: dict[str, Any] = {}
    parameters = state.meta.get("params")
    if "device" in known().get_params(deep=False) and isinstance(parameters, dict):
        from alphakeel.models.ensemble import choose_device

        wanted = device if device is not None else parameters.get("device", "auto")
        choose_device(wanted)  # what this machine lacks is a ConfigError, and no fault of the file
        overrides = {} if device is None else {"device": device}
    try:
        return known.from_state(state, **overrides)
    except ConfigError as error:
        raise DataError(
            f"the saved {known.__name__} has a setting out of range: {error}"
        ) from error
