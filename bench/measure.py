"""The measuring engine: contenders in processes of their own take turns in blocks.

Every contender runs in one worker process for each number of threads, started with its affinity and its thread count
already set, so that libraries which look at them only on import (JAX) are held to them like all others. One worker is
active at a time: a block is a short warm-up and then timed calls, before each block there is a pause until the threads
of the contender before have gone to sleep, and the blocks of all contenders are interleaved (A, B, C, A, B, C, ...), so
that a machine which slows down for a while does so for everyone. A contender's time is the median over all its blocks.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from peers import CONTENDERS, Answer, Problem
from shapes import FORMATS, Shape

WARM_UP = 0.005  # seconds at the start of a block; calls longer than ten times this need none
SAMPLE = 0.0005  # seconds in a sample at least: shorter calls are timed several at once, and the clock costs nothing
PAUSE = 0.02  # seconds between two workers at least: ONNX Runtime's threads spin that long, OpenBLAS' three times
PATIENCE = 300.0  # seconds until a worker that does not answer is given up
# Of an array's largest element; a right answer stays far below.
TOLERANCES = {"inference": 1e-4, "training": 1e-4, "step": 1e-4, "bfloat16": 0.1, "int8": 0.2}


class Task(NamedTuple):
    """One row of the comparison."""

    mode: str
    cell: str
    shape: Shape
    threads: int

    def __str__(self) -> str:
        return f"{self.mode} {self.cell} {self.shape} {self.threads}t"


class Plan(NamedTuple):
    """How long to measure."""

    blocks: int = 7  # turns of each contender
    seconds: float = 0.05  # of timed calls in a block; at least one call
    enough: float = 1.5  # seconds of timed calls after which a contender's remaining blocks are left out, but never ...
    at_least: int = 3  # ... the first of them


QUICK = Plan(blocks=3, seconds=0.02)


class Failure(Exception):  # noqa: N818 - it is an outcome that gets reported
    """A contender raised an error, crashed or hung; the message says which."""


class Missing(Failure):
    """A contender's library is not installed, or has nothing of the kind."""


