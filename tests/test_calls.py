"""Calls as objects: several alive at once, from several threads, each with gradients of its own."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Dropout, Embedding, Linear, Modules
from fastrnn.optim import Adam
from isolated import run_function
from layer_problems import LAYERS, VARIANTS, draw, parts, state_like
from problems import Array

T, B, I, H = 9, 5, 7, 11
each_variant = pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)


def all_of(gradients: fastrnn.Gradients) -> list[Array]:
    found = [*parts(gradients.dstate), *gradients.grads.values()]
    return found if gradients.dx is None else [gradients.dx, *found]


def assert_same(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("settings", [{}, {"recompute": True}, {"lengths": [4, 9, 0, 1, 9]}], ids=str)
@each_variant
def test_each_call_has_its_own_gradients(family: str, options: dict[str, Any], settings: dict[str, Any]) -> None:
    layer = LAYERS[family](I, H, 2, seed=0, **options)
    xs = [draw(T, B, I, dtype=np.float32, seed=k) for k in range(4)]
    state, dstate = state_like(layer), state_like(layer, seed=5)
    alone = []
    for x in xs:
        y, _ = layer(x, state, **settings)
        dx, dstate_0 = layer.backward(y, dstate)
        alone.append([y, dx, *parts(dstate_0), *layer.grads.values()])
    calls = [layer.record(x, state, **settings) for x in xs]
    for k in (2, 0, 3, 1, 2):  # in any order, also more than once
        gradients = calls[k].backward(calls[k].y, dstate)
        assert isinstance(gradients, fastrnn.Gradients)
        assert_same([calls[k].y, *all_of(gradients)], alone[k])
    assert layer.grads.keys() == layer.params.keys()  # of the last call without an object
    assert_same(list(layer.grads.values()), alone[3][-len(layer.grads) :])


@each_variant
def test_calls_of_two_modes(family: str, options: dict[str, Any]) -> None:
    """A call in evaluation has gradients too, and leaves alone what the last one in training has left."""
    layer = LAYERS[family](I, H, 2, dropout=0.3, zoneout=0.0 if "proj_size" in options else 0.2, seed=0, **options)
    x, other = draw(T, B, I, dtype=np.float32), draw(T, B, I, dtype=np.float32, seed=1)
    layer.rng = np.random.default_rng(3)
    y, _ = layer(x)
    dx, _ = layer.backward(y)
    grads = layer.grads
    layer.rng = np.random.default_rng(3)
    layer(x)
    expected = layer.eval()(other)[0]
    call = layer.record(other)
    assert np.array_equal(call.y, expected)
    assert np.array_equal(layer.train().backward(y)[0], dx)
    assert_same(list(layer.grads.values()), list(grads.values()))
    gradients = call.backward(np.ones_like(call.y))
    if "layer_norm" not in options and family != "indrnn":
        layer64 = LAYERS[family](I, H, 2, dtype=np.float64, seed=0, **options).eval()
        layer64.load_state_dict(layer.params)
        layer64.zoneout = layer.zoneout
        direction, eps = draw(T, B, I, seed=9), 1e-6
        ends = [layer64(other + sign * eps * direction)[0].sum() for sign in (1, -1)]
        assert gradients.dx is not None
        assert (gradients.dx * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-3, abs=1e-3)


def test_micro_batches_add_up() -> None:
    layer, decoder = fastrnn.GRU(I, H, dtype=np.float64, seed=0), Linear(H, 3, dtype=np.float64, seed=0)
    x, dz = draw(T, B, I), draw(T, B, 3, seed=1)

    def gradients(rows: slice) -> dict[str, Array]:
        call = layer.record(x[:, rows])
        head = decoder.record(call.y).backward(dz[:, rows])
        return {**call.backward(head.dx).grads, **{f"decoder.{n}": g for n, g in head.grads.items()}}

    whole, first, second = (gradients(rows) for rows in (slice(None), slice(2), slice(2, None)))
    for name, g in whole.items():
        np.testing.assert_allclose(first[name] + second[name], g, rtol=0, atol=1e-12)


def test_what_calls_of_other_modules_have() -> None:
    linear, embedding, dropout = Linear(3, 2, seed=0), Embedding(6, 4, seed=0), Dropout(0.5, seed=0)
    x, tokens = draw(4, 3, dtype=np.float32), np.array([1, 5, 1])
    for module, given, dtype in ((linear, x, np.float32), (embedding, tokens, np.float32), (dropout, x, np.float32)):
        first, second = module.record(given), module.record(given[::-1])
        dy = np.arange(first.y.size, dtype=dtype).reshape(first.y.shape)
        one, two, again = first.backward(dy), second.backward(dy), first.backward(dy)
        assert_same(
            [a for a in (one.dx, *one.grads.values()) if a is not None],
            [a for a in (again.dx, *again.grads.values()) if a is not None],
        )
        assert one.dstate is None
        assert one.grads.keys() == module.params.keys() == two.grads.keys()
        assert not module.grads  # there was no call without an object
        module(given)
        module.backward(dy)
        assert_same(list(module.grads.values()), list(one.grads.values()))
        assert module.eval().record(given).backward(dy).grads.keys() == module.params.keys()


def test_grads_are_a_dict_of_their_own_in_every_class() -> None:
    rnn, decoder = fastrnn.RNN(I, H, seed=0), Linear(H, 2, seed=0)
    net, x = Modules(rnn=rnn, decoder=decoder), draw(T, B, I, dtype=np.float32)
    seen = []
    for scale in (1, 2):
        y, _ = rnn(x)
        rnn.backward(decoder.backward(scale * np.ones_like(decoder(y))))
        seen.append((net.grads, rnn.grads, decoder.grads))
    for one, two in zip(*seen, strict=True):
        assert one is not two
        assert all(np.array_equal(2 * one[name], two[name]) for name in one)
    net.grads.clear()
    assert net.grads.keys() == net.params.keys()
    rnn(x)  # a call that nobody has gone back through has no gradients
    assert not rnn.grads
    assert list(net.grads) == ["decoder.weight", "decoder.bias"]


def test_what_changed_between_is_told() -> None:
    """Of a call that refers to the caller's arrays: what has changed since cannot give its gradients."""
    linear, x = Linear(3, 2, seed=0), draw(4, 3, dtype=np.float32)
    dy = np.ones((4, 2), np.float32)
    call = linear.record(x)
    x[0, 0] += 1
    with pytest.raises(RuntimeError, match=r"Linear\.backward: x has changed since the call"):
        call.backward(dy)
    call = linear.record(x)
    before = call.backward(dy)
    linear.params["weight"][0, 0] = 0
    with pytest.raises(RuntimeError, match=r"Linear\.backward: weight has changed since the call"):
        call.backward(dy)
    linear.params["weight"] = draw(2, 3, dtype=np.float32)  # an exchanged one has not changed
    call = linear.record(x)
    expected = call.backward(dy).dx
    linear.params["weight"] = np.zeros((2, 3), np.float32)
    assert np.array_equal(call.backward(dy).dx, expected)
    assert before.dx is not None

    for tokens in (False, True):
        layer = fastrnn.GRU(I, 20, seed=0)
        long: Any = np.random.default_rng(0).integers(0, I, (3000, 1)) if tokens else draw(3000, 1, I, dtype=np.float32)
        call = layer.record(long, recompute=True, return_sequence=False)
        right = call.backward(np.ones_like(call.y))
        for p in layer.params.values():
            p *= 2  # the call has its own copies
        assert_same(all_of(call.backward(np.ones_like(call.y))), all_of(right))
        long[3] = long[3] + 1 - 2 * (long[3] > 2)
        with pytest.raises(RuntimeError, match=r"GRU\.backward: x has changed since the call, which was to recompute"):
            call.backward(np.ones_like(call.y))


