"""Counts the instructions of some calls under callgrind, and compares with what they took before.

    python bench/instructions.py COUNT_CALLS [--update]

COUNT_CALLS is the program that CMake builds from count_calls.cpp with -DFASTRNN_BUILD_TESTS=ON. Times are no test on a
machine that others use too; the number of instructions is the same on every run, and grows when a loop gets worse
code. It fails where a call takes more than MARGIN times what instructions.json says, which --update writes anew:
compilers differ, and those figures are from GCC 12.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

RECORD = Path(__file__).with_name("instructions.json")
MARGIN = 1.15
ISA = "avx2"  # the best that valgrind knows

# ISA, cell, mode, T,B,I,H: a single row, whole tiles, and sizes that are no multiple of anything.
CALLS = (
    "lstm inference 20,1,32,32",
    "lstm inference 10,16,64,64",
    "lstm training 10,16,64,64",
    "lstm step 1,1,64,64",
    "gru_reset_after inference 10,7,33,50",
    "gru_reset_after training 20,1,32,32",
    "gru_reset_before step 1,5,50,50",
    "rnn_tanh inference 20,1,128,128",
    "rnn_tanh training 10,12,48,48",
)


def instructions(program: str, call: str, repeats: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, ISA, *call.split()]
    done = subprocess.run([*command, str(repeats)], capture_output=True, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not collected:
        sys.exit(f"{call}: {done.stderr}")
    return int(collected[1])


def count(program: str, call: str) -> int:
    """Instructions of one call, after the first, without the program around it."""
    few, more = 1, 5
    return (instructions(program, call, more) - instructions(program, call, few)) // (more - few)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="COUNT_CALLS")
    parser.add_argument("--update", action="store_true", help="write instructions.json anew")
    options = parser.parse_args()
    now = {call: count(options.program, call) for call in CALLS}
    if options.update:
        RECORD.write_text(json.dumps(now, indent=4) + "\n", encoding="utf-8")
    before: dict[str, int] = json.loads(RECORD.read_text(encoding="utf-8"))
    for call, n in now.items():
        print(f"{call:40} {n:10,} instructions, {n / before[call]:.3f} of the record")
    worse = [call for call, n in now.items() if n > MARGIN * before[call]]
    if worse:
        print(f"more than {MARGIN} times the record: {', '.join(worse)}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
