"""Nets of several modules: the bits of modules called by hand, finite differences, files, streams, bad arguments."""

from __future__ import annotations

import copy
import gc
import inspect
import itertools
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Dropout,
    Embedding,
    Last,
    Linear,
    Max,
    Mean,
    ModuleCall,
    Modules,
    Relu,
    Sequential,
    Tanh,
    _core,
)
from fastrnn.optim import SGD, Adam
from isolated import press_ctrl_c
from layer_problems import LAYERS, VARIANTS, draw, parts
from problems import Array, finite_difference

T, B, I, H, O = 7, 4, 3, 5, 2
F = np.float32
LENGTHS = np.array([4, 7, 0, 1])
POOLS = (Last, Mean, Max)
each_pool = pytest.mark.parametrize("kind", POOLS, ids=lambda kind: kind.__name__)


def mask_of(*shape: int) -> Array:
    """Which steps count: of sequence 2 none, in the others some that are neither the first nor the last ones."""
    mask = np.random.default_rng(1).random((T, B)) > 0.4
    mask[:, 2] = False
    mask[1:3, 0] = True, False
    mask[:, 1] = [False, True, True, False, True, True, False]
    return mask if shape == (T, B) else mask.T if shape == (B, T) else mask[:, 0]


def same(*pairs: tuple[Any, Any]) -> bool:
    return all(
        type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in pairs
    )


def same_grads(one: Any, other: Any) -> bool:
    return list(one) == list(other) and same(*((one[name], other[name]) for name in one))


def classifier(dtype: Any = F, **options: Any) -> Sequential:
    return Sequential(
        GRU(I, H, dtype=dtype, seed=0, **options),
        Last(),
        Linear(H * (1 + options.get("bidirectional", False)), O, dtype=dtype, seed=1),
    )


def tagger(dtype: Any = F) -> Sequential:
    """Tokens in, a net in the net, and every kind of module."""
    encoder = Sequential(LSTM(H, H, 2, bidirectional=True, dtype=dtype, seed=1), Dropout(0.0), Tanh())
    return Sequential(
        Embedding(6, H, dtype=dtype, seed=0), encoder, Mean(), Linear(2 * H, H, dtype=dtype, seed=2), Relu()
    )


# --- steps to one


def expected_of(kind: Any, y: Array, counts: Array, reads: int | None = None) -> Array:
    """What comes of (T, B, H), one number at a time; from the feature ``reads`` on the first step is the last one."""
    _, batch, width = y.shape
    result = np.zeros((batch, width), y.dtype)
    for b, h in np.ndindex(batch, width):
        steps = y[counts[:, b], b, h]
        if len(steps):
            at = 0 if reads is not None and h >= reads else -1
            mean = steps.astype(np.float64).mean()
            result[b, h] = steps[at] if kind is Last else mean if kind is Mean else steps.max()
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS, [0, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("order", [None, False, True])
@each_pool
def test_steps_that_count(kind: Any, order: bool | None, lengths: Any, masked: bool, dtype: Any) -> None:
    y = draw(T, B, H, dtype=dtype)
    counts = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    if masked:
        counts = counts & mask_of(T, B)
    y[~counts] = np.nan  # what does not count has no influence
    given = np.ascontiguousarray(y.swapaxes(0, 1)) if order else y
    mask = mask_of(*given.shape[:2]) if masked else None
    module = kind(batch_first=order)
    got = module(given, lengths, mask)
    np.testing.assert_allclose(got, expected_of(kind, y, counts), rtol=1e-6 if dtype is F else 1e-13)
    assert kind is Mean or np.array_equal(got, expected_of(kind, y, counts))
    assert got.dtype == dtype
    assert got.flags.c_contiguous

    dy = draw(B, H, dtype=dtype, seed=1)
    dx = module.backward(dy)
    assert dx.shape == given.shape
    of_steps = dx.swapaxes(0, 1) if order else dx
    right = np.zeros_like(y)
    for b, h in np.ndindex(B, H):
        at = np.flatnonzero(counts[:, b])
        if len(at) and kind is Mean:
            right[at, b, h] = dtype(np.float64(dy[b, h]) / len(at))
        elif len(at):
            right[at[-1] if kind is Last else at[y[at, b, h].argmax()], b, h] = dy[b, h]
    assert np.array_equal(of_steps, right)
    call = module.eval().record(given, lengths, mask)
    assert same(
        (call.y, got), (call.backward(dy).dx, dx), (call.backward(dy).dx, dx), (module(given, lengths, mask), got)
    )


@each_pool
def test_one_sequence(kind: Any) -> None:
    y = draw(T, H)
    for order in (False, True):
        module = kind(order)
        for lengths, mask in ((None, None), ([3], None), (None, mask_of(T)), ([5], mask_of(T))):
            got = module(y, lengths, mask)
            assert same((got, kind()(y[:, None], lengths, None if mask is None else mask[:, None])[0]))
            assert module.backward(draw(H)).shape == y.shape


@each_pool
@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 0, 0), (0, 2)], ids=str)
def test_nothing_to_make_anything_of(kind: Any, shape: tuple[int, ...]) -> None:
    module = kind()
    got = module(np.zeros(shape))
    assert got.shape == (*shape[1:-1], shape[-1])
    assert not got.any()
    assert module.backward(got).shape == shape


@each_pool
def test_numbers_at_the_edge(kind: Any) -> None:
    for value in (np.nan, np.inf, -np.inf, 3e38, 1e-45):
        y = np.full((3, 2, 2), value, F)
        y[:, 1] = [[1], [2], [3]]
        with np.errstate(all="raise"):
            module = kind()
            got = module(y)
            dx = module.backward(got)
            masked = module(y, mask=np.array([[False, True], [True, True], [True, True]]))
        assert np.array_equal(got[0], y[0, 0], equal_nan=True)
        assert np.array_equal(masked[0], y[0, 0], equal_nan=True)
        assert np.isfinite(got[1]).all()
        assert np.isfinite(dx[:, 1]).all()
    y = np.array([-np.inf, np.inf, np.nan, 1.0, np.nan]).reshape(5, 1, 1)
    assert np.isnan(Max()(y))
    assert Max().record(y).backward(np.ones((1, 1))).dx.ravel().tolist() == [0, 0, 1, 0, 0]
    ties = np.array([-np.inf, 2.0, 3.0, 3.0, -0.0]).reshape(5, 1, 1)
    assert Max().record(ties).backward(np.ones((1, 1))).dx.ravel().tolist() == [0, 0, 1, 0, 0]
    lowest = np.full((5, 1, 1), -np.inf)
    call = Max().record(lowest, mask=np.array([False, False, True, True, False])[:, None])
    assert call.y == -np.inf
    assert call.backward(np.ones((1, 1))).dx.ravel().tolist() == [0, 0, 1, 0, 0]


def test_means_of_many_steps_are_accurate() -> None:
    y = np.full((200_000, 2, 1), 0.1, F)
    y[0, 1] = 1e7
    got = Mean()(y)
    np.testing.assert_array_equal(got, y.astype(np.float64).mean(axis=0).astype(F))