def test_options_set_between_change_nothing() -> None:
    layer = fastrnn.LSTM(I, 20, 2, dropout=0.2, recurrent_dropout=0.2, zoneout=0.1, seed=0)
    x = draw(3000, 2, I, dtype=np.float32)
    for recompute in (False, True):
        call = layer.record(x, recompute=recompute)
        right = call.backward(np.ones_like(call.y))
        layer.dropout, layer.recurrent_dropout, layer.zoneout, layer.batch_first = 0.0, 0.5, 0.0, True
        assert_same(all_of(call.backward(np.ones_like(call.y))), all_of(right))
        layer.dropout, layer.recurrent_dropout, layer.zoneout, layer.batch_first = 0.2, 0.2, 0.1, False


def _train_in_threads(family: str, kind: str) -> None:
    """8 threads share a net: each gets the gradients of its own calls, with objects and without."""
    sys.setswitchinterval(1e-6)
    fastrnn.set_num_threads(2)
    layer, decoder = LAYERS[family](I, 24, 2, seed=0), Linear(24, 3, seed=0)
    net = Modules(layer=layer, decoder=decoder)
    xs = [draw(12, 6, I, dtype=np.float32, seed=k) for k in range(16)]

    def by_object(x: Array) -> list[Array]:
        call = layer.record(x)
        head = decoder.record(call.y)
        back = head.backward(np.cos(head.y))
        return [head.y, *back.grads.values(), *all_of(call.backward(back.dx))]

    def by_module(x: Array) -> list[Array]:
        z = decoder(layer(x)[0])
        dx, dstate = layer.backward(decoder.backward(np.cos(z)))
        assert dx is not None
        grads = net.grads
        mine = {name: g for name, g in grads.items() if name.startswith("layer.")}
        return [z, grads["decoder.weight"], grads["decoder.bias"], dx, *parts(dstate), *mine.values()]

    solve = by_object if kind == "objects" else by_module
    expected = [by_object(x) for x in xs]
    barrier = threading.Barrier(8)

    def work(t: int) -> None:
        barrier.wait()
        for k in range(60):
            which = (5 * t + k) % len(xs)
            assert_same(solve(xs[which]), expected[which])

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, t) for t in range(8)]:
            future.result()


