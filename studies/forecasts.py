"""Better forecasts, each tried on one period that is set aside for it, all of them in one table.

The period is 2010 to 2013 of the 1,000 most traded A shares; training is from 2005, folds are
yearly, nothing after 2013 is read. Every trial is a model that differs in one thing from the plain
LSTM, or a mean of the ranks of several models. It is compared with the plain LSTM and with the
linear model by the difference of Rank ICs on the same stocks and days. Its portfolio (the best
tenth, costs and rules of the market) goes into a ledger of trials, so that no later result is taken
for a first.

    python studies/forecasts.py DATA/cn_all                       # every trial, about an hour
    python studies/forecasts.py DATA/cn_all --only lightgbm "cross-stock attention"
    python studies/forecasts.py DATA/cn_all --confirm --only ...  # 2014 to 2016, what was chosen

Scores are kept in `--out`, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

import alphakeel as ak
from alphakeel.config import StudyConfig, config_to_dict, load_config
from alphakeel.evaluation.ic_differences import ic_difference_table
from alphakeel.factors.base import standardise
from alphakeel.factors.targets import rank_forward
from alphakeel.models import networks, sequence
from alphakeel.models.persistence import fingerprint
from alphakeel.pipeline.choices import fit_inputs
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import fit_and_score
from alphakeel.pipeline.model_results import Forecast
from alphakeel.pipeline.plan import Plan
from alphakeel.selection.cross_validation import rank_ic_of, trade_block
from alphakeel.selection.trial_log import TrialLedger, TrialRecord, rounded_returns
from alphakeel.stats import performance
from alphakeel.stats.cross_section import rank_scaled
from alphakeel.stats.newey_west import newey_west_interval

Array = NDArray[np.float64]

HERE = Path(__file__).parent
HORIZONS = (5, 20, 60)
PLAIN, LINEAR = "LSTM", "linear"
N_MARKET = 12  # market series, the last inputs of a network


class CrossStockNetwork(networks.LSTMNetwork):
    """An LSTM whose states of a date attend to those of all stocks of that date.

    Values start at zero, so that training begins at the plain LSTM. Stocks whose factors are all
    zero are not in the sample of the date, and nobody attends to them.
    """

    def __init__(
        self, n_inputs: int, n_heads: int, *, hidden: int, generator: Generator, **shape: Any
    ) -> None:
        super().__init__(n_inputs, n_heads, hidden=hidden, generator=generator, **shape)
        self.query, self.key = (nn.Parameter(torch.empty(hidden, hidden)) for _ in range(2))
        self.value = nn.Parameter(torch.zeros(hidden, hidden))
        drawn = [("query", self.query), ("key", self.key)]
        networks.draw_uniform(drawn, hidden**-0.5, generator)

    def forward(
        self,
        inputs: Tensor,
        state: networks.State | None = None,
        noise: Generator | None = None,
    ) -> tuple[Tensor, networks.State]:
        """As `SequenceNetwork.forward`."""
        there = inputs[..., :-N_MARKET].abs().sum(-1) > 0
        x = networks.apply_dropout(inputs, self.dropout, noise)
        h, ends = networks.recur(self.layers, x, state, self.dropout, noise)
        known = there.any(0).nonzero()[:, 0]  # the others neither attend nor are attended to
        own = h[:, known]
        match = (own @ self.query) @ (own @ self.key).transpose(1, 2) / h.shape[-1] ** 0.5
        weights = torch.softmax(match.masked_fill(~there[:, None, known], -1e9), dim=-1)
        h = h.index_add(1, known, weights @ (own @ self.value))
        return nn.functional.linear(h, self.head_weight, self.head_bias), ends


class CrossStockForecaster(sequence.LSTMForecaster):
    """The LSTM's forecaster with that network."""

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> CrossStockNetwork:
        return CrossStockNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


@dataclass(frozen=True)
class Fitted:
    """How a trial's model is fitted on each fold.

    Attributes
    ----------
    model : str
    config : callable
        The settings, from the common ones.
    dataset : callable, optional
        The data, from the common ones; by default those. Factors at their end that the common ones
        lack are given beside those that the screen selects.
    own_data : bool
        Whether data and folds are to be made anew by these settings.
    skipped : float
        Share of the first training decisions that is left out.
    network : type, optional
        Forecaster in place of the model's.
    """

    model: str = "lstm"
    config: Callable[[StudyConfig], StudyConfig] = lambda config: config
    dataset: Callable[[Period], Dataset] | None = None
    own_data: bool = False
    skipped: float = 0.0
    network: type[sequence.LSTMForecaster] | None = None


