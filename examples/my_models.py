"""A gallery of your own models: copy what you need into a file of your own.

A model is a function of the seed that returns an estimator still to be fitted. Name the file and
the models in the settings and run the study:

    models = ["linear", "extra_trees", "ridge_of_pairs", "smoothed"]
    custom_models = "my_models.py"

    alphakeel run --config study.toml
    alphakeel audit --config study.toml      # tries to catch the models looking ahead

Run by itself it compares them on a simulated market:

    python examples/my_models.py
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from alphakeel import model


@model(label="Extra trees")
def extra_trees(seed):
    """200 trees of depth 6 on the ranks of the factors."""
    return ExtraTreesRegressor(200, max_depth=6, min_samples_leaf=200, random_state=seed)


@model(label="Ridge of pairs")
def ridge_of_pairs(seed):
    """A ridge on the factors and their products: any estimator or pipeline of scikit-learn's."""
    pairs = PolynomialFeatures(2, interaction_only=True, include_bias=False)
    return make_pipeline(pairs, Ridge(1e4, random_state=seed))


class SmoothedRidge:
    """A ridge whose scores are averaged over the past: a model that sees dates x stocks x factors.

    `fit` names `mask` and `market`, and so is handed arrays of three axes instead of a table.
    """

    def __init__(self, halflife, seed):
        self.ridge = Ridge(100.0, random_state=seed)
        self.keep = 0.5 ** (1.0 / halflife)

    def fit(self, features, targets, *, mask, market):
        """Targets are (dates, stocks, horizons), NaN where unknown."""
        mean = targets.mean(axis=2)
        known = mask & np.isfinite(mean)
        self.ridge.fit(features[known], mean[known])
        return self

    def predict(self, features, *, mask, market):
        """Row t is made of rows up to t."""
        scores = features @ self.ridge.coef_
        for t in range(1, len(scores)):
            scores[t] = self.keep * scores[t - 1] + (1.0 - self.keep) * scores[t]
        return scores


@model(label="Smoothed ridge")
def smoothed(seed):
    """A ridge whose scores are averaged over the past with a half-life of 4 decisions."""
    return SmoothedRidge(halflife=4, seed=seed)


if __name__ == "__main__":
    import alphakeel as ak

    panel = ak.simulate_market(n_assets=60, n_dates=1500, seed=1).panel
    config = ak.StudyConfig(
        models=("linear", "extra_trees", "ridge_of_pairs", "smoothed"), custom_models=__file__
    )
    study = ak.run_study(panel, config)
    print(study.table_1()[["annual_return", "sharpe", "max_drawdown"]].round(3).to_string())
