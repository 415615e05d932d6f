"""Kept weights: a change of any bit of any parameter is seen by the next call, whatever all the others are."""

from __future__ import annotations

import copy
import sys
import threading
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from isolated import run_function
from layer_problems import LAYERS, VARIANTS
from problems import Array

I = 3
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

# What weights may look like besides random: in none of these may a change go unseen.
CONTENTS: dict[str, Any] = {
    "zeros": lambda shape: np.zeros(shape),
    "minus zeros": lambda shape: -np.zeros(shape),
    "constant": lambda shape: np.full(shape, 0.5),
    "identity": lambda shape: np.eye(*((1, *shape)[-2:])).reshape(shape),
    "sparse": lambda shape: (np.arange(np.prod(shape)) % 7 == 3).reshape(shape) * 0.25,
    "random": lambda shape: np.random.default_rng(0).normal(size=shape),
}


def bits_of(a: Array) -> Array:
    return a.reshape(-1).view({4: np.uint32, 8: np.uint64}[a.itemsize])


def fresh(layer: fastrnn.Layer, family: str, hidden: int, options: dict[str, Any], x: Array) -> Array:
    other = LAYERS[family](I, hidden, dtype=layer.dtype, **options).eval()
    other.load_state_dict(layer.params)
    return other(x)[0]