@pytest.mark.parametrize("order", [False, True])
@each_pool
def test_large_arrays_are_gone_through_in_parts(kind: Any, order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    y = draw(B, T, H) if order else draw(T, B, H)
    mask = mask_of(*y.shape[:2])
    whole = kind(order).record(y, LENGTHS, mask)
    dx = whole.backward(draw(B, H)).dx
    monkeypatch.setattr(sys.modules["fastrnn._base.parts"], "BYTES", 2 * B * H * 8)
    cut = kind(order).record(y, LENGTHS, mask)
    np.testing.assert_allclose(cut.y, whole.y, rtol=1e-15)
    assert same((cut.backward(draw(B, H)).dx, dx))


def test_a_mask_belongs_to_the_call() -> None:
    y, mask = draw(T, B, H), mask_of(T, B)
    for kind in POOLS:
        call = kind().record(y, mask=mask)
        before = call.backward(draw(B, H)).dx
        mask[...] = ~mask
        y[...] = 0
        assert same((call.backward(draw(B, H)).dx, before))
        mask[...] = ~mask


# --- each number by itself


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (2, 3, 4, 5)], ids=str)
def test_relu_and_tanh(shape: tuple[int, ...], dtype: Any) -> None:
    x, dy = (np.asarray(a, dtype) for a in (3 * draw(*shape, seed=0), draw(*shape, seed=1)))
    for module, right, slope in (
        (Relu(), np.maximum(x, 0), (x > 0).astype(dtype)),
        (Tanh(), np.tanh(x), 1 - np.tanh(x.astype(np.float64)) ** 2),
    ):
        y = module(x)
        assert same((y, np.asarray(right, dtype)))
        dx = module.backward(dy)
        assert dx.dtype == dtype
        np.testing.assert_allclose(dx, dy * slope, rtol=1e-5 if dtype is F else 1e-12)
        y[...] = 5  # it is the caller's
        assert same((module.backward(dy), dx))
        assert same((module.eval()(x), np.asarray(right, dtype)), (module.record(x).backward(dy).dx, dx))


def test_relu_and_tanh_at_the_edges() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38], F)
    with np.errstate(all="raise"):
        for kind, y, slope in (
            (Relu, np.maximum(x, 0), [1, 1, 0, 0, 0, 1, 0, 1, 0]),
            (Tanh, [np.nan, 1, -1, 0, 0, 1e-45, -1e-45, 1, -1], [np.nan, 0, 0, 1, 1, 1, 1, 0, 0]),
        ):
            call = kind().record(x)
            np.testing.assert_array_equal(call.y, np.array(y, F))
            np.testing.assert_array_equal(call.backward(np.ones_like(x)).dx, np.array(slope, F))
            kind().eval()(x)
            with np.errstate(all="ignore"):
                edges = x.reshape(3, 3)
            kind().record(edges.T).backward(edges)
    transposed = draw(4, 3).T
    for kind in (Relu, Tanh):
        call = kind().record(transposed)
        assert call.y.flags.c_contiguous
        assert call.backward(draw(4, 3).T).dx.flags.c_contiguous


# --- nets, beside their modules called by hand


def by_hand(net: Sequential, x: Array, lengths: Any = None, mask: Any = None) -> tuple[Array, Any]:
    """A layer, Last and a Linear: y, and the way back as in a net."""
    rnn, head = net[0], net[2]
    given = {name: value for name, value in (("lengths", lengths), ("mask", mask)) if value is not None}
    a = rnn.record(x, return_sequence=False, **given)
    b = head.record(a.y)

    def back(dy: Array) -> tuple[Any, dict[str, Array]]:
        of_head = b.backward(dy)
        of_rnn = a.backward(of_head.dx)
        grads = {f"0.{name}": g for name, g in of_rnn.grads.items()}
        return of_rnn.dx, grads | {f"2.{name}": g for name, g in of_head.grads.items()}

    return b.y, back


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_it_is_its_modules_called_by_hand(batch_first: bool, bidirectional: bool, lengths: Any) -> None:
    net = classifier(batch_first=batch_first, bidirectional=bidirectional)
    x = draw(B, T, I, dtype=F) if batch_first else draw(T, B, I, dtype=F)
    right, right_back = by_hand(net, x, lengths)
    dy = draw(B, O, dtype=F)
    right_dx, right_grads = right_back(dy)

    y = net(x, lengths)
    assert same((y, right), (net.backward(dy), right_dx))
    assert same_grads(net.grads, right_grads)
    assert list(net.grads) == list(net.params)
    call = net.record(x, lengths=lengths)
    for _ in range(2):
        dx, dstate, grads = call.backward(dy)
        assert dstate is None
        assert isinstance(grads, fastrnn.Grads)
        assert same((call.y, right), (dx, right_dx))
        assert same_grads(grads, right_grads)
    assert same((net.eval()(x, lengths), right), (net.record(x, lengths).backward(dy).dx, right_dx))


@pytest.mark.parametrize("shape", [(T, I), (0, B, I), (T, 0, I), (1, 1, I)], ids=str)
def test_other_shapes(shape: tuple[int, ...]) -> None:
    for kind in POOLS:
        net = Sequential(Linear(I, H, seed=0), Tanh(), GRU(H, H, seed=0), kind(), Linear(H, O, seed=1))
        y = net(draw(*shape, dtype=F))
        assert y.shape == (*shape[1:-1], O)
        dx = net.backward(y)
        assert dx is not None
        assert dx.shape == shape
        assert same((net.eval()(draw(*shape, dtype=F)), y))


def test_every_step_and_tokens() -> None:
    net = Sequential(Embedding(6, H, seed=0), LSTM(H, H, 2, seed=1), Dropout(0.0), Relu(), Linear(H, O, seed=2))
    tokens = np.arange(T * B).reshape(T, B) % 6
    embedding, rnn, _, relu, head = net
    y = net(tokens, LENGTHS)
    right = head(relu(rnn(embedding(tokens), lengths=LENGTHS)[0]))
    assert same((y, right))
    assert net.backward(y) is None
    embedding.backward(rnn.backward(relu.backward(head.backward(y)))[0])
    grads = {f"{k}.{name}": g for k, module in enumerate(net) for name, g in module.grads.items()}
    assert same_grads(net.grads, grads)
    plain = Sequential(GRU(6, H, seed=0), Linear(H, O, seed=0))  # layers take tokens themselves
    assert plain.backward(plain(tokens)) is None
    assert list(plain.grads) == list(plain.params)


