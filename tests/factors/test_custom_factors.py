"""A user's own factors: loaded from the file given, checked, and at home in a study."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

import alphakeel as ak
from alphakeel.config import CleaningConfig, FactorConfig, ReportConfig, StudyConfig
from alphakeel.errors import ConfigError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors
from alphakeel.factors.custom import check_factors, factor, fault_of, load_factors
from alphakeel.storage.runs import run_id
from small_study import PRICES, study_of

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "my_factors.py"
HEAD = "import numpy as np\nimport pandas as pd\nfrom alphakeel import factor\n"
QUICK = StudyConfig(
    models=("linear",),
    cleaning=CleaningConfig(min_history=60),
    factors=FactorConfig(exclude=tuple(f.name for f in FACTORS if f.family != "reversal")),
    report=ReportConfig(drivers=False),
    jobs=1,
)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return ak.simulate_market(n_assets=20, n_dates=300, seed=4, listing_rate=0.1).panel


def written(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(HEAD + body)
    return path


GOOD = """
@factor(lookback=6, fields=("adj_close",), family="trend")
def week(adj_close):
    "log(P[t] / P[t-5])."
    out = np.full_like(adj_close, np.nan)
    out[5:] = np.log(adj_close[5:] / adj_close[:-5])
    return out

@factor(lookback=1, fields=("close", "volume"), name="money")
def _money(close, volume):
    return pd.DataFrame(close * volume).rank(axis=1)
