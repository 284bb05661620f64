"""What to hold after the close of a day, what to trade for it, at what risk, and why.

The target weights are those of the backtest (`live.replay`); everything else here explains them or
turns them into orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.market_rules import CN_LOT
from alphakeel.config import COMBINED
from alphakeel.errors import ConfigError, DataError
from alphakeel.evaluation.recommendation import NOTHING
from alphakeel.live.explanation import limits_table, reads_past, reasons_of, volatility_of
from alphakeel.live.orders import (
    Account,
    OrderTerms,
    order_shares,
    read_account,
    shares_of,
    split_notes,
)
from alphakeel.live.replay import (
    MEMORY,
    Replay,
    explained_from,
    later_fits,
    plan_of,
    refit,
    replay,
    same_past,
)
from alphakeel.model_factory import EQUAL_WEIGHT
from alphakeel.pipeline.strategies import hedge
from alphakeel.provenance import hash_panel
from alphakeel.risk.stress import drawdown_fan
from alphakeel.risk.value_at_risk import scenario_var
from alphakeel.storage.saved_runs import SavedRun, open_run

__all__ = ["DailyDecision", "decide", "decide_and_replay", "live_folder", "strategy_of"]

Floats = npt.NDArray[np.float64]

# Share of next years whose drawdown stays under the one that is named.
DRAWDOWN_LEVEL = 0.95
YEAR = 252
# Days in which a split of what is held is said: holdings may have been written down before it.
SPLIT_DAYS = 21
ADJUSTED_ONLY = (
    "The data have adjusted prices only: shares are counted at the last of them, the price that is "
    "traded if nothing was adjusted since."
)


@dataclass(frozen=True, eq=False)
class DailyDecision:
    """What to hold after the close of a day, and the orders that lead there.

    Attributes
    ----------
    run : str
        Name of the run.
    strategy : str
        Label of the strategy; ``"Cash"`` where nothing is recommended.
    reason : str
        Why this strategy, in one sentence.
    day : datetime64[D]
        The last day of the data: nothing later is known.
    decided : datetime64[D]
        The day of the decision that is in force.
    new : bool
        Whether it was made on `day`; otherwise the targets are what the portfolio holds by now.
    refit_due : datetime64[D] or None
        The decision from which a newer fit was planned, where it has passed.
    exposure : float
        Of the overlay; 1 without it.
    targets : DataFrame
        ticker, weight, score, and what speaks most for and against (`for_1` to `against_3`); by
        weight.
    orders : DataFrame or None
        ticker, side, shares, price, value, cost, note; None where no account was given.
    account : dict of str to float
        wealth, cash, cash_after, cost, turnover; empty without an account.
    risk : dict of str to float
        volatility (a year), var_95 and cvar_95 (of a day), drawdown_95 (of the next year, stayed
        under in 19 of 20), var_95_held (of the next day, of what the backtest holds before this
        trade), fractions; NaN where the past is too short.
    limits : DataFrame
        limit, allowed, before, after.
    warnings : tuple of str
    scores : dict of str to float
        Of every stock that was scored at the decision.
    data_hash : str
        SHA-256 of the data.
    hedge : dict of str to float
        Where the settings hedge the strategy: beta, and as shares of wealth what the stocks and
        the index sold short are then worth (`stocks`, `short`); empty otherwise.
    """

    run: str
    strategy: str
    reason: str
    day: np.datetime64
    decided: np.datetime64
    new: bool
    lag: int
    refit_due: np.datetime64 | None
    exposure: float
    targets: pd.DataFrame
    orders: pd.DataFrame | None
    account: dict[str, float]
    risk: dict[str, float]
    limits: pd.DataFrame
    warnings: tuple[str, ...]
    scores: dict[str, float]
    data_hash: str
    hedge: dict[str, float] = field(default_factory=dict)

    @property
    def hedge_text(self) -> str:
        """The hedge in a sentence; empty without one."""
        if not self.hedge:
            return ""
        return (
            f"To hedge: hold these stocks with {self.hedge['stocks']:.1%} of wealth, and sell the "
            f"market index short for {self.hedge['short']:.1%} of it (beta "
            f"{self.hedge['beta']:.2f})."
        )

    @property
    def weights(self) -> dict[str, float]:
        """Target weight by ticker, without those of zero."""
        return dict(zip(self.targets["ticker"], self.targets["weight"], strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the same decision gives the same text."""
        return {
            "run": self.run,
            "strategy": self.strategy,
            "reason": self.reason,
            "day": str(self.day),
            "decided": str(self.decided),
            "new": self.new,
            "lag": self.lag,
            "refit_due": None if self.refit_due is None else str(self.refit_due),
            "exposure": self.exposure,
            "risk": {name: _number(value) for name, value in self.risk.items()},
            "account": self.account,
            "targets": _records(self.targets),
            "orders": None if self.orders is None else _records(self.orders),
            "limits": _records(self.limits),
            "warnings": list(self.warnings),
            "scores": self.scores,
            "data_hash": self.data_hash,
            "hedge": {name: _number(value) for name, value in self.hedge.items()},
        }


