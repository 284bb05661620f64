"""A user's own models: loaded from the file given, checked, and at home in a study."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from skfolio.containers import AssetPanel
from sklearn.linear_model import Ridge

import alphakeel as ak
from alphakeel.audit.evidence import check_own_models
from alphakeel.audit.lookahead import prepare_study, without_models
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.live.replay import LivePlan, Replay, later_fits, plan_of, refit, replay, same_past
from alphakeel.models.custom import OwnModel, model
from alphakeel.models.custom_forecasters import SequenceModel, TableModel
from alphakeel.models.importance import find_drivers
from alphakeel.results import Study
from alphakeel.storage.checkpoints import DiskStore
from alphakeel.storage.runs import save_run
from alphakeel.storage.saved_runs import SavedRun, open_run
from helpers import run_command, tiny_config

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "my_models.py"
HEAD = (
    "import numpy as np\nfrom pathlib import Path\nfrom sklearn.linear_model import Ridge\n"
    "from alphakeel import model\n"
)
ONE = "@model(label='Mine')\ndef mine(seed):\n    return {}\n"


def written(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(HEAD + body)
    return path


class TestLoading:
    def test_the_gallery(self) -> None:
        custom = ak.load_models(GALLERY)
        assert list(custom.labels) == ["extra_trees", "ridge_of_pairs", "smoothed"]
        assert custom.get("extra_trees").about == "200 trees of depth 6 on the ranks of the factors"
        assert custom.get("lstm") is None
        (version,) = custom.versions.items()
        assert version[0] == "models.custom my_models.py"
        assert version[1].startswith("sha256:")

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ("x = 1\n", "mine.py holds no model: mark a function"),
            ("@model\ndef f(seed): ...\n", "mine.py, line 5: TypeError"),
            ("@model(label='a + b')\ndef f(seed): ...\n", "line 5: label is 'a \\+ b': give up to"),
            ("@model(label='M')\ndef f(): ...\n", "'f' .*line 5.* must be a function of the seed"),
            ("@model(label='M')\ndef F(seed): ...\n", "'F' .* lower-case letters"),
            (
                "@model(label='M')\ndef lstm(seed): ...\n",
                r"'lstm' \(mine.py, line 5\) has the name",
            ),
            ("@model(label='M')\ndef equal_weight(seed): ...\n", "has the name of one of ours"),
            ("@model(label='lstm')\ndef f(seed): ...\n", "label 'lstm', which is or looks like"),
            (
                "@model(label='LSTM   overlay')\ndef f(seed): ...\n",
                "looks like that of one of ours",
            ),
            (
                ONE.format("Ridge()") + ONE.format("Ridge()").replace("def mine", "def other"),
                r"'other' \(mine.py, line 8\) has the label 'Mine'.* another model of the file",
            ),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, body: str, told: str) -> None:
        with pytest.raises(ConfigError, match=told) as caught:
            ak.load_models(written(tmp_path, body))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("returned", "told"),
        [
            ("None", r"'mine' \(mine.py, line 5\) returns None, which has no fit"),
            ("Ridge", r"returns the class Ridge: return an estimator, Ridge\(...\)"),
            ("ONE", "returns the same object at every call"),
            ("1 / 0", r"\(mine.py, line 7\) fails: ZeroDivisionError"),
            ("Half()", "fit of its Half takes mask alone"),
        ],
    )
    def test_what_a_plan_refuses(
        self, tmp_path: Path, panel: AssetPanel, returned: str, told: str
    ) -> None:
        body = ONE.format(returned) + (
            "ONE = Ridge()\nclass Half:\n    def fit(self, X, y, mask): ...\n"
            "    def predict(self, X): ...\n"
        )
        with pytest.raises(ConfigError, match=told):
            ak.Plan.of(panel, own_config(written(tmp_path, body), "mine"))

    def test_a_name_that_does_not_exist(self, tmp_path: Path, panel: AssetPanel) -> None:
        path = written(tmp_path, ONE.format("Ridge()"))
        with pytest.raises(ConfigError, match=r"'mime', .* nor of mine.py; did you mean mine\?"):
            ak.Plan.of(panel, own_config(path, "mime"))
        with pytest.raises(ConfigError, match=r"models must be one of .*did you mean lightgbm\?"):
            ak.StudyConfig(models=("lightgmb",))
        unused = ak.Plan.of(panel, own_config(path, "linear"))
        assert "mine.py, and models names none" in unused.notes[-1]
        assert not any("custom" in name for name in unused.versions)


def own_config(path: Path, *models: str) -> ak.StudyConfig:
    kept = ("reversal", "momentum", "low_risk")
    exclude = [f.name for f in FACTORS if f.family not in kept]
    return tiny_config(
        models=["linear", *models],
        custom_models=str(path),
        factors={"exclude": exclude},
        walk_forward={"refit_every": 120},
    )


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return ak.simulate_market(n_assets=14, n_dates=800, seed=3).panel


class Spy:
    """A ridge that writes into whatever it is handed."""

    def fit(self, X, y):
        self.given, self.ridge = (X.copy(), y.copy()), Ridge().fit(X, y)
        X[:], y[:] = 0.0, 0.0
        return self

    def predict(self, X):
        scores = self.ridge.predict(X)
        X[:] = 0.0
        return scores


class SpyOnSequences:
    def fit(self, features, targets, *, mask, market):
        self.given = features, targets, mask, market
        return self

    def predict(self, features, *, mask, market):
        return np.cumsum(features[..., 0], axis=0)


def own(estimator: type, label: str = "Mine") -> OwnModel:
    @model(label=label)
    def mine(seed):
        return estimator()

    return mine


class TestForecasters:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 9, 3)).astype(np.float32)
    market = rng.normal(5.0, 2.0, (40, 2)).astype(np.float32)
    targets = rng.standard_normal((40, 9, 2)).astype(np.float32)
    mask = rng.random((40, 9)) < 0.8

    def test_a_table_of_stock_dates(self) -> None:
        market, targets = self.market.copy(), self.targets.copy()
        market[3], targets[:4, 0, 1] = np.nan, np.nan
        before = self.features.copy(), market.copy()
        made = TableModel(own(Spy), 0).fit(self.features, targets, mask=self.mask, market=market)
        scores = made.predict(self.features, mask=self.mask, market=market)
        known = self.mask & np.isfinite(targets).all(axis=2)
        table, target = made.estimator_.given
        np.testing.assert_array_equal(table[:, :3], self.features[known])
        np.testing.assert_allclose(target, targets[known].mean(axis=1), rtol=1e-6)
        # The market of a row, in deviations from its mean; 0 where unknown.
        scaled = np.nan_to_num((market - np.nanmean(market, 0)) / np.nanstd(market, 0))
        np.testing.assert_allclose(table[:, 3:], scaled[np.nonzero(known)[0]], atol=1e-4)
        wanted = made.estimator_.ridge.predict(
            np.concatenate([self.features, np.repeat(scaled[:, None], 9, axis=1)], axis=2)[
                self.mask
            ]
        )
        np.testing.assert_allclose(scores[self.mask], wanted, atol=1e-4)
        assert np.isnan(scores[~self.mask]).all()
        np.testing.assert_array_equal(self.features, before[0])
        np.testing.assert_array_equal(market, before[1])
        with pytest.raises(ConfigError, match="code of yours, and a fit of it cannot be saved"):
            made.state()

    def test_sequences(self) -> None:
        made = SequenceModel(own(SpyOnSequences), 0)
        made.fit(self.features, self.targets, mask=self.mask, market=self.market)
        features, targets, mask, market = made.estimator_.given
        np.testing.assert_array_equal(features, np.where(self.mask[..., None], self.features, 0.0))
        np.testing.assert_array_equal(np.isnan(targets), np.repeat(~mask[..., None], 2, axis=2))
        np.testing.assert_allclose(market.mean(axis=0), 0.0, atol=1e-6)
        drivers = find_drivers(
            made, self.features, self.targets, names=("a", "b", "c"), mask=self.mask,
            market=self.market, rng=np.random.default_rng(0), rows=slice(20, None),
        )  # fmt: skip
        assert np.isnan(drivers.attribution).all()  # what came from earlier dates cannot be split
        assert drivers.drop.shape == (20, 3)
        assert not drivers.drop[:, 1:].any()

    @pytest.mark.parametrize(
        ("returned", "told"),
        [
            (lambda X: X, r"returns an array of shape \(4096, 3\) where \(4096,\) was asked for"),
            (lambda X: ["a"] * len(X), "predict returns a list: return an array of numbers"),
            (lambda X: np.full(len(X), np.inf), "predict returns an infinite score"),
            (lambda X: X.no_such_thing, r"line \d+\) fails in predict: AttributeError"),
        ],
    )
    def test_scores_that_are_refused(self, returned, told: str) -> None:
        bad = type("Bad", (Spy,), {"predict": lambda self, X: returned(X)})
        made = TableModel(own(bad), 0).fit(self.features, self.targets)
        with pytest.raises(ConfigError, match=told):
            made.predict(self.features)


AHEAD = """
class Ahead:
    def fit(self, features, targets, *, mask, market):
        return self
    def predict(self, features, *, mask, market):
        return np.roll(features[..., 0], -1, axis=0)

