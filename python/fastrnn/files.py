"""Files that are replaced as a whole or not at all."""

import contextlib
import os


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``: whenever the process ends, it holds the old content or all of the new.

    A symbolic link stays one. Raises OSError, after which ``path`` is as it was.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the new name, too, has to survive a power cut
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
