"""Memory of the caller's that is written to may overlap what is read: the same bits as without, or a ValueError."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from fastrnn.optim import SGD, Adam, clip_global_norm, clip_value
from layer_problems import LAYERS, VARIANTS, parts
from problems import Array


def in_one_block(shape: tuple[int, int], shift: int, dtype: Any, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two arrays of a shape, the second ``shift`` numbers behind the first in the same memory."""
    n = int(np.prod(shape))
    block = rng.uniform(-1, 1, n + 2 * abs(shift) + 1).astype(dtype)
    first, second = max(0, -shift), max(0, -shift) + shift
    return block[first : first + n].reshape(shape), block[second : second + n].reshape(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)
def test_a_stream_may_write_over_its_input(family: str, options: dict[str, Any], dtype: Any, isa: str) -> None:
    """By numbers, by whole rows, and all of it; one row from 128 units on reads weights in another way."""
    rng = np.random.default_rng(0)
    for batch, hidden in ((1, 1), (2, 16), (3, 64), (8, 33), (1, 128), (2, 130)):
        mine = {k: max(1, hidden // 2) if k == "proj_size" else v for k, v in options.items()}
        if mine.get("proj_size", 0) >= hidden:
            continue
        layer = LAYERS[family](mine.get("proj_size", hidden), hidden, seed=0, dtype=dtype, **mine)
        width = mine.get("proj_size", hidden)
        for rows, numbers in itertools.product((-1, 0, 1, 7), (-1, 0, 1)):
            x, out = in_one_block((batch, width), rows * width + numbers, dtype, rng)
            stream, apart = layer.stream(batch), layer.stream(batch)
            for _ in range(2):
                expected = apart.step(x.copy())
                try:
                    assert stream.step(x, out) is out
                except ValueError as error:
                    pytest.fail(f"refused: {error}")
                assert out.tobytes() == expected.tobytes(), f"{batch}, {hidden}: {rows} rows and {numbers}"
                for got, right in zip(parts(stream.state), parts(apart.state), strict=True):
                    assert np.array_equal(got, right)


def test_a_stream_of_tokens_may_write_over_them() -> None:
    stream = fastrnn.GRU(7, 2, seed=0).stream(4, tokens=True)
    memory = np.zeros(8, np.float32)
    tokens, out = memory.view(np.int64), memory.reshape(4, 2)
    tokens[:] = [1, 6, 0, 3]
    expected = stream.copy().step(tokens.copy())
    assert np.array_equal(stream.step(tokens, out), expected)


@pytest.mark.parametrize("shift", [-4, -1, 0, 1, 3, 4, 8])
def test_linear_refuses_memory_that_overlaps(shift: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 3)).astype(np.float32)
    x, out = in_one_block((4, 3), shift, np.float32, rng)
    before = x.copy()
    with pytest.raises(ValueError, match="out shares memory with an input"):
        fastrnn.linear(x, weight, None, out)
    assert np.array_equal(x, before)
    with pytest.raises(ValueError, match="out shares memory with an input"):
        fastrnn.linear(before[:3], weight, None, weight)
    x, out = in_one_block((4, 3), 12 + abs(shift), np.float32, rng)
    np.testing.assert_allclose(fastrnn.linear(x, weight, None, out), x @ weight.T, rtol=1e-5, atol=1e-6)


def test_overlap_by_a_part_of_a_number() -> None:
    """An array that is not aligned may end within the first number of another."""
    memory = np.zeros(100, np.uint8)
    out = memory[64:80].view(np.float32).reshape(2, 2)
    x = memory[50:66].view(np.float32).reshape(2, 2)  # its last number ends two bytes into out
    with pytest.raises(ValueError, match="shares memory"):
        fastrnn.linear(x, np.ones((2, 2), np.float32), None, out)


def test_parameters_that_change_places() -> None:
    layer = fastrnn.GRU(5, 4, bidirectional=True, seed=0)
    before = layer.state_dict()
    swapped = {
        n.removesuffix("_reverse") if n.endswith("_reverse") else n + "_reverse": p for n, p in layer.params.items()
    }
    layer.load_state_dict(swapped)
    for name, p in before.items():
        other = name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse"
        assert np.array_equal(layer.params[other], p)
    shifted = {"weight": np.zeros((3, 2), np.float32)}
    linear = fastrnn.Linear(2, 3, bias=False, seed=0)
    block = np.arange(8, dtype=np.float32)
    linear.params["weight"] = block[:6].reshape(3, 2)
    shifted["weight"] = block[2:].reshape(3, 2)
    linear.load_state_dict(shifted)
    assert linear.params["weight"].tolist() == [[2, 3], [4, 5], [6, 7]]


def overlapping() -> tuple[Array, Array]:
    block = np.ones(8)
    return block[:5], block[3:]


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1), lambda p: Adam(p)], ids=["SGD", "Adam"])
def test_optimisers_refuse_memory_that_overlaps(make: Callable[[Any], Any]) -> None:
    a, b = overlapping()
    with pytest.raises(ValueError, match="a shares memory with b, and is not the same array"):
        make({"a": a, "b": b}).step({"a": np.ones(5), "b": np.ones(5)})
    with pytest.raises(ValueError, match=r"shares memory with|gradient of"):
        make({"a": a, "c": np.ones(3)}).step({"a": b, "c": np.ones(3)})
    assert (a == 1).all()


@pytest.mark.parametrize("clip", [clip_global_norm, clip_value])
def test_clipping_takes_an_array_once_and_refuses_parts_of_it(clip: Callable[..., Any]) -> None:
    g = np.full(4, 3.0)
    clip([g, g], 3.0)
    assert g[0] == pytest.approx(1.5 if clip is clip_global_norm else 3.0)
    with pytest.raises(ValueError, match="two gradients share memory"):
        clip(list(overlapping()), 1.0)


def test_gradients_are_nobodys_memory() -> None:
    """What a call gives belongs to the caller alone: a change of it shows nowhere else."""
    layer = fastrnn.LSTM(3, 4, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    call = layer.record(x)
    first = call.backward(np.ones_like(call.y))
    kept = {name: g.copy() for name, g in first.grads.items()}
    for a in (first.dx, *first.dstate, *first.grads.values(), call.y, *call.state):
        assert a is not None
        a[...] = np.nan
    second = call.backward(np.ones((5, 2, 4), np.float32))
    assert all(np.array_equal(g, kept[name]) for name, g in second.grads.items())
    assert not any(np.isnan(p).any() for p in layer.params.values())
    arrays = [a for a in (second.dx, *second.dstate, *second.grads.values()) if a is not None]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


def test_sums_are_their_own() -> None:
    out = fastrnn.gru_forward(
        np.ones((2, 1, 3), np.float32), np.ones((6, 3), np.float32), np.ones((6, 2), np.float32), training=True
    )
    sums = _core.Sums()
    for _ in range(2):
        _core.backward("gru", out.tape, sums, False, out.y, None, None)
    once = fastrnn.gru_backward(out.tape, out.y)
    np.testing.assert_allclose(sums.finish()[1], 2 * once.dw_hh, rtol=1e-6)
    with pytest.raises(ValueError, match="no backward call before"):
        sums.finish()
