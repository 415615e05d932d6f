"""Forward and backward over whole sequences: the gradients of x, weights, biases and initial states."""

from __future__ import annotations

from collections.abc import Callable

from measure import Task

MODE = "training"


def bench_training(task: Task, contender: str, record: Callable[[Task, str], None]) -> None:
    record(task, contender)
