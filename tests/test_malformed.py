"""Bad calls: a clear TypeError or ValueError that names the function and the argument, and never anything else."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from isolated import limit_memory, run_function
from mutations import mutated
from problems import CELLS, Array, Cell, forward, make_problem

T, B, I, H = 3, 2, 4, 5
FUNCTIONS = [(cell, kind) for cell in CELLS for kind in ("forward", "backward", "step")]


def good_call(
    cell: Cell, kind: str, dtype: Any = np.float64, tokens: bool = False
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A public function and arguments that it accepts."""
    problem = make_problem(cell, T, B, I, H, dtype=dtype, tokens=tokens)
    function = getattr(fastrnn, f"{cell.family}_{kind}")
    if kind == "backward":
        return function, {"tape": forward(fastrnn, problem).tape, **problem.upstream}
    arguments: dict[str, Any] = {**problem.inputs, **cell.options}
    if kind == "forward":
        return function, arguments | {"training": True}
    states = {f"{s}0": s for s in cell.state_names}
    return function, {states.get(k, k): a[0] if k == "x" else a for k, a in arguments.items()}


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize(("cell", "kind"), FUNCTIONS, ids=str)
def test_the_good_calls_are_good(cell: Cell, kind: str, tokens: bool) -> None:
    function, arguments = good_call(cell, kind, tokens=tokens)
    function(**arguments)


# --- messages

WRONG: dict[str, tuple[Callable[[Array], Any], type[Exception]]] = {
    "a list": (lambda a: a.tolist(), TypeError),
    "a string": (lambda a: "abc", TypeError),
    "a number": (lambda a: 1.0, TypeError),
    "integers": (lambda a: a.astype(np.int64), TypeError),
    "booleans": (lambda a: a.astype(bool), TypeError),
    "objects": (lambda a: a.astype(object), TypeError),
    "complex": (lambda a: a.astype(np.complex128), TypeError),
    "half": (lambda a: a.astype(np.float16), TypeError),
    "long double": (lambda a: a.astype(np.longdouble), TypeError),
    "the other precision": (lambda a: a.astype(np.float32), TypeError),
    "big endian": (lambda a: a.astype(a.dtype.newbyteorder(">")), TypeError),
    "a row too many": (lambda a: np.concatenate([a, a[:1]]), ValueError),
    "a column too many": (lambda a: np.concatenate([a, a[..., :1]], axis=-1), ValueError),
    "an axis too many": (lambda a: a[None], ValueError),
    "an axis too few": (lambda a: a[0, ...], ValueError),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("cell", "kind"), FUNCTIONS, ids=str)
def test_message_names_function_and_argument(cell: Cell, kind: str, wrong: str) -> None:
    change, error = WRONG[wrong]
    function, good = good_call(cell, kind)
    for name, value in good.items():
        # x sets T, B and the dtype, and may hold integers, so that some changes of it are another argument's fault.
        if not isinstance(value, np.ndarray) or name == "x":
            continue
        # w_hh sets H, w_ih sets I: the first argument that disagrees may be another one.
        blamed = r"\w+" if name in ("w_ih", "w_hh", "dy") and error is ValueError else name
        with pytest.raises(error, match=rf"^{function.__name__}: {blamed}\b"):
            function(**good | {name: change(value)})


@pytest.mark.parametrize("wrong", ["a list", "a string", "booleans", "objects", "complex", "half", "big endian"])
@pytest.mark.parametrize(("cell", "kind"), [f for f in FUNCTIONS if f[1] != "backward"], ids=str)
def test_message_names_x(cell: Cell, kind: str, wrong: str) -> None:
    function, good = good_call(cell, kind)
    with pytest.raises(TypeError, match=rf"^{function.__name__}: x\b"):
        function(**good | {"x": WRONG[wrong][0](good["x"])})


def test_message_says_what_it_got_and_expected() -> None:
    function, good = good_call(CELLS[2], "forward")
    with pytest.raises(ValueError, match=re.escape("(20, 4)")) as error:
        function(**good | {"w_hh": np.zeros((20, 4))})
    assert re.match(r"lstm_forward: w_hh has shape \(20, 4\), expected \(4\*H, H\) = ", str(error.value))
    with pytest.raises(TypeError, match=r"float32.*float64|float64.*float32"):
        function(**good | {"w_hh": good["w_hh"].astype(np.float32)})


