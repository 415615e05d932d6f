"""``fastrnn info``: the version, the CPU, and how it is used."""

import argparse
import platform
import sys

import numpy as np

import fastrnn

from .arguments import Parser, add


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``info`` to the commands."""
    add(commands, "info", run, "show the version, the CPU and how fastrnn uses it")


def run(options: argparse.Namespace) -> int:
    """``fastrnn info``."""
    rows = {
        "fastrnn": fastrnn.__version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "NumPy": np.__version__,
        "CPU": cpu_name(),
        "instructions": f"{fastrnn.isa()} (available: {', '.join(fastrnn.available_isas())})",
        "threads": str(fastrnn.get_num_threads()),
    }
    for name, value in rows.items():
        print(f"{name:13} {value}")
    return 0


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
