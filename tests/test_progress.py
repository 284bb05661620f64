"""Threads that end together."""

from __future__ import annotations

import threading

import pytest

from alphakeel.progress import Tracker, raise_if_cancelled, run_in_threads


@pytest.mark.parametrize("asks", ["by itself", "by reporting"])
def test_a_failure_waits_for_the_other_threads_to_end(asks: str) -> None:
    at_work, ended = threading.Event(), threading.Event()
    tracker = Tracker(None, total=1.0)

    def goes_on() -> None:
        try:
            with tracker.task("fitting", 1.0) as task:
                at_work.set()
                while True:
                    raise_if_cancelled() if asks == "by itself" else task.at(0.0)
        finally:
            ended.set()

    def fails() -> None:
        at_work.wait()
        raise OSError("the disk is full")

    never = threading.Event()
    with pytest.raises(OSError, match="the disk is full"):
        run_in_threads([goes_on, fails, never.set], jobs=2)
    assert ended.is_set(), "a thread still computes"
    assert not never.is_set()


def test_results_come_in_order() -> None:
    later = threading.Event()
    calls = [lambda: (later.wait(10.0), 1)[1], lambda: (later.set(), 2)[1], lambda: 3]
    assert run_in_threads(calls, jobs=2) == [1, 2, 3]
    assert run_in_threads(calls, jobs=1) == [1, 2, 3]


def test_one_after_the_other_the_rest_is_not_begun() -> None:
    begun = []
    with pytest.raises(ZeroDivisionError):
        run_in_threads([lambda: 1 / 0, lambda: begun.append(1)], jobs=1)
    assert begun == []


def test_nobody_is_asked_to_end_outside_of_threads() -> None:
    with pytest.raises(ZeroDivisionError):
        run_in_threads([lambda: 1 / 0], jobs=1)
    raise_if_cancelled()
