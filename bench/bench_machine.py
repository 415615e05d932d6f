"""The machine's own limits, in the same run: FMA peak of every ISA, read bandwidth from each cache and from memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

import machine
from measure import Missing, Worker

Replay = Callable[..., None]


def _probe(
    threads: int, environment: dict[str, str], function: Callable[..., object], *arguments: int
) -> tuple[list[float], float]:
    try:
        worker = Worker("fastrnn", threads, environment)
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        samples, amount = worker.ask("probe", function, threads, *arguments)
    finally:
        worker.close()
    return samples, amount


def bench_fma_peak(isa: str, threads: int, replay: Replay) -> None:
    samples, amount = _probe(threads, {"FASTRNN_ISA": isa}, machine.probe_fma)
    replay(samples, "machine fma", isa=isa, threads=threads, gflops=amount / statistics.median(samples) / 1e9)


@pytest.mark.parametrize("place", ["L1", "L2", "L3", "memory"])
def bench_read_bandwidth(place: str, threads: int, replay: Replay) -> None:
    size = machine.read_sizes(threads)[place]
    samples, amount = _probe(threads, {}, machine.probe_read, size)
    gigabytes = amount / statistics.median(samples) / 1e9
    replay(samples, "machine read", place=place, threads=threads, bytes_per_thread=size, gigabytes_per_second=gigabytes)