class Batch(Ridge):
    def predict(self, X):
        scores = super().predict(X)
        return scores - scores.mean()

class Silent(Ridge):
    def predict(self, X):
        return np.full(len(X), np.nan)

@model(label="Ahead")
def ahead(seed):
    return Ahead()

@model(label="Batch")
def batch(seed):
    return Batch()

@model(label="Silent")
def silent(seed):
    return Silent()

@model(label="Fine")
def fine(seed):
    return Ridge()
"""


class TestLookAhead:
    def test_the_audit_finds_it_and_goes_on_without(
        self, tmp_path: Path, panel: AssetPanel
    ) -> None:
        path = written(tmp_path, AHEAD)
        base = prepare_study(
            panel, own_config(path, "ahead", "batch", "silent", "fine"), FACTORS[:4]
        )
        found = check_own_models(base)
        assert {name: own.verdict for name, own in found.items()} == {
            "ahead": "leak", "batch": "leak", "silent": "warning"
        }  # fmt: skip
        assert (
            "'ahead' (mine.py, line 21) reads the future: its score for" in found["ahead"].evidence
        )
        assert "later days are removed" in found["ahead"].evidence
        assert "let predict score each row by itself" in found["batch"].evidence
        assert without_models(base, found).plan.config.models == ("linear", "fine")

    def test_a_study_refuses_it(self, tmp_path: Path, panel: AssetPanel) -> None:
        with pytest.raises(ConfigError, match=r"'ahead' .* reads the future"):
            ak.run_study(panel, own_config(written(tmp_path, AHEAD), "ahead"))


@dataclass(frozen=True, eq=False)
class Saved:
    """A study of the gallery, the run of a shorter one on its first days, and the file of both."""

    panel: AssetPanel
    whole: Study
    run: SavedRun
    path: Path
    store: Path

    def replayed(self, strategy: str, panel: AssetPanel | None = None) -> Replay:
        panel = self.panel if panel is None else panel
        label = self.run.label_of(strategy)
        extra = later_fits(self.run, self.run.model_of(label), self.path.parent / "later")
        live, cut = plan_of(self.run, panel, None, extra)
        return replay(self.run, live, cut, label, extra, same=same_past(self.run, cut), recent=True)


# What the file reads besides, which its own hash does not know.
EXTRA = """
@model(label="Outside")
def outside(seed):
    return Ridge(float((Path(__file__).parent / "strength.txt").read_text()))