def decide(
    run: SavedRun | str | Path,
    panel: AssetPanel,
    holdings: Account | Mapping[str, float] | str | Path | None = None,
    *,
    cash: float | None = None,
    strategy: str | None = None,
    day: np.datetime64 | str | None = None,
    min_trade: float = 0.0,
    keep_cash: float = 0.0,
    fractional: bool = False,
    refit_now: bool = False,
    owned: bool = False,
) -> DailyDecision:
    """Decide what to hold after the last close, with the saved fits of a run.

    The decision is that of the run's own walk-forward, continued to the last day of the data: on
    any day of the backtest it is the backtest's, to the bit.

    Parameters
    ----------
    run : SavedRun or path
        The folder of a run that `alphakeel run` or `save_run` made.
    panel : AssetPanel
        The data of the run and what came after.
    holdings : Account, mapping, or path, optional
        Shares by ticker, or a CSV file with the columns ticker and shares.
    cash : float, optional
        Besides the shares; by default what the file says, or nothing.
    strategy : str, optional
        A label such as ``"LSTM + overlay"`` or a model's name such as ``"lstm+overlay"``; by
        default the recommended one (`evaluation.recommendation`).
    day : date, optional
        Decide as of this day; later rows are not read.
    min_trade, keep_cash : float, default=0.0
        Smallest order, and cash that is not invested, in currency.
    fractional : bool, default=False
        Trade fractions of a share.
    refit_now : bool, default=False
        Fit anew where the date of the next fit has passed, and keep the fit beside the run.
    owned : bool, default=False
        The panel is given away: its fields are taken out of it as they are used, which leaves
        more memory.

    Returns
    -------
    DailyDecision

    Raises
    ------
    ConfigError
        If the run was made with other versions, or has no such strategy.
    DataError
        If the run, the data or the holdings cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> config = ak.StudyConfig(models=("linear",), report=ak.ReportConfig(n_bootstrap=100))
    >>> study = ak.run_study(panel, config)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = ak.save_run(study, place)
    ...     decision = ak.decide(folder, panel, cash=1e5, strategy="linear")
    >>> decision.strategy, len(decision.orders) > 0, str(decision.day) == str(study.dates[-1])
    ('Linear', True, True)
    """
    return decide_and_replay(
        run,
        panel,
        holdings,
        cash=cash,
        strategy=strategy,
        day=day,
        min_trade=min_trade,
        keep_cash=keep_cash,
        fractional=fractional,
        refit_now=refit_now,
        recent=True,
        owned=owned,
    )[0]


