"""Runs the contests of measure.py as pytest-benchmark tests: one group for each task, one benchmark for each contender.

The first test of a group has the whole group measured, its contenders in turns; each test then checks its contender's
answer and hands its samples to pytest-benchmark by replaying them: the benchmarked function is `advance`, which moves a
clock on by the next recorded sample, and that clock is the benchmark's timer. So the statistics, groups, JSON and
comparisons of pytest-benchmark are those of the real samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import machine
from measure import QUICK, TOLERANCES, Arena, Missing, Plan, Result, Task
from peers import CONTENDERS
from shapes import CELLS, flops, shapes

REFERENCE_LIMIT = 2e8  # floating-point operations; beyond, NumPy is no contender and only checks the answers

Contest = Callable[[Task, str], Result]
Replay = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastrnn")
    group.addoption("--quick", action="store_true", help="few shapes, short blocks: about two minutes")
    group.addoption("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="numbers of threads (1 2)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    threads = [n for n in config.option.threads if n <= machine.cores()]
    if "contender" in metafunc.fixturenames:
        pairs = [
            (task, contender)
            for task in _tasks(metafunc.module, threads, quick=config.option.quick)
            for contender in CONTENDERS
            if task.mode in CONTENDERS[contender].modes()
            and (contender != "reference" or flops(*task[:3]) <= REFERENCE_LIMIT)
        ]
        metafunc.parametrize(("task", "contender"), pairs, ids=[f"{_id(task)}-{name}" for task, name in pairs])
    elif "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", threads, ids=lambda n: f"{n}t")
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", machine.available_isas())


def _tasks(module: ModuleType, threads: list[int], *, quick: bool) -> Iterator[Task]:
    """The tasks of a bench_*.py: its own TASKS, which are left out of a quick run, or the grid of its MODE."""
    if hasattr(module, "TASKS"):
        yield from (task for task in module.TASKS if task.threads in threads and not quick)
        return
    mode = module.MODE
    for cell in CELLS:
        for shape in shapes(mode, quick=quick):
            # One step is over before a second thread could help.
            yield from (Task(mode, cell, shape, n) for n in (threads[:1] if mode == "step" else threads))


def _id(task: Task) -> str:
    """Free of characters that mean something to -k or a shell."""
    T, B, I, H = task.shape
    return f"{task.cell}-T{T}-B{B}-I{I}-H{H}-{task.threads}t"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "replay" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=replayed_time))


@pytest.fixture(scope="session")
def contest(request: pytest.FixtureRequest) -> Iterator[Contest]:
    """The result of one contender in the contest of a task, which is held once among the contenders selected."""
    selected: dict[Task, list[str]] = defaultdict(list)
    for item in request.session.items:
        parameters: dict[str, Any] = item.callspec.params if isinstance(item, pytest.Function) else {}
        if "contender" in parameters:
            contenders = selected[parameters["task"]]
            if parameters["contender"] not in contenders:  # a task may be of the grid and of a sweep
                contenders.append(parameters["contender"])
    held: dict[Task, dict[str, Result]] = {}
    with closing(Arena(QUICK if request.config.option.quick else Plan())) as arena:

        def result(task: Task, contender: str) -> Result:
            if task not in held:
                held[task] = arena.compete(task, selected[task])
            return held[task][contender]

        yield result


_now = 0.0


def replayed_time() -> float:
    """The clock that recorded samples move on."""
    return _now


@pytest.fixture
def replay(benchmark: BenchmarkFixture) -> Replay:
    """Hands recorded samples (seconds) to pytest-benchmark, in the given group, with what belongs beside them."""

    def replay(samples: list[float], group: str, **extra_info: object) -> None:
        remaining = iter(samples)

        def advance() -> None:
            global _now
            _now += next(remaining)

        benchmark.group = group
        benchmark.extra_info.update(extra_info, cpu=machine.cpu_model())
        benchmark.pedantic(advance, rounds=len(samples))  # type: ignore[no-untyped-call]

    return replay


@pytest.fixture
def record(contest: Contest, replay: Replay) -> Callable[..., None]:
    """Holds the contest of a task, checks the contender's answer and records its samples, with what is said of them."""

    def record(task: Task, contender: str, **said: object) -> None:
        result = contest(task, contender)
        if isinstance(result.failure, Missing):
            pytest.skip(str(result.failure))
        if result.failure is not None:
            pytest.fail(str(result.failure), pytrace=False)
        assert result.error <= TOLERANCES[task.mode], f"{contender} is off by {result.error:.1e} of the largest element"
        replay(
            result.samples,
            str(task),
            mode=task.mode,
            cell=task.cell,
            shape=str(task.shape),
            threads=task.threads,
            contender=contender,
            gflops=flops(*task[:3]) / result.median / 1e9,
            error=result.error,
            against=result.against,
            **result.about,
            **said,
        )

    return record
