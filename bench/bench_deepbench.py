"""DeepBench's sizes, beyond those of the grid: inference and training on one and two threads."""

from __future__ import annotations

from collections.abc import Callable

from measure import Task
from shapes import CELLS, deepbench

TASKS = tuple(
    Task(mode, cell, shape, threads)
    for mode in ("inference", "training")
    for cell in CELLS
    for shape in deepbench(mode, cell)
    for threads in (1, 2)
)


def bench_deepbench(task: Task, contender: str, record: Callable[..., None]) -> None:
    record(task, contender)
