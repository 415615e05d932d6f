"""What the ``fastrnn`` command runs: the parser of all commands, and what becomes of errors and Ctrl-C."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import fastrnn
from fastrnn._base.startup import INTERRUPTED, Interrupts, catch
from fastrnn.charlm.errors import SaveError, UserError

from . import compare, convert, gradients, history, info, inspect, sample, training
from .arguments import Parser
from .output import discard_output, nobody_reads

COMMANDS = (training, sample, history, gradients, inspect, compare, convert, info)  # as the help shows them
EXIT_STATUS = """exit status:
  0    done (also when whoever reads the output, such as head, has read enough; demo and train go on to their end)
  2    a mistake in the arguments, files or environment, told in one line on the standard error output
  130  Ctrl-C; demo and train save the model first, as they do on SIGTERM (143) and SIGHUP (129)
"""


def command() -> NoReturn:
    """Run the command of this process, and end it."""
    catch(Interrupts.handle)
    status = main()
    catch(signal.SIG_IGN)  # it is over: Ctrl-C has nothing to interrupt
    if status == INTERRUPTED:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)  # whatever Ctrl-C has left half-made, such as a library in the middle of its import
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        top = parser()
        options = top.parse_args(arguments)
        if "run" not in options:
            top.print_help()
            return 0
        check_files(options)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except UserError as error:
        return interrupted() if Interrupts.seen else fail(str(error))
    except KeyboardInterrupt:
        return interrupted()
    except MemoryError:
        return fail("there is not enough memory for this")
    except OSError as error:
        discard_output()
        return 0 if nobody_reads(error) else fail(f"cannot write the output: {error.strerror}")


def interrupted() -> int:
    """Say that Ctrl-C ended the command; returns the exit status."""
    print("fastrnn: stopped by Ctrl-C", file=sys.stderr)
    return INTERRUPTED


def fail(message: str) -> int:
    """Print the one line that the user gets; returns the exit status."""
    print(f"fastrnn: {message}", file=sys.stderr)
    return 2


def parser() -> Parser:
    """Return the parser of the whole command."""
    top = Parser(
        prog="fastrnn",
        description="Fast recurrent nets on the CPU. Start with: fastrnn demo",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    top.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    return top


def check_files(options: argparse.Namespace) -> None:
    """Raise :class:`SaveError` where a file to be saved has no name, or is one that is read, or saved, besides."""

    def named(*names: str) -> list[str]:
        given = [getattr(options, name, None) for name in names]
        return [path for one in given if one is not None for path in ([one] if isinstance(one, str) else one)]

    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"there is no current folder: {error.strerror}") from None
    taken = set(map(os.path.realpath, named("files", "model")))
    for name in ("out", "plot"):
        for path in named(name):
            if not path:
                raise SaveError(f"--{name}: the name of the file is empty")
            if not os.path.basename(path):
                raise SaveError(f"cannot save {path}: it is the name of a folder")
            place = os.path.realpath(path)
            if place in taken:
                raise SaveError(f"will not replace {path}, which is also to be read, or saved as something else")
            taken.add(place)
        taken |= set(map(os.path.realpath, named("resume")))  # in the place of which the model may be saved
