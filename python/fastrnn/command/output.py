"""The standard output, where nobody may read it any more."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def discard_output() -> None:
    """Let what is left in the buffer of the standard output go nowhere, so that exiting does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        except BrokenPipeError:
            discard_output()
        except OSError as error:
            discard_output()
            with contextlib.suppress(OSError):  # of a terminal that is gone
                print(f"fastrnn: goes on without its output: {error.strerror}", file=sys.stderr, flush=True)
