"""What is seen of a run while it goes on: a progress bar on a terminal, now and then a plain line elsewhere."""

import time
from types import TracebackType
from typing import Protocol, TextIO

from .errors import require

# At most one plain line in so many seconds.
LINE_EVERY = 5.0


class Report(Protocol):
    """Shows a run; entered for as long as the run goes on."""

    def __enter__(self) -> "Report": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def update(self, fraction: float, line: str) -> None:
        """Show which fraction of the run is done, and a line about where it stands; called after every step."""

    def text(self, title: str, body: str) -> None:
        """Show a text under a title."""


def report_on(out: TextIO) -> Report:
    """Return the report that suits ``out``; raises MissingExtraError if that needs a library that is not installed."""
    return Bar(out) if out.isatty() else Lines(out)


class Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next = time.monotonic() + LINE_EVERY

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, fraction: float, line: str) -> None:
        """Print the line if the last one is long enough ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            print(line, file=self._out, flush=True)

    def text(self, title: str, body: str) -> None:
        """Print the title and the text."""
        print(f"--- {title}\n{body}\n", file=self._out, flush=True)


class Bar:
    """A progress bar that stays at the bottom of the terminal, drawn by rich."""

    def __init__(self, out: TextIO) -> None:
        require("rich")
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=out, highlight=False, markup=False)
        columns = BarColumn(16), TextColumn("{task.description}", markup=False)
        # Drawing takes time from training: a few times a second is smooth enough.
        self._progress = Progress(*columns, console=self._console, refresh_per_second=4, transient=True)
        self._task = self._progress.add_task("starting", total=1.0)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, fraction: float, line: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=fraction, description=line)

    def text(self, title: str, body: str) -> None:
        """Print above the bar."""
        self._console.print(f"--- {title}", style="bold")
        self._console.print(f"{body}\n", soft_wrap=True)
