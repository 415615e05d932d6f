"""One step of batch 1 called from Python, as each library offers it."""

from __future__ import annotations

from collections.abc import Callable

from measure import Task

MODE = "step"


def bench_step(task: Task, contender: str, record: Callable[[Task, str], None]) -> None:
    record(task, contender)
