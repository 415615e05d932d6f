"""Files that are replaced as a whole or not at all, whoever else writes them, and whatever stands there."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.files import read_regular, save_arrays, write_atomically

TESTS = Path(__file__).parent


def content(letter: bytes, size: int = 200_000) -> bytes:
    return letter * size


def test_it_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"one", content(b"A"), b"two"):
        write_atomically(str(path), data)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["file"]


def test_two_threads_leave_one_whole_file(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    barrier = threading.Barrier(2)
    whole = {content(b"A"), content(b"B")}

    def save(letter: bytes) -> None:
        for _ in range(300):
            barrier.wait(60)
            write_atomically(path, content(letter))
            assert read_regular(path) in whole

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(save, letter) for letter in (b"A", b"B")]:
            done.result()
    assert os.listdir(tmp_path) == ["file"]


def test_two_processes_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import sys; from fastrnn.files import write_atomically\n"
        "for _ in range(300): write_atomically(sys.argv[1], sys.argv[2].encode() * 200_000)"
    )
    savers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "AB"]
    while any(saver.poll() is None for saver in savers):
        if path.exists():
            assert read_regular(str(path)) in (content(b"A"), content(b"B"))
            if os.name != "posix":
                time.sleep(0.02)  # nobody replaces there what is being read
    assert [saver.returncode for saver in savers] == [0, 0]
    assert os.listdir(tmp_path) == ["file"]


def test_two_savers_of_a_module(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    nets = [fastrnn.GRU(8, 16, seed=seed) for seed in range(2)]

    def save(which: int) -> None:
        for _ in range(100):
            nets[which].save(path)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(save, which) for which in range(2)]:
            done.result()
    other = fastrnn.GRU(8, 16, seed=5)
    other.load(path)
    weights = [net.params["weight_hh_l0"].tobytes() for net in nets]
    assert other.params["weight_hh_l0"].tobytes() in weights
    assert os.listdir(tmp_path) == ["net.safetensors"]


@pytest.mark.parametrize("length", [1, 200, 250, 255])
def test_names_may_be_as_long_as_there_are(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("n" * length)
    try:
        path.touch()
    except OSError:
        pytest.skip("this system has no such long names")  # Windows: of paths, unless it is set up for them
    path.unlink()
    write_atomically(str(path), b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.usefixtures("needs_symlinks")
def test_a_link_stays_one_and_is_followed_to_its_file_only(tmp_path: Path) -> None:
    target, link, other = tmp_path / "target", tmp_path / "link", tmp_path / "other"
    target.write_bytes(b"old")
    other.write_bytes(b"of somebody else")
    link.symlink_to(target)
    write_atomically(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    # A link planted where a temporary file was once expected: it is nobody's business.
    for name in (f".target.{os.getpid()}.tmp", ".target.tmp"):
        (tmp_path / name).symlink_to(other)
    write_atomically(str(target), b"newer")
    assert target.read_bytes() == b"newer"
    assert other.read_bytes() == b"of somebody else"


@pytest.mark.usefixtures("needs_symlinks")
def test_planted_links_among_abandoned_files_are_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"of somebody else")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    left = leave_one_behind(path)
    planted = left.with_name(left.name.replace(".tmp", "x.tmp"))
    planted.symlink_to(other)
    write_atomically(str(path), b"data")
    assert other.read_bytes() == b"of somebody else"
    assert path.read_bytes() == b"data"
    assert not left.exists()


def leave_one_behind(path: Path) -> Path:
    """Kill a process while it writes; return the temporary file that it leaves."""
    code = (
        "import os, sys, time; os.fsync = lambda descriptor: (print(flush=True), time.sleep(60))\n"
        "from fastrnn.files import write_atomically; write_atomically(sys.argv[1], b'half')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = set(os.listdir(path.parent))
        # While it lives its file is left alone.
        write_atomically(str(path), b"meanwhile")
        assert set(os.listdir(path.parent)) == before | {path.name}
        process.kill()
    (left,) = [name for name in os.listdir(path.parent) if name.endswith(".tmp")]
    if os.name != "posix":  # where nobody knows whether it is abandoned until it is old
        os.utime(path.parent / left, (0, 0))
    return path.parent / left


def test_what_a_crash_leaves_is_gone_with_the_next_save(tmp_path: Path) -> None:
    path = tmp_path / "file"
    left = leave_one_behind(path)
    assert left.exists()
    assert path.read_bytes() == b"meanwhile"
    write_atomically(str(tmp_path / "another"), b"does not touch it")
    assert left.exists()
    write_atomically(str(path), b"next")
    assert sorted(os.listdir(tmp_path)) == ["another", "file"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a regular file") as error:
        write_atomically(str(tmp_path), b"data")
    assert error.value.errno == errno.EINVAL
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="not a regular file"):
            write_atomically(str(tmp_path / "pipe"), b"data")
        assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    with pytest.raises(OSError, match="not a regular file"):
        write_atomically(os.devnull, b"data")
    with pytest.raises(FileNotFoundError):
        write_atomically(str(tmp_path / "nowhere" / "file"), b"data")


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_who_may_read_it_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"data")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o600)
    write_atomically(str(path), b"data")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_an_error_leaves_what_was_there(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"old")

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        pytest.importorskip("resource")
        code = (
            "import resource, signal, sys; from fastrnn.files import write_atomically\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: write_atomically(sys.argv[1], bytes(5000))\nexcept OSError: print('told')"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout == "told\n"
    else:
        monkeypatch.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space"):
            write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_folders_and_bytes_as_paths(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/new/", f"{tmp_path}/.", f"{tmp_path}/new/.."):
        with pytest.raises(IsADirectoryError):
            write_atomically(path, b"x")
    write_atomically(os.fsencode(tmp_path / "file"), b"x")  # type: ignore[arg-type]
    assert read_regular(str(tmp_path / "file")) == b"x"
    assert os.listdir(tmp_path) == ["file"]


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    linear = fastrnn.Linear(2, 2)
    places = ["/dev/zero"] if os.path.exists("/dev/zero") else []
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        places.append(str(tmp_path / "pipe"))
    for place in places:
        with pytest.raises(OSError, match="it is not a regular file"):
            linear.load(place)


def write_tensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """A safetensors file, of dtypes that NumPy has not, too, and of sizes that are wrong."""
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def as_bfloat16(a: Any) -> Any:
    """Return the upper halves of float32."""
    return (np.asarray(a, np.float32).view(np.uint32) >> 16).astype("<u2")


def test_bfloat16_is_read_and_what_numpy_has_not_is_named(tmp_path: Path) -> None:
    linear, path = fastrnn.Linear(2, 3, bias=False), str(tmp_path / "file")
    values = np.array([[1.5, -2], [0.1, 3e38], [1e-40, -0.0]], np.float32)

    def save(dtype: str, data: bytes) -> None:
        write_tensors(tmp_path / "file", {"weight": (dtype, [3, 2], data)})

    save("BF16", as_bfloat16(values).tobytes())
    linear.load(path)
    assert np.array_equal(linear.params["weight"].view(np.uint32), values.view(np.uint32) >> 16 << 16)
    save("F8_E4M3", bytes(6))
    with pytest.raises(ValueError, match=r"^Linear\.load: weight in .*file is F8_E4M3, no real number of NumPy"):
        linear.load(path)
    save("F32", bytes(23))
    with pytest.raises(ValueError, match=r"^Linear\.load: .*file is not a safetensors file, or damaged"):
        linear.load(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_parameter_is_widened_or_narrowed(dtype: Any, tmp_path: Path) -> None:
    source = fastrnn.GRU(3, 4, learn_state=True, seed=0, dtype=np.float64)
    expected: dict[str, Any] = {}
    tensors: dict[str, tuple[str, list[int], bytes]] = {}
    for k, (name, p) in enumerate(source.params.items()):
        p[...] = np.random.default_rng(k).normal(size=p.shape)
        kind = ("F16", "BF16", "F64", "F32")[k % 4]
        if kind == "BF16":
            bits = as_bfloat16(p)
            data, values = bits.tobytes(), (bits.astype(np.uint32) << 16).view(np.float32)
        else:
            stored = p.astype({"F16": "<f2", "F64": "<f8", "F32": "<f4"}[kind])
            data, values = stored.tobytes(), stored
        tensors[name] = kind, list(p.shape), data
        expected[name] = values.astype(dtype)
    write_tensors(tmp_path / "file", tensors)
    layer = fastrnn.GRU(3, 4, learn_state=True, dtype=dtype)
    layer.load(str(tmp_path / "file"))
    for name, p in layer.params.items():
        assert p.dtype == dtype
        assert np.array_equal(p, expected[name]), name


def test_what_is_too_large_for_a_dtype_is_refused(tmp_path: Path) -> None:
    layer = fastrnn.GRU(3, 4, seed=0)
    before = layer.state_dict()
    wide = {name: p.astype(np.float64) for name, p in before.items()}
    wide["bias_hh_l0"][2] = -1e39
    with pytest.raises(ValueError, match="bias_hh_l0 has float64 numbers that float32 has not"):
        layer.load_state_dict(wide)
    save_arrays(str(tmp_path / "file"), wide)
    with pytest.raises(ValueError, match=r"bias_hh_l0 has float64 numbers that float32 has not; in .*file"):
        layer.load(str(tmp_path / "file"))
    assert all(np.array_equal(p, before[name]) for name, p in layer.params.items())
    wide["bias_hh_l0"][2:4] = -np.inf, np.nan  # what is no number before stays none
    layer.load_state_dict(wide)
    assert layer.params["bias_hh_l0"][2] == -np.inf


def test_arrays_of_bfloat16_are_numbers() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = fastrnn.GRU(3, 4, seed=0)
    halves = {name: p.astype(ml_dtypes.bfloat16) for name, p in layer.params.items()}
    layer.load_state_dict(halves)
    for name, p in layer.params.items():
        assert np.array_equal(p, halves[name].astype(np.float32))


def test_errors_name_the_path_that_was_given(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "such" / "file")
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, b"")
    assert caught.value.filename == path
    assert str(caught.value) == f"[Errno {errno.ENOENT}] {os.strerror(errno.ENOENT)}: {path!r}"


def test_killed_while_writing_it_holds_the_one_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), content(b"A"))
    code = (
        "import sys; from fastrnn.files import write_atomically\n"
        "while True:\n for letter in b'AB': write_atomically(sys.argv[1], bytes([letter]) * 200_000)"
    )
    for k in range(10):
        with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
            time.sleep(0.2 + k * 0.003)
            process.kill()
        assert path.read_bytes() in (content(b"A"), content(b"B"))
    if os.name != "posix":
        for left in tmp_path.glob("*.tmp"):
            os.utime(left, (0, 0))
    write_atomically(str(path), b"done")
    assert os.listdir(tmp_path) == ["file"]