"""


@pytest.fixture(scope="module")
def saved(panel: AssetPanel, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("own")
    path = folder / "my_models.py"
    text = GALLERY.read_text().replace("Regressor(200,", "Regressor(10,")
    path.write_text(
        text.replace("import numpy", "from pathlib import Path\n\nimport numpy") + EXTRA
    )
    (folder / "strength.txt").write_text("1.0")
    config = own_config(path, "extra_trees", "smoothed", "outside", "combined")
    short = panel.isel(observations=slice(0, 780)).to_panel()
    study = ak.run_study(short, config, store=DiskStore(folder / "progress"))
    run = open_run(save_run(study, folder))
    return Saved(panel, ak.run_study(panel, config), run, path, folder / "progress")


class TestInAStudy:
    def test_beside_the_others(self, saved: Saved) -> None:
        assert list(saved.whole.strategies)[2:] == [
            "Linear", "Extra trees", "Smoothed ridge", "Outside", "Combined"
        ]  # fmt: skip
        members = saved.whole.tables()["combined"]["member"].unique().tolist()
        assert members == ["Linear", "Extra trees", "Smoothed ridge", "Outside"]

    def test_what_a_run_saves(self, saved: Saved) -> None:
        about = saved.run.own_models["extra_trees"]
        assert about["label"] == "Extra trees"
        assert about["estimator"] == "ExtraTreesRegressor"
        assert about["fits_saved"] is False
        assert {"models.custom my_models.py", "scikit-learn"} <= set(about["versions"])
        assert set(about["versions"]) <= set(saved.run.about["versions"])
        assert [p.name for p in (saved.run.folder / "models").iterdir()] == ["linear"]
        assert saved.run.has_frame("scores_smoothed")
        assert saved.run.label_of("extra_trees+overlay") == "Extra trees + overlay"
        assert saved.run.model_of("Extra trees + overlay") == "extra_trees"
        # A killed study has only our fits to go on from.
        assert len(list(saved.store.rglob("fitted.safetensors"))) == len(saved.run.folds)


class TestToday:
    @pytest.mark.parametrize("strategy", ["extra_trees", "smoothed", "combined+overlay"])
    def test_scores_and_weights_are_those_of_the_study(self, saved: Saved, strategy: str) -> None:
        again, whole = saved.replayed(strategy), saved.whole
        name = again.model
        decisions = slice(whole.plan.tested.start, None)
        assert len(again.scores) > len(saved.run.frame(f"scores_{name}"))
        np.testing.assert_allclose(
            again.scores[decisions], whole.models[name].scores[decisions], rtol=1e-5, atol=1e-6
        )
        ledgers = whole.every_ledger()
        np.testing.assert_allclose(
            again.portfolio.ledger.weights, ledgers[again.label].weights, atol=1e-6
        )

    def test_a_decision_has_reasons_where_they_are_known(self, saved: Saved) -> None:
        trees = ak.decide(saved.run, saved.panel, strategy="extra_trees")
        assert trees.targets["for_1"].str.len().gt(0).any()
        smoothed = ak.decide(saved.run, saved.panel, strategy="smoothed")
        assert not smoothed.targets["for_1"].str.len().gt(0).any()
        assert any("is not known" in note for note in smoothed.warnings)

    def test_a_model_that_comes_out_otherwise(self, saved: Saved) -> None:
        strength = saved.path.with_name("strength.txt")
        strength.write_text("1e5")
        try:
            with pytest.raises(DataError, match="Outside, fitted again, does not give the scores"):
                saved.replayed("outside")
        finally:
            strength.write_text("1.0")

    def test_a_changed_file_is_refused_where_it_is_needed(self, saved: Saved) -> None:
        text = saved.path.read_text()
        saved.path.write_text(text + "# changed\n")
        try:
            with pytest.raises(ConfigError, match=r"made with models.custom my_models.py sha256:"):
                saved.replayed("extra_trees")
            assert saved.replayed("linear").model == "linear"
        finally:
            saved.path.write_text(text)

    def test_revised_data_are_fitted_on_as_they_are_now(self, saved: Saved) -> None:
        """What the run has scored stays; a feed that adjusts its past again stops nothing."""
        other = saved.panel.copy(deep=True)
        field = other.fields["adj_close"]
        other.fields["adj_close"] = field.with_values(field.values * 0.5)
        own, before = saved.replayed("smoothed", other), saved.replayed("smoothed")
        stored = saved.run.frame("scores_smoothed").to_numpy()
        first = saved.whole.plan.tested.start
        np.testing.assert_array_equal(own.scores[first : first + len(stored)], stored)
        np.testing.assert_allclose(own.scores[first:], before.scores[first:], rtol=1e-3, atol=1e-3)
        told = ak.decide(saved.run, other, strategy="smoothed").warnings
        assert any("are not those that the run was made on" in note for note in told)

    def test_no_fit_after_the_run(self, saved: Saved) -> None:
        extra = later_fits(saved.run, "smoothed", saved.path.parent / "later")
        live, cut = plan_of(saved.run, saved.panel, None, extra)
        due = LivePlan(live.plan, live.plan.folds[-1:])
        with pytest.raises(DataError, match="Smoothed ridge is a model of your own, whose fits"):
            refit(due, cut, extra)


class TestCommands:
    @pytest.mark.parametrize("command", ["tune", "degree"])
    def test_no_search(self, command: str, tmp_path: Path) -> None:
        shutil.copy(GALLERY, tmp_path)
        settings = tmp_path / "study.toml"
        settings.write_text('models = ["smoothed"]\ncustom_models = "my_models.py"\n')
        done = run_command(command, "--config", settings, "--model", "smoothed", "--out", tmp_path)
        assert done.exit_code == 2
        assert "smoothed is a model of your own, with no settings here to" in done.output

    def test_the_file_is_announced(self, tmp_path: Path) -> None:
        shutil.copy(GALLERY, tmp_path)
        settings = tmp_path / "study.toml"
        settings.write_text('models = ["smooth"]\ncustom_models = "my_models.py"\n')
        done = run_command("run", "--config", settings, "--out", tmp_path / "runs")
        assert done.exit_code == 2
        assert f"runs code of yours: {tmp_path / 'my_models.py'}" in done.output
        assert "did you mean smoothed?" in done.output