def decide_and_replay(
    run: SavedRun | str | Path,
    panel: AssetPanel,
    holdings: Account | Mapping[str, float] | str | Path | None,
    *,
    cash: float | None,
    strategy: str | None,
    day: np.datetime64 | str | None,
    min_trade: float,
    keep_cash: float,
    fractional: bool,
    refit_now: bool,
    recent: bool,
    owned: bool = False,
) -> tuple[DailyDecision, Replay]:
    """As `decide`, with the replay that it rests on; without `recent` a monitor can go on from it.

    Nothing is asked of the replay of cash.
    """
    opened = run if isinstance(run, SavedRun) else _opened(run)
    label, reason = strategy_of(opened, strategy)
    account = _account(holdings, cash)
    with ThreadPoolExecutor(1) as beside:  # hashing keeps to one core
        hashed = beside.submit(hash_panel, panel)
        same = same_past(opened, panel, hashed.result)
    own = _replayed(
        opened,
        panel,
        label,
        day,
        panel_hash=hashed.result(),
        refit_now=refit_now,
        same=same,
        recent=recent,
        owned=owned,
    )
    terms = OrderTerms(
        lot=CN_LOT if own.config.costs.preset == "cn" else 1,
        fractional=fractional,
        min_trade=min_trade,
        keep_cash=keep_cash,
        borrow=0.0 if own.portfolio.margin.short else own.portfolio.margin.max_gross - 1.0,
        short=own.portfolio.margin.short,
    )
    return _decision(own, label, reason, account, terms, same=same), own


def strategy_of(run: SavedRun, strategy: str | None) -> tuple[str, str]:
    """The label of the strategy that is asked for, or else recommended, and why it is that."""
    if strategy is None:
        recommended = run.recommendation()
        return recommended.strategy, recommended.reason
    if strategy.casefold() == NOTHING.casefold():
        return NOTHING, "you chose it."
    return run.label_of(strategy), "you chose it."


def live_folder(run: SavedRun) -> Path:
    """Where what comes after a run is kept: ``live/<run>`` beside it."""
    return run.folder.resolve().parent / "live" / run.name


def _opened(run: object) -> SavedRun:
    if isinstance(run, (str, Path)):
        return open_run(run)
    raise ConfigError(
        f"decide needs the folder of a saved run, not a {type(run).__name__}: "
        "`folder = alphakeel.save_run(study)` makes one."
    )


def _account(
    holdings: Account | Mapping[str, float] | str | Path | None, cash: float | None
) -> Account | None:
    """The account, or None where nothing was said of one."""
    if holdings is None and cash is None:
        return None
    if isinstance(holdings, (str, Path)):
        account = read_account(holdings)
    elif isinstance(holdings, Account):
        account = holdings
    else:
        account = Account({} if holdings is None else dict(holdings))
    if cash is not None and not np.isfinite(cash):
        raise DataError(f"the cash is {cash!r}; give an amount of currency.")
    return account if cash is None else Account(account.shares, float(cash))


def _replayed(
    run: SavedRun,
    panel: AssetPanel,
    label: str,
    day: np.datetime64 | str | None,
    *,
    panel_hash: str,
    refit_now: bool,
    same: bool,
    recent: bool,
    owned: bool,
) -> Replay:
    """The strategy, traded to the day; cash is equal weight of which nothing is held."""
    until = None if day is None else np.datetime64(str(day), "D")
    held = EQUAL_WEIGHT if label == NOTHING else label
    model = run.model_of(held)
    extra = later_fits(run, model, live_folder(run) / "models")
    live, cut = plan_of(run, panel, until, extra, panel_hash=panel_hash)
    if refit_now and live.due and extra:
        refit(live, cut, extra)
        live, cut = plan_of(run, panel, until, extra, panel_hash=panel_hash)
    if owned and cut is not panel:  # only the part goes on
        for name in list(panel.fields)[1:]:
            del panel[name]
    own = replay(run, live, cut, held, extra, same=same, recent=recent, owned=owned)
    decided, decisions = _in_force(own)[1], live.plan.decisions
    if recent and decided < decisions[-1]:  # an older one is to be explained
        at = int(np.searchsorted(decisions, decided, "right")) - 1
        own = explained_from(own, max(0, at + 1 - MEMORY))
    return own


