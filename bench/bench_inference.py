"""Forward over whole sequences from given initial states: y, h_n and c_n."""

from __future__ import annotations

from collections.abc import Callable

from measure import Task

MODE = "inference"


def bench_inference(task: Task, contender: str, record: Callable[[Task, str], None]) -> None:
    record(task, contender)
