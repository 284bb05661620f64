"""The audit: every seeded leak is caught and named, and clean studies raise none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

import alphakeel as ak
from alphakeel.audit import Audit, Finding, run_audit
from alphakeel.audit.evidence import check_targets
from alphakeel.audit.lookahead import all_values, prepare_study
from alphakeel.audit.run import check_costs
from alphakeel.audit.survivorship import (
    check_members,
    check_publication,
    check_restated,
    check_table,
)
from alphakeel.config import (
    CleaningConfig,
    CostConfig,
    FactorConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
)
from alphakeel.data.panel import panel_to_long
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.pipeline import dataset, fitting, plan, screening, strategies
from helpers import run_command, with_fields

ROOT = Path(__file__).resolve().parents[2]

# A few factors and few decisions, so that an audit takes a second.
KEPT = ("momentum_3_1", "reversal_5", "volatility_20", "earnings_yield", "mean_gap_20", "size")
FEW = FactorConfig(exclude=tuple(f.name for f in FACTORS if f.name not in KEPT))
QUICK = StudyConfig(
    models=("linear",),
    factors=FEW,
    cleaning=CleaningConfig(min_history=60),
    walk_forward=WalkForwardConfig(refit_every=100, rebalance=10),
    target=TargetConfig(horizons=(5,)),
    jobs=1,
)

LEAKS = """
import numpy as np
import pandas as pd
from alphakeel import factor

CLOSE = ("adj_close",)


@factor(lookback=2, fields=CLOSE)
def tomorrow(adj_close):
    out = np.full_like(adj_close, np.nan)
    out[:-1] = adj_close[1:] / adj_close[:-1] - 1.0
    return out


@factor(lookback=21, fields=CLOSE)
def centred_mean(adj_close):
    price = pd.DataFrame(adj_close)
    return price / price.rolling(21, center=True, min_periods=5).mean()


@factor(lookback=1, fields=("earnings_to_price",))
def full_sample_zscore(earnings_to_price):
    return (earnings_to_price - np.nanmean(earnings_to_price, axis=0)) / np.nanstd(
        earnings_to_price, axis=0
    )


@factor(lookback=20, fields=CLOSE)
def backfilled(adj_close):
    returns = pd.DataFrame(adj_close).pct_change(fill_method=None)
    return returns.rolling(20).std().bfill()


@factor(lookback=2, fields=("book_to_price",))
def interpolated(book_to_price):
    return pd.DataFrame(book_to_price).interpolate(limit_area="inside")


@factor(lookback=1, fields=CLOSE)
def target_itself(adj_close):
    out = np.full_like(adj_close, np.nan)
    out[:-6] = np.log(adj_close[6:] / adj_close[1:-5])
    return out


@factor(lookback=1, fields=CLOSE)
def share_of_last_price(adj_close):
    return adj_close / adj_close[-1]


@factor(lookback=1, fields=("volume",))
def full_sample_buckets(volume):
    edges = np.nanquantile(volume, np.linspace(0.05, 0.95, 30))
    return np.where(np.isfinite(volume), np.searchsorted(edges, volume), np.nan).astype(float)


@factor(lookback=1, fields=CLOSE)
def peak_to_come(adj_close):
    ahead = pd.DataFrame(adj_close[::-1]).cummax().to_numpy()[::-1]
    return adj_close / ahead


@factor(lookback=252, fields=CLOSE)
def smoothed_both_ways(adj_close):
    price = pd.DataFrame(np.log(adj_close))
    forth = price.ewm(halflife=5).mean()
    return price - forth[::-1].ewm(halflife=5).mean()[::-1]


@factor(lookback=6, fields=CLOSE)
def honest(adj_close):
    out = np.full_like(adj_close, np.nan)
    out[5:] = adj_close[5:] / adj_close[:-5] - 1.0
    return out


@factor(lookback=5, fields=CLOSE)
def more_past_than_said(adj_close):
    return pd.DataFrame(adj_close).pct_change(20, fill_method=None)