@pytest.mark.parametrize("family,options", VARIANTS, ids=str)  # noqa: PT006
def test_the_last_output_is_not_stored_step_by_step(
    family: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after a layer Last is its return_sequence=False, with the bits of Last on all steps."""
    for bidirectional, batch_first, lengths in itertools.product((False, True), (False, True), (None, LENGTHS)):
        layer = LAYERS[family](I, 6, 2, bidirectional=bidirectional, batch_first=batch_first, seed=0, **options)
        x = draw(B, T, I, dtype=F) if batch_first else draw(T, B, I, dtype=F)
        at_once, apart = Sequential(layer, Last()), Sequential(layer, Dropout(0.0), Last())
        one, other = at_once.record(x, lengths), apart.record(x, lengths)
        assert same((one.y, layer(x, lengths=lengths, return_sequence=False)[0]), (one.y, other.y))
        dy = draw(*one.y.shape, dtype=F)
        a, b = one.backward(dy), other.backward(dy)
        assert a.dx is not None
        assert b.dx is not None
        np.testing.assert_allclose(a.dx, b.dx, rtol=1e-5, atol=1e-6)
        for g, h in zip(a.grads.values(), b.grads.values(), strict=True):
            np.testing.assert_allclose(g, h, rtol=1e-4, atol=1e-5)
        if lengths is not None:
            assert not one.y[2].any()
            assert not (a.dx[2] if batch_first else a.dx[:, 2]).any()
    asked: list[bool] = []
    forward = _core.forward

    def told(cell: str, training: bool, sequence: bool, *others: Any) -> Any:
        asked.append(sequence)
        return forward(cell, training, sequence, *others)

    monkeypatch.setattr(_core, "forward", told)
    Sequential(GRU(I, H), Last())(draw(T, B, I, dtype=F))
    Sequential(GRU(I, H), Relu(), Last())(draw(T, B, I, dtype=F))
    assert asked == [False, True]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
def test_what_each_direction_has_put_out_last(lengths: Any) -> None:
    counts = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    x = draw(T, B, I)
    both = GRU(I, H, bidirectional=True, dtype=np.float64, seed=0)
    y, _ = both(x, lengths=lengths)
    for module in (Relu(), Tanh(), Dropout(0.0)):
        got = Sequential(both, module, Last())(x, lengths)
        assert same((got, expected_of(Last, module(y), counts, reads=H)))
    assert same((Last()(y, lengths), expected_of(Last, y, counts)))
    linear = Linear(2 * H, H, dtype=np.float64, seed=0)
    z = linear(y)
    assert same((Sequential(both, linear, Last())(x, lengths), expected_of(Last, z, counts)))

    layer = GRU(I, H, reverse=True, dtype=np.float64, seed=0)
    got = Sequential(layer, Dropout(0.0), Last())(x, lengths)
    assert same((got, expected_of(Last, layer(x, lengths=lengths)[0], counts, reads=0)))


def test_sequences_without_steps_have_no_last_one() -> None:
    """Nor what a layer has learned to begin with."""
    layer = GRU(I, H, learn_state=True, dtype=np.float64, seed=0)
    layer.params["h_0_l0"][...] = 1
    net = Sequential(layer, Last())
    y = net(draw(T, B, I), LENGTHS)
    assert same((y, layer(draw(T, B, I), lengths=LENGTHS)[0][LENGTHS - 1, np.arange(B)] * (LENGTHS > 0)[:, None]))
    net.backward(np.eye(B, H)[[2]].repeat(B, 0) * (LENGTHS == 0)[:, None])
    assert not any(g.any() for g in net.grads.values())


def test_classes_that_call_otherwise_are_called_as_they_are() -> None:
    x = draw(T, B, I, dtype=F)

    class Twice(Linear):
        def __call__(self, x: Array) -> Array:
            return 2 * super().__call__(x)

        def record(self, x: Array) -> ModuleCall:
            call = super().record(x)
            return ModuleCall(2 * call.y, lambda dy: (call.backward(2 * dy)[0], dict(call.backward(2 * dy).grads)))

    class Louder(GRU):
        def record(self, x: Array) -> Any:  # type: ignore[override]
            return super().record(2 * x)

    net, plain = Sequential(Twice(I, O, seed=0)), Linear(I, O, seed=0)
    assert same((net(x), 2 * plain(x)), (net.eval()(x), 2 * plain(x)))
    layer = Louder(I, H, seed=0)
    net, expected = Sequential(layer, Last()), GRU(I, H, seed=0)(2 * x)[0]
    assert same((net(x), expected[-1]), (net.eval()(x), expected[-1]))
    assert layer.record(x).y is not None  # nobody has taken it
    for own in (net, Sequential(Twice(I, O))):
        with pytest.raises(ValueError, match="of which a stream knows no steps"):
            own.stream()


def test_what_modules_of_ones_own_get_wrong() -> None:
    x = draw(T, B, I, dtype=F)

    class Own(Modules):
        result: Any = None

        def __init__(self) -> None:
            super().__init__(rnn=GRU(I, H, seed=0))

        def record(self, x: Array) -> Any:
            call = self.rnn.record(x)
            return {
                "names": lambda: call,
                "pair": lambda: ModuleCall((call.y, call.state), call.backward),  # type: ignore[arg-type]
                "triple": lambda: ModuleCall(call.y, lambda dy: call.backward(dy)),  # type: ignore[arg-type,return-value]
            }[self.result]()

    def back(result: str) -> None:
        module = Own()
        module.result = result
        net = Sequential(module)
        net.backward(net(x))

    for result, error, message in (
        ("names", ValueError, r"there is a gradient of 0\.weight_ih_l0, and no such parameter; in module 0"),
        ("pair", TypeError, "Own: y of what record returned is a tuple, expected an array; in module 0"),
        ("triple", TypeError, r"the way back returned .*, expected \(dx, grads\); in module 0"),
    ):
        with pytest.raises(error, match=message):
            back(result)

    class Unfinished(Linear):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="Sequential: 0 is of Unfinished, whose __init__ has not called super"):
        Sequential(Unfinished())


def test_a_stream_may_write_to_what_it_reads() -> None:
    for batch in (1, 2, 20):
        for modules in ([Linear(3, 3, seed=0)], [Relu()], [Linear(3, 3, seed=0), Relu(), Linear(3, 3, seed=1)]):
            stream, x = Sequential(*modules).stream(batch), draw(batch, 3, dtype=F)
            expected = stream.step(x)
            stream.step(x, x)
            assert np.array_equal(x, expected)


def test_nets_in_nets_are_like_one() -> None:
    x, dy = draw(T, B, I), draw(B, O)
    modules = [GRU(I, H, bidirectional=True, dtype=np.float64, seed=0), Tanh(), Last()]
    modules += [Linear(2 * H, O, dtype=np.float64, seed=1)]
    flat = Sequential(*modules)
    right = flat.record(x, LENGTHS)
    right_back = right.backward(dy)
    for net in (
        Sequential(Sequential(*modules[:1]), *modules[1:]),
        Sequential(Sequential(*modules[:2]), Sequential(*modules[2:])),
        Sequential(Sequential(Sequential(*modules))),
    ):
        call = net.record(x, LENGTHS)
        back = call.backward(dy)
        assert same(
            (call.y, right.y), (back.dx, right_back.dx), (net(x, LENGTHS), right.y), (net.backward(dy), back.dx)
        )
        assert list(back.grads) == list(net.params) == list(net.grads)
        assert same(*zip(back.grads.values(), right_back.grads.values(), strict=True))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [classifier, tagger])
def test_gradients_by_finite_differences(make: Any, masked: bool) -> None:
    net = make(np.float64)
    x: Any = np.arange(T * B).reshape(T, B) % 6 if make is tagger else draw(T, B, I)
    mask = mask_of(T, B) if masked else None
    call = net.record(x, LENGTHS, mask)
    dy = draw(*call.y.shape, seed=1)
    back = call.backward(dy)

    def loss() -> float:
        return float((net.record(x, LENGTHS, mask).y * dy).sum())

    for name, p in net.params.items():
        np.testing.assert_allclose(back.grads[name], finite_difference(loss, p), rtol=1e-6, atol=1e-9)
    if make is classifier:
        assert back.dx is not None
        np.testing.assert_allclose(back.dx, finite_difference(loss, x), rtol=1e-6, atol=1e-9)


@each_pool
def test_gradients_of_pools_by_finite_differences(kind: Any) -> None:
    net = Sequential(LSTM(I, H, dtype=np.float64, batch_first=True, seed=0), Tanh(), kind())
    x, dy = draw(B, T, I), draw(B, H, seed=1)
    back = net.record(x, LENGTHS).backward(dy)

    def loss() -> float:
        return float((net.record(x, LENGTHS).y * dy).sum())

    np.testing.assert_allclose(back.dx, finite_difference(loss, x), rtol=1e-6, atol=1e-9)
    bias = net.params["0.bias_hh_l0"]
    np.testing.assert_allclose(back.grads["0.bias_hh_l0"], finite_difference(loss, bias), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
def test_masks_reach_layers(lengths: Any, batch_first: bool) -> None:
    for bidirectional in (False, True):
        net = classifier(batch_first=batch_first, bidirectional=bidirectional)
        x = draw(B, T, I, dtype=F) if batch_first else draw(T, B, I, dtype=F)
        mask = mask_of(*x.shape[:2])
        right, right_back = by_hand(net, x, lengths, mask)
        dy = draw(B, O, dtype=F)
        dx, grads = right_back(dy)
        assert same(
            (net(x, lengths, mask), right), (net.backward(dy), dx), (net.eval()(x, mask=mask, lengths=lengths), right)
        )
        assert same_grads(net.grads, grads)
        apart = Sequential(net[0], Dropout(0.0), *net[1:])
        assert same((apart(x, lengths, mask), right))
        assert not dx[~mask].any()


@each_pool
def test_masked_steps_might_not_be_there(kind: Any) -> None:
    net = Sequential(GRU(I, H, seed=0), kind(), Linear(H, O, seed=1))
    x, mask = draw(T, 1, I, dtype=F), mask_of(T)[:, None]
    np.testing.assert_allclose(net(x, mask=mask), net(np.ascontiguousarray(x[mask[:, 0]])), rtol=1e-5, atol=1e-6)


# --- modes, gradients and threads


def test_modes() -> None:
    net = Sequential(GRU(I, H, 2, dropout=0.5, seed=0), Sequential(Dropout(0.5, seed=0)), Last())
    x = draw(T, B, I, dtype=F)
    assert not same((net(x), net(x)))
    assert net.eval() is net
    assert not any(module.training for module in (*net, net[1][0]))
    assert same((net(x), net(x)))
    assert net.train() is net
    assert net[1][0].training
    with pytest.raises(TypeError, match="Sequential: training is 1, expected a bool"):
        net.training = 1  # type: ignore[assignment]
    net.eval()
    net[1].train()  # a module goes its own way, as in Modules
    assert not same((net(x), net(x)))


def test_the_last_call_in_training_mode() -> None:
    net, x, dy = classifier(), draw(T, B, I, dtype=F), np.ones((B, O), F)
    with pytest.raises(RuntimeError, match=r"Sequential\.backward: there was no call in training mode before"):
        net.backward(dy)
    net(x)
    assert not net.grads
    dx, grads = net.backward(dy), net.grads
    net.eval()(draw(T, B, I, dtype=F, seed=1))
    with pytest.raises(RuntimeError, match=r"Sequential\.backward: the last call was in evaluation mode"):
        net.backward(dy)
    assert same_grads(net.grads, grads)
    assert net.grads is not grads
    net.train()(x)
    assert not net.grads  # they are gone with the next call in training mode
    assert same((net.backward(dy), dx))
    net.record(x).backward(2 * dy)  # leaves it as it is
    assert same_grads(net.grads, grads)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="in this thread"):
        pool.submit(net.backward, dy).result()


def test_calls_keep_nothing_in_evaluation_mode() -> None:
    net = tagger().eval()
    net(np.zeros((T, B), int))
    assert net._last.call is None
    assert all(module._last.call is None for _, module in net._leaves())


def test_gradients_are_those_of_its_modules() -> None:
    """In Modules and in other nets they are there, and modules called by themselves count, too."""
    inner, head = classifier(), Linear(O, 3, seed=3)
    for net in (Modules(inner=inner, head=head), Sequential(inner, head)):
        x, dz = draw(T, B, I, dtype=F), np.ones((B, 3), F)
        inner.backward(head.backward(np.ones_like(head(inner(x)))))
        right = list(net.grads.values())
        assert list(net.grads) == list(net.params)
        assert all(inner.grads[name] is g for name, g in zip(inner.params, right, strict=False))
        assert inner[0].grads["weight_ih_l0"] is right[0]
        if isinstance(net, Sequential):
            assert same((net(x), head(inner(x))))
            assert not head.grads
            net.backward(dz)
            assert same(*zip(net.grads.values(), right, strict=True))
    net = classifier()
    net(x)
    net.backward(np.ones((B, O), F))
    numbers = set(net.grads.of.values())
    assert len(numbers) == 1
    net[2](draw(B, H, dtype=F))
    assert list(net.grads) == [name for name in net.params if name.startswith("0.")]


def test_calls_live_side_by_side() -> None:
    net, xs = tagger(), [np.random.default_rng(k).integers(0, 6, (T, B)) for k in range(3)]
    calls = [net.record(x, LENGTHS) for x in xs]
    for x, call in reversed(list(zip(xs, calls, strict=True))):
        net(x, LENGTHS)
        net.backward(np.cos(call.y))
        assert same_grads(call.backward(np.cos(call.y)).grads, net.grads)
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a call cannot be copied or pickled"):
            way(calls[0])


def test_a_call_is_gone_when_nobody_has_it() -> None:
    net, x = tagger(), np.zeros((T, B), int)
    net(x)
    gc.collect()
    gc.disable()
    try:
        call = net.record(x)
        call.backward(np.ones_like(call.y))
        gone, last = weakref.ref(call), weakref.ref(net._last.call)
        del call
        net(x)
        assert gone() is None
        assert last() is None
        stream = classifier().stream()
        stream.step(np.zeros((1, I), F))
        gone_stream = weakref.ref(stream)
        del stream
        assert gone_stream() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_one_net_in_several_threads() -> None:
    net = tagger()
    xs = [np.random.default_rng(k).integers(0, 6, (T, B)) for k in range(8)]

    def solve(x: Array) -> list[Array]:
        y = net(x, LENGTHS)
        net.backward(np.cos(y))
        call = net.record(x)
        return [y, *net.grads.values(), *call.backward(call.y).grads.values()]

    right = [solve(x) for x in xs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for k, got in enumerate(pool.map(solve, 10 * xs)):
                assert same(*zip(got, right[k % 8], strict=True))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, momentum=0.9), lambda p: Adam(p, 0.02)])
def test_it_learns(make: Any) -> None:
    net = Sequential(GRU(2, 16, batch_first=True, seed=0), Last(), Linear(16, 2, seed=0))
    optimiser, rng = make(net.params), np.random.default_rng(0)
    for _ in range(200):
        x = rng.integers(0, 2, (32, 9))
        loss, dlogits = fastrnn.cross_entropy(net(x), (x.sum(axis=1) > 4).astype(int))
        net.backward(dlogits)
        optimiser.step(net.grads)
    assert loss < 0.2
    with pytest.raises(ValueError, match="step"):
        optimiser.step({**net.grads, "0.weight_ih_l0": np.ones(3, F)})


def test_an_optimiser_sees_which_gradients_are_old() -> None:
    net, x, dy = classifier(), draw(T, B, I, dtype=F), np.ones((B, O), F)
    adam = Adam(net.params)
    net(x)
    net.backward(dy)
    adam.step(net.grads)
    net[2].backward(net[2](draw(B, H, dtype=F)))
    with pytest.raises(ValueError, match=r"0\.weight_ih_l0"):
        adam.step(net.grads)
    net.params["2.bias"] = np.zeros(O, F)
    net(x)
    net.backward(dy)
    before = net.params["2.bias"].copy()
    adam.step(net.grads)
    assert (net.params["2.bias"] != before).all()


# --- parameters, copies, files


def test_parameters_are_named_as_pytorchs() -> None:
    net = classifier()
    assert list(net.params)[:2] == ["0.weight_ih_l0", "0.weight_hh_l0"]
    assert list(net.params)[-2:] == ["2.weight", "2.bias"]
    assert list(tagger().params)[1] == "1.0.weight_ih_l0"
    new = np.ones((O, H), F)
    net.params["2.weight"] = new
    assert net[2].params["weight"] is new
    net.params["2.bias"][...] = 7
    assert (net[2].params["bias"] == 7).all()
    with pytest.raises(KeyError, match=r"Sequential has no parameter '3\.bias'"):
        net.params["3.bias"] = new


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies(way: Callable[[Any], Any]) -> None:
    net, x = tagger().eval(), np.arange(T * B).reshape(T, B) % 6
    y = net(x, LENGTHS)
    other = way(net)
    assert repr(other) == repr(net)
    assert same((other(x, LENGTHS), y))
    assert not other.training
    for p in other.params.values():
        p[...] = 0
    assert same((net(x, LENGTHS), y))
    assert not other(x, LENGTHS).any()
    with pytest.raises(RuntimeError, match="there was no call"):
        other.backward(y)
    assert other.train().backward(other(x)) is None
    assert list(other.grads) == list(net.params)


def test_files(tmp_path: Path) -> None:
    one, other = tagger(), tagger()
    for p in other.params.values():
        p[...] = 0
    path = str(tmp_path / "net.safetensors")
    one.save(path)
    arrays = other.params.copy()
    other.load(path)
    assert same_grads(one.params, other.params)
    assert all(other.params[name] is p for name, p in arrays.items())
    other.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match=r"Sequential\.load_state_dict: missing 0\.weight_ih_l0"):
        classifier().load(path)


# --- its modules


def test_it_is_a_sequence() -> None:
    net = classifier()
    rnn, last, head = net
    assert len(net) == 3
    assert net[0] is rnn
    assert net[-1] is net[np.int64(2)] is head
    encoder = net.eval()[:2]
    assert isinstance(encoder, Sequential)
    assert list(encoder) == [rnn, last]
    assert not encoder.training
    assert list(net[::2].params) == ["0." + n for n in rnn.params] + ["1." + n for n in head.params]
    assert net[-1:].params["0.bias"] is head.params["bias"]
    x = draw(T, B, I, dtype=F)
    assert same((net[2:](encoder(x)), net(x)))
    net[2].train()
    assert net[1:].training is False
    assert net[2].training
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"Sequential: there is no module {index}; there are 3"):
            print(net[index])
    for wrong in ("0", 1.0, None, True):
        with pytest.raises(TypeError, match=r"Sequential: index is .*, expected an int"):
            print(net[wrong])  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="Sequential: there are no modules"):
        print(net[3:])


def test_freezing() -> None:
    both = Modules(a=GRU(I, H, seed=0))

    class Own(Modules):
        def record(self, x: Array) -> ModuleCall: ...

    net = Sequential(Sequential(GRU(I, H, seed=0)), LSTM(H, H, seed=0), Own(inner=both), Linear(H, O, seed=0))
    x = draw(T, B, I, dtype=F)
    y = net[:2](x)
    assert net.freeze() is net
    frozen = [name for name, p in net.params.items() if not p.flags.writeable]
    assert frozen == [name for name in net.params if not name.startswith("3.")]
    assert same((net[:2](x), y))
    assert all(p.flags.writeable for p in copy.copy(net).params.values())
    assert net.unfreeze() is net
    assert all(p.flags.writeable for p in net.params.values())
    net.params["1.weight_hh_l0"] = net.params["1.weight_ih_l0"]  # within a layer that is all right
    net.freeze().unfreeze()
    other = LSTM(H, H, seed=1)
    other.params["bias_ih_l0"] = net.params["1.bias_ih_l0"]
    with pytest.raises(ValueError, match="bias_ih_l0 is tied to a parameter of another module"):
        net.freeze()
    assert all(p.flags.writeable for p in net.params.values())  # all or none


def test_classes_of_ones_own() -> None:
    class Residual(Modules):
        """x + rnn(x), for a net."""

        def __init__(self, size: int) -> None:
            super().__init__(rnn=GRU(size, size, dtype=np.float64, seed=0))

        def record(self, x: Array) -> ModuleCall:
            call = self.rnn.record(x)

            def back(dy: Array) -> tuple[Array, dict[str, Array]]:
                dx, _, grads = call.backward(dy)
                return dx + dy, {f"rnn.{name}": g for name, g in grads.items()}

            return ModuleCall(x + call.y, back)

    class Net(Sequential):
        def __init__(self) -> None:
            self.encoder = GRU(I, H, dtype=np.float64, seed=1)
            super().__init__(self.encoder, Residual(H), Last(), Linear(H, O, dtype=np.float64, seed=2))
            self.note = "mine"
            self.head = self[-1]

    net, x = Net(), draw(T, B, I)
    y = net(x)
    right = net[3](Last()(net[1].record(net.encoder(x)[0]).y))
    assert same((y, right), (net.eval()(x), right))
    assert net.train()(x, LENGTHS).shape == (B, O)
    dy = draw(B, O, seed=1)
    net(x)
    dx = net.backward(dy)
    assert list(net.grads) == list(net.params)

    def loss() -> float:
        return float((net.record(x).y * dy).sum())

    np.testing.assert_allclose(dx, finite_difference(loss, x), rtol=1e-6, atol=1e-9)
    for name in ("1.rnn.bias_ih_l0", "3.weight", "0.bias_hh_l0"):
        np.testing.assert_allclose(net.grads[name], finite_difference(loss, net.params[name]), rtol=1e-6, atol=1e-9)
    other = copy.deepcopy(net)
    assert other.encoder is other[0]
    assert other.note == "mine"
    with pytest.raises(AttributeError, match=r"Net: more would be none of its modules"):
        net.more = Linear(1, 1)
    net._mean = copy.copy(net)
    assert isinstance(net[:2], Sequential)

    class Wrong(fastrnn.Module):
        def record(self, x: Array) -> Any:
            return x, None

    with pytest.raises(
        TypeError, match=r"Wrong: record returned a tuple, expected an object with y and backward.*; in m"
    ):
        Sequential(Wrong())(x)


def test_a_class_that_goes_its_own_way_is_left_to_it() -> None:
    class Twice(Sequential):
        def record(self, x: Array, lengths: Any = None, mask: Any = None) -> ModuleCall:
            call = super().record(x, lengths, mask)
            return ModuleCall(2 * call.y, lambda dy: call.backward(2 * dy)[::2])

    class Loud(Linear):
        def record(self, x: Array) -> ModuleCall:
            call = super().record(x)
            return ModuleCall(-call.y, lambda dy: call.backward(-dy)[::2])

    linear = Linear(I, O, seed=0)
    net, x = Sequential(Twice(linear), Loud(O, O, seed=1)), draw(B, I, dtype=F)
    right = -Linear(O, O, seed=1)(2 * linear(x))
    assert same((net(x), right), (net.eval()(x), right))
    dx = net.train().record(x).backward(right).dx
    assert dx is not None
    np.testing.assert_allclose(dx, -2 * right @ net.params["1.weight"] @ linear.params["weight"], rtol=1e-5)


@pytest.mark.parametrize("net", [classifier(batch_first=True), tagger(), Sequential(Last(True), Relu())[:1]], ids=len)
def test_what_is_shown_makes_another(net: Sequential) -> None:
    other = eval(repr(net), {**vars(fastrnn), "np": np})
    assert repr(other) == repr(net)
    assert [*other.params] == [*net.params]


def test_what_is_shown() -> None:
    net = Sequential(GRU(1, 64, batch_first=True), Sequential(Last(), Relu()), Linear(64, 1))
    assert repr(net) == (
        "Sequential(\n    GRU(1, 64, batch_first=True),  # 12,864 parameters\n"
        "    Sequential(\n        Last(),\n        Relu(),\n    ),  # 0 parameters\n"
        "    Linear(64, 1),  # 65 parameters\n)  # 12,929 parameters"
    )
    assert repr(Last(batch_first=True)) == "Last(batch_first=True)"
    assert repr(net.record(np.ones((2, 3, 1), F))) == "<ModuleCall: y float32 of shape (2, 1)>"


def test_summary() -> None:
    net = Sequential(GRU(1, 64, batch_first=True), Sequential(Last(), Relu()), Linear(64, 1))
    assert net.summary().splitlines() == [
        "     module                        output      parameters",
        "0    GRU(1, 64, batch_first=True)  (B, T, 64)      12,864",
        "1.0  Last()                        (B, 64)              0",
        "1.1  Relu()                        (B, 64)              0",
        "2    Linear(64, 1)                 (B, 1)              65",
        "     in all                                        12,929",
    ]

    class Own(fastrnn.Module):
        def record(self, x: Array) -> ModuleCall: ...

    def shapes(*modules: fastrnn.Module) -> list[str]:
        lines = Sequential(*modules).summary().splitlines()
        start, end = lines[0].index("output"), lines[0].index("parameters")
        return [line[start:end].strip() for line in lines[1:-1]]

    assert shapes(Linear(3, 4), Relu()) == ["(..., 4)", "(..., 4)"]
    assert shapes(Linear(3, 4), Linear(4, 0)) == ["(..., 4)", "(..., 0)"]
    assert shapes(Dropout(0.1), LSTM(3, 8, bidirectional=True, proj_size=2), Max()) == [
        "(T, B, I)",
        "(T, B, 4)",
        "(B, 4)",
    ]
    assert shapes(Embedding(9, 4), Mean(batch_first=True)) == ["(B, T, 4)", "(B, 4)"]
    assert shapes(GRU(3, 4), Own(), Relu(), Last(), Linear(4, 2)) == ["(T, B, 4)", "?", "?", "(B, ?)", "(B, 2)"]
    tied = Sequential(Linear(4, 4, bias=False), Linear(4, 4, bias=False))
    tied.params["1.weight"] = tied.params["0.weight"]
    assert tied.summary().splitlines()[-1].split() == ["in", "all,", "tied", "ones", "once", "16"]
    assert len({len(line) for line in tied.summary().splitlines()}) == 1


# --- streams


def streamed(stream: Any, x: Array) -> Array:
    return np.stack([stream.step(step) for step in x])


def up_to(net: Sequential, x: Array) -> Array:
    """What the net gives for the first step, for the first two, ..."""
    return np.stack([net(x[: t + 1]) for t in range(len(x))])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("batch", [1, B, 20])
def test_steps_are_the_net_on_all_so_far(batch: int, tokens: bool, dtype: type, isa: str) -> None:
    first = [Embedding(6, I, dtype=dtype, seed=0)] if tokens else []
    nets = [
        Sequential(*first, GRU(I, H, dtype=dtype, seed=0), Last(), Linear(H, O, dtype=dtype, seed=1), Tanh()),
        Sequential(
            *first, LSTM(I, H, 2, dtype=dtype, seed=0), Dropout(0.5), Relu(), Last(), Linear(H, 33, dtype=dtype)
        ),
        Sequential(
            *first, Tanh(), Sequential(GRU(I, H, dtype=dtype), Relu()), LSTM(H, 6, proj_size=4, dtype=dtype), Last()
        ),
    ]
    nets += [Sequential(GRU(6, H, dtype=dtype, seed=0), RNN(H, H, dtype=dtype), Last())] if tokens else []
    x: Any = np.random.default_rng(0).integers(0, 6, (T, batch)) if tokens else draw(T, batch, I, dtype=dtype)
    for net in nets:
        stream = net.eval().stream(batch, tokens=tokens)
        assert np.array_equal(streamed(stream, x), up_to(net, x)), isa


@pytest.mark.parametrize("family,options", VARIANTS, ids=str)  # noqa: PT006
def test_steps_of_every_kind_of_layer(family: str, options: dict[str, Any]) -> None:
    net = Sequential(LAYERS[family](I, 6, 2, seed=0, **options), Relu()).eval()
    x = draw(T, B, I, dtype=F)
    assert np.array_equal(streamed(net.stream(B), x), net(x))


def test_linear_layers_of_every_step_are_the_net_to_rounding() -> None:
    net = Sequential(Linear(I, H, seed=0), Tanh(), GRU(H, H, seed=1), Linear(H, O, bias=False, seed=2)).eval()
    x = draw(T, B, I, dtype=F)
    np.testing.assert_allclose(streamed(net.stream(B), x), net(x), rtol=1e-5, atol=1e-6)
    large = Sequential(Linear(600, 600, seed=0), GRU(600, H, seed=0), Linear(H, 4, seed=0)).eval()
    x = draw(3, 2, 600, dtype=F)
    np.testing.assert_allclose(streamed(large.stream(2), x), large(x), rtol=1e-4, atol=1e-5)
    assert Sequential(Linear(3, 0), Relu()).stream(2).step(np.ones((2, 3), F)).shape == (2, 0)
    same_again = Sequential(Dropout(0.5), Last()).stream(2)
    step = draw(2, 3, dtype=F)
    assert same((same_again.step(step), step))
    assert same_again.step(step) is not step
    assert same_again.step(step, step) is step


def test_weights_are_those_of_the_beginning() -> None:
    net = Sequential(Embedding(6, I, seed=0), GRU(I, H, seed=0), Last(), Linear(H, O, seed=0), Relu()).eval()
    tokens = np.array([0, 3, 5, 5])
    right, stream = net(tokens[None]), net.stream(B)
    for p in net.params.values():
        p += 1
    assert same((stream.step(tokens), right))


def net_of_two() -> Sequential:
    return Sequential(LSTM(I, H, 2, seed=0), Dropout(0.2), GRU(H, H, seed=1), Last(), Linear(H, O, seed=2)).eval()


def test_states() -> None:
    net, x = net_of_two(), draw(T, B, I, dtype=F)
    stream = net.stream(B)
    start = list(streamed(stream, x))
    kept = stream.state
    y, state = net[0](x)
    assert isinstance(kept, tuple)
    assert same(*zip((*kept[0], kept[1]), (*state, net[2](y)[1]), strict=True))
    others = [stream.copy(), copy.copy(stream), copy.deepcopy(stream)]
    after = stream.step(x[0])
    for other in others:
        assert same((other.step(x[0]), after))
    stream.state = kept
    assert same((stream.step(x[0]), after))
    stream.reset([1, 3])
    again = stream.step(x[0])
    assert np.array_equal(again[[1, 3]], start[0][[1, 3]])
    assert not np.array_equal(again[[0, 2]], start[0][[0, 2]])
    for nothing in (None, (None, None), [(None, None), None]):
        stream.step(x[1])
        stream.state = nothing
        assert same((stream.step(x[0]), start[0]))
    stream.reset()
    assert same(*zip(streamed(stream, x), start, strict=True))
    before = [a.copy() for s in stream.state for a in parts(s)]
    for bad, error, message in (
        ((kept[0],), TypeError, r"Stream\.state: state is 1 of them, expected the state of each recurrent layer, 2 in"),
        (kept[1], TypeError, r"Stream\.state: state is an array of float32 .*, expected the state of each"),
        (
            (None, kept[0]),
            TypeError,
            r"Stream\.state: state is 2 of them, expected one array; in module 2 of Sequential",
        ),
        (
            (None, kept[1][:, 1:]),
            ValueError,
            r"Stream\.state: state has shape \(1, 3, 5\).*; in module 2 of Sequential",
        ),
    ):
        with pytest.raises(error, match=message):
            stream.state = bad
        assert same(*zip(before, (a for s in stream.state for a in parts(s)), strict=True))
    with pytest.raises(ValueError, match=r"Stream\.reset: rows has 9"):
        stream.reset([9])
    stateless = Sequential(Linear(3, 2)).stream()
    assert stateless.state == ()
    stateless.state = ()
    stateless.reset()


def test_out() -> None:
    x = draw(B, I, dtype=F)
    for net in (
        net_of_two(),
        Sequential(GRU(I, I, seed=0), Relu()),
        Sequential(Tanh(), Relu()),
        Sequential(GRU(I, I, seed=0), Last()),
        Sequential(Linear(I, 600_000 // I, seed=0)),
    ):
        right = net.stream(B).step(x)
        out = np.full_like(right, np.nan)
        assert net.stream(B).step(x, out) is out
        assert same((net.stream(B).step(x, out=out), right))
        if out.shape == x.shape and not isinstance(net[0], Linear):
            itself = x.copy()
            net.stream(B).step(itself, itself)
            assert same((itself, right))
        stream = net.stream(B)
        for bad, error, message in (
            (right.astype(np.float64), TypeError, "out is float64, .* float32"),
            (np.empty((2, *right.shape), F), ValueError, "out has shape"),
            (np.empty(right.shape[::-1], F).T, ValueError, "out is read-only or has gaps"),
            (np.broadcast_to(F(0), right.shape), ValueError, "out is read-only or has gaps"),
            ([], TypeError, "out is a list"),
        ):
            with pytest.raises(error, match=rf"Stream\.step: {message}"):
                stream.step(x, bad)
        assert same((stream.step(x), right))


def test_streams_say_what_is_wrong() -> None:
    class Own(fastrnn.Module):
        def record(self, x: Array) -> ModuleCall: ...

    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (
            lambda: Sequential(GRU(3, 4), Mean()).stream(),
            ValueError,
            r"^Sequential\.stream: module 1 is Mean\(\), which n",
        ),
        (lambda: Sequential(GRU(3, 4), Sequential(Max())).stream(), ValueError, r"module 1\.0 is Max\(\), which needs"),
        (
            lambda: Sequential(Relu(), GRU(3, 4, bidirectional=True)).stream(),
            ValueError,
            r"^GRU\.stream: a bidirectional layer needs the whole sequence; in module 1 of Sequential$",
        ),
        (lambda: Sequential(GRU(3, 4), Own()).stream(), ValueError, r"module 1 is Own\(\), of which a stream knows no"),
        (lambda: classifier().stream(1.0), TypeError, r"^Sequential\.stream: batch is 1\.0, expected an int"),
        (lambda: classifier().stream(-1), ValueError, r"^Sequential\.stream: batch is -1"),
        (lambda: classifier().stream(tokens=1), TypeError, r"^Sequential\.stream: tokens is 1, expected a bool"),
        (lambda: Sequential(Linear(3, 4)).stream(tokens=True), ValueError, r"tokens is True, and module 0 is Linear\("),
        (
            lambda: classifier().stream(2).step(np.ones((3, 3), F)),
            ValueError,
            r"^Stream\.step: x has shape \(3, 3\), expected \(B, I\) = \(2, 3\); in module 0 of Sequential$",
        ),
        (lambda: classifier().stream(2).step([[1.0]]), TypeError, "^Stream.step: x is a list"),
        (
            lambda: classifier().stream(2, tokens=True).step(np.array([0, 3])),
            ValueError,
            "is token 3, expected 0 to I-1",
        ),
        (
            lambda: Sequential(Linear(3, 4)).stream(2).step(np.ones((3, 3), F)),
            ValueError,
            r"^Stream\.step: x has shape \(3, 3\), expected \(B, I\) = \(2, 3\)",
        ),
        (
            lambda: Sequential(Linear(3, 4)).stream(2).step(np.ones((2, 3))),
            TypeError,
            "x has dtype float64.*in module 0",
        ),
        (lambda: Sequential(Linear(3, 4)).stream(9).step(np.ones((9, 3))), TypeError, "x is float64.*in module 0"),
        (lambda: Sequential(Relu()).stream(2).step(np.ones((2, 3), int)), TypeError, r"^Stream\.step: x is int64"),
        (
            lambda: Sequential(Relu()).stream(2).step(np.ones((3, 3))),
            ValueError,
            r"^Stream\.step: x has shape \(3, 3\)",
        ),
        (lambda: Sequential(Relu()).stream(2).step(np.ones(())), ValueError, r"^Stream\.step: x has shape \(\)"),
        (
            lambda: tokens_of(2, np.array([0, 6])),
            ValueError,
            "^Embedding: tokens has 0 to 6, expected 0 to 5; in module 0",
        ),
        (lambda: tokens_of(2, np.array([-1, 1])), ValueError, "^Embedding: tokens has -1 to 1"),
        (lambda: tokens_of(20, np.full(20, -1)), ValueError, "^Embedding: tokens has -1 to -1"),
        (lambda: tokens_of(2, np.array([0.0, 1.0])), TypeError, r"^Stream\.step: x is float64, expected integers"),
        (
            lambda: tokens_of(2, np.array([0])),
            ValueError,
            r"^Stream\.step: x has shape \(1,\), expected \(B,\) = \(2,\)",
        ),
        (lambda: pickle.dumps(classifier().stream()), TypeError, "a stream cannot be pickled: pickle its net"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()
    assert repr(tagger()[:1].stream(3, tokens=True)) == "Sequential(Embedding(6, 5)).stream(3, tokens=True)"


def tokens_of(batch: int, tokens: Array) -> Array:
    return Sequential(Embedding(6, 2, seed=0), GRU(2, 3, seed=0)).stream(batch).step(tokens)


def test_a_step_that_fails_has_not_been() -> None:
    of_two_dtypes = Sequential(GRU(I, H, seed=0), GRU(H, O, dtype=np.float64, seed=0))
    stream = of_two_dtypes.stream(B)
    stream.state = tuple(draw(*a.shape, dtype=a.dtype) for a in stream.state)
    before = stream.state
    with pytest.raises(TypeError, match="in module 1 of Sequential"):
        stream.step(draw(B, I, dtype=F))
    assert same(*zip(before, stream.state, strict=True))


def test_a_step_that_is_interrupted_has_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, x = net_of_two().stream(B), draw(B, I, dtype=F)
    right = [stream.step(x), stream.step(x)]
    stream.reset()
    stream.step(x)
    run = stream._last.run

    def interrupted(x: Array, out: Array | None) -> Array:
        press_ctrl_c()
        for _ in range(1000):  # the signal may come to another thread first
            time.sleep(0.01)
        return run(x, out)

    monkeypatch.setattr(stream, "_last", stream._last._replace(run=interrupted))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            stream.step(x)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert same((stream.step(x), right[1]))


def test_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, x = net_of_two().stream(B), draw(B, I, dtype=F)
    stream.step(x)
    within, go_on = threading.Event(), threading.Event()
    run = stream._last.run

    def waits(x: Array, out: Array | None) -> Array:
        within.set()
        go_on.wait(60)
        return run(x, out)

    monkeypatch.setattr(stream, "_last", stream._last._replace(run=waits))
    right = stream.copy()
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(stream.step, x)
        within.wait(60)
        for what in (
            lambda: stream.step(x),
            lambda: stream.state,
            lambda: setattr(stream, "state", None),
            stream.copy,
            stream.reset,
        ):
            with pytest.raises(
                RuntimeError, match=r"^Stream\.\w+: another thread is in a step of this stream.*copy\(\)"
            ):
                what()
        go_on.set()
        assert same((step.result(), right.step(x)))
    assert same((stream.step(x), right.step(x)))


# --- bad arguments


def test_messages_are_in_the_users_words() -> None:
    x, y = draw(T, B, I, dtype=F), draw(T, B, H)
    net, relu = classifier(), Relu()
    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (Sequential, ValueError, "^Sequential: there are no modules, expected one or more"),
        (
            lambda: Sequential([Relu()]),
            TypeError,
            r"^Sequential: module 0 is \[.*\], expected a module: Sequential\(\*m",
        ),
        (
            lambda: Sequential(Relu(), Last),
            TypeError,
            r"^Sequential: module 1 is .*Last.*, expected a module: Last\(\.\.\.",
        ),
        (lambda: Sequential(np.tanh), TypeError, "^Sequential: module 0 is .*tanh.*, expected a module$"),
        (lambda: Sequential(relu=Relu()), TypeError, "^Sequential: there is no option relu"),
        (
            lambda: Sequential(Relu(), Modules(a=Relu())),
            TypeError,
            "^Sequential: module 1 is of Modules, which cannot be called: give its modules, or have a class",
        ),
        (lambda: Sequential(Modules(record=Relu())), TypeError, "module 0 is of Modules, which cannot be called"),
        (lambda: Sequential(fastrnn.Module()), TypeError, "module 0 is of Module, which cannot be called"),
        (lambda: Sequential(relu, Tanh(), relu), ValueError, "^Sequential: 0 and 2 are the same module: make another"),
        (lambda: Sequential(relu, Sequential(relu)), ValueError, r"^Sequential: 0 and 1\.0 are the same module"),
        (
            lambda: Sequential(GRU(I, H), Last(), Relu(), Mean()),
            ValueError,
            r"^Sequential: module 3 is Mean\(\), which needs all steps, and module 1, Last\(\), leaves one$",
        ),
        (
            lambda: Sequential(Sequential(GRU(I, H), Max()), LSTM(H, H)),
            ValueError,
            r"module 1 is LSTM\(5, 5\), which needs all steps, and module 0\.1, Max\(\), leaves one",
        ),
        (
            lambda: Sequential(GRU(I, H, batch_first=True), Relu(), LSTM(H, H)),
            ValueError,
            "^Sequential: batch_first=True of module 0, GRU and batch_first=False of module 2, LSTM do not go together",
        ),
        (lambda: Sequential(GRU(I, H), Last(batch_first=True)), ValueError, "batch_first=True of module 1, Last"),
        (
            lambda: changed_order(net)(x),
            ValueError,
            "^Sequential: batch_first=True of module 0, GRU and batch_first=False",
        ),
        (
            lambda: Sequential(Linear(I, H), Relu())(x, lengths=LENGTHS),
            ValueError,
            "^Sequential: no module of this net takes lengths: recurrent layers, Last, Mean, Max do",
        ),
        (
            lambda: Sequential(Relu())(x, [1], x),
            ValueError,
            "^Sequential: no module of this net takes lengths or mask: recurrent layers",
        ),
        (
            lambda: net(draw(T, B, I)),
            TypeError,
            r"^GRU: x is float64, the layer is float32: x.* or GRU\(\.\.\., dtype=np\.float64\); in module 0 of Seq",
        ),
        (
            lambda: Sequential(GRU(I, H), Sequential(Relu(), Linear(H + 1, O))),
            ValueError,
            r"^Sequential: module 1.1 is Linear\(6, 2\), which takes 6 features, and module 0, GRU\(3, 5\), gives 5$",
        ),
        (lambda: net([1.0]), TypeError, "^GRU: x is a list, expected a NumPy array"),
        (lambda: net(None), TypeError, "^GRU: x is None"),
        (lambda: net(x, [1, 2]), ValueError, r"^GRU: lengths has shape \(2,\), expected \(B,\) = \(4,\); in module 0"),
        (lambda: net(x, [1.0]), TypeError, "^GRU: lengths is"),
        (
            lambda: net.record(x).backward(np.ones((B, O))),
            TypeError,
            r"^Sequential\.backward: dy is float64, the call was",
        ),
        (
            lambda: net.record(x).backward(np.ones((B, 1), F)),
            ValueError,
            r"^Sequential\.backward: dy has shape \(4, 1\), expected that of y = \(4, 2\)",
        ),
        (
            lambda: Sequential(Linear(3, 4), Relu(), GRU(5, 6)),
            ValueError,
            r"^Sequential: module 2 is GRU\(5, 6\), which takes 5",
        ),
        (lambda: setattr(net, "mask", 1), AttributeError, "^Sequential: mask cannot be set"),
        (lambda: setattr(net, "head", Relu()), AttributeError, "^Sequential: head would be none of its modules"),
        (lambda: Last(1), TypeError, "^Last: batch_first is 1, expected a bool"),
        (lambda: setattr(Mean(), "batch_first", "no"), TypeError, "^Mean: batch_first is 'no', expected a bool"),
        (lambda: Max(axis=0), TypeError, "^Max: there is no option axis"),
        (
            lambda: Last()(draw(3)),
            ValueError,
            r"^Last: y has shape \(3,\), expected \(T, B, H\), or \(T, H\) for one s",
        ),
        (lambda: Max(True)(draw(3, 1, 1, 1)), ValueError, r"^Max: y has shape \(3, 1, 1, 1\), expected \(B, T, H\)"),
        (lambda: Mean()([1.0]), TypeError, "^Mean: y is a list, expected a NumPy array"),
        (lambda: Mean()(y.astype(int)), TypeError, "^Mean: y is int64, expected float32 or float64"),
        (
            lambda: Last()((y, None)),
            TypeError,
            r"^Last: y is a tuple.*of what a layer returns, \(y, state\), the first",
        ),
        (lambda: Last()(y, [8, 1, 1, 1]), ValueError, "^Last: lengths has 1 to 8, expected 0 to T = 7"),
        (lambda: Last()(y, [1, 1]), ValueError, r"^Last: lengths has shape \(2,\), expected \(B,\) = \(4,\)"),
        (lambda: Last()(y, "a"), TypeError, "^Last: lengths is 'a', expected integers"),
        (lambda: Last(True)(y, [1, 1]), ValueError, r"^Last: lengths has shape \(2,\), expected \(B,\) = \(7,\)"),
        (
            lambda: Mean()(y, mask=np.ones((T, B))),
            TypeError,
            r"^Mean: mask is an array of float64 .*, expected bools \(T, B\): .astype\(bool\)",
        ),
        (lambda: Mean()(y, mask=[True]), ValueError, r"^Mean: mask has shape \(1,\), expected \(T, B\) = \(7, 4\)"),
        (
            lambda: Mean()(y, mask=np.ones((B, T), bool)),
            ValueError,
            r"^Mean: mask has shape \(4, 7\), expected \(T, B\) = \(7, 4\)",
        ),
        (lambda: Mean(True)(y, mask=np.ones((B, T), bool)), ValueError, r"expected \(B, T\) = \(7, 4\)"),
        (lambda: Mean()(y[0], mask=np.ones((B, 1), bool)), ValueError, r"expected \(T,\) = \(4,\)"),
        (
            lambda: Max().record(y).backward(y),
            ValueError,
            r"^Max\.backward: dy has shape .*, expected that of y = \(4, 5\)",
        ),
        (lambda: Last().backward(y[0]), RuntimeError, r"^Last\.backward: there was no call in training mode"),
        (lambda: Relu()([1.0]), TypeError, "^Relu: x is a list"),
        (lambda: Tanh()(y.astype(int)), TypeError, "^Tanh: x is int64, expected float32 or float64"),
        (lambda: Relu().record(y).backward(y[0]), ValueError, r"^Relu\.backward: dy has shape"),
        (lambda: Tanh().record(y).backward(x), TypeError, r"^Tanh\.backward: dy is float32, the call was float64"),
        (lambda: Tanh().backward(y), RuntimeError, r"^Tanh\.backward: there was no call in training mode"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()


def changed_order(net: Sequential) -> Sequential:
    other = Sequential(copy.copy(net[0]), Relu(), GRU(H, H), Last())
    other[0].batch_first = True
    return other


def test_what_changed_between_is_told() -> None:
    net, x = Sequential(Linear(I, H, seed=0), GRU(H, H, seed=0)), draw(T, B, I, dtype=F)
    call = net.record(x)
    x[0] += 1
    with pytest.raises(RuntimeError, match=r"^Linear\.backward: x has changed since.*; in module 0 of Sequential$"):
        call.backward(call.y)


def test_every_argument_stands_in_the_signature() -> None:
    for kind in (Sequential, Last, Mean, Max, Relu, Tanh):
        for function in (kind, *(getattr(kind, name) for name in ("__call__", "record", "backward"))):
            for p in inspect.signature(function).parameters.values():
                assert p.name == "self" or p.annotation is not p.empty, f"{function}: {p}"


def test_errors_of_other_kinds_are_left_alone() -> None:
    class Failing(fastrnn.Module):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def record(self, x: Array) -> ModuleCall:
            raise self.error

    for error in (
        KeyError("a"),
        UnicodeDecodeError("a", b"", 0, 1, "b"),
        ValueError(),
        ValueError("a", 1),
        MemoryError(),
    ):
        arguments = error.args
        with pytest.raises(type(error)) as raised:
            Sequential(Failing(error))(draw(2))
        assert raised.value is error
        assert error.args == arguments
