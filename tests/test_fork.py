"""Calls work after fork, above the parallel threshold too, and give the same bits.

Each test runs in a process of its own with a hard time limit; each child has ten seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastrnn
from isolated import run_function
from problems import CELLS, Array, Problem, make_problem, solve
from tolerances import assert_same_bits


def parallel_problem() -> Problem:
    """Large enough for several threads, which the parent checks."""
    return make_problem(CELLS[2], 10, 33, 64, 100, dtype=np.float32)


def solve_in_parallel() -> dict[str, Array]:
    fastrnn.set_num_threads(2)
    result = solve(fastrnn, parallel_problem())
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/task")) > 1, "the call ran on one thread"
    return result


def forked_child_agrees(expected: dict[str, Array]) -> bool:
    """Fork; the child solves the problem within ten seconds, and dies by SIGALRM otherwise."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(10)
            for _ in range(2):
                assert_same_bits(solve_in_parallel(), expected, "in the child")
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _fork_many() -> None:
    expected = solve_in_parallel()
    for k in range(50):
        assert forked_child_agrees(expected), f"child {k}"
        assert_same_bits(solve_in_parallel(), expected, f"parent after child {k}")


def _fork_while_a_kernel_runs() -> None:
    expected = solve_in_parallel()
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            assert_same_bits(solve(fastrnn, parallel_problem()), expected, "in another thread")

    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(call)
        try:
            assert all(forked_child_agrees(expected) for _ in range(50))
        finally:
            stop.set()
        caller.result()


def _fork_from_two_threads() -> None:
    expected = solve_in_parallel()
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(forked_child_agrees, [expected] * 50))


def _fork_from_a_child() -> None:
    expected = solve_in_parallel()
    child = os.fork()
    if child == 0:
        os._exit(0 if forked_child_agrees(expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _use_pool(method: str) -> None:
    expected = solve_in_parallel()
    # What -c runs is no file that a spawned child could import again.
    sys.modules["__main__"].__spec__ = None
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got in pool.map(_solve_for_pool, range(6), chunksize=1):
            assert_same_bits(got, expected, method)


def _solve_for_pool(_: int) -> dict[str, Array]:
    return solve_in_parallel()


@pytest.mark.usefixtures("needs_fork")
@pytest.mark.parametrize(
    "scenario",
    [_fork_many, _fork_while_a_kernel_runs, _fork_from_two_threads, _fork_from_a_child],
    ids=lambda f: f.__name__[1:],
)
def test_fork(scenario: Callable[[], None]) -> None:
    run_function(scenario, timeout=120)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method: str) -> None:
    run_function(_use_pool, method, timeout=120)