def _decision(
    own: Replay, label: str, reason: str, account: Account | None, terms: OrderTerms, *, same: bool
) -> DailyDecision:
    plan, dataset = own.live.plan, own.dataset
    row = len(dataset.dates) - 1
    weights, decided, new = _in_force(own)
    if label == NOTHING:
        weights = np.zeros_like(weights)
    at = int(np.searchsorted(plan.decisions, decided, "right")) - 1
    assets = [str(name) for name in dataset.assets]
    price = _share_prices(own)
    warnings = () if label == NOTHING else _warnings(own, decided, same=same)
    orders, held, after = None, np.zeros(len(assets)), weights
    account_after: dict[str, float] = {}
    if account is not None:
        shares = shares_of(account, assets, terms)
        orders, account_after, held, after = _orders(
            own, weights, shares, account.cash or 0.0, price, terms
        )
        if account.cash is None:
            warnings = (*warnings, "No cash was given: orders are made as if there were none.")
        if "close" not in dataset.panel.fields:
            warnings = (*warnings, ADJUSTED_ONLY)
        else:
            days = slice(-SPLIT_DAYS - 1, None)
            panel, dates = dataset.panel, dataset.dates[days]
            prices = (panel["close"][days], panel["adj_close"][days])
            warnings = (*warnings, *split_notes(shares, *prices, dates, assets))
    explained = label != NOTHING and own.model is not None
    scores = {} if own.scores is None or not explained else _scores(own.scores[at], assets)
    with ThreadPoolExecutor(1) as beside:  # as long as reasons take
        known = beside.submit(_risk, own, weights)
        targets = _targets(own, weights, at, assets, explained=explained)
        risk = known.result()
    return DailyDecision(
        run=own.run.name,
        strategy=label,
        reason=reason,
        day=dataset.dates[row],
        decided=dataset.dates[decided],
        new=new,
        lag=dataset.lag,
        refit_due=own.live.refit_due if own.model is not None else None,
        exposure=1.0 if own.overlay is None else float(own.overlay.exposure[-1]),
        targets=targets,
        orders=orders,
        account=account_after,
        risk=risk,
        limits=limits_table(own, held, after, label),
        warnings=warnings,
        scores=scores,
        data_hash=plan.panel_hash,
        hedge={} if label == NOTHING else _hedge(own),
    )


def _hedge(own: Replay) -> dict[str, float]:
    """The hedge in force: as decided where that is not traded yet, else what it has become."""
    hedged = own.model is not None or own.label == EQUAL_WEIGHT
    if not own.config.allocation.hedge or own.under or not hedged:
        return {}
    held, simulator = hedge(own.portfolio, own.simulator, own.config), own.simulator
    decided = np.flatnonzero(np.isfinite(held.beta))
    if not len(decided):
        return {}
    latest = int(decided[-1])
    beta = float(held.beta[latest])
    if latest + simulator.lag > len(held.beta) - 1:
        stocks = 1.0 / (1.0 + own.config.costs.hedge_margin * max(beta, 0.0))
        return {"beta": beta, "stocks": stocks, "short": max(beta, 0.0) * stocks}
    return {"beta": beta, "stocks": float(held.scale[-1]), "short": float(held.hedge[-1])}


def _in_force(own: Replay) -> tuple[Floats, int, bool]:
    """Weights to hold, the day that they were decided on, and whether that is the last day.

    A decision that is not traded yet is a target; one that is traded has become holdings, which
    drift with the prices until the next.
    """
    targets, start = own.portfolio.targets, own.simulator.start
    rows = np.flatnonzero(~np.isnan(targets).all(axis=1))
    if not len(rows):
        return np.zeros(targets.shape[1]), own.live.plan.test.start, False
    latest, last = int(rows[-1]), len(targets) - 1
    pending = latest + own.simulator.lag > last
    weights = targets[latest] if pending else own.portfolio.ledger.weights[-1]
    return np.array(weights), start + latest, latest == last


