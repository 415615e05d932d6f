"""What the machine itself can do: cores, caches, its FMA peak and the bandwidth at which it reads."""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

KIB = 1024
SAMPLES = 9
SAMPLE_SECONDS = 0.02


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The CPU's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cache_sizes() -> dict[str, int]:
    """Bytes of the first core's data caches; usual sizes where the system does not tell."""
    sizes = {"L1": 32 * KIB, "L2": 1024 * KIB, "L3": 32 * 1024 * KIB}
    for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (cache / "type").read_text().strip() != "Instruction":
            level = "L" + (cache / "level").read_text().strip()
            sizes[level] = int((cache / "size").read_text().strip().removesuffix("K")) * KIB
    return sizes


def available_isas() -> tuple[str, ...]:
    """The ISAs that fastrnn can run here; none where it is not installed."""
    try:
        return tuple(importlib.import_module("fastrnn").available_isas())
    except ModuleNotFoundError:
        return ()


def read_sizes(threads: int) -> dict[str, int]:
    """Bytes each thread has to read over and over to get them from the named place; L3 and memory are shared."""
    caches = cache_sizes()
    return {
        "L1": caches["L1"] // 2,
        "L2": caches["L2"] // 2,
        "L3": min(4 * caches["L2"], caches["L3"] // (2 * threads)),
        "memory": 2 * caches["L3"] // threads,
    }


def probe_products(threads: int, weights: str = "float32") -> tuple[list[float], float] | None:
    """Samples of seconds, and the operations of one sample: products and additions in registers, on all threads.

    They are float32 FMAs, or dot products of bfloat16 or int8; None where the processor has no instruction for those.
    Runs in a process that has fastrnn to itself; the ISA is the one which is active there.
    """
    core: Any = importlib.import_module("fastrnn._core")
    if core._product_flops(1, weights) is None:
        return None
    return _timed(threads, lambda thread, rounds: core._product_flops(1000 * rounds, weights))


def peak(threads: int, weights: str = "float32") -> float | None:
    """Operations a second of probe_products()."""
    probed = probe_products(threads, weights)
    return probed[1] / statistics.median(probed[0]) if probed else None


def probe_read(threads: int, size: int) -> tuple[list[float], float]:
    """Samples of seconds, and the bytes of one sample: every thread reads `size` bytes of its own again and again."""
    core: Any = importlib.import_module("fastrnn._core")
    arrays = [np.ones(size // 4, np.float32) for _ in range(threads)]
    return _timed(threads, lambda thread, rounds: core._read_bytes(arrays[thread], rounds))


def _timed(threads: int, work: Callable[[int, int], float]) -> tuple[list[float], float]:
    """Runs work(thread, rounds), which tells how much it did, on all threads at once, long enough for the clock."""
    with ThreadPoolExecutor(threads) as pool:

        def sample(rounds: int) -> tuple[float, float]:
            start = time.perf_counter()
            done = sum(pool.map(lambda thread: work(thread, rounds), range(threads)))
            return time.perf_counter() - start, done

        rounds = 1
        while (seconds := sample(rounds)[0]) < SAMPLE_SECONDS / 4:
            rounds *= 2
        rounds = max(1, round(rounds * SAMPLE_SECONDS / seconds))
        samples = [sample(rounds) for _ in range(SAMPLES)]
    return [seconds for seconds, _ in samples], samples[0][1]
