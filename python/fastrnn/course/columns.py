"""Tables as plain text, for a terminal or a file."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], words: Collection[int] = ()) -> str:
    """Return rows of cells as lines; the columns numbered in ``words`` begin at the left, figures end at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{'<' if k in words else '>'}{widths[k]}}" for k, cell in enumerate(row)).rstrip()
        for row in rows
    )
    return "\n".join(lines)