def network_of(**settings: Any) -> Callable[[StudyConfig], StudyConfig]:
    """Settings with other ones in section [network]."""
    return lambda config: replace(config, network=replace(config.network, **settings))


class Period:
    """Data, folds and settings of the years of a comparison."""

    def __init__(self, folder: Path, *, confirm: bool) -> None:
        config = load_config(HERE / "cn_top1000.toml")
        first, last = (2014, 2016) if confirm else (2010, 2013)
        test = {"test_start": dt.date(first, 1, 1), "test_end": dt.date(last, 12, 31)}
        self.config = replace(
            config,
            models=("linear", "lstm"),
            target=replace(config.target, unit="return"),
            linear=replace(config.linear, method="auto"),
            walk_forward=replace(config.walk_forward, **test),
            report=replace(config.report, confirm_from=None),
        )
        self.folder = folder
        whole = ak.load_panel(folder, top=1000)
        self.data_hash = Plan.of(whole, self.config, folder.name).panel_hash
        days = np.asarray(whole.observations, dtype="datetime64[D]")
        self.panel = whole[: int((days <= np.datetime64(test["test_end"])).sum())].to_panel()
        self.plan = Plan.of(self.panel, self.config, folder.name)
        self.dataset = prepare_dataset(self.panel, self.plan)
        self._last: tuple[StudyConfig, Plan, Dataset] | None = None
        self.block = slice(self.plan.folds[0].test.start, self.plan.folds[-1].test.stop)

    def prepared(self, config: StudyConfig) -> tuple[Plan, Dataset]:
        """Folds and data by other settings; the last ones are kept for the next trial."""
        if self._last is None or self._last[0] != config:
            self._last = None  # frees the data before others are made
            plan = Plan.of(self.panel, config, self.folder.name)
            self._last = config, plan, prepare_dataset(self.panel, plan)
        return self._last[1:]

    def side_file(self, name: str) -> pd.DataFrame:
        """A table of the data folder."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    @cached_property
    def float_shares(self) -> Array:
        """Shares that may be traded on each day, (n_dates, n_assets)."""
        table = self.side_file("shares")
        days = pd.to_datetime(np.asarray(self.panel.observations))
        wide = table.assign(date=pd.to_datetime(table["date"]))
        wide = wide.pivot(index="date", columns="symbol", values="float_shares")
        wide = wide.reindex(wide.index.union(days)).ffill().reindex(days)
        return wide.reindex(columns=list(self.panel.asset_names)).to_numpy(np.float64)

    def with_factors(self, factors: Mapping[str, Array]) -> Dataset:
        """The data with further factors, (n_decisions, n_assets) each."""
        own = self.dataset
        raw = np.stack(list(factors.values()), axis=-1).astype(np.float32)
        ranked = standardise(raw, own.eligible)
        return replace(
            own,
            raw=np.concatenate([own.raw, raw], axis=-1),
            features=np.concatenate([own.features, ranked], axis=-1),
            names=(*own.names, *factors),
            families=(*own.families, *("further" for _ in factors)),
        )


def with_float(period: Period) -> Dataset:
    """Turnover over the shares that may be traded, their value, and the amount of a week."""
    volume, close = (np.asarray(period.panel[name]) for name in ("volume", "close"))
    turnover, amount = pd.DataFrame(volume / period.float_shares), pd.DataFrame(volume * close)

    def mean(table: pd.DataFrame, window: int) -> Array:
        return table.rolling(window, min_periods=int(0.8 * window)).mean().to_numpy()

    month = mean(turnover, 20)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = {
            "float_turnover_5": np.log(mean(turnover, 5)),
            "float_turnover_20": np.log(month),
            "float_turnover_trend": np.log(month / mean(turnover, 252)),
            "float_turnover_variation": turnover.rolling(20, min_periods=16).std() / month,
            "float_size": np.log(period.float_shares * close),
            "amount_5": np.log(mean(amount, 5)),
        }
    decided = {name: np.asarray(x)[period.dataset.decisions] for name, x in factors.items()}
    return period.with_factors(
        {name: np.where(np.isfinite(x), x, np.nan) for name, x in decided.items()}
    )


def with_reports(period: Period) -> Dataset:
    """P/E, P/B and figures of quarterly reports by publication date; a missing one is made up.

    In these data they are missing for stocks that were delisted later, so that a zero would tell.
    A stock without a figure gets that of another stock, the same one as long as it has one: drawn
    once by chance, it says nothing.
    """
    own = period.dataset
    everything = replace(period.config, factors=replace(period.config.factors, exclude=()))
    full = prepare_dataset(period.panel, Plan.of(period.panel, everything, period.folder.name))
    rng = np.random.default_rng(0)
    donors = [rng.permutation(own.eligible.shape[1]) for _ in range(60)]
    factors = {}
    for name in set(full.names) - set(own.names):
        known = np.where(own.eligible, full.raw[..., full.names.index(name)], np.nan)
        filled = known.copy()
        for order in donors:
            missing = own.eligible & ~np.isfinite(filled)
            filled = np.where(missing, known[:, order], filled)
        if (own.eligible & ~np.isfinite(filled)).any(axis=1).mean() > 0.01:
            sys.exit(f"{name} is known of too few stocks to fill it in")
        factors[name] = filled
    return period.with_factors({name: factors[name] for name in full.names if name in factors})


def neutral_targets(*, sector: bool, size: bool) -> Callable[[Period], Dataset]:
    """Targets that are ranks of what industry, or size and its square, leave of a return's rank."""

    def made(period: Period) -> Dataset:
        own = period.dataset
        industry = np.asarray(period.panel["sector"])[own.decisions]
        with np.errstate(divide="ignore"):
            cap = np.log(np.asarray(period.panel["market_cap"])[own.decisions])
        within = own.sample[own.decisions] & (industry >= 0) & np.isfinite(cap)
        left = np.full(own.forward.shape, np.nan)
        for row, stocks in enumerate(within):
            for horizon in range(left.shape[2]):
                known = np.flatnonzero(stocks & np.isfinite(own.forward[row, :, horizon]))
                if len(known) < 60:
                    continue
                rank = pd.Series(cap[row, known]).rank(pct=True).to_numpy() - 0.5
                columns = [rank, rank**2] if size else []
                columns += (
                    [*pd.get_dummies(industry[row, known]).to_numpy(np.float64).T]
                    if sector
                    else [np.ones(len(known))]
                )
                design = np.column_stack(columns)
                earned = pd.Series(own.forward[row, known, horizon]).rank(pct=True).to_numpy()
                slope = np.linalg.lstsq(design, earned, rcond=None)[0]
                left[row, known, horizon] = earned - design @ slope
        return replace(own, targets=rank_forward(left, own.sample[own.decisions], None))

    return made


