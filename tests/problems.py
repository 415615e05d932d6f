"""Problems to put to a cell: seeded inputs of any shape, and the calls that solve them.

The calls take the module to ask: fastrnn or fastrnn.reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import reference

Array = NDArray[Any]


class Cell(NamedTuple):
    """One line of csrc/cells/list.h, and the options by which the public functions choose it."""

    name: str
    family: str
    gates: int
    states: int
    options: dict[str, Any]

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("h", "c")[: self.states]

    def __str__(self) -> str:
        return self.name


CELLS = (
    Cell("rnn_tanh", "rnn", 1, 1, {"nonlinearity": "tanh"}),
    Cell("rnn_relu", "rnn", 1, 1, {"nonlinearity": "relu"}),
    Cell("lstm", "lstm", 4, 2, {}),
    Cell("gru_reset_after", "gru", 3, 1, {"reset_after": True}),
    Cell("gru_reset_before", "gru", 3, 1, {"reset_after": False}),
)


@dataclass(frozen=True)
class Problem:
    """The arguments of one forward and one backward call."""

    cell: Cell
    inputs: dict[str, Array | None]  # x, w_ih, w_hh, b_ih, b_hh, h0 (and c0)
    upstream: dict[str, Array | None] = field(default_factory=dict)  # dy, dh_n (and dc_n)

    def __getitem__(self, name: str) -> Array:
        """An argument that is not None, of forward or of backward."""
        array = self.inputs.get(name)
        if array is None:
            array = self.upstream[name]
        assert array is not None
        return array

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """T, B, I, H."""
        T, B = self["x"].shape[:2]
        return T, B, self["w_ih"].shape[1], self["w_hh"].shape[1]

    @property
    def shape(self) -> str:
        T, B, I, H = self.sizes
        tokens = "" if self["x"].ndim == 3 else " tokens"
        return f"T={T} B={B} I={I} H={H}{tokens}"

    def astype(self, dtype: Any) -> Problem:
        """The same problem with every floating-point array converted to ``dtype``."""

        def convert(arrays: dict[str, Array | None]) -> dict[str, Array | None]:
            return {k: a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for k, a in arrays.items()}

        return replace(self, inputs=convert(self.inputs), upstream=convert(self.upstream))

    def with_inputs(self, **changes: Array | None) -> Problem:
        return replace(self, inputs={**self.inputs, **changes})

    def with_upstream(self, *names: str) -> Problem:
        """The same problem with gradients arriving only at ``names``."""
        return replace(self, upstream={k: a if k in names else None for k, a in self.upstream.items()})


def make_problem(
    cell: Cell,
    T: int,
    B: int,
    I: int,
    H: int,
    *,
    dtype: Any = np.float64,
    biases: str = "both",
    tokens: bool = False,
    seed: int = 0,
) -> Problem:
    """Seeded inputs of a size at which gates neither saturate nor idle; ``biases`` is "none", "b_ih", "b_hh" or "both".

    Initial states are nonzero and differ, so that a kernel that drops or swaps them fails.
    """
    rng = np.random.default_rng([seed, T, B, I, H, cell.gates])

    def uniform(*shape: int, scale: float = 1.0) -> Array:
        return rng.uniform(-scale, scale, shape).astype(dtype)

    rows = cell.gates * H
    inputs: dict[str, Array | None] = {
        "x": rng.integers(0, I, (T, B)) if tokens else uniform(T, B, I),
        "w_ih": uniform(rows, I, scale=1.5 / np.sqrt(max(I, 1))),
        "w_hh": uniform(rows, H, scale=1 / np.sqrt(max(H, 1))),
        "b_ih": uniform(rows) if biases in ("b_ih", "both") else None,
        "b_hh": uniform(rows) if biases in ("b_hh", "both") else None,
    }
    upstream: dict[str, Array | None] = {"dy": uniform(T, B, H)}
    for s in cell.state_names:
        inputs[f"{s}0"] = uniform(B, H)
        upstream[f"d{s}_n"] = uniform(B, H)
    return Problem(cell, inputs, upstream)


def make_smooth_problem(cell: Cell, T: int, B: int, I: int, H: int, *, seed: int = 0, **options: Any) -> Problem:
    """Like :func:`make_problem`, but redrawn while relu's argument comes so near its kink that rounding decides.

    There a gradient is right on either side, and the two differ by more than any tolerance.
    """
    while True:
        problem = make_problem(cell, T, B, I, H, seed=seed, **options)
        if cell.name != "rnn_relu" or not _near_kink(problem.astype(np.float64)):
            return problem
        seed += 1


def _near_kink(problem: Problem) -> bool:
    y = forward(reference, problem, training=False).y
    h_prev = np.concatenate([problem["h0"][None], y])[:-1]
    a = h_prev @ problem["w_hh"].T
    for name in ("b_ih", "b_hh"):
        if problem.inputs[name] is not None:
            a += problem[name]
    x, w_ih = problem["x"], problem["w_ih"]
    a += w_ih.T[x] if x.ndim == 2 else x @ w_ih.T
    # float32 is off by less than this at I = H = 100 (see tolerances.py).
    return bool((np.abs(a) < 4e-6 * max(1.0, np.abs(y).max(initial=0))).any())


def forward(module: ModuleType, problem: Problem, *, training: bool = True) -> Any:
    """``module.<family>_forward`` on the problem; ``module`` is fastrnn or fastrnn.reference."""
    function = getattr(module, f"{problem.cell.family}_forward")
    return function(**problem.inputs, **problem.cell.options, training=training)


def backward(module: ModuleType, problem: Problem, tape: Any) -> Any:
    """``module.<family>_backward`` on the problem."""
    return getattr(module, f"{problem.cell.family}_backward")(tape, **problem.upstream)


def step(module: ModuleType, problem: Problem) -> dict[str, Array]:
    """``module.<family>_step`` on the first step of the problem; the new states by name."""
    arguments = {k.removesuffix("0"): a for k, a in problem.inputs.items() if k != "x"}
    x = problem.inputs["x"]
    assert x is not None
    result = getattr(module, f"{problem.cell.family}_step")(x[0], **arguments, **problem.cell.options)
    return dict(zip(problem.cell.state_names, result if problem.cell.states == 2 else (result,), strict=True))


def arrays(result: Any) -> dict[str, Array]:
    """The arrays of a result by name, without its tape and what is None."""
    return {k: a for k, a in result._asdict().items() if k != "tape" and a is not None}


def solve(module: ModuleType, problem: Problem) -> dict[str, Array]:
    """All outputs and all gradients by name."""
    out = forward(module, problem)
    return arrays(out) | arrays(backward(module, problem, out.tape))


# Central differences of step 1e-5 on values of order 1 in float64: truncation 1e-10, rounding 1e-16 / 1e-5 = 1e-11.
STEP = 1e-5


def central_difference(loss: Callable[[], float], array: Array, index: tuple[int, ...]) -> float:
    """The derivative by one element of an array that the loss reads; it is changed, and set back."""
    before, ends = array[index], []
    for sign in (1, -1):
        array[index] = before + sign * STEP
        ends.append(loss())
    array[index] = before
    return (ends[0] - ends[1]) / (2 * STEP)


def finite_difference(loss: Callable[[], float], array: Array) -> Array:
    """The gradient by a whole array that the loss reads."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        gradient[index] = central_difference(loss, array, index)
    return gradient