"""
LEAKY = (
    "tomorrow",
    "centred_mean",
    "full_sample_zscore",
    "backfilled",
    "interpolated",
    "target_itself",
    "share_of_last_price",
    "full_sample_buckets",
    "peak_to_come",
    "smoothed_both_ways",
)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return ak.simulate_market(
        n_assets=14, n_dates=450, seed=3, delisting_rate=0.1, suspension_rate=0.01
    ).panel


@pytest.fixture(scope="module")
def leaky_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("factors") / "leaks.py"
    path.write_text(LEAKS)
    return path


@pytest.fixture(scope="module")
def of_factors(panel: AssetPanel, leaky_file: Path) -> Audit:
    return run_audit(panel, replace(QUICK, factors=replace(FEW, custom=str(leaky_file))))


@pytest.fixture(scope="module")
def clean_audit(panel: AssetPanel) -> Audit:
    return run_audit(panel, QUICK)


def the_leak(found: Audit, test: str) -> Finding:
    """The one leak of an audit; its test must be the expected one."""
    leaks = found.leaks()
    assert [f.test for f in leaks] == [test], leaks
    return leaks[0]


def prepared(panel: AssetPanel) -> Any:
    return prepare_study(panel, QUICK, [f for f in FACTORS if f.name in KEPT])


def targets_of(panel: AssetPanel) -> list[Finding]:
    base = prepared(panel)
    factors = tuple(f for f in FACTORS if f.name in KEPT)
    return check_targets(base, all_values(base.dataset.panel, factors, base.dataset.names))


class TestSeededFactors:
    @pytest.mark.parametrize("name", LEAKY)
    def test_is_caught_and_named_with_its_date(self, of_factors: Audit, name: str) -> None:
        (finding,) = (f for f in of_factors.findings if f.test == "factors" and f.factor == name)
        assert finding.verdict == "leak"
        assert "reads the future" in finding.evidence
        assert np.datetime64(finding.date) in np.arange("2010-01-01", "2013-01-01", dtype="M8[D]")
        assert finding.ticker.startswith("S")

    def test_how_far_ahead(self, of_factors: Audit) -> None:
        told = {f.factor: f.evidence for f in of_factors.findings if f.test == "factors"}
        assert "at least 1 day ahead" in told["tomorrow"]
        assert "at least 10 days ahead" in told["centred_mean"]
        assert "at least 6 days ahead" in told["target_itself"]

    def test_the_target_is_also_too_good(self, of_factors: Audit) -> None:
        too_good = {f.factor for f in of_factors.leaks() if f.test == "target"}
        assert {"target_itself", "tomorrow"} <= too_good
        assert "honest" not in too_good

    def test_the_honest_one_is_left_alone(self, of_factors: Audit) -> None:
        assert {f.factor for f in of_factors.leaks()} == set(LEAKY)

    def test_an_understated_lookback_is_a_warning(self, of_factors: Audit) -> None:
        (finding,) = (f for f in of_factors.findings if f.factor == "more_past_than_said")
        assert finding.verdict == "warning"
        assert "leaks.py, line" in finding.evidence
        assert "more than its lookback of 5 rows" in finding.evidence

    def test_a_first_row_filled_from_the_second_is_a_leak(
        self, panel: AssetPanel, tmp_path: Path
    ) -> None:
        """No cut reaches it, as they all leave the second row; only the trial of single rows."""
        file = tmp_path / "filled.py"
        file.write_text(
            "from alphakeel import factor\n"
            "@factor(lookback=1, fields=('adj_close',))\n"
            "def filled(adj_close):\n"
            "    out = -adj_close\n"
            "    out[0] = out[min(1, len(out) - 1)]\n"
            "    return out\n"
        )
        config = replace(QUICK, factors=replace(FEW, custom=str(file)))
        found = the_leak(run_audit(panel, config), "factors")
        assert found.factor == "filled"
        assert "filled.py, line" in found.evidence
        assert "reads the future" in found.evidence
        with pytest.raises(ConfigError, match="reads the future"):
            ak.run_study(panel, config)

    def test_a_copy_of_a_factor_is_a_warning(self, panel: AssetPanel, tmp_path: Path) -> None:
        file = tmp_path / "copies.py"
        file.write_text(
            "import numpy as np\n"
            "from alphakeel import factor\n"
            "@factor(lookback=1, fields=('market_cap',))\n"
            "def root_of_size(market_cap):\n"
            "    return -np.sqrt(market_cap)\n"
        )
        found = run_audit(panel, replace(QUICK, factors=replace(FEW, custom=str(file))))
        (copy,) = (f for f in found.findings if f.test == "duplicates")
        assert (copy.verdict, copy.factor) == ("warning", "root_of_size")
        assert "size" in copy.evidence
        assert not found.leaks()


class TestSeededData:
    def test_a_field_that_holds_the_target(self, panel: AssetPanel) -> None:
        price = panel["adj_close"]
        ahead = np.full(price.shape, np.nan)
        ahead[:-6] = np.log(price[6:] / price[1:-5])
        ahead += np.random.default_rng(0).normal(0.0, 0.03, ahead.shape)
        found = targets_of(with_fields(panel, earnings_to_price=ahead))
        assert {f.factor for f in found if f.verdict == "leak"} == {"earnings_yield"}

    def test_a_field_dated_one_day_early(self, panel: AssetPanel) -> None:
        early = panel["market_cap"].copy()
        early[:-1] = early[1:]
        (finding,) = targets_of(with_fields(panel, market_cap=early))
        assert (finding.verdict, finding.factor) == ("leak", "market_cap")
        assert "next day's return" in finding.evidence

    def test_membership_of_the_last_day(self) -> None:
        survivors = ak.simulate_market(n_assets=16, n_dates=600, seed=3, delisting_rate=0.0).panel
        order = survivors["market_cap"][-1].argsort().argsort() >= 8
        today = with_fields(survivors, member=np.broadcast_to(order * 1.0, (600, 16)))
        finding = check_members(today)
        assert (finding.verdict, finding.factor) == ("leak", "member")
        assert finding.date == "2010-01-04"

    def test_membership_dated_early(self, panel: AssetPanel) -> None:
        price = panel["adj_close"]
        later = np.vstack([price[120:], np.repeat(price[-1:], 120, axis=0)]) / price
        member = (later > np.nanmedian(later, axis=1)[:, None]) * 1.0
        finding = check_members(with_fields(panel, member=member))
        assert (finding.verdict, finding.factor) == ("leak", "member")
        assert "too early" in finding.evidence

    def test_membership_by_the_past_is_fine(self, panel: AssetPanel) -> None:
        cap = panel["market_cap"]
        member = (cap > np.nanmedian(cap, axis=1)[:, None]) * 1.0
        assert check_members(with_fields(panel, member=member)).verdict == "ok"

    def test_survivors_are_a_warning(self) -> None:
        survivors = ak.simulate_market(n_assets=8, n_dates=300, delisting_rate=0).panel
        assert check_members(survivors).verdict == "warning"
        cap = survivors["market_cap"]
        member = (cap > np.nanmedian(cap, axis=1)[:, None]) * 1.0
        assert check_members(with_fields(survivors, member=member)).verdict == "warning"

    def test_unlagged_fundamentals(self, panel: AssetPanel) -> None:
        quarters = pd.DatetimeIndex(panel.observations).to_period("Q")
        number = pd.factorize(quarters)[0]
        rng = np.random.default_rng(0)
        earnings = np.exp(rng.normal(0.0, 0.2, (number.max() + 1, panel.n_assets)))[number]
        unlagged = with_fields(panel, earnings_to_price=earnings / panel["market_cap"])
        (finding,) = (f for f in check_publication(unlagged, None) if f.verdict == "leak")
        assert finding.factor == "earnings_to_price"
        assert finding.date[5:7] in ("01", "04", "07", "10")

        # The same figures forty-odd days later, on each stock's own day: as filings are.
        lagged = np.full(earnings.shape, np.nan)
        for stock, delay in enumerate(rng.integers(25, 45, panel.n_assets)):
            lagged[delay:, stock] = earnings[:-delay, stock]
        fine = with_fields(panel, earnings_to_price=lagged / panel["market_cap"])
        assert [f.verdict for f in check_publication(fine, None)] == ["ok"]

    def test_figures_used_before_they_are_public(self, panel: AssetPanel) -> None:
        """A filing table shows what the panel alone cannot: each stock its own early day."""
        days = panel.observations.astype("datetime64[D]")
        rng = np.random.default_rng(0)
        figure = np.ones((panel.n_observations, panel.n_assets))
        reports = []
        for stock, name in enumerate(panel.asset_names):
            for end in range(20 + int(rng.integers(10)), panel.n_observations - 60, 63):
                figure[end + 5 :, stock] *= np.exp(rng.normal(0.0, 0.3))
                reports.append((name, days[end], days[end + 40]))
        table = pd.DataFrame(reports, columns=["symbol", "period_end", "available_date"])
        early = with_fields(panel, earnings_to_price=figure / panel["market_cap"])
        del early.fields["book_to_price"]
        (finding,) = (f for f in check_publication(early, table) if f.verdict == "leak")
        assert finding.factor == "earnings_to_price"
        assert finding.ticker in panel.asset_names
        table["available_date"] = table["period_end"] + np.timedelta64(3, "D")
        assert all(f.verdict == "ok" for f in check_publication(early, table))

    def test_table_of_reports(self) -> None:
        good = pd.DataFrame(
            {
                "ticker": ["A", "A", "B"],
                "period_end": ["2015-03-31", "2015-03-31", "2015-03-31"],
                "available_date": ["2015-05-01", "2015-08-01", "2015-05-04"],
                "eps": [1.0, 1.2, 3.0],
            }
        )
        assert check_table(good) == []
        assert check_table(good.drop(columns="available_date"))[0].verdict == "warning"
        (soon,) = check_table(good.assign(available_date="2015-03-31"))[:1]
        assert (soon.verdict, soon.ticker, soon.date) == ("leak", "A", "2015-03-31")
        (restated,) = check_table(good.assign(available_date="2015-05-01"))
        assert (restated.verdict, restated.ticker) == ("warning", "A")
        assert "restatement" in restated.evidence
        with pytest.raises(DataError, match="ticker"):
            check_table(good.drop(columns="ticker"))

    def test_restated_since_an_earlier_download(self, panel: AssetPanel) -> None:
        then = panel[np.arange(400)].to_panel()
        assert [f.verdict for f in check_restated(panel, then)] == ["ok"]
        # An adjusted close is rescaled by later dividends: its returns are what must stay.
        scaled = with_fields(panel, adj_close=0.5 * panel["adj_close"])
        assert [f.verdict for f in check_restated(scaled, then)] == ["ok"]
        values = panel["book_to_price"].copy()
        stock = int(np.argmax(np.isfinite(values[123])))
        values[123, stock] *= 1.5
        (finding,) = check_restated(with_fields(panel, book_to_price=values), then)
        assert (finding.verdict, finding.factor) == ("leak", "book_to_price")
        assert finding.date == str(panel.observations[123].astype("datetime64[D]"))
        assert finding.ticker == panel.asset_names[stock]


class TestSeededSettings:
    def test_interpolated_gaps(self, panel: AssetPanel) -> None:
        config = replace(QUICK, cleaning=replace(QUICK.cleaning, gap_fill="interpolate"))
        finding = the_leak(run_audit(panel, config), "gaps")
        assert finding.ticker in panel.asset_names
        assert finding.date

    def test_trading_at_the_decision_s_own_close(self, panel: AssetPanel) -> None:
        config = replace(QUICK, target=TargetConfig(horizons=(5,)))
        object.__setattr__(config.target, "lag", 0)  # the settings refuse it
        assert "very close" in the_leak(run_audit(panel, config), "execution").evidence

    def test_no_costs(self) -> None:
        assert check_costs(replace(QUICK, costs=CostConfig(cost_per_side=0.0))).verdict == "warning"
        assert check_costs(QUICK).verdict == "ok"


class TestSeededMachinery:
    """Each step of the study is replaced by one that cheats."""

    def test_scaler_fitted_on_all_rows(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def over_time(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
            known = np.where(mask[..., None], values, np.nan)
            scaled = (known - np.nanmean(known, axis=(0, 1))) / np.nanstd(known, axis=(0, 1))
            return np.nan_to_num(scaled).astype(np.float32)

        monkeypatch.setattr(dataset, "standardise", over_time)
        finding = the_leak(run_audit(panel, QUICK), "scaling")
        assert finding.factor in KEPT
        assert finding.date

    def test_screen_fitted_on_all_rows(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = screening.screen_fold
        monkeypatch.setattr(
            screening,
            "screen_fold",
            lambda data, _train, *settings: honest(data, slice(0, None), *settings),
        )
        finding = the_leak(run_audit(panel, QUICK), "screen")
        assert finding.factor in KEPT
        assert finding.date

    def test_fit_on_test_rows(self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = fitting.fit_and_score

        def cheating(data: Any, train: Any, until: int, *args: Any, **options: Any) -> Any:
            return honest(data, slice(0, until), until, *args, **options)

        monkeypatch.setattr(fitting, "fit_and_score", cheating)
        assert "Linear's score of S" in the_leak(run_audit(panel, QUICK), "scores").evidence

    def test_purge_removed(self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = plan._make_folds
        monkeypatch.setattr(
            plan,
            "_make_folds",
            lambda *args: tuple(
                replace(fold, train=slice(fold.train.start, fold.test.start))
                for fold in honest(*args)
            ),
        )
        found = run_audit(panel, replace(QUICK, target=TargetConfig(horizons=(20,))))
        assert {f.test for f in found.leaks()} >= {"purge"}
        (purge,) = (f for f in found.leaks() if f.test == "purge")
        assert "fold 1" in purge.evidence
        assert purge.date
        # The replay sees the same from the outside: scores, or the screen before them.
        assert {f.test for f in found.leaks()} & {"scores", "screen"}

    def test_weights_that_know_tomorrow(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = strategies.compute_weights

        def cheating(results: Any, volatility: Any, simulator: Any, config: Any) -> Any:
            weights, records = honest(results, volatility, simulator, config)
            early = {name: np.vstack([w[1:], w[-1:]]) for name, w in weights.items()}
            return early, records

        monkeypatch.setattr(strategies, "compute_weights", cheating)
        assert "weight of S" in the_leak(run_audit(panel, QUICK), "weights").evidence

    def test_cleaning_that_knows_tomorrow(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from alphakeel.audit import run

        honest = run.clean

        def cheating(dirty: AssetPanel, **options: Any) -> Any:
            filled = pd.DataFrame(dirty["adj_close"]).bfill().to_numpy()
            return honest(with_fields(dirty, adj_close=filled), **options)

        for module in (run, dataset):
            monkeypatch.setattr(module, "clean", cheating)
        finding = the_leak(run_audit(panel, QUICK), "cleaning")
        assert finding.ticker in panel.asset_names

    def test_training_on_the_test_learns_shuffled_labels(self, panel: AssetPanel) -> None:
        from alphakeel.audit import evidence

        walk = WalkForwardConfig(refit_every=1000, rebalance=5)
        base = prepare_study(panel, replace(QUICK, walk_forward=walk), FACTORS)
        folds = tuple(replace(f, train=f.test) for f in base.plan.folds)
        cheating = replace(base, plan=replace(base.plan, folds=folds))
        finding = evidence.check_shuffled_labels(cheating, np.random.default_rng(0))
        assert finding.verdict == "leak"
        assert evidence.check_shuffled_labels(base, np.random.default_rng(0)).verdict == "ok"


class TestCleanStudies:
    def test_simulated(self, clean_audit: Audit) -> None:
        assert not clean_audit.leaks(), clean_audit.leaks()
        tests = {f.test for f in clean_audit.findings}
        assert tests >= {"factors", "cleaning", "scaling", "screen", "scores", "weights", "purge"}
        assert tests >= {"execution", "shuffled", "lag", "target", "duplicates", "survivorship"}
        assert tests >= {"fundamentals", "gaps", "costs"}

    def test_simulated_with_a_strong_signal(self) -> None:
        strong = ak.simulate_market(n_assets=14, n_dates=450, seed=2, signal=0.2).panel
        found = run_audit(strong, QUICK)
        assert not found.leaks(), found.leaks()

    def test_real_prices_of_a_few_stocks(self) -> None:
        panel = ak.load_bundled("sp500")
        few = panel.isel(observations=np.arange(4000, 4500), assets=np.arange(8))
        every_factor = replace(QUICK, factors=FactorConfig())
        found = run_audit(few, every_factor)
        assert not found.leaks(), found.leaks()

    def test_the_gallery_of_own_factors(self, panel: AssetPanel) -> None:
        gallery = str(ROOT / "examples" / "my_factors.py")
        found = run_audit(panel, replace(QUICK, factors=replace(FEW, custom=gallery)))
        assert not found.leaks(), found.leaks()
        assert all(f.verdict == "ok" for f in found.findings if f.test == "factors")

    def test_progress_and_plain_values(self, panel: AssetPanel, clean_audit: Audit) -> None:
        seen: list[float] = []
        again = run_audit(panel, QUICK, name="demo", on_progress=lambda p: seen.append(p.share))
        assert seen == sorted(seen)
        assert seen[-1] == pytest.approx(1.0)
        assert again.findings == clean_audit.findings, "the same audit twice"
        document = again.to_dict()
        assert document["name"] == "demo"
        assert len(document["findings"]) == len(again.to_frame())


def test_unknown_factor_is_refused(panel: AssetPanel) -> None:
    with pytest.raises(ConfigError, match="no factor"):
        run_audit(panel, replace(QUICK, factors=FactorConfig(exclude=("nonsense",))))


@pytest.fixture(scope="module")
def prices(panel: AssetPanel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prices.csv"
    frame = panel_to_long(panel)[["date", "ticker", "adj_close", "volume"]]
    frame.to_csv(path, index=False)
    return path


class TestCommand:
    SETTINGS = """
