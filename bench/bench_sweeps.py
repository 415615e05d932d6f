"""LSTM inference on one thread along each size, the others held: what plot.py draws against T, B and H."""

from __future__ import annotations

from collections.abc import Callable

from measure import Task
from shapes import SWEEPS

TASKS = tuple(Task("inference", "lstm", shape, 1) for shapes in SWEEPS.values() for shape in shapes)


def bench_sweeps(task: Task, contender: str, record: Callable[..., None]) -> None:
    record(task, contender, sweep=[size for size, shapes in SWEEPS.items() if task.shape in shapes])