def data_of(**settings: Any) -> Callable[[StudyConfig], StudyConfig]:
    """Settings with other ones in sections of which data and folds are made."""
    return lambda config: replace(
        config,
        **{name: replace(getattr(config, name), **own) for name, own in settings.items()},
    )


# Trained and scored on every day, in sequences as long in days; compared, and traded, on weeks.
DAILY = data_of(walk_forward={"rebalance": 1}, network={"chunk": 520, "burn_in": 130})

FITS: dict[str, Fitted] = {
    LINEAR: Fitted("linear"),
    PLAIN: Fitted(),
    "GRU": Fitted("gru"),
    "LSTM + attention": Fitted("attention"),
    "LightGBM": Fitted("lightgbm"),
    "cross-stock attention": Fitted(network=CrossStockForecaster),
    "10 seeds": Fitted(config=network_of(n_seeds=10)),
    "longer chunks (208)": Fitted(config=network_of(chunk=208)),
    "150 steps": Fitted(config=network_of(max_steps=150)),
    "300 stocks a batch": Fitted(config=network_of(batch_assets=300)),
    "LSTM, every day": Fitted(config=DAILY, own_data=True),
    "horizons 5, 20, 60": Fitted(config=data_of(target={"horizons": (5, 20, 60)}), own_data=True),
    "return for risk": Fitted(config=data_of(target={"unit": "volatility"}), own_data=True),
    "residuals of the linear model": Fitted(
        config=data_of(target={"networks": "residuals"}, linear={"method": "ridge", "alpha": 0.1})
    ),
    "without the first sixth": Fitted(skipped=1 / 6),
    "without the first third": Fitted(skipped=1 / 3),
    "industry-neutral target": Fitted(dataset=neutral_targets(sector=True, size=False)),
    "size-neutral target": Fitted(dataset=neutral_targets(sector=False, size=True)),
    "industry- and size-neutral target": Fitted(dataset=neutral_targets(sector=True, size=True)),
    "turnover over float": Fitted(dataset=with_float),
    "quarterly reports": Fitted(dataset=with_reports),
    "linear, every day": Fitted("linear", config=DAILY, own_data=True),
    "LightGBM, every day": Fitted("lightgbm", config=DAILY, own_data=True),
    "linear, ridge fixed at 10": Fitted(
        "linear", config=data_of(linear={"method": "ridge", "alpha": 10.0})
    ),
    "linear, size-neutral target": Fitted(
        "linear", dataset=neutral_targets(sector=False, size=True)
    ),
    "linear, turnover over float": Fitted("linear", dataset=with_float),
    "linear, quarterly reports": Fitted("linear", dataset=with_reports),
}
# Means of the ranks of several.
MEANS: dict[str, tuple[str, ...]] = {
    "linear, LSTM": (LINEAR, PLAIN),
    "LSTM, LightGBM": (PLAIN, "LightGBM"),
    "linear, LSTM, LightGBM": (LINEAR, PLAIN, "LightGBM"),
    "LSTM, GRU, LSTM + attention": (PLAIN, "GRU", "LSTM + attention"),
    "three starts of training": (PLAIN, "without the first sixth", "without the first third"),
    "linear, LSTM, every day": ("linear, every day", "LSTM, every day"),
    "LSTM, LightGBM, every day": ("LSTM, every day", "LightGBM, every day"),
    "linear, residuals": (LINEAR, "residuals of the linear model"),
}


