"""An LSTM's scores as the alpha of a skfolio portfolio.

alphakeel forecasts, skfolio does the rest: a characteristics factor model gives the covariance,
`DeepAlpha` the expected returns, `MeanRisk` the weights. The market is simulated, with a signal
planted in it, so that the example runs anywhere and in seconds.

    python examples/skfolio_alpha.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from skfolio import RiskMeasure
from skfolio.descriptor import LogMarketCap, RollingMomentum
from skfolio.factor_exposure import FixedWeightedFactor, GlobalFactor
from skfolio.optimization import MeanRisk, ObjectiveFunction
from skfolio.prior import CharacteristicsFactorModel
from sklearn import config_context

import alphakeel as ak
from alphakeel.skfolio_alpha import DeepAlpha


def main() -> pd.Series:
    """Fit everything on the past, and return the weights for the day after it."""
    market = ak.simulate_market(
        n_assets=60, n_dates=1000, seed=1, signal=0.2, listing_rate=0.0, delisting_rate=0.0,
        suspension_rate=0.0,
    )  # fmt: skip
    panel = market.panel

    # skfolio's factor model reads simple returns. The first day has none, and is left out.
    price = panel["adj_close"]
    returns = np.full(price.shape, np.nan)
    returns[1:] = price[1:] / price[:-1] - 1.0
    panel["returns"] = returns
    panel = panel[1:].to_panel()

    # Five trading days a row: the longest label of 20 days and the lag of 1 span five rows.
    alpha = DeepAlpha(
        ak.LSTMForecaster(hidden=16, max_steps=60, n_seeds=2, purge=5, device="cpu"),
        horizons=(5, 20),
        ic=0.1,
    )
    size, momentum = [("cap", LogMarketCap())], [("year", RollingMomentum())]
    prior = CharacteristicsFactorModel(
        factors=[
            ("market", GlobalFactor()),
            ("size", FixedWeightedFactor(descriptors=size, family="style")),
            ("momentum", FixedWeightedFactor(descriptors=momentum, family="style")),
        ],
        alpha_estimator=alpha,
        # Expected returns are the alpha's alone, also where it leans on a factor.
        spanned_alpha_shrinkage=0.0,
    )
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_measure=RiskMeasure.VARIANCE,
        risk_aversion=2.0,
        max_weights=0.1,
        prior_estimator=prior,
    )
    days = pd.DatetimeIndex(panel.observations)
    X = pd.DataFrame(returns[1:], index=days, columns=panel.asset_names)
    with config_context(enable_metadata_routing=True):  # the optimiser hands the panel on
        model.fit(X, characteristics=panel)

    fitted = model.prior_estimator_.alpha_estimator_
    table = pd.DataFrame(
        {"weight": model.weights_, "score": fitted.scores_, "alpha a year": 252 * fitted.alpha_},
        index=panel.asset_names,
    ).sort_values("weight", ascending=False)
    held = table[table["weight"] > 0.001]
    print(f"{len(held)} of {len(table)} stocks held after the close of {days[-1].date()}:")
    print(held.round(3).to_string())
    truth = pd.Series(market.true_signal[-1], panel.asset_names)
    print(
        f"planted return of the five days to come: {truth @ table['weight']:.2%} of what is held, "
        f"{truth.mean():.2%} of the average stock"
    )
    return table["weight"]


if __name__ == "__main__":
    main()