@pytest.mark.parametrize("bad", [-1, I, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
@pytest.mark.parametrize("kind", ["forward", "step"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_bad_token_is_named_with_its_position(cell: Cell, kind: str, bad: int) -> None:
    function, good = good_call(cell, kind, tokens=True)
    tokens = good["x"].copy()
    position = (2, 1)[-tokens.ndim :]
    tokens[position] = bad
    where = ", ".join(str(i) for i in position)
    with pytest.raises(ValueError, match=rf"^{function.__name__}: x\b.*{re.escape(where)}") as error:
        function(**good | {"x": tokens})
    assert str(bad) in str(error.value)


def test_token_beyond_int64_is_a_value_error() -> None:
    function, good = good_call(CELLS[2], "forward", tokens=True)
    tokens = good["x"].astype(np.uint64)
    tokens[1, 1] = 2**63 + 1
    with pytest.raises(ValueError, match=r"^lstm_forward: x\b"):
        function(**good | {"x": tokens})


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_wrong_tapes(cell: Cell) -> None:
    function, good = good_call(cell, "backward")
    others = [good_call(other, "backward")[1]["tape"] for other in CELLS if other.family != cell.family]
    for tape in (None, 1, "tape", object(), (), np.zeros(3), good["dy"], *others):
        with pytest.raises(TypeError, match=rf"^{function.__name__}: tape\b"):
            function(**good | {"tape": tape})


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_tape_cannot_be_made_by_hand(cell: Cell) -> None:
    function, good = good_call(cell, "backward")
    kind = type(good["tape"])
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        function(**good | {"tape": object.__new__(kind)})
    with pytest.raises(TypeError):
        function(**good | {"tape": copy.copy(good["tape"])})


def test_options_are_checked() -> None:
    function, good = good_call(CELLS[0], "forward")
    with pytest.raises(ValueError, match=r"^rnn_forward: nonlinearity\b.*'sigmoid'"):
        function(**good | {"nonlinearity": "sigmoid"})
    with pytest.raises(TypeError, match=r"^rnn_forward: nonlinearity\b"):
        function(**good | {"nonlinearity": 3})
    function, good = good_call(CELLS[0], "step")
    with pytest.raises(ValueError, match=r"^rnn_step: nonlinearity\b"):
        function(**good | {"nonlinearity": "sigmoid"})


@pytest.mark.parametrize("threads", [0, -1, 2**70, 1.5, "2", None])
def test_number_of_threads_is_checked(threads: Any) -> None:
    before = fastrnn.get_num_threads()
    with pytest.raises((TypeError, ValueError)):
        fastrnn.set_num_threads(threads)
    assert fastrnn.get_num_threads() == before


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_sizes_that_overflow(cell: Cell) -> None:
    function, good = good_call(cell, "forward", np.float32)
    # As large as NumPy lets an array be: 2^57 rows of input ask for 2^57 * H numbers of output and more of workspace.
    huge = np.broadcast_to(np.float32(0), (2**31, 2**26, I))
    states = {f"{s}0": None for s in cell.state_names}
    with pytest.raises(ValueError, match=rf"^{function.__name__}: "):
        function(**good | {"x": huge} | states)


# --- 5,000 calls

CALLS = 5000


def _call_badly(seed: int, calls: int) -> None:
    """Make good calls worse at one to three places; anything but a result, TypeError or ValueError ends the process."""
    limit_memory(8 << 30)
    r = random.Random(seed)
    pool = [
        good_call(*f, dtype, tokens)
        for f in FUNCTIONS
        for dtype in (np.float32, np.float64)
        for tokens in (False, True)
    ]
    tapes = [arguments["tape"] for _, arguments in pool if "tape" in arguments]
    counts = {"result": 0, "TypeError": 0, "ValueError": 0, "MemoryError": 0}
    for _ in range(calls):
        function, good = r.choice(pool)
        arguments = dict(good)
        for name in r.sample(sorted(good), r.choice([1, 1, 1, 2, 3])):
            another = name == "tape" and r.random() < 0.5
            arguments[name] = r.choice(tapes) if another else mutated(r, good[name])
        if r.random() < 0.03:
            arguments.pop(r.choice(sorted(arguments)))
        if r.random() < 0.03:
            arguments["surprise"] = 1
        outcome = "result"
        try:
            function(**arguments)
        except (TypeError, ValueError, MemoryError) as error:
            outcome = type(error).__name__
            if outcome == "MemoryError":
                sizes = [a.size for a in arguments.values() if isinstance(a, np.ndarray)]
                assert max(sizes) >= 2**31, (function, sizes)
        counts[outcome] += 1
    # All kinds of outcome must be common, or the mutations have stopped testing anything.
    assert min(counts["result"], counts["TypeError"], counts["ValueError"]) > calls // 20, counts
    for function, good in pool:
        function(**good)


def test_malformed_calls() -> None:
    run_function(_call_badly, 0, CALLS, timeout=120)
