"""The machine's own limits, in the same run: peaks of arithmetic of every ISA, and read bandwidths."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

import machine
from measure import Missing, Worker
from shapes import FORMATS

Replay = Callable[..., None]


def _probe(
    threads: int, environment: dict[str, str], function: Callable[..., object], *arguments: object
) -> tuple[list[float], float]:
    try:
        worker = Worker("fastrnn", threads, environment)
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        probed = worker.ask("probe", function, threads, *arguments)
    finally:
        worker.close()
    return probed or pytest.skip("this processor has no such instruction")


@pytest.mark.parametrize("weights", ["float32", *FORMATS])
def bench_peak(isa: str, weights: str, threads: int, replay: Replay) -> None:
    samples, amount = _probe(threads, {"FASTRNN_ISA": isa}, machine.probe_products, weights)
    gflops = amount / statistics.median(samples) / 1e9
    replay(samples, f"machine products {weights}", isa=isa, weights=weights, threads=threads, gflops=gflops)


@pytest.mark.parametrize("place", ["L1", "L2", "L3", "memory"])
def bench_read_bandwidth(place: str, threads: int, replay: Replay) -> None:
    size = machine.read_sizes(threads)[place]
    samples, amount = _probe(threads, {}, machine.probe_read, size)
    gigabytes = amount / statistics.median(samples) / 1e9
    replay(samples, "machine read", place=place, threads=threads, bytes_per_thread=size, gigabytes_per_second=gigabytes)
