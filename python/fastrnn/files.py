"""Files that are replaced as a whole or not at all."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``: whenever the process ends, it holds the old content or all of the new.

    Of several that write at the same time, in threads or processes, one leaves its data. A symbolic link stays one.
    Raises OSError, after which ``path`` is as it was; also where it names something that is no regular file.
    """
    try:
        _replace(os.path.realpath(path), path, data)
    except OSError as error:
        error.filename, error.filename2 = path, None  # not a name that nobody but this file knows
        raise


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
        file.write(data)
        file.flush()
        if mode is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        os.fsync(file.fileno())
        if os.name != "posix":
            file.close()
        os.replace(temporary, target)
    if os.name == "posix":  # the new name, too, has to survive a power cut
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
    if fcntl is None:
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
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(path: str, descriptor: int) -> bool:
    """Whether the path names this open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