def _share_prices(own: Replay) -> Floats:
    """Price of a share of every stock, (n_assets,): the last one known, as traded if given."""
    panel = own.dataset.panel
    if "close" not in panel.fields:
        return np.array(own.dataset.last_price[-1])
    close = np.asarray(panel["close"], dtype=np.float64)
    last = np.array(close[-1])
    for column in np.flatnonzero(np.isnan(last)):
        known = close[np.isfinite(close[:, column]), column]
        last[column] = known[-1] if len(known) else np.nan
    return last


def _orders(
    own: Replay,
    weights: Floats,
    shares: Floats,
    cash: float,
    price: Floats,
    terms: OrderTerms,
) -> tuple[pd.DataFrame, dict[str, float], Floats, Floats]:
    """Orders, the account around them, and the weights held before and after."""
    assets = own.dataset.assets
    unpriced = (shares != 0.0) & ~np.isfinite(price)
    if unpriced.any():
        name = assets[int(np.argmax(unpriced))]
        raise DataError(f"the holdings have {name}, and the data have no price of it on any day.")
    market, flat = own.simulator.market, ProportionalCost(own.simulator.cost_per_side)
    last = len(own.simulator.price) - 1

    def charge(trades: Floats) -> Floats:
        return np.asarray(
            flat.charge(trades, 0) if market is None else market.cost.charge(trades, last)
        )

    tradable = np.asarray(own.simulator.tradable[-1])
    bought = order_shares(
        weights, shares, price, cash, terms=terms, charge=charge, tradable=tradable
    )
    known = np.where(np.isfinite(price), price, 0.0)
    value = bought * known
    costs = charge(value)
    wealth = float(cash + shares @ known)
    after = wealth - float(costs.sum())
    chosen = np.flatnonzero((bought != 0.0) | (_stuck(weights, shares, tradable)))
    rows = [
        {
            "ticker": str(assets[k]),
            "side": "buy" if bought[k] > 0.0 else "sell" if bought[k] < 0.0 else "",
            "shares": abs(float(bought[k])),
            "price": float(price[k]),
            "value": abs(float(value[k])),
            "cost": float(costs[k]),
            "note": _note(own, k, float(bought[k]), abs(float(value[k])), tradable=tradable[k]),
        }
        for k in chosen.tolist()
    ]
    columns = ["ticker", "side", "shares", "price", "value", "cost", "note"]
    table = pd.DataFrame(rows, columns=columns).sort_values(
        ["side", "value", "ticker"], ascending=[False, False, True], ignore_index=True
    )
    account = {
        "wealth": wealth,
        "cash": float(cash),
        "cash_after": float(cash) - float(value.sum()) - float(costs.sum()),
        "cost": float(costs.sum()),
        "turnover": float(np.abs(value).sum()) / wealth if wealth > 0.0 else 0.0,
    }
    before = shares * known / wealth if wealth > 0.0 else np.zeros_like(known)
    then = (shares + bought) * known / after if after > 0.0 else np.zeros_like(known)
    return table, account, before, then


def _stuck(weights: Floats, shares: Floats, tradable: npt.NDArray[np.bool_]) -> Any:
    """Stocks that are held or wanted and cannot be traded."""
    return ~tradable & ((weights != 0.0) | (shares != 0.0))


def _note(own: Replay, column: int, shares: float, value: float, *, tradable: bool) -> str:
    """What may stand in the way of an order."""
    if not tradable:
        return "suspended or delisted: no price of the day, so no order"
    market = own.simulator.market
    if market is None or shares == 0.0:
        return ""
    rules, notes = market.constraints, []
    if shares > 0.0 and rules.at_up_limit is not None and rules.at_up_limit[-1, column]:
        notes.append("closed at its upper price limit: a buy may not be carried out")
    if shares < 0.0 and rules.at_down_limit is not None and rules.at_down_limit[-1, column]:
        notes.append("closed at its lower price limit: a sale may not be carried out")
    if rules.capacity is not None and value > rules.capacity[-1, column]:
        share = own.config.costs.participation
        notes.append(f"more than {share:.0%} of the day's traded value: take several days")
    return "; ".join(notes)


