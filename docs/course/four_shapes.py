"""Draws the four shapes that tasks of sequences have, as nets over time.

    python docs/course/four_shapes.py FILE.png

Needs matplotlib.
"""

from __future__ import annotations

import sys

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Of each shape: the steps that read, the steps that answer, and whether what is answered is read by the step after.
SHAPES = {
    "many to one": ((0, 1, 2, 3), (3,), False),
    "one to many": ((0,), (0, 1, 2, 3), True),
    "many to many, after reading": ((0, 1), (2, 3, 4), True),
    "many to many, step by step": ((0, 1, 2, 3), (0, 1, 2, 3), False),
}
SIZE = 0.5  # of a box; steps are 1 apart


def box(axes: Axes, step: int, level: int, letter: str, grey: float) -> None:
    """A box with a letter: x on level 0, h on level 1, y on level 2."""
    axes.add_patch(Rectangle((step - SIZE / 2, level - SIZE / 2), SIZE, SIZE, facecolor=str(grey), edgecolor="black"))
    axes.text(step, level, letter, ha="center", va="center")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: str = "-") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linestyle": style, "shrinkA": 0, "shrinkB": 0})


def draw(axes: Axes, reads: tuple[int, ...], answers: tuple[int, ...], fed_back: bool) -> None:
    edge = SIZE / 2
    last = max(reads + answers)
    for step in range(last + 1):
        box(axes, step, 1, "h", 0.85 if step in reads else 0.7)
        if step:
            arrow(axes, (step - 1 + edge, 1), (step - edge, 1))
        if step in reads:
            box(axes, step, 0, "x", 1.0)
            arrow(axes, (step, edge), (step, 1 - edge))
        if step in answers:
            box(axes, step, 2, "y", 1.0)
            arrow(axes, (step, 1 + edge), (step, 2 - edge))
            if fed_back and step + 1 in answers:
                arrow(axes, (step + edge, 2 - edge), (step + 1 - edge, 1 + edge), ":")
    axes.set(xlim=(-0.4, last + 0.4), ylim=(-0.4, 2.4), aspect="equal")
    axes.axis("off")


def main() -> None:
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    for axes, (name, shape) in zip(figure.subplots(2, 2).flat, SHAPES.items(), strict=True):
        axes.set_title(name)
        draw(axes, *shape)
    figure.savefig(sys.argv[1], dpi=85)


if __name__ == "__main__":
    main()