def fitted_scores(period: Period, fitted: Fitted) -> Array:
    """Scores of a model on the test, fitted on each fold; NaN elsewhere, and out of the sample."""
    config = fitted.config(period.config)
    plan, dataset = period.plan, period.dataset
    if fitted.own_data:
        plan, dataset = period.prepared(config)
    elif fitted.dataset is not None:
        dataset = fitted.dataset(period)
    further = dataset.names[len(period.dataset.names) :]
    out = np.full(dataset.eligible.shape, np.nan)
    for fold in plan.folds:
        train = np.arange(len(dataset.decisions))[fold.train]
        known = train[train >= dataset.first]
        train = known[round(fitted.skipped * len(known)) :] if fitted.skipped else train
        read = fit_inputs(dataset, train, fitted.model, config)  # with a ridge that is chosen
        names = tuple(dict.fromkeys((*read.names, *further)))
        if fitted.network is None:
            made = fit_and_score(dataset, train, fold.test.stop, names, fitted.model, read.config)
            scores = made.scores
        else:
            scores = scores_of(fitted.network, dataset, train, fold.test.stop, names, config)
        out[fold.test] = scores[fold.test]
    out[~dataset.eligible] = np.nan
    return out[np.isin(dataset.decisions, period.dataset.decisions)]


def scores_of(
    network: type[sequence.LSTMForecaster],
    dataset: Dataset,
    train: NDArray[np.intp],
    until: int,
    names: Sequence[str],
    config: StudyConfig,
) -> Array:
    """What `fit_and_score` gives, of a forecaster that has no name in the settings."""
    if len(dataset.market_names) != N_MARKET:
        sys.exit(f"the network takes {N_MARKET} market series, not {len(dataset.market_names)}")
    features = dataset.features_of(names, slice(until))
    stocks = np.flatnonzero(dataset.eligible[train].any(axis=0))
    model = network(**config.network.keywords(without=("rows",)), seed=config.seed)
    model.fit(
        features[train][:, stocks],
        dataset.targets[train][:, stocks],
        mask=dataset.eligible[train][:, stocks],
        market=dataset.market[train],
    )
    return model.predict(features, mask=dataset.eligible[:until], market=dataset.market[:until])


