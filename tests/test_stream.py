"""Streams: the same bits as one call over all steps, states at hand, and no allocation."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from layer_problems import LAYERS, VARIANTS, B, H, I, T, draw, each_family, each_variant, parts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("layers", [1, 3])
@each_variant
def test_steps_are_one_call(
    family: str, options: dict[str, Any], layers: int, tokens: bool, dtype: type, isa: str
) -> None:
    layer = LAYERS[family](I, H, layers, dtype=dtype, seed=0, **options).eval()
    x = np.random.default_rng(0).integers(0, I, (T, B)) if tokens else draw(T, B, I, dtype=dtype)
    y, state_n = layer(x)
    stream = layer.stream(B, tokens=tokens)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), y), isa
    for a, b in zip(parts(stream.state), parts(state_n), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_steps(threads: int, set_threads: Callable[[int], None]) -> None:
    set_threads(threads)
    layer = fastrnn.LSTM(300, 400, 2, seed=0).eval()
    x = draw(3, 2, 300, dtype=np.float32)
    stream = layer.stream(2)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), layer(x)[0])


@pytest.mark.parametrize("bias", [True, False])
@each_family
def test_weights_are_those_of_the_beginning(family: str, bias: bool) -> None:
    layer = LAYERS[family](I, H, bias=bias, seed=0).eval()
    for tokens in (False, True):
        x = np.arange(B) % I if tokens else draw(B, I, dtype=np.float32)
        stream, expected = layer.stream(B, tokens=tokens), layer(x[None])[0][0]
        for p in layer.params.values():
            p += 1
        assert np.array_equal(stream.step(x), expected)


@each_family
def test_states(family: str) -> None:
    layer = LAYERS[family](I, H, 2, seed=0).eval()
    x = draw(T, B, I, dtype=np.float32)
    stream = layer.stream(B)
    start = [stream.step(step) for step in x]
    kept, other = stream.state, stream.copy()
    after = stream.step(x[0])
    assert np.array_equal(other.step(x[0]), after)
    stream.state = kept
    assert np.array_equal(stream.step(x[0]), after)
    stream.reset([1, 3])
    y = stream.step(x[0])
    assert np.array_equal(y[[1, 3]], start[0][[1, 3]])
    assert not np.array_equal(y[[0, 2, 4]], start[0][[0, 2, 4]])
    stream.reset()
    assert all(np.array_equal(stream.step(a), b) for a, b in zip(x, start, strict=True))
    count = len(kept) if isinstance(kept, tuple) else 1
    for given, shape, dtype, error in (
        (count, (2, B, 3), np.float32, ValueError),
        (count, (2, B, H), np.float64, TypeError),
        (3, (2, B, H), np.float32, TypeError),
    ):
        with pytest.raises(error, match=r"Stream\.state: state.*, expected"):
            stream.state = (draw(*shape, dtype=dtype),) * given


def test_nothing_is_allocated() -> None:
    for (family, options), tokens in itertools.product(VARIANTS, (False, True)):
        layer = LAYERS[family](I, H, 3, seed=0, **options)
        stream = layer.stream(B, tokens=tokens)
        x = np.arange(B) if tokens else draw(B, I, dtype=np.float32)
        out = np.empty((B, layer._spec.state_sizes[0]), np.float32)
        steps = range(1000)
        stream.step(x, out)
        tracemalloc.start()
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        for _ in steps:
            stream.step(x, out)
        blocks = sys.getallocatedblocks() - blocks
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        assert blocks < 20, f"{family}: {blocks} blocks more after 1000 steps"
        # A single array of the result's size would be seen here.
        assert peak < B * H * 4, f"{family}: {peak} bytes at a time"


def test_out() -> None:
    stream = fastrnn.GRU(I, H, seed=0).stream(B)
    x = draw(B, I, dtype=np.float32)
    expected = stream.copy().step(x)
    out = np.empty((B, H), np.float32)
    assert stream.copy().step(x, out=out) is out
    assert np.array_equal(out, expected)
    read_only = np.zeros((B, H), np.float32)
    read_only.flags.writeable = False
    bad: list[tuple[Any, type[Exception], str]] = [
        (np.empty((B, H)), TypeError, "out has dtype float64"),
        (np.empty((B, H + 1), np.float32), ValueError, r"out has shape \(5, 12\)"),
        (np.empty((H, B), np.float32).T, ValueError, "out is read-only or has gaps"),
        (read_only, ValueError, "out is read-only or has gaps"),
        ([], TypeError, "out is a list"),
    ]
    for array, error, message in bad:
        with pytest.raises(error, match=rf"Stream\.step: {message}"):
            stream.step(x, array)
    assert np.array_equal(stream.step(x[:, ::-1][:, ::-1]), expected)  # and the states have not moved


def test_bad_inputs() -> None:
    layer = fastrnn.LSTM(I, H, seed=0)
    dense, tokens = layer.stream(B), layer.stream(B, tokens=True)
    with pytest.raises(ValueError, match=r"Stream\.step: x has shape \(4, 7\), expected \(B, I\) = \(5, 7\)"):
        dense.step(draw(4, I, dtype=np.float32))
    with pytest.raises(TypeError, match=r"Stream\.step: x has dtype int64"):
        dense.step(np.zeros(B, np.int64))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Stream\.step: x has dtype float32, expected a NumPy array of integers"):
        tokens.step(draw(B, I, dtype=np.float32))
    with pytest.raises(ValueError, match=r"Stream\.step: x\[2\] is token 7, expected 0 to I-1 = 6"):
        tokens.step(np.array([0, 6, 7, 0, 0]))
    with pytest.raises(TypeError, match="missing required argument 'x'"):
        dense.step()  # type: ignore[call-arg]
    for batch in (-1, 2**70):
        with pytest.raises(ValueError, match=r"LSTM\.stream: batch is"):
            layer.stream(batch)
    with pytest.raises(TypeError, match=r"LSTM\.stream: batch is 1\.0, expected an int"):
        layer.stream(1.0)  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        layer.stream(2**46)
    assert layer.stream(0).step(np.zeros((0, I), np.float32)).shape == (0, H)
