"""Settings and timing: gaps, purge, the close that is traded at, costs."""

from __future__ import annotations

import numpy as np

from alphakeel.audit.findings import Finding, day_text, leak, ok, warn
from alphakeel.audit.replay import Prepared
from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import INTERPOLATED
from alphakeel.results import Study

__all__ = ["check_costs", "check_execution", "check_gaps", "check_purge"]


def check_gaps(base: Prepared) -> Finding:
    """Straight lines across gaps are drawn from the later end."""
    if base.plan.config.cleaning.gap_fill != "interpolate":
        return ok("gaps", "gaps are filled from the past (cleaning.gap_fill = carry).")
    changes = base.ledger.to_frame()
    drawn = changes[changes["rule"] == INTERPOLATED]
    text = "cleaning.gap_fill = interpolate draws gaps from later values"
    if drawn.empty:
        return warn("gaps", f"{text}; these data have no gap that it could fill: use carry.")
    first = drawn.sort_values("date").iloc[0]
    return leak(
        "gaps",
        f"{text}: {len(drawn)} values, the first {first['field']} of {first['ticker']} on "
        f"{day_text(first['date'])}; use carry.",
        factor=str(first["field"]),
        date=day_text(first["date"]),
        ticker=str(first["ticker"]),
    )


def check_purge(study: Study) -> Finding:
    """The label of a training row must be known before the first test row."""
    target = study.config.target
    reach = target.lag + max(target.horizons)
    slack = []
    for number, fold in enumerate(study.folds, start=1):
        last = int(np.searchsorted(study.dates, fold.train[1]))
        first = int(np.searchsorted(study.dates, fold.test[0]))
        slack.append(first - last - reach)
        if last + reach >= first:
            known = day_text(study.dates[min(last + reach, len(study.dates) - 1)])
            return leak(
                "purge",
                f"fold {number} trains on labels of {day_text(fold.train[1])} that are known on "
                f"{known} only, and tests from {day_text(fold.test[0])}: purge at least {reach} "
                "days between them.",
                date=day_text(fold.train[1]),
            )
    return ok(
        "purge",
        f"the last training label of every fold is known {min(slack)} days or more before its "
        f"test begins (labels reach {reach} days).",
    )


def check_execution(study: Study) -> Finding:
    """Nobody trades at the close that the decision needs."""
    lag = study.config.target.lag
    rows = study.decisions[study.decisions >= study.test.start] - study.test.start
    if lag < 1:
        day = day_text(study.dates[study.test.start])
        return leak(
            "execution",
            f"target.lag is {lag}: trades are made at the very close that the decision reads.",
            date=day,
        )
    for label, ledger in study.strategies.items():
        traded = np.flatnonzero(ledger.turnover > 0.0)
        early = traded[~np.isin(traded, rows + lag) & (ledger.forced_sales[traded] == 0)]
        if len(early):
            day = day_text(study.dates[study.test][early[0]])
            return leak(
                "execution",
                f"{label} trades on {day}, which is not {lag} day after any decision: "
                "the backtest trades before it can.",
                date=day,
            )
    return ok("execution", f"every trade is made at the close {lag} day after its decision.")


def check_costs(config: StudyConfig) -> Finding:
    """A study without costs flatters whatever trades most."""
    side = config.costs.cost_per_side
    if side == 0.0:
        return warn("costs", "costs.cost_per_side is 0: what trades most looks best.")
    return ok("costs", f"trades cost {1e4 * side:g} basis points a side.")
