"""``fastrnn info``: the version, the CPU, and how it is used; or the nets in the file of a model."""

import argparse
import platform
import sys

import numpy as np

import fastrnn
from fastrnn.charlm.errors import UserError
from fastrnn.convert import Net, find_nets

from .arguments import Parser, add


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``info`` to the commands."""
    command = add(
        commands,
        "info",
        run,
        "show the version, the CPU and how fastrnn uses it, or what nets a model has",
        "Show the version, the CPU and how fastrnn uses it. Of a file of PyTorch, Keras or ONNX, or one that fastrnn\n"
        "has saved: what recurrent nets there are in it, with sizes, options and parameters, and what is against one.",
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help="the file of a model")


def run(options: argparse.Namespace) -> int:
    """``fastrnn info``."""
    if options.model is not None:
        return show_nets(options.model)
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


def show_nets(path: str) -> int:
    """Print what recurrent nets there are in a model."""
    try:
        nets = find_nets(path)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not nets:
        print(f"There is no recurrent net in {path}.")
    width = max((len(net.name) for net in nets), default=0)
    for net in nets:
        print("  ".join(filter(None, (net.name.ljust(width), said(net)))))
        for note in net.notes:
            print(f"    {note}")
    return 0


def said(net: Net) -> str:
    """Return what there is to say of a net in a line."""
    if net.problem:
        return f"{net}, which cannot be imported: {net.problem}"
    call = ", ".join(f"{name}={value!r}" for name, value in net.call.items())
    return f"{net}  # {net.parameters:,} parameters" + (f", called with {call}" if call else "")


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