@pytest.mark.parametrize("kind", ["objects", "modules"])
@pytest.mark.parametrize("family", ["rnn", "lstm", "gru"])
def test_one_net_in_several_threads(family: str, kind: str) -> None:
    run_function(_train_in_threads, family, kind, timeout=120)


def test_another_thread_has_no_last_call() -> None:
    layer = fastrnn.GRU(I, H, seed=0)
    y, _ = layer(draw(T, B, I, dtype=np.float32))
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="no call in training mode before, in this"):
        pool.submit(layer.backward, y).result()
    layer.backward(y)


@pytest.mark.parametrize("settings", [{}, {"recompute": True}, {"lengths": [30, 2, 0, 5]}, {"trace": True}], ids=str)
def test_a_call_is_gone_when_nobody_has_it(settings: dict[str, Any]) -> None:
    """At once, with the memory of its tape, and not when the collector comes by."""
    layer = fastrnn.LSTM(I, H, 2, dropout=0.1, seed=0)
    x = draw(3000, 4, I, dtype=np.float32)
    gc.collect()
    gc.disable()
    try:
        call = layer.record(x, **({**settings, "lengths": [3000, 2, 0, 5]} if "lengths" in settings else settings))
        call.backward(np.ones_like(call.y))
        gone = weakref.ref(call)
        del call
        assert gone() is None
        layer(x)
        last = weakref.ref(layer._last.call)
        layer(x)
        assert last() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@each_variant
def test_results_are_contiguous(family: str, options: dict[str, Any], bidirectional: bool, batch_first: bool) -> None:
    layer = LAYERS[family](I, H, 2, bidirectional=bidirectional, batch_first=batch_first, seed=0, **options)
    shape = (B, T) if batch_first else (T, B)
    for settings in ({}, {"lengths": [4, 9, 0, 1, 9]}, {"return_sequence": False}):
        for tokens in (False, True):
            x: Any = np.arange(T * B).reshape(shape) % I if tokens else draw(*shape, I, dtype=np.float32)
            call = layer.record(x, trace=True, **settings)
            gradients = call.backward(np.ones_like(call.y), trace=True)
            arrays = [call.y, *parts(call.state), *all_of(gradients), *call.trace.values()]
            assert all(a.flags.c_contiguous for a in arrays)


