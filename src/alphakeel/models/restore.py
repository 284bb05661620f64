"""From a saved state back to a forecaster, of the classes named here and of no other."""

from __future__ import annotations

from typing import Any

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.constrained import (
    RiskLimitedAttention,
    RiskLimitedCNNLSTM,
    RiskLimitedGRU,
    RiskLimitedLSTM,
)
from alphakeel.models.ensemble import choose_device
from alphakeel.models.har import HARForecaster
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.persistence import ModelState, Persistent
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.models.sequence import (
    AttentionForecaster,
    CNNLSTMForecaster,
    GRUForecaster,
    LSTMForecaster,
    MLPForecaster,
)
from alphakeel.models.tabular import LightGBMForecaster, SupportVectorForecaster

__all__ = ["KNOWN", "restore"]

# A state names its class; it never brings code along.
KNOWN: tuple[type[Persistent], ...] = (
    LinearForecaster,
    LSTMForecaster,
    GRUForecaster,
    AttentionForecaster,
    CNNLSTMForecaster,
    MLPForecaster,
    LightGBMForecaster,
    SupportVectorForecaster,
    RiskLimitedLSTM,
    RiskLimitedGRU,
    RiskLimitedAttention,
    RiskLimitedCNNLSTM,
    HARForecaster,
    RiskForecaster,
)


def restore(state: ModelState, *, device: str | None = None) -> Any:
    """Restore a fitted forecaster from its `state`.

    On the same machine and device it predicts what the saved one did, to the bit. `device` is
    where a network shall run, if not where its parameters say; classes without a device ignore
    it. DataError if the class is unknown, or the arrays do not fit its description.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((50, 30, 2))
    >>> model = LinearForecaster().fit(features, features[..., 0])
    >>> again = restore(model.state())
    >>> bool((again.predict(features) == model.predict(features)).all())
    True
    """
    name = state.meta.get("class")
    for known in KNOWN:
        if known.__name__ == name:
            return _of_class(known, state, device)
    raise DataError(
        f"the saved model is of the unknown class {name!r}; this version of alphakeel knows "
        f"{', '.join(known.__name__ for known in KNOWN)}"
    )


def _of_class(known: type[Persistent], state: ModelState, device: str | None) -> Any:
    overrides: dict[str, Any] = {}
    parameters = state.meta.get("params")
    if "device" in known().get_params(deep=False) and isinstance(parameters, dict):
        wanted = device if device is not None else parameters.get("device", "auto")
        choose_device(wanted)  # what this machine lacks is a ConfigError, and no fault of the file
        overrides = {} if device is None else {"device": device}
    try:
        return known.from_state(state, **overrides)
    except ConfigError as error:
        raise DataError(
            f"the saved {known.__name__} has a setting out of range: {error}"
        ) from error