"""


class TestLoading:
    def test_in_the_order_of_the_file(self, tmp_path: Path) -> None:
        custom = load_factors(written(tmp_path, GOOD))
        week, money = custom.factors
        assert (week.name, week.family, week.lookback, week.fields) == (
            "week", "trend", 6, ("adj_close",)
        )  # fmt: skip
        assert week.formula == "log(P[t] / P[t-5])"
        assert (money.name, money.family) == ("money", "custom")
        assert "week" in ak.factors.factor_table(custom.factors)

    def test_values_are_those_of_the_function(self, tmp_path: Path, panel: AssetPanel) -> None:
        """More than one block of stocks: ranks across all of them must come out right."""
        custom = load_factors(written(tmp_path, GOOD))
        found = compute_factors(panel, custom.factors)
        price = panel["adj_close"]
        week = np.full(price.shape, np.nan)
        week[5:] = np.log(price[5:] / price[:-5])
        np.testing.assert_allclose(found.values[..., 0], week, rtol=1e-6)
        ranks = pd.DataFrame(panel["close"] * panel["volume"]).rank(axis=1)
        np.testing.assert_array_equal(found.values[..., 1], ranks.to_numpy(np.float32))
        assert np.nanmax(found.values[..., 1]) > 16.0
        check_factors(custom, panel, found)

    def test_own_and_built_in_factors_side_by_side(self, tmp_path: Path, panel: AssetPanel) -> None:
        custom = load_factors(written(tmp_path, GOOD))
        own, built_in = custom.factors, FACTORS[:4]
        both = compute_factors(panel, (own[0], *built_in, own[1]))
        alone = compute_factors(panel, built_in)
        np.testing.assert_array_equal(both.values[..., 1:5], alone.values)

    def test_a_changed_file_is_read_anew(self, tmp_path: Path) -> None:
        """Same size and second: a compiled copy would not notice."""
        path = written(tmp_path, GOOD)
        first = load_factors(path)
        stat = path.stat()
        path.write_text(path.read_text().replace("lookback=6", "lookback=7"))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        second = load_factors(path)
        assert (first.factors[0].lookback, second.factors[0].lookback) == (6, 7)
        assert first.versions != second.versions
        assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]

    def test_no_file_no_factors(self) -> None:
        assert load_factors("").factors == ()
        assert load_factors("").versions == {}

    def test_inputs_are_read_only(self, tmp_path: Path, panel: AssetPanel) -> None:
        path = written(
            tmp_path,
            '@factor(lookback=1, fields=("close",))\ndef f(close):\n    close[0] = 1\n',
        )
        with pytest.raises(ConfigError, match=r"'f' \(mine.py, line 6\) fails: .* read-only"):
            compute_factors(panel, load_factors(path).factors)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def f(:\n", r"mine.py, line 4: "),
        ("x = 1 / 0\n", r"mine.py, line 4: ZeroDivisionError"),
        ("x = 1\n", "mine.py holds no factor"),
        ("@factor(lookback=0, fields=('close',))\ndef f(close): ...\n", "line 4: lookback is 0"),
        ("@factor(lookback=2.5, fields=('close',))\ndef f(close): ...\n", "lookback is 2.5"),
        ("@factor(lookback=1, fields='close')\ndef f(close): ...\n", r"write \('close',\)"),
        ("@factor(lookback=1, fields=())\ndef f(): ...\n", "name each field"),
        ("@factor(lookback=1, fields=('close',))\ndef f(volume): ...\n", "must be a function of"),
        (
            "@factor(lookback=1, fields=('closse',))\ndef f(closse): ...\n",
            r"'f' \(mine.py, line 4\) reads the field 'closse'.*did you mean close",
        ),
        (
            "@factor(lookback=1, fields=('close',))\ndef reversal_5(close): ...\n",
            r"'reversal_5' \(mine.py, line 4\) has the name of a built-in",
        ),
        (
            (
                "@factor(lookback=1, fields=('close',))\ndef f(close): ...\n"
                "@factor(lookback=1, fields=('close',), name='f')\ndef g(close): ...\n"
            ),
            r"line 6\) has the name of another factor",
        ),
    ],
)
def test_what_is_refused_on_loading(tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_factors(written(tmp_path, body))
    assert "\n" not in str(caught.value)


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the factors in nowhere\.py"):
        load_factors("nowhere.py")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return close[0]", r"line 4\) returns an array of shape \(20,\), but .* \(300, 20\)"),
        ("return 'text'", "must return an array of numbers, not str"),
        ("return close + missing", r"line 6\) fails: NameError"),
        ("return close * np.nan", "is NaN for every stock on every date"),
        ("return close / np.nanmean(close, axis=0)", r"reads the future.*S\d+ on \d{4}-\d\d-\d\d"),
        ("return pd.DataFrame(close).rolling(9).mean()", "more than its lookback of 3 rows"),
    ],
)
def test_what_is_refused_in_a_study(
    tmp_path: Path, panel: AssetPanel, body: str, told: str
) -> None:
    path = written(tmp_path, f'@factor(lookback=3, fields=("close",))\ndef f(close):\n    {body}\n')
    config = replace(QUICK, factors=replace(QUICK.factors, custom=str(path)))
    with pytest.raises(ConfigError, match=told) as caught:
        ak.run_study(panel, config)
    assert "mine.py, line" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("return close * np.nan", "all_nan"),
        ("return close / np.nanmean(close, axis=0)", "future"),
        ("return pd.DataFrame(close).rolling(9).mean()", "lookback"),
        ("return np.r_[np.cumsum(close, axis=0)[:-1], close[:1]]", "future"),  # the worse of two
    ],
)
def test_kinds_of_faults(tmp_path: Path, panel: AssetPanel, body: str, kind: str) -> None:
    path = written(tmp_path, f'@factor(lookback=3, fields=("close",))\ndef f(close):\n    {body}\n')
    (own,) = load_factors(path).factors
    fault = fault_of(own, panel, compute_factors(panel, (own,)).values[..., 0])
    assert fault is not None
    assert fault.kind == kind


class TestStudy:
    def test_factors_flow_through_and_the_hash_is_on_record(
        self, tmp_path: Path, panel: AssetPanel
    ) -> None:
        path = written(tmp_path, GOOD)
        config = replace(QUICK, factors=replace(QUICK.factors, custom=str(path)))
        first = ak.run_study(panel, config)
        assert {"week", "money", "reversal_5"} <= set(first.folds[0].verdicts["factor"])
        (version,) = (v for k, v in first.versions.items() if "mine.py" in k)
        assert version.startswith("sha256:")
        path.write_text(path.read_text() + "# changed\n")
        second = ak.run_study(panel, config)
        assert run_id(first) != run_id(second), "a changed file is another study"
        without = replace(config, factors=replace(config.factors, exclude=(
            *config.factors.exclude, "money")))  # fmt: skip
        assert "money" not in set(ak.run_study(panel, without).folds[0].verdicts["factor"])

    def test_absent_fields_leave_a_factor_out(self, tmp_path: Path, panel: AssetPanel) -> None:
        prices = panel.copy(deep=True)
        del prices.fields["volume"]
        path = written(tmp_path, GOOD)
        config = replace(QUICK, factors=replace(QUICK.factors, custom=str(path)))
        study = ak.run_study(prices, config)
        assert "money" in set(study.left_out["factor"])


def test_the_decorator_by_itself() -> None:
    @factor(lookback=1, fields=("sector",), family="industry")
    def code(sector):
        return sector.astype(float)

    panel = ak.simulate_market(n_assets=20, n_dates=30, seed=1).panel
    values = compute_factors(panel, (code,)).values[..., 0]
    listed = panel.active_mask
    np.testing.assert_array_equal(values[listed], panel["sector"][listed])
    assert np.isnan(values[~listed]).all()


def test_the_gallery_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(GALLERY)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for own in load_factors(GALLERY).factors:
        assert own.name in done.stdout


class TestUnrunnableFiles:
    @pytest.mark.parametrize(
        ("text", "told"),
        [("import sys\nsys.exit(3)\n", r"own\.py, line 2: SystemExit: 3\."),
         ("\0", r"own\.py: source code .*null bytes\.")],
        ids=["exits", "not text"],
    )  # fmt: skip
    def test_a_file_that_cannot_be_run(self, text: str, told: str, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=rf"^{told}$"):
            load_factors(file)

    def test_a_factor_that_exits(self, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(
            "from alphakeel import factor\n"
            "@factor(lookback=2, fields=('adj_close',), family='own')\n"
            "def leaves(adj_close):\n"
            "    raise SystemExit('done')\n",
            encoding="utf-8",
        )
        with pytest.raises(ConfigError, match=r"'leaves' \(own\.py, line 4\) fails: SystemExit"):
            study_of(PRICES, factors={"custom": str(file)})
