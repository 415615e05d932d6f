"""Fixtures of all tests, and the list of instruction sets that they iterate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

# The reference's products are small: more threads would only get in the way of the kernels, with their waiting.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

import fastrnn
from fastrnn import _core
from isolated import SANITIZED

# Derandomised, so that a failure is the same for everyone; no deadline, since machines are shared.
settings.register_profile("fastrnn", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("fastrnn")


@pytest.fixture(params=fastrnn.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Forces each instruction set this machine has in turn; the name of the one that is in use."""
    before = fastrnn.isa()
    _core.set_isa(request.param)
    assert fastrnn.isa() == request.param
    yield request.param
    assert fastrnn.isa() == request.param
    _core.set_isa(before)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """``fastrnn.set_num_threads``, undone after the test."""
    before = fastrnn.get_num_threads()
    yield fastrnn.set_num_threads
    fastrnn.set_num_threads(before)


@pytest.fixture
def needs_proc() -> None:
    if sys.platform != "linux":
        pytest.skip("looks at this process through /proc")


@pytest.fixture
def needs_affinity() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this platform does not bind processes to cores")


@pytest.fixture
def needs_mounts() -> None:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"]
    if shutil.which("unshare") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount what only one process sees")


@pytest.fixture
def needs_fork() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")


@pytest.fixture
def needs_symlinks(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        (tmp_path_factory.mktemp("links") / "link").symlink_to("nowhere")
    except (OSError, NotImplementedError):
        pytest.skip("this system lets nobody make symbolic links")


@pytest.fixture
def needs_elf() -> None:
    if sys.platform != "linux":
        pytest.skip("inspects an ELF library")


@pytest.fixture
def needs_no_sanitizer() -> None:
    if SANITIZED:
        pytest.skip("a sanitizer has memory, symbols and demands of the processor of its own")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2026)