@pytest.mark.parametrize("content", CONTENTS)
@each_dtype
@pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)
def test_one_changed_bit_is_seen(family: str, options: dict[str, Any], dtype: Any, content: str) -> None:
    """Of the kept weights, by their fingerprint; the results are those of a layer that has never seen others."""
    rng = np.random.default_rng(1)
    for hidden in (1, 2, 5, 16, 33):
        mine = {k: max(1, hidden // 2) if k == "proj_size" else v for k, v in options.items()}
        if mine.get("proj_size", 0) >= hidden:
            continue
        layer = LAYERS[family](I, hidden, dtype=dtype, seed=0, **mine).eval()
        for p in layer.params.values():
            p[...] = CONTENTS[content](p.shape)
        x = rng.normal(size=(4, 2, I)).astype(dtype)
        for _ in range(3):
            layer(x)  # kept from the second call on
        for name, p in layer.params.items():
            bits = bits_of(p)
            top = 8 * p.itemsize - 1
            for bit in (0, top - 1, top):  # of the mantissa, the exponent, and the sign
                at = rng.integers(p.size)
                bits[at] ^= bits.dtype.type(1 << bit)
                with np.errstate(all="ignore"):
                    got, expected = layer(x)[0], fresh(layer, family, hidden, mine, x)
                assert got.tobytes() == expected.tobytes(), f"{name}, bit {bit} of number {at}, H = {hidden}"
                bits[at] ^= bits.dtype.type(1 << bit)
                layer(x)
                assert layer(x)[0].tobytes() == layer(x)[0].tobytes()


@pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)
def test_a_net_of_one_unit_learns_what_it_should(family: str, options: dict[str, Any]) -> None:
    """Training in small steps, each call beside a new layer of the same weights."""
    hidden = 2 if "proj_size" in options else 1
    mine = options | ({"proj_size": 1} if "proj_size" in options else {})
    layer = LAYERS[family](I, hidden, seed=0, **mine)
    x = np.random.default_rng(0).normal(size=(5, 2, I)).astype(np.float32)
    for _ in range(20):
        y, _ = layer(x)
        layer.backward(y - 1)
        for name, p in layer.params.items():
            p -= np.float32(0.1) * layer.grads[name]
        assert np.array_equal(layer.eval()(x)[0], fresh(layer, family, hidden, mine, x))
        assert np.array_equal(layer(x)[0], layer.train()(x)[0])


@each_dtype
def test_fingerprints_of_structured_arrays(dtype: Any, isa: str) -> None:
    """One changed bit anywhere, and words, rows and blocks that change places, in arrays of every structure."""
    for content, make in CONTENTS.items():
        for shape in ((1, 1), (3, 5), (16, 16), (40, 64)):
            a = make(shape).astype(dtype)
            before, bits = _core.fingerprint(a), bits_of(a)
            seen = {before}
            for at in range(0, a.size, max(1, a.size // 40)):
                for bit in range(0, 8 * a.itemsize, 5):
                    bits[at] ^= bits.dtype.type(1 << bit)
                    seen.add(_core.fingerprint(a))
                    bits[at] ^= bits.dtype.type(1 << bit)
            count = len(range(0, a.size, max(1, a.size // 40))) * len(range(0, 8 * a.itemsize, 5))
            assert len(seen) == count + 1, f"{content}, {shape}"
            assert _core.fingerprint(a) == before
    rng = np.random.default_rng(0)
    a = rng.normal(size=(64, 64)).astype(dtype)
    variants = [a, -a, a[::-1], a[:, ::-1], a.T, np.roll(a, 1, 0), np.roll(a, 1, 1), np.roll(a, 32, 1), a[:32], 2 * a]
    for i in range(0, 64, 9):  # rows, and words within one, that change places
        for j in range(i + 1, 64, 5):
            order = np.arange(64)
            order[[i, j]] = j, i
            variants += [a[order], a[:, order]]
    for i in range(100):  # two signs at a time
        flipped = a.copy()
        flipped.flat[[i, i + 1 + 16 * (i % 5)]] *= -1
        variants.append(flipped)
    assert len({_core.fingerprint(np.ascontiguousarray(v)) for v in variants}) == len(variants)


@pytest.mark.parametrize("content", CONTENTS)
def test_changes_of_two_words_do_not_undo_each_other(content: str, isa: str) -> None:
    """Any bit of a word and any of another, at every distance within a block and from block to block."""
    words = CONTENTS[content]((600,)).astype(np.float64).view(np.uint64)
    seen, count = set(), 0
    rng = np.random.default_rng(0)
    for first, distance in (
        (1, 1),
        (0, 8),
        (3, 16),
        (5, 24),
        (7, 64),
        (2, 256),
        (4, 512),
        *rng.integers(1, 256, (3, 2)),
    ):
        second = first + distance
        for one in range(0, 64, 3):
            for other in range(64):
                words[first] ^= np.uint64(1 << one)
                words[second] ^= np.uint64(1 << other)
                seen.add(_core.fingerprint(words))
                count += 1
                words[first] ^= np.uint64(1 << one)
                words[second] ^= np.uint64(1 << other)
    assert len(seen) == count


def test_many_arrays_of_few_values_are_all_apart(isa: str) -> None:
    """Powers of two, of which the bits are few and far up: as good as no two different ones may look the same."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        arrays = np.ones((50_000, 64), dtype)
        at, powers = rng.integers(0, 64, (len(arrays), 3)), 2.0 ** rng.integers(-9, 3, (len(arrays), 3))
        np.put_along_axis(arrays, at, powers * rng.choice([-1, 1], powers.shape), 1)
        assert len({_core.fingerprint(a) for a in arrays}) == len({a.tobytes() for a in arrays})


def test_changes_of_a_few_weights_are_seen() -> None:
    layer = fastrnn.RNN(1, 8, seed=0)
    w = layer.params["weight_hh_l0"]
    w[:] = 1
    x = np.ones((3, 2, 1), np.float32)
    for _ in range(3):
        layer(x)
    w.reshape(-1)[[1, 33, 32]] = [0.5, 0.5, 2**-8]
    assert np.array_equal(layer(x)[0], copy.copy(layer)(x)[0])


def test_what_is_missing_is_not_zeros() -> None:
    layer = fastrnn.LSTM(I, 4, seed=0).eval()
    x = np.ones((3, 2, I), np.float32)
    kept = _core.KeptWeights(False)
    w = layer.params["weight_ih_l0"], layer.params["weight_hh_l0"]
    zeros, ones = np.zeros(16, np.float32), np.ones(16, np.float32)
    for b_ih, b_hh in ((None, None), (zeros, None), (ones, None), (None, ones), (ones, zeros), (None, None)):
        for _ in range(3):
            y = _core.forward("lstm", False, True, kept, None, x, *w, b_ih, b_hh, None, None, None, None, None)[0]
            assert np.array_equal(y, fastrnn.lstm_forward(x, *w, b_ih, b_hh).y)


def _racing_writes() -> None:
    """While one thread calls the layer another one writes to its weights; when that ends, calls are right."""
    sys.setswitchinterval(1e-6)
    for seed in range(60):
        layer = fastrnn.GRU(16, 256, seed=seed).eval()
        x = np.random.default_rng(seed).normal(size=(2, 1, 16)).astype(np.float32)
        w = layer.params["weight_hh_l0"]
        before, stop = w.copy(), threading.Event()
        twice = 2 * before

        def write(w: Array = w, before: Array = before, twice: Array = twice, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                w[:] = twice
                w[:] = before

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(40):
            layer(x)
        stop.set()
        writer.join()
        for values in (before, twice):
            w[:] = values
            expected = fastrnn.gru_forward(x, *layer.params.values()).y
            for _ in range(4):
                assert np.array_equal(layer(x)[0], expected), f"seed {seed}"


def test_after_racing_writes_have_ended_calls_are_right() -> None:
    run_function(_racing_writes, timeout=120)


def _calls_at_once() -> None:
    """Threads that share a layer, some of them with weights that come and go, each get what their weights say."""
    sys.setswitchinterval(1e-6)
    layers = [fastrnn.LSTM(8, 16, seed=s).eval() for s in range(2)]
    x = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
    kept = _core.KeptWeights(False)
    expected = [layer(x)[0] for layer in layers]

    def work(turn: int) -> None:
        for k in range(200):
            which = (k // 5 + turn) % 2
            args = *layers[which].params.values(), None, None, None, None, None
            y = _core.forward("lstm", False, True, kept, None, x, *args)[0]
            assert np.array_equal(y, expected[which])

    failures: list[BaseException] = []

    def guarded(turn: int) -> None:
        try:
            work(turn)
        except BaseException as error:  # noqa: BLE001  told below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_threads_that_share_kept_weights() -> None:
    run_function(_calls_at_once, timeout=120)
