"""Everything that can be called, called badly: see fuzz.py."""

from __future__ import annotations

import fastrnn
import fuzz
from fastrnn import _core, data, optim
from isolated import run_function

CALLS = 5000  # .ci/long makes ten times as many
# What is no function, or is called under another name, or raises by design.
NO_CALLS = {
    *("fastrnn.Tape", "fastrnn.__version__"),
    *(f"fastrnn.{family}{kind}" for family in ("Rnn", "Lstm", "Gru") for kind in ("Output", "Gradients")),
    "_core._fail_in_worker",
}


def test_all_that_there_is_is_called() -> None:
    names = {f"fastrnn.{name}" for name in fastrnn.__all__}
    names |= {f"data.{name}" for name in data.__all__} | {f"optim.{name}" for name in optim.__all__}
    names |= {f"_core.{name}" for name in dir(_core) if not name.startswith("__")}
    assert names - NO_CALLS == {target.covers for target in fuzz.targets()}


def test_bad_calls_of_everything() -> None:
    run_function(fuzz.fuzz, CALLS, 0, timeout=600)