@dataclass
class Result:
    """What came out for one contender: samples, or the failure that there are none."""

    about: dict[str, str] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)  # seconds a call
    error: float = np.inf  # largest difference from `against`, relative to each array's largest element
    against: str = "reference"  # whose answer this one was compared with
    spent: float = 0.0  # seconds of timed calls
    failure: Failure | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class _Server:
    """The worker's side; each method answers the request of its name."""

    def __init__(self, contender: str, threads: int) -> None:
        self.contender_name = contender
        self.threads = threads

    def start(self) -> dict[str, str]:
        self.contender: Any = CONTENDERS[self.contender_name](self.threads)
        about: dict[str, str] = self.contender.about
        return about

    def prepare(self, task: Task) -> Answer:
        call = getattr(self.contender, task.mode)(Problem.draw(task.cell, task.shape))
        self.run: Callable[[], Any] = call.run
        answer: Answer = call.answer(call.run())  # the first call may compile
        self.estimate = self._sample(1)
        if self.estimate < WARM_UP:
            self.estimate = self._sample(1 + int(WARM_UP / self.estimate))
        return answer

    def exact(self, task: Task) -> Answer:
        mode = "inference" if task.mode in FORMATS else task.mode
        call = getattr(self.contender, mode)(Problem.draw(task.cell, task.shape).as_float64())
        answer: Answer = call.answer(call.run())
        return answer

    def block(self, seconds: float) -> tuple[list[float], float]:
        """Samples, and the seconds they took together."""
        calls = 1 + int(SAMPLE / self.estimate)
        samples: list[float] = []
        gc.collect()
        gc.disable()
        if self.estimate < 10 * WARM_UP:
            self._sample(1 + int(WARM_UP / self.estimate))
        deadline = time.perf_counter() + seconds
        while not samples or time.perf_counter() + samples[-1] * calls < deadline:
            samples.append(self._sample(calls))
        gc.enable()
        return samples, calls * sum(samples)

    def forget(self) -> None:
        del self.run

    def _sample(self, calls: int) -> float:
        run = self.run
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    def probe(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _serve(connection: Connection, contender: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the connection
    server = _Server(contender, threads)
    with contextlib.suppress(EOFError):
        while True:
            request, *arguments = connection.recv()
            try:
                reply = getattr(server, request)(*arguments)
            except ModuleNotFoundError as error:
                # A part that is missing inside a package means a broken package, which is no reason to skip it.
                broken = "." in (error.name or ".")
                reply = (
                    Failure(f"{contender} is broken: {error}") if broken else Missing(f"not installed: {error.name}")
                )
            except NotImplementedError as error:
                reply = Missing(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it gets reported
                reply = Failure("".join(traceback.format_exception_only(error)).strip())
            _settle()
            connection.send(reply)


def _settle() -> None:
    """Pauses until no thread of this process is spinning any more, so that it does not disturb whoever is next."""
    time.sleep(PAUSE)
    for _ in range(50):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.001:
            break


@contextlib.contextmanager
def _confined(threads: int, environment: dict[str, str]) -> Iterator[None]:
    """Lets processes started inside inherit `threads` cores and matching settings."""
    count = str(threads)
    settings = {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    settings |= {"FASTRNN_NUM_THREADS": count} | environment
    before = {name: os.environ.get(name) for name in settings}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    os.environ.update(settings)
    if cores is not None:
        os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Worker:
    """A contender in a process of its own. Raises Failure where it cannot do what is asked."""

    def __init__(self, contender: str, threads: int, environment: dict[str, str] | None = None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, contender, threads), daemon=True)
        with _confined(threads, environment or {}):
            self.process.start()
        theirs.close()
        self.about: dict[str, str] = self.ask("start")

    def ask(self, request: str, *arguments: Any) -> Any:
        try:
            self.connection.send((request, *arguments))
            if not self.connection.poll(PATIENCE):
                self.close()
                raise Failure(f"no answer within {PATIENCE:.0f} s")
            reply = self.connection.recv()
        except (EOFError, OSError):
            self.close()
            raise Failure(f"its process died (exit status {self.process.exitcode})") from None
        if isinstance(reply, Failure):
            raise reply
        return reply

    def close(self) -> None:
        self.connection.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Arena:
    """Keeps the workers, and lets them compete."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._workers: dict[tuple[str, int], Worker | Failure] = {}

    def close(self) -> None:
        for worker in self._workers.values():
            if isinstance(worker, Worker):
                worker.close()

    def worker(self, contender: str, threads: int) -> Worker:
        """The worker of a contender, started when first asked for; raises Failure where that contender is missing."""
        key = contender, threads
        worker = self._workers.get(key)
        if worker is None or (isinstance(worker, Worker) and worker.connection.closed):
            try:
                worker = Worker(contender, threads)
            except Failure as failure:
                worker = failure
            self._workers[key] = worker
        if isinstance(worker, Failure):
            raise worker
        return worker

    def compete(self, task: Task, contenders: Sequence[str]) -> dict[str, Result]:
        """Measures all contenders on one task, in turns, and compares their answers with the reference's in float64.

        Where the reference has no answer the first contender's takes its place, and `against` of the results says so.
        """
        results = {contender: Result() for contender in contenders}
        truth: Answer | None = None
        against = "reference"
        with contextlib.suppress(Failure):
            truth = self.worker("reference", task.threads).ask("exact", task)
        running: dict[str, Worker] = {}
        for contender, result in results.items():
            with _noting_failure(result):
                worker = self.worker(contender, task.threads)
                result.about = worker.about
                answer = worker.ask("prepare", task)
                if truth is None:
                    truth, against = answer, contender
                result.error, result.against = difference(answer, truth), against
                running[contender] = worker
        truth = None
        for block in range(self.plan.blocks):
            for contender, worker in running.items():
                result = results[contender]
                enough = block >= self.plan.at_least and result.spent >= self.plan.enough
                if result.failure is None and not enough:
                    with _noting_failure(result):
                        samples, seconds = worker.ask("block", self.plan.seconds)
                        result.samples += samples
                        result.spent += seconds
        for contender, worker in running.items():
            if results[contender].failure is None:
                worker.ask("forget")
        return results


@contextlib.contextmanager
def _noting_failure(result: Result) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        result.failure = failure


def difference(answer: Answer, truth: Answer) -> float:
    """The largest difference between two answers, relative to the largest element of each array; NaN counts as inf."""
    if answer.keys() != truth.keys():
        raise Failure(f"it returned {sorted(answer)} where {sorted(truth)} was expected")
    worst = 0.0
    for name, right in truth.items():
        if answer[name].shape != right.shape:
            raise Failure(f"its {name} has shape {answer[name].shape}, expected {right.shape}")
        error = float(np.max(np.abs(answer[name] - right)) / np.max(np.abs(right)))
        worst = max(worst, np.inf if np.isnan(error) else error)
    return worst
