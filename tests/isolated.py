"""Runs a function or a snippet in a fresh interpreter with a hard time limit: a crash or a hang fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TESTS = Path(__file__).parent
try:
    os.stat(TESTS / "missing")
except FileNotFoundError as error:
    NO_SUCH_FILE = str(error.strerror)  # which Windows says in words of its own, and in its user's language
SANITIZED = "ASAN_OPTIONS" in os.environ
SLOWNESS = 5 if SANITIZED else 1  # of what has a time limit


def run_code(
    code: str, *, timeout: float = 60, env: dict[str, str] | None = None, command: Sequence[str] = (sys.executable,)
) -> str:
    """Run ``code`` in a new interpreter, with ``env`` added to the environment; return what it prints."""
    process = subprocess.run(
        [*command, "-X", "faulthandler", "-c", code],
        cwd=TESTS,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout * SLOWNESS,
    )
    assert process.returncode == 0, f"exit status {process.returncode}\n{process.stdout}\n{process.stderr}"
    return process.stdout


def run_function(
    function: Callable[..., None], *args: Any, timeout: float = 60, env: dict[str, str] | None = None
) -> str:
    """Run ``function(*args)`` of a test module in a new interpreter; return what it prints."""
    module = function.__module__
    return run_code(f"import {module}; {module}.{function.__name__}(*{args!r})", timeout=timeout, env=env)


def press_ctrl_c() -> None:
    """Have Ctrl-C come to this process, from whatever thread."""
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGINT)
    else:  # where that would end it without a signal
        signal.raise_signal(signal.SIGINT)


# What a process runs first that is to get Ctrl-C of its own. On Windows it goes to all processes of a console at once,
# whoever runs the tests among them: there a thread waits for a file, and raises the signal as the system's own would.
BEFORE_CTRL_C = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
def wait(file):
    while not os.path.exists(file):
        time.sleep(0.002)
    signal.raise_signal(signal.SIGINT)
if os.name != "posix":
    threading.Thread(target=wait, args=[os.environ["FILE_OF_CTRL_C"]], daemon=True).start()
"""


class Interruptible(subprocess.Popen[bytes]):
    """A new interpreter that runs ``code``, to which Ctrl-C can be sent."""

    def __init__(self, code: str, *arguments: str, **options: Any) -> None:
        self._folder = TemporaryDirectory()
        self._file = Path(self._folder.name, "pressed")
        command = [sys.executable, "-c", BEFORE_CTRL_C + code, *arguments]
        env = {"PYTHONIOENCODING": "utf-8", "FILE_OF_CTRL_C": str(self._file)}
        super().__init__(command, env={**os.environ, **env}, **options)

    def press_ctrl_c(self) -> None:
        if os.name == "posix":
            self.send_signal(signal.SIGINT)
        else:
            self._file.touch()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._folder.cleanup()


def limit_memory(size: int) -> None:
    """Give this process so many bytes: what asks for terabytes then fails as any allocation may."""
    try:
        import resource
    except ImportError:  # Windows, which commits no more than there is
        return
    if not SANITIZED:  # the sanitizer needs address space without end, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
