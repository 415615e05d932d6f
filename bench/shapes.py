"""What is measured: the grid of shapes, its quick subset, and the speed that fastrnn aims at on each.

Shape legend: T steps, B batch, I input size, H hidden size, G gates of the cell.
"""

from __future__ import annotations

from typing import NamedTuple

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
CELLS = tuple(GATES)
FORMATS = ("bfloat16", "int8")  # inference, with weights of fewer bits
MODES = ("inference", "training", "step", *FORMATS)


class Shape(NamedTuple):
    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, (self.T, self.B, self.H) if self.I == self.H else self))

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Reads "T,B,H" (then I = H) or "T,B,I,H"."""
        sizes = [int(size) for size in text.split(",")]
        if len(sizes) == 3:
            sizes.insert(2, sizes[2])
        if len(sizes) != 4 or min(sizes) < 1:
            raise ValueError(f"shape {text!r} is not T,B,H or T,B,I,H with positive sizes")
        return cls(*sizes)


def _square(*shapes: tuple[int, int, int]) -> tuple[Shape, ...]:
    return tuple(Shape(T, B, H, H) for T, B, H in shapes)


# Batch 1 (bound by reading w_hh), the middle (in cache, bound by FMAs), and DeepBench's larger sizes.
SEQUENCES = _square(
    (100, 1, 32),
    (100, 1, 128),
    (100, 1, 256),
    (50, 1, 512),
    (25, 1, 1024),
    (25, 4, 512),
    (50, 16, 64),
    (100, 32, 128),
    (100, 32, 256),
    (150, 64, 256),
    (50, 32, 512),
    (25, 128, 512),
    (25, 32, 1024),
    (25, 64, 1024),
    (25, 16, 1760),
)
STEPS = _square((1, 1, 32), (1, 1, 64), (1, 1, 128), (1, 1, 256))

# With weights of fewer bits: a row or a few, many rows, one step.
OF_FORMATS = _square(
    (100, 1, 64),
    (100, 1, 128),
    (100, 1, 256),
    (50, 1, 512),
    (25, 2, 512),
    (25, 4, 512),
    (100, 32, 128),
    (100, 32, 256),
    (50, 32, 512),
    (25, 64, 1024),
    (1, 1, 256),
)

# Sizes that nothing was tuned for, I from a quarter of H to H.
HELD_OUT = tuple(
    Shape(*sizes)
    for sizes in (
        (50, 4, 100, 400),
        (60, 5, 80, 300),
        (70, 6, 50, 200),
        (40, 8, 200, 650),
        (100, 10, 100, 100),
        (30, 12, 350, 700),
        (50, 16, 256, 256),
        (60, 20, 40, 160),
        (40, 24, 320, 320),
        (50, 33, 90, 180),
        (30, 40, 128, 384),
        (80, 48, 128, 128),
        (25, 64, 150, 600),
        (40, 64, 240, 240),
    )
)

# One size at a time from a middling shape, odd ones included: time should grow with it, and without a jump.
SWEEPS = {
    "T": _square(*((T, 32, 128) for T in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256))),
    "B": _square(*((50, B, 256) for B in (1, 2, 3, 4, 5, 6, 8, 9, 16, 31, 32, 33, 48, 64, 96, 128))),
    "H": _square(*((25, 32, H) for H in (16, 32, 50, 64, 100, 128, 200, 256, 300, 400, 512, 650, 800, 1000))),
}

# The sizes of Baidu's DeepBench, training and server inference; what takes longer than a second or so is left out.
_BATCHES = (1, 2, 4, 16, 32, 64, 128)
_DEEPBENCH = {
    "rnn": _square(*((50, B, H) for H in (1760, 2048, 2560) for B in _BATCHES)),
    "lstm": _square(*((150, B, 256) for B in _BATCHES[:-1]), *((25, B, 2**n) for n in range(9, 13) for B in _BATCHES)),
    "gru": _square(
        *((T, B, H) for T, H in ((1500, 2816), (750, 2048), (375, 1536), (187, 2560)) for B in (1, 2, 4, 32))
    ),
}
_DEEPBENCH_MOST = 1.2e11  # operations

QUICK_SEQUENCES = _square((100, 1, 128), (50, 16, 64), (100, 32, 256))
QUICK_STEPS = _square((1, 1, 64))


def shapes(mode: str, *, quick: bool = False) -> tuple[Shape, ...]:
    """The shapes on which `mode` is measured."""
    if mode == "step":
        return QUICK_STEPS if quick else STEPS
    if mode in FORMATS and not quick:
        return OF_FORMATS
    return QUICK_SEQUENCES if quick else SEQUENCES


def flops(mode: str, cell: str, shape: Shape) -> float:
    """Floating-point operations of the matrix products; training has three products for each one of inference."""
    T, B, I, H = shape
    return (3 if mode == "training" else 1) * 2.0 * T * B * GATES[cell] * H * (I + H)


def deepbench(mode: str, cell: str) -> tuple[Shape, ...]:
    """DeepBench's shapes that are not in the grid."""
    return tuple(
        shape for shape in _DEEPBENCH[cell] if shape not in SEQUENCES and flops(mode, cell, shape) <= _DEEPBENCH_MOST
    )


class Bar(NamedTuple):
    """fastrnn is to be `ratio` times as fast as the best of `peers`."""

    ratio: float
    peers: tuple[str, ...]


def bar(mode: str, cell: str, shape: Shape) -> Bar | None:
    """The speed fastrnn aims at here, or None where no aim is set."""
    if mode == "training":
        return Bar(1.0 if cell == "lstm" else 1.5, ("torch",))
    if mode in FORMATS:
        return None
    if mode == "step":
        return Bar(4.0, ("onnxruntime",)) if shape.H == 64 else None
    if shape.B >= 16 and shape.H >= 128:
        return Bar(1.0 if cell == "lstm" else 1.2, ("torch", "onnxruntime"))
    if shape.B == 1 and 32 <= shape.H <= 256:
        return Bar(1.5, ("torch", "onnxruntime"))
    return None
