"""The standard output, where nobody may read it any more."""

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any


def discard_output(stream: Any = None) -> None:
    """Let what is left in the buffer of a stream, the standard output, go nowhere: so exiting does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def nobody_reads(error: OSError) -> bool:
    """Return whether this comes of a pipe whose other end is closed, which Windows may call an invalid argument."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)


def quoted(path: str) -> str:
    """Return a path as it is typed in a shell: those of Windows know double quotes, which no path there has in it."""
    if os.name != "nt":
        return shlex.quote(path)
    return path if re.fullmatch(r"[\w:\\/.-]+", path) else f'"{path}"'


class Unbroken:
    """The standard output, for what is to be finished also if nobody reads it any more, or it cannot be written to."""

    def write(self, text: str) -> int:
        """Write as far as that goes."""
        with self._whatever_comes_of_it():
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush likewise."""
        with self._whatever_comes_of_it():
            sys.stdout.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    @contextlib.contextmanager
    def _whatever_comes_of_it(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            discard_output()
            if nobody_reads(error):
                return
            try:
                print(f"fastrnn: goes on without its output: {error.strerror}", file=sys.stderr, flush=True)
            except OSError:  # of a terminal that is gone
                discard_output(sys.stderr)