models = ["linear"]
[cleaning]
min_history = 60
[walk_forward]
refit_every = 100
rebalance = 10
[target]
horizons = [5]
"""

    def test_a_leak_is_exit_code_3(self, prices: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "import pandas as pd\n"
            "from alphakeel import factor\n"
            "@factor(lookback=1, fields=('adj_close',))\n"
            "def peek(adj_close):\n"
            "    return pd.DataFrame(adj_close).shift(-1).to_numpy() / adj_close\n"
        )
        settings = tmp_path / "study.toml"
        settings.write_text(self.SETTINGS + '[factors]\ncustom = "mine.py"\n')
        done = run_command("audit", "--data", prices, "--config", settings, "--json")
        assert done.exit_code == 3, done.output
        document = json.loads(done.stdout)
        assert document["verdict"] == "leak"
        assert {f["factor"] for f in document["findings"] if f["verdict"] == "leak"} == {"peek"}

    def test_no_leak_is_exit_code_0(self, prices: Path, tmp_path: Path) -> None:
        settings = tmp_path / "study.toml"
        settings.write_text(self.SETTINGS)
        done = run_command("audit", "--data", prices, "--config", settings)
        assert done.exit_code == 0, done.output
        assert "no leak" in done.stdout
        assert "survivorship" in done.stdout

    def test_bad_input_is_exit_code_2(self, tmp_path: Path) -> None:
        settings = tmp_path / "study.toml"
        settings.write_text(self.SETTINGS + '[factors]\ncustom = "nowhere.py"\n')
        done = run_command("audit", "--data", "synthetic", "--config", settings)
        assert done.exit_code == 2
        assert "cannot read the factors" in done.stderr
