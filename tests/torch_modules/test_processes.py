"""Modules among other processes and threads; each test in a process of its own, with a time limit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from twins import random

import fastrnn
import fastrnn.torch
from isolated import run_code

HERE = Path(__file__).parent


def run(call: str, folder: Path, timeout: float = 120) -> None:
    code = f"import os, sys; sys.path.insert(0, {str(HERE)!r}); os.chdir({str(folder)!r}); import processes; "
    code += f"processes.{call} if __name__ == '__main__' else None"
    run_code(code, timeout=timeout, env={"GLOO_SOCKET_IFNAME": "lo"})


needs_gloo = pytest.mark.skipif(
    sys.platform != "linux" or not torch.distributed.is_available(), reason="two processes meet by gloo, on Linux's lo"
)


@needs_gloo
@pytest.mark.parametrize("work", ["train_as_one", "train_in_shards"])
def test_two_processes_train_one_model(work: str, tmp_path: Path) -> None:
    run(f"start_two({work!r})", tmp_path)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_module_in_another_process(method: str, tmp_path: Path) -> None:
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")
    run(f"hand_on({method!r})", tmp_path)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_module_in_a_data_set(method: str, tmp_path: Path) -> None:
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")
    run(f"load_data({method!r})", tmp_path)


@pytest.mark.parametrize("work", ["share_cores", "work_at_once", "copies_at_once"])
def test_threads(work: str, tmp_path: Path) -> None:
    run(f"{work}()", tmp_path)


def test_the_number_of_threads_is_torchs() -> None:
    """And no more than fastrnn may use."""
    before, of_torch = fastrnn.get_num_threads(), torch.get_num_threads()
    module, x = fastrnn.torch.GRU(3, 4), random(2, 2, 3)
    try:
        for may, wanted, used in ((4, 2, 2), (4, 8, 4), (1, 8, 1), (4, 1, 1), (4, 3, 3)):
            fastrnn.set_num_threads(may)
            torch.set_num_threads(wanted)
            module(x)
            assert fastrnn.get_num_threads() == used
            torch.set_num_threads(2)
            module(x)[0].sum().backward()
            assert fastrnn.get_num_threads() == min(2, may)  # what fastrnn may use is not forgotten
    finally:
        fastrnn.set_num_threads(before)
        torch.set_num_threads(of_torch)
