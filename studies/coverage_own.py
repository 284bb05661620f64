"""How often the intervals of a strategy's own figures cover, where the truth is known.

Daily returns are an AR(1) of 0.05 whose shocks are Student's (seven degrees of freedom) with
GARCH(1,1) variance, at a true annual Sharpe ratio of 0.7: once with the same response to gains and
losses, once with three times the response to losses, as market indices have. Each history gets the
intervals of Table I. The true Sharpe ratio is a closed form and the true VaR is that of all
histories together. A maximum drawdown has no true value: its interval is held against the mean of
all histories, and against the drawdown of another history, as a forecast would be.

With `--pairs` two strategies with a correlation of 0.8 are compared that can be swapped: how often
does a test at 5 % say that their VaRs or their drawdowns differ?

    python studies/coverage_own.py                  # 1,000 histories of 2,770 and of 1,250 days
    python studies/coverage_own.py --figures sharpe --histories 3000
    python studies/coverage_own.py --pairs --histories 500
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.stats import performance
from alphakeel.stats.bootstrap import bootstrap_samples, optimal_block_length
from alphakeel.stats.sharpe import sharpe_intervals
from alphakeel.stats.var_intervals import value_at_risk_changes, value_at_risk_intervals

Array = NDArray[np.float64]

SHARPE, DAILY, AR, ALPHA, PERSISTENCE, DEGREES = 0.7, 0.01, 0.05, 0.08, 0.98, 7
N_BOOT, LEVEL, BURN_IN = 500, 0.95, 500
FIGURES = {
    "sharpe": performance.sharpe,
    "var_95": performance.value_at_risk,
    "max_drawdown": performance.max_drawdown,
}


def simulate(n_dates: int, n_histories: int, *, seed: int, leverage: bool) -> Array:
    """Returns of shape (n_dates, n_histories) with the daily deviation `DAILY`."""
    rng = np.random.default_rng(seed)
    after_gain, after_loss = (0.5 * ALPHA, 1.5 * ALPHA) if leverage else (ALPHA, ALPHA)
    variance, away = np.ones(n_histories), np.zeros(n_histories)
    out = np.empty((BURN_IN + n_dates, n_histories))
    for row in out:
        shock = rng.standard_t(DEGREES, n_histories) * np.sqrt((DEGREES - 2) / DEGREES)
        shock *= np.sqrt(variance)
        away = AR * away + shock
        response = np.where(shock < 0.0, after_loss, after_gain)
        variance = 1.0 - PERSISTENCE + (PERSISTENCE - ALPHA) * variance + response * shock**2
        row[:] = away
    out *= np.sqrt(1.0 - AR**2)
    return DAILY * (SHARPE / np.sqrt(performance.PERIODS_PER_YEAR) + out[BURN_IN:])


def intervals(
    returns: Array, figures: Sequence[str], seed: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """The limits of one history, by figure and method."""
    tails = ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0)
    block = optimal_block_length(np.abs(returns))
    found = {}
    for name in figures:
        drawn = bootstrap_samples(
            FIGURES[name], returns[:, None], n_bootstrap=N_BOOT, block_length=block, seed=seed
        )
        found[name, "percentile"] = tuple(np.quantile(drawn, tails))
    for method in ("hac", "bootstrap") if "sharpe" in figures else ():
        (own,) = sharpe_intervals(
            returns, method=method, level=LEVEL, n_bootstrap=N_BOOT, seed=seed
        )
        found["sharpe", method] = own.low, own.high
    if "var_95" in figures:
        (loss,) = value_at_risk_intervals(returns, level=LEVEL)
        found["var_95", "slow waves"] = loss.low, loss.high
    return found


def coverage(
    n_dates: int, n_histories: int, figures: Sequence[str], *, leverage: bool
) -> pd.DataFrame:
    """Share of the histories whose limits hold the truth, and on which side the others miss."""
    returns = simulate(n_dates, n_histories, seed=n_dates, leverage=leverage)
    estimates = {name: np.asarray(figure(returns)) for name, figure in FIGURES.items()}
    truths: dict[tuple[str, str], float | Array] = {
        ("sharpe", ""): SHARPE,
        ("var_95", ""): float(performance.value_at_risk(returns.ravel())),
        ("max_drawdown", ""): float(estimates["max_drawdown"].mean()),
        ("max_drawdown", "of another history"): np.append(
            estimates["max_drawdown"][1:], estimates["max_drawdown"][0]
        ),
    }
    every = [intervals(column, figures, seed) for seed, column in enumerate(returns.T)]
    rows = []
    for (name, of), truth in truths.items():
        for method in [method for figure, method in every[0] if figure == name]:
            low, high = np.array([found[name, method] for found in every]).T
            rows.append(
                {
                    "days": n_dates,
                    "leverage": leverage,
                    "figure": f"{name} {of}".strip(),
                    "method": method,
                    "truth": np.mean(truth),
                    "estimate": estimates[name].mean(),
                    "coverage": np.mean((low <= truth) & (truth <= high)),
                    "truth above": np.mean(truth > high),
                    "truth below": np.mean(truth < low),
                    "width": np.mean(high - low),
                    "middle": np.mean((low + high) / 2.0),
                }
            )
    return pd.DataFrame(rows)


def refusals(n_dates: int, n_histories: int, *, leverage: bool) -> pd.DataFrame:
    """Share of the pairs of equals that a test at 5 % calls different, and the intervals' width."""
    market, *own = (
        simulate(n_dates, n_histories, seed=n_dates + k, leverage=leverage) for k in (0, 100, 200)
    )
    drift = DAILY * SHARPE / np.sqrt(performance.PERIODS_PER_YEAR)
    pairs = np.stack([np.sqrt(0.8) * market + np.sqrt(0.2) * (x - drift) for x in own])
    found: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    tails = ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0)
    for seed in range(n_histories):
        pair = pairs[:, :, seed].T
        block = max(optimal_block_length(np.abs(column)) for column in pair.T)
        for name in ("var_95", "max_drawdown"):
            drawn = bootstrap_samples(
                FIGURES[name], pair, n_bootstrap=N_BOOT, block_length=block, seed=seed
            )
            low, high = np.quantile(drawn[:, 0] / drawn[:, 1] - 1.0, tails)
            found.setdefault((name, "percentile"), []).append((low > 0 or high < 0, high - low))
        (gap,) = value_at_risk_changes(pair[:, 0], pair[:, 1], level=LEVEL)
        row = (gap.low > 0 or gap.high < 0, gap.high - gap.low)
        found.setdefault(("var_95", "slow waves"), []).append(row)
    return pd.DataFrame(
        [
            {"days": n_dates, "leverage": leverage, "change of": name, "method": method}
            | dict(zip(("called different", "width"), np.mean(rows, axis=0), strict=True))
            for (name, method), rows in found.items()
        ]
    )


def main() -> None:
    """Print the table of both kinds of return and both lengths."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--days", nargs="+", type=int, default=(2770, 1250))
    parser.add_argument("--pairs", action="store_true", help="compare two strategies instead")
    options = parser.parse_args()
    parts = [
        refusals(n_dates, options.histories, leverage=leverage)
        if options.pairs
        else coverage(n_dates, options.histories, options.figures, leverage=leverage)
        for n_dates in options.days
        for leverage in (False, True)
    ]
    print(pd.concat(parts, ignore_index=True).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