class Trials:
    """Trials of a period: scores kept in a folder, portfolios in a ledger."""

    def __init__(self, period: Period, folder: Path, ledger: TrialLedger) -> None:
        self.period, self.ledger = period, ledger
        years = f"{period.config.walk_forward.test_start:%Y}-{period.data_hash[:12]}"
        self.folder = folder / years
        self.folder.mkdir(parents=True, exist_ok=True)

    def scores(self, name: str) -> Array:
        """Scores of a trial, (n_decisions, n_assets); NaN outside the test."""
        if name in MEANS:
            own = [self.scores(member) for member in MEANS[name]]
            return np.mean([rank_scaled(x, np.isfinite(x)) for x in own], axis=0)
        path = self.folder / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        began = time.process_time()
        made = fitted_scores(self.period, FITS[name])
        print(f"  {name}: {time.process_time() - began:.0f} CPU s", file=sys.stderr, flush=True)
        np.save(path, made)
        return made

    def record(self, name: str) -> TrialRecord:
        """Trade a trial's scores as a study does, and enter it into the ledger."""
        period, dataset = self.period, self.period.dataset
        key = fingerprint(period.data_hash, config_to_dict(period.config), "forecasts", name)
        known = self.ledger.find(key)
        if known is not None:
            return known
        forecast = Forecast(self.scores(name).astype(np.float32), None, None, None)
        volatility = dataset.volatility[period.block]
        traded = trade_block(
            dataset, forecast, volatility, period.block, period.config, overlay=False
        )
        correlation = rank_ic_of(dataset, forecast.scores, period.block)
        mean = float(correlation[np.isfinite(correlation)].mean())
        record = TrialRecord(
            key=key,
            data=period.data_hash,
            source="tune",
            model=name,
            params={"studies/forecasts.py": name},
            complete=True,
            split_rank_ic=[mean],
            rank_ic=mean,
            sharpe=float(performance.sharpe(traded.excess)),
            first=str(dataset.dates[traded.days.start]),
            last=str(dataset.dates[traded.days.stop - 1]),
            returns=rounded_returns(traded.excess),
        )
        self.ledger.add(record)
        return record

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """Rank IC of each trial by horizon, its lead over the plain LSTM and the linear model."""
        period, dataset = self.period, self.period.dataset
        scores = {name: self.scores(name)[period.block] for name in (LINEAR, PLAIN, *names)}
        lags = [dataset.rows_ahead(horizon, period.block) for horizon in HORIZONS]
        known, leads = [], []
        for benchmark in (PLAIN, LINEAR):
            table = ic_difference_table(
                scores,
                benchmark,
                HORIZONS,
                lambda horizon: dataset.forward_of(horizon)[period.block],
                lags=lags,
                level=0.95,
            )
            known.append(table["rank_ic"])
            lead = table[["rank_ic_difference", "rank_ic_difference_t"]]
            lead.columns = [f"over {benchmark}", f"t over {benchmark}"]
            leads.append(lead)
        out = pd.concat([known[0].combine_first(known[1]), *leads], axis=1)
        earned = {name: np.array(self.record(name).returns) for name in scores}
        rows = out.index.get_level_values("model")
        out["Sharpe"] = [float(performance.sharpe(earned[name])) for name in rows]
        gains = {name: newey_west_interval(x - earned[LINEAR]) for name, x in earned.items()}
        year = performance.PERIODS_PER_YEAR
        out["return over linear"] = [year * gains[name].mean for name in rows]
        out["its t"] = [gains[name].t for name in rows]
        return out


def main() -> None:
    """Print the table, and what was tried before on these data."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folder of all A shares")
    parser.add_argument("--only", nargs="+", choices=[*FITS, *MEANS], default=[*FITS, *MEANS])
    parser.add_argument("--confirm", action="store_true", help="2014 to 2016")
    parser.add_argument("--out", type=Path, default=Path("forecasts"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    ledger = TrialLedger(options.out / "trials.jsonl")
    trials = Trials(Period(options.data, confirm=options.confirm), options.out, ledger)
    names = [name for name in options.only if name not in (LINEAR, PLAIN)]
    table = trials.table(names)
    table.to_csv(trials.folder / "table.csv")
    print(table.round(3).to_string())
    print(f"{ledger.count(trials.period.data_hash)} trials on these data in {ledger.path}")


if __name__ == "__main__":
    main()
