"""Where this process is the ``fastrnn`` command: it tells what goes wrong in one line, from its first import on."""

import os
import sys
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended
MISTAKE = 2


def open_streams() -> None:
    """Have the standard streams there, which whoever started the command may have closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for as long as the process


def is_command() -> bool:
    """Return whether the process was started as ``fastrnn`` or ``python -m fastrnn``."""
    name = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    if name == "-m":  # as long as Python looks for the module
        started = sys.orig_argv
        return "-m" in started and started[started.index("-m") + 1 :][:1] == ["fastrnn"]
    return name == "fastrnn"


def stop(*_: object) -> NoReturn:
    """Say that Ctrl-C has ended the command, and end it: at once, since libraries take it for an error of their own."""
    print("fastrnn: stopped by Ctrl-C", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print one line for what comes of the environment, such as a wrong FASTRNN_ISA, and end the process."""
    if not issubclass(kind, ImportError):
        return sys.__excepthook__(kind, error, traceback)
    print(f"fastrnn: {error}", file=sys.stderr, flush=True)
    os._exit(MISTAKE)


class Interrupts:
    """Ctrl-C once the command runs: a KeyboardInterrupt, of which something is noted.

    For there are libraries that make another error of it.
    """

    seen = False

    @classmethod
    def handle(cls, number: int, frame: FrameType | None) -> NoReturn:
        """Note it, and raise KeyboardInterrupt."""
        cls.seen = True
        raise KeyboardInterrupt


def catch(handler: object) -> None:
    """Have Ctrl-C go to ``handler``, unless whoever started the command has it ignored."""
    import signal  # here: who imports the library has no use for it

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]


if is_command():
    open_streams()
    sys.excepthook = tell
    catch(stop)
