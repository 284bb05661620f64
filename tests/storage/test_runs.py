"""A run's folder is replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alphakeel.storage.runs import save_run
from small_study import PRICES, study_of


def test_an_interrupted_save_leaves_the_older_run_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(PRICES)
    run = save_run(study, tmp_path, more=lambda folder: (folder / "report.html").write_text("1"))
    names = sorted(path.name for path in run.rglob("*"))

    def interrupted(folder: Path) -> None:
        (folder / "report.html").write_text("2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_run(study, tmp_path, more=interrupted)
    replace, seen = os.replace, []

    def once(source: Path, target: Path) -> None:
        seen.append(target)
        if len(seen) == 2:  # the older run is out of the way, the new one not in its place
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("alphakeel.files.os.replace", once)
    with pytest.raises(KeyboardInterrupt):
        save_run(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [run.name]
    assert sorted(path.name for path in run.rglob("*")) == names
    assert (run / "report.html").read_text() == "1"
