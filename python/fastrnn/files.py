"""Files that are replaced as a whole or not at all, and arrays in them: safetensors."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from ._base.checks import Array, shown
from ._base.described import Description, formats_in, sound

if sys.platform != "win32":  # where a file that is open cannot be removed
    import fcntl


Result = TypeVar("Result")

ABOUT = "fastrnn"  # in a file's metadata, what its arrays are the parameters of
AT_ONCE = 32 << 20  # between parts of so many bytes Ctrl-C is seen
# On Windows: seconds after which nobody is about to rename a file any more, and how often and long to wait for one.
ABANDONED, WAITS, WAIT = 60.0, 100, 0.01
# NumPy's real numbers, as safetensors calls them.
SAFETENSORS = {"F16": "<f2", "BOOL": "|b1"} | {f"F{8 * size}": f"<f{size}" for size in (4, 8)}
SAFETENSORS |= {f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}


def save_arrays(path: str, arrays: Mapping[str, Array], description: Description | None = None) -> None:
    """Write arrays to a safetensors file, all or nothing, and what they are the parameters of into its metadata.

    Raises OSError, and leaves what was there.
    """
    from safetensors.numpy import save  # here, for import to bring little

    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    write_atomically(path, save(contiguous, None if description is None else {ABOUT: json.dumps(description)}))


class Unread(NamedTuple):
    """A tensor in a file, of a dtype that NumPy has not."""

    dtype: str
    shape: list[int]


def refuse_unread(owner: str, path: str, arrays: Mapping[str, Any]) -> None:
    """Raise ValueError where one of these is no array."""
    for name, a in arrays.items():
        if isinstance(a, Unread):
            raise ValueError(f"{owner}: {name} in {path} is {a.dtype}, no real number of NumPy's: save it as F32")


def load_with_description(owner: str, path: str) -> tuple[dict[str, Any], Description | None]:
    """Return the arrays in a safetensors file, in its order, and what :func:`save_arrays` has written about them.

    What has a dtype that NumPy has not is :class:`Unread`. BF16 comes as float32; of layers that keep their weights so,
    its bits come as uint16. Raises OSError where the file cannot be read, and ValueError where it is damaged.
    """
    from safetensors import SafetensorError, deserialize

    if not isinstance(path, str | os.PathLike):  # the number of an open file is none, either
        raise TypeError(f"{owner}: path is {shown(path)}, expected the path of a file")
    data = read_regular(path)
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{owner}: {path} is not a safetensors file, or damaged: {error}") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # which deserialize has found sound
    about = header.pop("__metadata__", {}).get(ABOUT)
    in_order = sorted(tensors, key=lambda name: (header[name]["data_offsets"], name))
    try:
        description = None if about is None else sound(json.loads(about))
    except (ValueError, RecursionError):  # what others have written under the same key
        description = None
    bits = tuple(prefix for prefix, weights in formats_in(description or {}).items() if weights == "bfloat16")
    return {name: _numbers(tensors[name], name.startswith(bits)) for name in in_order}, description


def _numbers(tensor: Mapping[str, Any], bits: bool) -> Array | Unread:
    """Return a tensor of a safetensors file as an array, if NumPy has its dtype; of BF16 its ``bits`` or float32."""
    name: str = tensor["dtype"]
    shape: list[int] = tensor["shape"]
    if name == "BF16" and bits:
        return np.frombuffer(tensor["data"], "<u2").astype(np.uint16, copy=False).reshape(shape)
    if name == "BF16":  # the upper half of a float32
        return (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    dtype = SAFETENSORS.get(name)
    return Unread(name, shape) if dtype is None else np.frombuffer(tensor["data"], dtype).reshape(shape)


def read_regular(path: str) -> bytes:
    """Return what is in a regular file. Raises OSError, also where it is a pipe or a device: they might have no end."""
    with _open_regular(path) as file:
        return b"".join(iter(lambda: file.read(AT_ONCE), b""))


def beginning(path: str, size: int) -> bytes:
    """Return the first bytes of a regular file. Raises OSError as :func:`read_regular` does."""
    with _open_regular(path) as file:
        return file.read(size)


@contextlib.contextmanager
def _open_regular(path: str) -> Iterator[BinaryIO]:
    with _when_free(lambda: open(path, "rb", opener=_open_at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        yield file


def names_in_zip(path: str) -> list[str] | None:
    """Return the names of what is in a zip file, or None if it is none, or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error):
        return None


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``: whenever the process ends, it holds the old content or all of the new.

    Of several that write at the same time, in threads or processes, one leaves its data. A symbolic link stays one.
    Raises OSError, after which ``path`` is as it was; also where it names something that is no regular file.
    """
    path = os.fsdecode(path)
    if os.path.basename(path) in ("", ".", ".."):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        _replace(os.path.realpath(path), path, data)
    except OSError as error:  # perhaps of a name that nobody but this file knows
        raise OSError(error.errno, error.strerror, path) from None


def _replace(target: str, path: str, data: bytes) -> None:
    mode = None  # of who may read and write it
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
    folder, name = os.path.split(target)
    # A name of its own length: that of the file may have the greatest that there is.
    prefix = f".fastrnn-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"
    _remove_abandoned(folder, prefix)
    with _new_file(folder, prefix) as (file, temporary):
        view = memoryview(data)
        for begin in range(0, len(view), AT_ONCE):
            file.write(view[begin : begin + AT_ONCE])
        file.flush()
        if mode is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        os.fsync(file.fileno())
        if os.name != "posix":
            file.close()
        _when_free(lambda: os.replace(temporary, target))
    if os.name == "posix":  # the new name, too, has to survive a power cut
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _when_free(call: Callable[[], Result]) -> Result:
    """Return what ``call`` does; Windows refuses while another has the file: who saves it, or looks for viruses."""
    for _ in range(0 if os.name == "posix" else WAITS):
        with contextlib.suppress(PermissionError):
            return call()
        time.sleep(WAIT)
    return call()


@contextlib.contextmanager
def _new_file(folder: str, prefix: str) -> Iterator[tuple[BinaryIO, str]]:
    """Make a file of a new name, and lock it for as long as it is written: so others see that it is not abandoned."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        temporary = os.path.join(folder, f"{prefix}{secrets.token_hex(8)}.tmp")
        with open(temporary, "wb", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
            try:
                if _lock(file.fileno()) is False or not _is(temporary, file.fileno()):
                    continue  # whoever clears up was faster
                yield file, temporary
            except BaseException:
                with contextlib.suppress(OSError):
                    file.close()
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            return


def _remove_abandoned(folder: str, prefix: str) -> None:
    """Remove what processes have left that ended while they wrote."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(prefix) and name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(os.path.join(folder, name))


def _remove_unless_locked(path: str) -> None:
    if sys.platform == "win32":
        # One that is written to cannot be removed; one that is just to be renamed could.
        if time.time() - os.stat(path).st_mtime > ABANDONED:
            os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if _lock(descriptor) and _is(path, descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file for as long as it is open; return whether nobody else has, or None where files cannot be locked."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True
    return None


def _is(path: str, descriptor: int) -> bool:
    """Whether the path names this open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