@each_variant
def test_learning_with_objects_and_without(family: str, options: dict[str, Any]) -> None:
    nets = [LAYERS[family](I, H, seed=0, **options) for _ in range(2)]
    optimisers = [Adam(net.params, 0.01) for net in nets]
    for step in range(5):
        x = draw(T, B, I, dtype=np.float32, seed=step)
        y, _ = nets[0](x)
        nets[0].backward(y - 1)
        optimisers[0].step(nets[0].grads)
        call = nets[1].eval().record(x)
        optimisers[1].step(call.backward(call.y - 1).grads)
    for name, p in nets[0].params.items():
        assert np.array_equal(p, nets[1].params[name])


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (fastrnn.GRU(3, 4, seed=0), draw(5, 2, 3, dtype=np.float32)),
        (fastrnn.Linear(3, 4, seed=0), draw(5, 3, dtype=np.float32)),
        (fastrnn.Embedding(3, 4, seed=0), np.array([0, 2])),
        (fastrnn.Dropout(0.5, seed=0), draw(5, 3, dtype=np.float32)),
    ],
    ids=lambda a: type(a).__name__,
)
def test_back_after_a_call_that_keeps_nothing(module: Any, given: Array) -> None:
    """Whoever has forgotten train() is told, and does not learn from one old call for ever."""

    def call() -> Array:
        y = module(given)
        return np.ones_like(y[0] if isinstance(y, tuple) else y)

    dy = call()
    module.eval()
    call()
    module.backward(dy)  # through the call before
    module.backward(dy)  # again, as nothing has come between
    call()
    with pytest.raises(RuntimeError, match=r"backward: the last call was in evaluation mode.*train\(\)"):
        module.backward(dy)
    module.train()
    call()
    module.backward(dy)


def test_the_last_output_is_no_part_of_the_state() -> None:
    for family, options in VARIANTS:
        for bidirectional in (False, True):
            layer = LAYERS[family](I, H, bidirectional=bidirectional, seed=0, **options)
            for shape in ((T, B, I), (T, I)):
                y, state = layer(draw(*shape, dtype=np.float32), return_sequence=False)
                assert not any(np.may_share_memory(y, a) for a in parts(state))


@pytest.mark.parametrize("module", [fastrnn.GRU(3, 4, seed=0), Linear(3, 4), Embedding(5, 4), Dropout(0.5)], ids=repr)
def test_there_has_to_be_a_call(module: Any) -> None:
    with pytest.raises(RuntimeError, match=f"{type(module).__name__}.backward: there was no call in training mode"):
        module.backward(np.ones((1, 4), np.float32))


each_bad: list[tuple[Callable[[fastrnn.Call], Any], type[Exception], str]] = [
    (lambda call: call.backward(np.ones((9, 5, 11))), TypeError, r"GRU\.backward: dy is float64, the layer is float32"),
    (lambda call: call.backward([1.0]), TypeError, r"GRU\.backward: dy is a list, expected a NumPy array"),
    (
        lambda call: call.backward(np.ones((9, 5), np.float32)),
        ValueError,
        r"dy has shape \(9, 5\), expected that of y =",
    ),
    (
        lambda call: call.backward(dstate=np.ones((1, 5), np.float32)),
        ValueError,
        r"GRU\.backward: dstate has shape \(1, 5\)",
    ),
    (lambda call: call.backward(trace=1), TypeError, "trace is 1, expected a bool"),
]


@pytest.mark.parametrize(("go", "error", "message"), each_bad)
def test_bad_gradients(go: Callable[[fastrnn.Call], Any], error: type[Exception], message: str) -> None:
    call = fastrnn.GRU(I, H, seed=0).record(draw(T, B, I, dtype=np.float32))
    with pytest.raises(error, match=message):
        go(call)
