"""A forecaster of ours as an alpha of skfolio's: it plugs into its priors and optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.alpha import BaseAlpha
from skfolio.containers import AssetPanel, AssetPanelView
from sklearn.base import clone

from alphakeel.data.panel import universe_mask
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS, Factor, compute_factors
from alphakeel.models.base import Forecaster, check_integer, check_number
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.pipeline.dataset import assemble_dataset
from alphakeel.risk.volatility import ew_volatility
from alphakeel.stats.cross_section import zscore
from alphakeel.stats.rolling import simple_returns
from alphakeel.stats.splits import purge_length

__all__ = ["DeepAlpha"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# What skfolio's factor model adds to the panel that it hands to an alpha.
IDIO_VARIANCES = "idio_variances"


class DeepAlpha(BaseAlpha):
    r"""Expected returns from a forecaster, for skfolio's `CharacteristicsFactorModel`.

    `fit` does the study's work on one panel: factors from rows up to each date, ranked across the
    universe; targets that end within the panel (so the last ``lag + horizon`` days teach nothing),
    ranks of return over volatility; the forecaster fitted on one row in `step`; the last day
    scored. A score z is one of return for risk, and becomes an expected return by Grinold's rule
    [1]_,

    .. math:: \alpha_i = \mathrm{IC} \, \sigma_i \, z_i \, / \sqrt{h},

    per day, with :math:`\sigma_i` the daily volatility and h the mean of the horizons.

    Parameters
    ----------
    forecaster : Forecaster, optional
        Cloned and fitted; an `LSTMForecaster` by default. One that is fitted already goes in as
        ``sklearn.frozen.FrozenEstimator(forecaster)``: it is used as it is, and clones keep it.
    factors : sequence of str, optional
        Names of `alphakeel.FACTORS` in the order that a fitted forecaster knows. By default all
        that the panel can feed.
    horizons : sequence of int, default=(5, 20)
        Days ahead that are forecast.
    lag : int, default=1
        Days from score to trade.
    step : int, default=5
        Days between two rows of the forecaster; the last day is always one.
    ic : float, default=0.03
        Information coefficient believed in, in (0, 1]: it scales all alphas alike. Fits do not
        tell it; take it from the out-of-sample Rank IC of a study.
    volatility_halflife : float, default=30.0
        Days; for the targets, and for :math:`\sigma` where the panel has no `idio_variances` (the
        factor model adds them, and alphas are then of idiosyncratic returns).

    Attributes
    ----------
    alpha_ : float64 ndarray of shape (n_assets,)
        Expected return per day, as a fraction, after the trade; NaN where the stock is not in the
        universe on the last day. Mean 0 before scaling by volatility.
    scores_ : float64 ndarray of shape (n_assets,)
        z, with mean 0 and variance 1 over the universe.
    volatility_ : float64 ndarray of shape (n_assets,)
        Per day, as a fraction.
    forecaster_ : Forecaster
        The fitted one.
    factor_names_, market_names_ : tuple of str
        Inputs of the forecaster.
    n_fit_rows_ : int
        Rows with a known target, the only ones it learned from.
    n_assets_ : int
    asset_names_ : ndarray of shape (n_assets,)

    Notes
    -----
    The panel has `adj_close`, as `alphakeel.load_panel` gives it, or skfolio's `returns`, from
    which prices follow up to a factor that no price factor depends on. It is taken as it is: clean
    it first (`alphakeel.clean`).

    An own `purge` of the forecaster (the gap before its validation rows) must span the labels, and
    is checked to.

    References
    ----------
    .. [1] Grinold (1994), "Alpha is Volatility Times IC Times Score", J. Portfolio Management 20.
       https://doi.org/10.3905/jpm.1994.409482

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.simulate_market(n_assets=30, n_dates=600, seed=1).panel
    >>> alpha = DeepAlpha(ak.LinearForecaster(), factors=["reversal_21", "momentum_12_1"])
    >>> alpha.fit(panel).alpha_.shape, alpha.factor_names_
    ((30,), ('reversal_21', 'momentum_12_1'))
    """

    def __init__(
        self,
        forecaster: Forecaster | None = None,
        *,
        factors: Sequence[str] | None = None,
        horizons: Sequence[int] = (5, 20),
        lag: int = 1,
        step: int = 5,
        ic: float = 0.03,
        volatility_halflife: float = 30.0,
    ) -> None:
        self.forecaster = forecaster
        self.factors = factors
        self.horizons = horizons
        self.lag = lag
        self.step = step
        self.ic = ic
        self.volatility_halflife = volatility_halflife

    def fit(self, X: AssetPanel | AssetPanelView, y: None = None, **fit_params: Any) -> Self:  # noqa: ARG002
        """Fit the forecaster on a panel and forecast its last day.

        Parameters
        ----------
        X : AssetPanel
            Rows are days, in order; nothing after its last row is known.
        y, **fit_params
            Ignored; skfolio's interface.

        Raises
        ------
        ConfigError
            If a setting is out of range, a factor is unknown, or the purge is too short.
        DataError
            If the panel lacks prices, or factors that were asked for, or is too short.
        """
        horizons = self._check_settings()
        panel, price = _with_price(X)
        universe = universe_mask(panel) & panel.estimation_mask
        chosen = self._chosen()
        decisions = np.arange((len(price) - 1) % self.step, len(price), self.step)
        factors = compute_factors(panel, chosen, universe, rows=decisions)
        missing = [name for name in self.factors or () if name in factors.omitted]
        if missing:
            raise DataError(f"factor {missing[0]!r} {factors.omitted[missing[0]]}")
        returns = simple_returns(price)
        volatility = ew_volatility(returns, halflife=self.volatility_halflife, annualise=None)
        dataset = assemble_dataset(
            panel,
            factors,
            price=price,
            returns=returns,
            volatility=volatility,
            sample=universe,
            decisions=decisions,
            lag=self.lag,
            horizons=horizons,
        )
        known = int(np.isfinite(dataset.targets).any(axis=(1, 2)).sum())
        if known == 0:
            raise DataError(
                f"no target of the panel's {len(price)} days is known; horizons {horizons} and lag "
                f"{self.lag} need more"
            )
        forecaster = self._forecaster(horizons)
        given = {"mask": dataset.eligible, "market": dataset.market}
        forecaster.fit(dataset.features, dataset.targets, **given)
        scores = forecaster.predict(dataset.features, **given)[-1:]
        self.forecaster_ = forecaster
        self.factor_names_, self.market_names_ = dataset.names, dataset.market_names
        self.n_fit_rows_ = known
        self.n_assets_ = panel.n_assets
        self.asset_names_ = np.asarray(panel.asset_names)
        self.scores_ = zscore(scores.astype(np.float64), np.isfinite(scores))[0]
        self.volatility_ = volatility[-1]
        if IDIO_VARIANCES in panel:
            self.volatility_ = np.sqrt(np.asarray(panel[IDIO_VARIANCES], dtype=np.float64)[-1])
        self.alpha_ = self.ic * self.volatility_ * self.scores_ / np.sqrt(np.mean(horizons))
        return self

    def _check_settings(self) -> tuple[int, ...]:
        horizons = np.ravel(np.asarray(self.horizons)).tolist()
        if not horizons:
            raise ConfigError("horizons is empty; give at least one, for example (5, 20)")
        check_integer("lag", self.lag, at_least=1)
        check_integer("step", self.step, at_least=1)
        check_number("ic", self.ic, low=0.0, high=1.0, low_open=True, high_open=False)
        check_number("volatility_halflife", self.volatility_halflife, low=0.0, low_open=True)
        return tuple(check_integer("horizons", h, at_least=1) for h in horizons)

    def _chosen(self) -> tuple[Factor, ...]:
        """The factors asked for, and all market-wide series."""
        if self.factors is None:
            return FACTORS
        by_name = {factor.name: factor for factor in FACTORS}
        unknown = [name for name in self.factors if name not in by_name]
        if unknown:
            raise ConfigError(f"factors names {unknown[0]!r}, which is none of alphakeel.FACTORS")
        named = tuple(by_name[name] for name in self.factors)
        if not any(factor.scope == "stock" for factor in named):
            raise ConfigError("factors names no factor of single stocks; give at least one")
        return (*named, *(f for f in FACTORS if f.scope == "market" and f not in named))

    def _forecaster(self, horizons: tuple[int, ...]) -> Any:
        purge = purge_length(lag=self.lag, horizons=horizons, step=self.step)
        if self.forecaster is None:
            return LSTMForecaster(purge=purge)
        forecaster: Any = clone(self.forecaster)
        own = getattr(forecaster, "purge", None)
        validates = getattr(forecaster, "validation_share", 0.0) > 0.0
        if own is not None and validates and own < purge:
            raise ConfigError(
                f"the forecaster's purge of {own} rows is shorter than its labels: with lag "
                f"{self.lag}, horizons {horizons} and step {self.step} it takes {purge}"
            )
        return forecaster


def _with_price(X: AssetPanel | AssetPanelView) -> tuple[AssetPanel, Floats]:
    """The panel with an `adj_close`, and that price carried over gaps; `X` is not changed."""
    if isinstance(X, AssetPanelView):
        X = X.to_panel(deep=False)
    if not isinstance(X, AssetPanel):
        raise DataError(f"DeepAlpha is fitted on an AssetPanel, not on a {type(X).__name__}")
    if "adj_close" in X:
        panel, price = X, np.asarray(X["adj_close"], dtype=np.float64)
    elif "returns" in X:
        returns = np.asarray(X["returns"], dtype=np.float64)
        known = np.isfinite(returns)
        price = np.where(known, np.cumprod(1.0 + np.where(known, returns, 0.0), axis=0), np.nan)
        panel = X.copy()
        panel["adj_close"] = price
    else:
        raise DataError(f"the panel has no adj_close and no returns; it has {', '.join(X.keys())}")
    return panel, pd.DataFrame(price).ffill().to_numpy()
