"""What an install costs: time, memory and sizes of the build, by object and by cell.

    python bench/build.py [--cells NAME ...]

Builds a wheel as `pip install .` does, in a folder of its own, and prints what its log says. A cell's share is what the
object of all cells takes less without it: of all but the first of csrc/cells/list.h together, or of the cells named.
Times are CPU seconds, but those of objects, which are wall time, while as many are compiled as there are cores: for
figures that one can compare leave the machine alone. Needs a C++ compiler, and binutils for sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = ROOT / "csrc" / "cells" / "list.h"
CELL = re.compile(r"^ +X\((\w+), \w+, .*\)[ \\]*$", re.MULTILINE)


def used(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of the processes that it starts and waits for."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - begin


def table(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    print(f"\n{title}")
    for name, *values in rows:
        print(f"  {name:<44}" + "".join(f"{value:>14}" for value in values))


def objects(build: Path) -> list[tuple[str, float, Path]]:
    """Name, seconds and file of each object, from ninja's log, the longest first."""
    seconds: dict[str, float] = {}
    for line in (build / ".ninja_log").read_text().splitlines()[1:]:
        begin, end, _, output, _ = line.split("\t")
        if output.endswith(".o"):
            seconds[output] = (int(end) - int(begin)) / 1000
    named = [
        (re.sub(r"^csrc/CMakeFiles/(fastrnn_)?|\.dir|\.cpp|\.cxx|\.o$", "", o), s, build / o)
        for o, s in seconds.items()
    ]
    return sorted(named, key=lambda row: -row[1])


def loaded(file: Path) -> int:
    """Bytes of code and data, without names and relocations."""
    line = subprocess.run(["size", str(file)], check=True, capture_output=True, text=True).stdout.splitlines()[1]
    return sum(map(int, line.split()[:2]))


class Cells:
    """The object of all cells for one instruction set, compiled with some of them."""

    def __init__(self, build: Path, sources: Path, isa: str) -> None:
        compiled = json.loads((build / "compile_commands.json").read_text())
        (command,) = [c["command"] for c in compiled if f"kernels_{isa}.dir/kernels/cells.cpp.o" in c["command"]]
        self._sources = sources
        self._object = sources / "cells.o"
        self._command = shlex.split(command.replace(str(ROOT / "csrc"), str(sources)))
        self._command[self._command.index("-o") + 1] = str(self._object)

    def cost(self, names: set[str], repeats: int) -> tuple[float, int]:
        """CPU seconds, the median, and bytes, with the cells of these names."""
        kept = [match[0].rstrip(" \\") for match in CELL.finditer(LIST.read_text()) if match[1] in names]
        (self._sources / "cells" / "list.h").write_text(
            "#pragma once\n#define FASTRNN_CELLS(X) " + " ".join(kept) + "\n"
        )
        seconds = [
            used(lambda: subprocess.run(self._command, check=True, cwd=self._sources))[0] for _ in range(repeats)
        ]
        return statistics.median(seconds), loaded(self._object)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="cells of csrc/cells/list.h, each taken away alone")
    parser.add_argument("--repeats", type=int, default=1, help="compilations of each, of which the median counts")
    options = parser.parse_args()
    all_cells = CELL.findall(LIST.read_text())
    if unknown := set(options.cells or ()) - set(all_cells):
        parser.error(f"there is no cell {', '.join(sorted(unknown))}; there are {', '.join(all_cells)}")
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch, "build")
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            f"-Cbuild-dir={build}",
            "-Ccmake.define.CMAKE_EXPORT_COMPILE_COMMANDS=ON",
            "-w",
            scratch,
            ".",
        ]
        cpu, wall = used(lambda: subprocess.run(command, check=True, cwd=ROOT))
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        (wheel,) = Path(scratch).glob("*.whl")
        (module,) = build.rglob("_core*.so")
        stripped = shutil.copy(module, Path(scratch, "stripped"))
        subprocess.run(["strip", str(stripped)], check=True)
        compiled = objects(build)
        table(
            f"build ({os.cpu_count()} cores)",
            [
                ("CPU seconds", f"{cpu:.1f}"),
                ("wall seconds", f"{wall:.1f}"),
                ("largest process, MB", f"{memory:.0f}"),
                ("_core, stripped, MB", f"{Path(stripped).stat().st_size / 2**20:.2f}"),
                ("wheel, MB", f"{wheel.stat().st_size / 2**20:.2f}"),
            ],
        )
        table("objects", [("", "seconds", "KB")] + [(n, f"{s:.1f}", f"{loaded(f) / 1024:.0f}") for n, s, f in compiled])

        sources = Path(shutil.copytree(ROOT / "csrc", Path(scratch, "csrc")))
        rows = [("", "seconds", "KB")]
        for isa in [m[1] for name, _, _ in compiled if (m := re.match(r"kernels_(\w+)/kernels/cells", name))]:
            cells = Cells(build, sources, isa)
            whole = cells.cost(set(all_cells), options.repeats)
            shares = [[cell] for cell in options.cells] if options.cells else [all_cells[1:]]
            for without in shares:
                rest = cells.cost(set(all_cells) - set(without), options.repeats)
                name = without[0] if options.cells else f"each of {len(without)} cells"
                seconds, kilobytes = ((a - b) / len(without) for a, b in zip(whole, rest, strict=True))
                rows.append((f"{isa}: {name}", f"{seconds:.2f}", f"{kilobytes / 1024:.1f}"))
        table("a further cell", rows)


if __name__ == "__main__":
    main()
