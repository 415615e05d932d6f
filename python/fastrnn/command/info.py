"""``fastrnn info``: the version, the CPU, and how it is used; or the nets in the file of a model."""

import argparse
import platform
import sys
from collections.abc import Mapping

import numpy as np

import fastrnn
from fastrnn.charlm import checkpoint
from fastrnn.charlm.errors import printable
from fastrnn.convert import Net, find_nets

from .arguments import Parser, add
from .imported import in_the_shell, told


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``info`` to the commands."""
    command = add(
        commands,
        "info",
        run,
        "show the version, the CPU and how fastrnn uses it, or what nets a model has",
        "Show the version, the CPU and how fastrnn uses it. Of a file of PyTorch, Keras or ONNX, or one that fastrnn\n"
        "has saved: what recurrent nets there are in it, with sizes, options and parameters, and what is against one;\n"
        "of one that demo or train saved: its settings, and how long it has learned.",
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help="the file of a model")


def run(options: argparse.Namespace) -> int:
    """``fastrnn info``."""
    if options.model is not None:
        show = show_character_model if checkpoint.is_one(options.model) else show_nets
        return show(options.model)
    rows = {
        "fastrnn": fastrnn.__version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "NumPy": np.__version__,
        "CPU": cpu_name(),
        "instructions": f"{fastrnn.isa()} (available: {', '.join(fastrnn.available_isas())})",
        "threads": str(fastrnn.get_num_threads()),
    }
    return show_rows(rows)


def show_rows(rows: Mapping[str, str]) -> int:
    """Print what there is to say of each of several things; returns the exit status."""
    for name, value in rows.items():
        print(f"{name:13} {printable(value)}")
    return 0


def show_character_model(path: str) -> int:
    """Print what a model is that demo or train saved."""
    loaded = checkpoint.load(path)
    rows = {
        "model": "of characters, which fastrnn sample lets write",
        "settings": ", ".join(f"{name} {value}" for name, value in vars(loaded.settings).items()),
        "vocabulary": f"{len(loaded.vocabulary):,} characters",
        "training": f"{loaded.training.step:,} steps",
        "rnn": repr(loaded.model().rnn),
    }
    return show_rows(rows)


def show_nets(path: str) -> int:
    """Print what recurrent nets there are in a model."""
    with told(path):
        nets = find_nets(path)
    if not nets:
        print(printable(f"There is no recurrent net in {path}."))
    width = max((len(net.name) for net in nets), default=0)
    for net in nets:
        print(printable("  ".join(filter(None, (net.name.ljust(width), said(net))))))
        for note in net.notes:
            print(f"    {printable(in_the_shell(note))}")
    return 0


def said(net: Net) -> str:
    """Return what there is to say of a net in a line."""
    if net.problem:
        return f"{net}, which cannot be imported: {in_the_shell(net.problem)}"
    call = ", ".join(f"{name}={value!r}" for name, value in net.call.items())
    kept_as = f", of {net.frozen.format}, for inference alone" if net.frozen else ""
    return f"{net}  # {net.parameters:,} parameters{kept_as}" + (f", called with {call}" if call else "")


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