def _targets(
    own: Replay, weights: Floats, at: int, assets: list[str], *, explained: bool
) -> pd.DataFrame:
    """Target weights that are not zero, the largest first, with score and reasons."""
    chosen = np.flatnonzero(weights)
    chosen = chosen[np.argsort(-np.abs(weights[chosen]), kind="stable")]
    table = pd.DataFrame(
        {
            "ticker": [assets[k] for k in chosen],
            "weight": [float(weights[k]) for k in chosen],
            "score": [
                float(own.scores[at, k]) if own.scores is not None and explained else np.nan
                for k in chosen
            ],
        }
    )
    reasons = reasons_of(own, at, chosen) if explained else {}
    for side in ("for", "against"):
        for n in range(3):
            table[f"{side}_{n + 1}"] = [reasons.get(int(k), {}).get((side, n), "") for k in chosen]
    return table


def _risk(own: Replay, weights: Floats) -> dict[str, float]:
    """Expected risk of the target weights, and the drawdown that a next year may bring."""
    returns, last = own.dataset.returns, len(own.dataset.returns) - 1
    at, ledger = np.array([last]), own.portfolio.ledger
    nan = float("nan")
    if not weights.any():
        names = ("volatility", "var_95", "cvar_95", "drawdown_95", "var_95_held")
        return dict.fromkeys(names, 0.0)
    # The backtest's own forecast, which follows its exceedances, for these weights.
    base = scenario_var(ledger.weights[-1:], returns, at)
    scale = float(own.risk.var[-1] / base.var[0]) if base.var[0] > 0.0 else 1.0
    tail = scenario_var(weights[None], returns, at)
    scale = scale if np.isfinite(scale) else 1.0
    earned = ledger.net_returns
    drawdown = nan
    if len(earned) > YEAR and (earned > -1.0).all():
        fan = drawdown_fan(earned, horizon=YEAR, levels=(DRAWDOWN_LEVEL,), seed=own.config.seed)
        drawdown = float(fan.bounds[0])
    return {
        "volatility": volatility_of(weights, returns),
        "var_95": float(tail.var[0] * scale),
        "cvar_95": float(tail.cvar[0] * scale),
        "drawdown_95": drawdown,
        "var_95_held": float(own.risk.var[-1]),
    }


def _warnings(own: Replay, decided: int, *, same: bool) -> tuple[str, ...]:
    """What the reader should know before acting."""
    plan, out = own.live.plan, []
    if own.model is not None and own.live.refit_due is not None:
        out.append(
            f"A newer fit was planned from {own.live.refit_due} on and has not been made: the "
            f"targets are those of the fit before. {_cure(own)}"
        )
    if not same:
        out.append(
            f"The data up to {own.run.about['data_end']} are not those that the run was made on "
            "(values were revised or re-adjusted, or stocks added or lost): the past was replayed "
            "on the new ones."
        )
    if own.model == COMBINED:
        members = ", ".join(own.config.members)
        out.append(
            "The combined model has no factors of its own that speak for or against a stock: ask "
            f"for the decision of a member ({members}) to see those."
        )
    if reads_past(own.forecaster):
        out.append(
            "Your own model may read earlier dates and other stocks: which factors speak for or "
            "against a stock is not known."
        )
    if decided < len(plan.dates) - 1:
        out.append(
            f"Nothing was decided on {plan.dates[-1]}: the last decision is of "
            f"{plan.dates[decided]}, and the targets are what it has become."
        )
    return tuple(out)


def _cure(own: Replay) -> str:
    """What makes a newer fit."""
    fitted = own.run.fitted(own.model) if own.model is not None else ()
    if set(own.run.own_models).isdisjoint(fitted):
        return "--refit makes it."
    return "Run the study again to have it: fits of your own models are not saved."


def _scores(row: npt.NDArray[Any], assets: list[str]) -> dict[str, float]:
    return {assets[k]: float(row[k]) for k in np.flatnonzero(np.isfinite(row))}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): _number(v) for k, v in row.items()} for row in table.to_dict("records")]


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
