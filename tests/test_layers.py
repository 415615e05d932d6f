"""Layers: beside PyTorch in every setting, row by row beside themselves, and what they say of bad arguments."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from layer_problems import (
    FAMILIES,
    LAYERS,
    LENGTHS,
    B,
    H,
    I,
    T,
    check_trace,
    draw,
    each_family,
    each_variant,
    parts,
    state_like,
)
from problems import Array


def close(got: Array, expected: Array, what: str) -> None:
    assert got.shape == expected.shape, what
    np.testing.assert_allclose(
        got, expected, rtol=0, atol=1e-11 * max(1.0, np.abs(expected).max(initial=0)), err_msg=what
    )


# --- beside PyTorch


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@pytest.mark.parametrize(
    ("bias", "layers", "bidirectional", "batch_first"),
    list(itertools.product([True, False], [1, 3], [True, False], [True, False])),
)
@pytest.mark.parametrize(("family", "own"), [*((f, {}) for f in FAMILIES), ("lstm", {"proj_size": 6})], ids=str)
def test_same_as_torch(
    family: str,
    own: dict[str, Any],
    bias: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
    lengths: Array | None,
) -> None:
    torch = pytest.importorskip("torch")
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional, **own}
    layer = LAYERS[family](I, H, layers, dtype=np.float64, seed=1, **options)
    module = getattr(torch.nn, family.upper())(I, H, layers, dtype=torch.float64, **options)
    assert list(layer.params) == [name for name, _ in module.named_parameters()]
    module.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in layer.params.items()})

    # PyTorch's packed sequences have no empty ones.
    rows = np.arange(B) if lengths is None else np.flatnonzero(lengths)
    x = draw(B, T, I) if batch_first else draw(T, B, I)
    axis = 0 if batch_first else 1
    state, dstate = state_like(layer), state_like(layer, seed=5)
    y, state_n = layer(x, state, lengths=lengths)
    dy = draw(*y.shape, seed=3)
    dx, dstate_0 = layer.backward(dy, dstate)

    theirs = torch.from_numpy(np.take(x, rows, axis)).requires_grad_()
    state_0 = tuple(torch.from_numpy(a[:, rows]).requires_grad_() for a in parts(state))
    given = state_0 if family == "lstm" else state_0[0]
    if lengths is None:
        out, last = module(theirs, given)
    else:
        count = torch.from_numpy(lengths[rows])
        packed = torch.nn.utils.rnn.pack_padded_sequence(theirs, count, batch_first, enforce_sorted=False)
        out, last = module(packed, given)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first, total_length=T)
    upstream = [np.take(dy, rows, axis), *(d[:, rows] for d in parts(dstate))]
    torch.autograd.backward([out, *parts(last)], [torch.from_numpy(a) for a in upstream])

    close(np.take(y, rows, axis), out.detach().numpy(), "y")
    close(np.take(dx, rows, axis), theirs.grad.numpy(), "dx")
    for ours, other in zip(parts(state_n), parts(last), strict=True):
        close(ours[:, rows], other.detach().numpy(), "state_n")
    for ours, tensor in zip(parts(dstate_0), state_0, strict=True):
        close(ours[:, rows], tensor.grad.numpy(), "dstate_0")
    assert list(layer.grads) == list(layer.params)
    for name, parameter in module.named_parameters():
        close(layer.grads[name], parameter.grad.numpy(), name)


# --- lengths


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("bidirectional", [False, True])
@each_variant
def test_a_batch_is_its_rows_one_by_one(
    family: str, options: dict[str, Any], bidirectional: bool, tokens: bool
) -> None:
    """Each sequence alone and without padding: the same bits, and weight gradients that add up."""
    steps, batch = 40, 33  # several blocks of backward
    layer = LAYERS[family](I, 20, 2, bidirectional=bidirectional, dtype=np.float64, seed=2, **options)
    rng = np.random.default_rng(4)
    lengths = rng.integers(0, steps + 1, batch)
    x = rng.integers(0, I, (steps, batch)) if tokens else draw(steps, batch, I)
    state, dstate = state_like(layer, batch), state_like(layer, batch, seed=5)
    y, state_n = layer(x, state, lengths=lengths)
    dy = draw(*y.shape, seed=3)
    dx, dstate_0 = layer.backward(dy, dstate)
    together, added = layer.grads, {name: np.zeros_like(p) for name, p in layer.params.items()}
    for b, length in enumerate(lengths):
        only = slice(b, b + 1)
        cut = tuple(a[:, only] for a in parts(state)), tuple(a[:, only] for a in parts(dstate))
        first, last = (c if family == "lstm" else c[0] for c in cut)
        y_b, state_b = layer(x[:length, only], first)
        assert np.array_equal(y[:length, only], y_b)
        assert not y[length:, only].any()
        dx_b, dstate_b = layer.backward(dy[:length, only], last)
        if dx is not None:
            assert dx_b is not None
            assert np.array_equal(dx[:length, only], dx_b)
            assert not dx[length:, only].any()
        for whole, one in zip(parts(state_n) + parts(dstate_0), parts(state_b) + parts(dstate_b), strict=True):
            assert np.array_equal(whole[:, only], one)
        for name, g in layer.grads.items():
            added[name] += g
    for name, g in added.items():
        close(together[name], g, name)


@pytest.mark.parametrize("threads", [2, 3, 7])
@each_family
def test_threads_change_no_bit_of_lengths(family: str, threads: int, set_threads: Callable[[int], None]) -> None:
    layer = LAYERS[family](60, 96, dtype=np.float32, seed=0)
    x, lengths = draw(50, 20, 60, dtype=np.float32), np.random.default_rng(1).integers(0, 51, 20)

    def everything() -> list[Array]:
        y, state = layer(x, lengths=lengths)
        dx, dstate = layer.backward(y, state)
        assert dx is not None
        return [y, dx, *parts(state), *parts(dstate), *layer.grads.values()]

    set_threads(1)
    alone = everything()
    set_threads(threads)
    for got, expected in zip(everything(), alone, strict=True):
        assert got.tobytes() == expected.tobytes()


@each_family
def test_padding_counts_nothing(family: str) -> None:
    layer = LAYERS[family](I, H, 2, bidirectional=True, seed=0)
    x, dy = draw(T, B, I, dtype=np.float32), draw(T, B, 2 * H, dtype=np.float32)
    past = np.arange(T)[:, None] >= LENGTHS
    results = []
    for filler in (0, np.nan):
        x[past] = filler
        dy[past] = filler
        y, _ = layer(x, lengths=LENGTHS)
        dx, _ = layer.backward(dy)
        assert dx is not None
        results.append([y, dx, *layer.grads.values()])
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


@each_family
def test_no_steps_at_all(family: str) -> None:
    layer = LAYERS[family](I, H, seed=0)
    state = state_like(layer)
    for steps, lengths in ((0, None), (T, np.zeros(B, int))):
        y, state_n = layer(draw(steps, B, I, dtype=np.float32), state, lengths=lengths)
        assert y.shape == (steps, B, H)
        assert not y.any()
        dx, dstate = layer.backward(None, state)
        assert dx is not None
        assert not dx.any()
        assert not any(g.any() for g in layer.grads.values())
        for got in (*zip(parts(state_n), parts(state), strict=True), *zip(parts(dstate), parts(state), strict=True)):
            assert np.array_equal(*got)


# --- properties


@each_variant
def test_reversing_the_input_mirrors_the_output(family: str, options: dict[str, Any]) -> None:
    layer = LAYERS[family](I, H, bidirectional=True, seed=0, **options)
    swapped = LAYERS[family](I, H, bidirectional=True, **options)
    swapped.load_state_dict(
        {n.removesuffix("_reverse") if n.endswith("_reverse") else n + "_reverse": p for n, p in layer.params.items()}
    )
    x = draw(T, B, I, dtype=np.float32)
    y, mirrored = layer(x)[0], swapped(x[::-1])[0]
    assert np.array_equal(np.roll(mirrored[::-1], y.shape[-1] // 2, axis=-1), y)


@each_variant
def test_carrying_the_state_is_one_call(family: str, options: dict[str, Any]) -> None:
    layer = LAYERS[family](I, H, 2, seed=0, **options).eval()
    x = draw(T, B, I, dtype=np.float32)
    y, state_n = layer(x)
    first, state = layer(x[:4])
    second, state = layer(x[4:], state)
    assert np.array_equal(np.concatenate([first, second]), y)
    for a, b in zip(parts(state), parts(state_n), strict=True):
        assert np.array_equal(a, b)


@each_family
def test_one_sequence_without_the_batch(family: str) -> None:
    for tokens in (False, True):
        layer = LAYERS[family](I, H, 2, batch_first=True, bidirectional=True, seed=0)
        x = np.arange(T) % I if tokens else draw(T, I, dtype=np.float32)
        y, state = layer(x)
        dx, dstate = layer.backward(np.ones_like(y), state)
        grads = layer.grads
        y1, state1 = layer(x[None])
        dx1, _ = layer.backward(np.ones_like(y1), state1)
        assert y.shape == (T, 2 * H)
        assert np.array_equal(y, y1[0])
        assert (dx is None) == (dx1 is None) == tokens
        assert dx is None or (dx1 is not None and np.array_equal(dx, dx1[0]))
        for a, b in zip(parts(state) + parts(dstate), parts(state1), strict=False):
            assert a.shape == (4, H)
            assert np.array_equal(a, b[:, 0])
        assert all(np.array_equal(g, layer.grads[name]) for name, g in grads.items())


def test_dropout() -> None:
    layer = fastrnn.LSTM(I, 64, 2, dropout=0.25, dtype=np.float64, seed=3)
    x = draw(30, 20, I)
    again = fastrnn.LSTM(I, 64, 2, dropout=0.25, dtype=np.float64, seed=3)
    assert np.array_equal(layer(x)[0], again(x)[0])
    assert not np.array_equal(layer(x)[0], layer(x)[0])
    mask = layer._last.call.parts[0].masks[0]
    assert set(np.unique(mask)) == {0, 1 / 0.75}
    assert abs(np.count_nonzero(mask) / mask.size - 0.75) < 0.02
    # The gradient is that of the net with this very mask: finite differences along one direction.
    y, _ = layer(x)
    dx, _ = layer.backward(np.ones_like(y))
    mask, direction, eps = layer._last.call.parts[0].masks[0], draw(*x.shape, seed=9), 1e-5

    def total(x: Array) -> float:
        below = fastrnn.LSTM(I, 64, dtype=np.float64)
        below.load_state_dict({n: p for n, p in layer.params.items() if n.endswith("l0")})
        above = fastrnn.LSTM(64, 64, dtype=np.float64)
        above.load_state_dict({n.replace("l1", "l0"): p for n, p in layer.params.items() if n.endswith("l1")})
        return float(above(below(x)[0] * mask)[0].sum())

    assert total(x) == pytest.approx(float(y.sum()), rel=1e-12)
    slope = (total(x + eps * direction) - total(x - eps * direction)) / (2 * eps)
    assert float((dx * direction).sum()) == pytest.approx(slope, rel=1e-7)
    layer.eval()
    assert np.array_equal(layer(x)[0], layer(x)[0])


# --- the last output only, looking inside, computing again


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@each_variant
def test_last_output_only(
    family: str, options: dict[str, Any], bidirectional: bool, batch_first: bool, lengths: Array | None
) -> None:
    settings = {"bidirectional": bidirectional, "batch_first": batch_first, "dtype": np.float64, **options}
    layer = LAYERS[family](I, H, 2, seed=1, **settings)
    x, state = draw(T, B, I), state_like(layer)
    x = x.swapaxes(0, 1) if batch_first else x
    _, state_n = layer(x, state, lengths=lengths)
    h_n = parts(state_n)[0]
    directions = 1 + bidirectional
    dlast = draw(B, directions * h_n.shape[2], seed=3)
    dh_n = np.zeros_like(h_n)
    dh_n[-directions:] = dlast.reshape(B, directions, -1).swapaxes(0, 1)
    dx, dstate = layer.backward(None, (dh_n, np.zeros_like(parts(state_n)[1])) if family == "lstm" else dh_n)
    grads = layer.grads

    last, same = layer(x, state, lengths=lengths, return_sequence=False)
    assert np.array_equal(last, np.concatenate(h_n[-directions:], axis=-1))
    dx_last, dstate_last = layer.backward(dlast)
    assert dx is not None
    assert dx_last is not None
    assert np.array_equal(dx, dx_last)
    for a, b in zip(parts(state_n) + parts(dstate), parts(same) + parts(dstate_last), strict=True):
        assert np.array_equal(a, b)
    for name, g in layer.grads.items():
        assert np.array_equal(g, grads[name])
    assert np.array_equal(layer.eval()(x, state, lengths=lengths, return_sequence=False)[0], last)
    one = x[0] if batch_first else x[:, 0]
    assert layer(one, return_sequence=False)[0].shape == (directions * h_n.shape[2],)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@each_variant
def test_trace_satisfies_the_equations(family: str, options: dict[str, Any], lengths: Array | None) -> None:
    layer = LAYERS[family](I, H, 2, bidirectional=True, dtype=np.float64, seed=1, **options)
    x, state = draw(T, B, I), state_like(layer)
    y, _ = layer(x, state, lengths=lengths)
    assert layer.trace == {}
    traced, _ = layer.eval()(x, state, lengths=lengths, trace=True)
    assert np.array_equal(y, traced)
    check_trace(family, options, layer, dict(layer.params), state, y, lengths, 1e-11, 1e-11)


@pytest.mark.parametrize("batch_first", [False, True])
@each_variant
def test_gradient_by_every_h(family: str, options: dict[str, Any], batch_first: bool) -> None:
    """dL/dh_t is what comes back from running on from step t alone."""
    layer = LAYERS[family](I, H, dtype=np.float64, batch_first=batch_first, seed=1, **options)
    x = draw(T, B, I)

    def axes(a: Array) -> Array:
        return a.swapaxes(0, 1) if batch_first else a

    layer(axes(x), trace=True)
    dy = draw(T, B, layer._spec.state_sizes[0], seed=3)
    layer.backward(axes(dy), trace=True)
    dh, traced = axes(layer.trace["dh_l0"]), layer.trace
    for t in range(T):
        state = tuple(axes(traced[f"{s}_l0"])[t][None] for s in ("hc" if family == "lstm" else "h"))
        layer(axes(x[t + 1 :]), state if family == "lstm" else state[0])
        _, dstate = layer.backward(axes(dy[t + 1 :]))
        close(dh[t], parts(dstate)[0][0] + dy[t], f"dh at {t}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@each_variant
def test_computing_again_changes_no_bit(
    family: str, options: dict[str, Any], tokens: bool, threads: int, set_threads: Callable[[int], None]
) -> None:
    set_threads(threads)
    batch, steps = 40, 230  # several parts, the last one shorter
    layer = LAYERS[family](I, 20, 2, dropout=0.2, seed=2, **options)
    x = np.random.default_rng(0).integers(0, I, (steps, batch)) if tokens else draw(steps, batch, I, dtype=np.float32)
    state, dstate = state_like(layer, batch), state_like(layer, batch, seed=5)

    def everything(recompute: bool) -> list[Array]:
        layer.rng = np.random.default_rng(3)
        layer.train()
        y, state_n = layer(x, state, recompute=recompute)
        *again, last = layer._last.call.parts
        assert len(again) == (9 if recompute else 0)
        assert not any(part.masks or part.tapes for part in again)
        assert last.masks
        assert last.tapes
        layer.eval()  # for what comes next, not for the way back
        dx, dstate_0 = layer.backward(draw(*y.shape, dtype=np.float32, seed=3), dstate, trace=True)
        further = layer.rng.random(1)
        return [
            y,
            *parts(state_n),
            *([] if dx is None else [dx]),
            *parts(dstate_0),
            *layer.grads.values(),
            layer.trace["dh_l0"],
            layer.trace["dh_l1"],
            further,
        ]

    for a, b in zip(everything(False), everything(True), strict=True):
        assert a.tobytes() == b.tobytes()


def test_computing_again_with_lengths_and_without_biases() -> None:
    layer = fastrnn.LSTM(I, 20, 2, bias=False, dtype=np.float64, seed=2)
    lengths = np.random.default_rng(4).integers(0, 231, 40)
    lengths[:5] = 0
    x = draw(230, 40, I)
    results = []
    for recompute in (False, True):
        y, state = layer(x, lengths=lengths, return_sequence=False, recompute=recompute)
        dx, dstate = layer.backward(np.ones_like(y))
        assert dx is not None
        results.append([y, dx, *parts(state), *parts(dstate), *layer.grads.values()])
    for a, b in zip(*results, strict=True):
        close(a, b, "with lengths")


def test_computing_again_takes_the_memory_of_the_root() -> None:
    layer = fastrnn.GRU(I, 32, seed=0)
    peaks = []
    for steps in (2000, 32000):
        x = draw(steps, 4, I, dtype=np.float32)
        layer(x, return_sequence=False, recompute=True)
        call = layer._last.call
        assert call is not None
        *parts_again, last = call.parts
        boundaries = sum(sum(a.nbytes for a in part.before[1] if a is not None) for part in parts_again)
        kept = last.tapes["_l0"].nbytes
        # And the tape of the part at hand.
        again = layer(x[: len(call.parts[0].x)], return_sequence=False)
        assert again is not None
        peaks.append(boundaries + kept + layer._last.call.parts[0].tapes["_l0"].nbytes)
    assert peaks[1] < 5 * peaks[0]


# --- weights


@each_family
def test_weights_changed_in_place_are_seen(family: str) -> None:
    """Also changes that swap or negate what was there, from which a careless checksum would come out the same."""
    layer = LAYERS[family](64, 64, seed=0).eval()
    layer.params["weight_ih_l0"][:] = np.tile(
        np.eye(64, dtype=np.float32), (len(layer.params["weight_ih_l0"]) // 64, 1)
    )
    x = draw(6, 2, 64, dtype=np.float32)

    def change(name: str, index: Any, value: Any) -> None:
        layer.params[name][index] = value

    eye = np.eye(64, dtype=np.float32)
    changes: list[Callable[[], None]] = [
        lambda: change("weight_ih_l0", [0, 1], eye[[1, 0]]),
        lambda: change("weight_ih_l0", slice(0, 64), -layer.params["weight_ih_l0"][:64]),
        lambda: change("weight_ih_l0", [0, 8, 16, 24], eye[[24, 16, 8, 0]]),
        lambda: change("weight_hh_l0", (3, 5), 1.5),
        lambda: change("weight_hh_l0", (slice(0, 2), 1), -layer.params["weight_hh_l0"][:2, 1]),
        lambda: change("bias_ih_l0", 7, 2.0),
        lambda: change("bias_hh_l0", 9, -2.0),
        lambda: layer.params.update(weight_hh_l0=layer.params["weight_hh_l0"] * 0.5),
    ]
    seen = [layer(x)[0]]
    for apply in changes:
        apply()
        y = layer(x)[0]
        fresh = LAYERS[family](64, 64).eval()
        fresh.load_state_dict(layer.params)
        assert np.array_equal(y, fresh(x)[0])
        assert not any(np.array_equal(y, before) for before in seen)
        assert np.array_equal(layer(x)[0], y)
        seen.append(y)


@each_variant
def test_frozen_weights(family: str, options: dict[str, Any]) -> None:
    layer = LAYERS[family](I, H, 2, seed=0, **options)
    x = draw(T, B, I, dtype=np.float32)

    def fresh() -> Array:
        copied = LAYERS[family](I, H, 2, **options)
        copied.load_state_dict(layer.params)
        return copied(x)[0]

    y = layer(x)[0]
    assert layer.freeze() is layer
    for _ in range(2):
        assert np.array_equal(layer(x)[0], y)
    assert layer.backward(np.ones_like(y))[0] is not None
    with pytest.raises(ValueError, match="read-only"):
        layer.params["weight_ih_l0"][0] = 0
    with pytest.raises(ValueError, match="weight_ih_l0 is frozen"):
        layer.load_state_dict(layer.state_dict())
    # A copy is an ordinary layer.
    other = copy.deepcopy(layer)
    other(x)
    other.params["weight_ih_l0"][:] *= 2
    assert not np.array_equal(other(x)[0], y)
    # Promises that are not kept are seen.
    layer.params["weight_ih_l0"] = 2 * layer.params["weight_ih_l0"]
    exchanged = layer(x)[0]
    assert np.array_equal(exchanged, fresh())
    assert all(p.flags.writeable for p in layer.params.values())
    layer.freeze()(x)
    layer.params["weight_ih_l1"].flags.writeable = True
    layer.params["weight_ih_l1"][:] *= 2
    assert np.array_equal(layer(x)[0], fresh())
    assert not np.array_equal(layer(x)[0], exchanged)
    layer.freeze()(x)
    layer.unfreeze().params["weight_ih_l0"][:] /= 2
    assert np.array_equal(layer(x)[0], fresh())


@each_family
def test_kept_weights_serve_every_isa_and_both_inputs(family: str, isa: str) -> None:
    layer = LAYERS[family](I, H, seed=0).eval()
    for _ in range(2):
        for name in fastrnn.available_isas():
            _core.set_isa(name)
            for x in (
                draw(T, B, I, dtype=np.float32),
                np.arange(T * B).reshape(T, B) % I,
                draw(T, 0, I, dtype=np.float32),
            ):
                function = getattr(fastrnn, f"{family}_forward")
                assert np.array_equal(layer(x)[0], function(x, *layer.params.values()).y)
    _core.set_isa(isa)


def test_initial_weights() -> None:
    uniform = fastrnn.LSTM(20, 25, seed=1).params
    assert all(-0.2 <= p.min() < -0.15 and 0.15 < p.max() <= 0.2 for p in uniform.values())
    assert all(p.dtype == np.float32 for p in uniform.values())
    orthogonal = fastrnn.LSTM(20, 25, seed=1, init="orthogonal", dtype=np.float64).params
    for gate in orthogonal["weight_hh_l0"].reshape(4, 25, 25):
        close(gate @ gate.T, np.eye(25), "W W^T")
    assert np.array_equal(orthogonal["bias_ih_l0"].reshape(4, 25).any(axis=1), [False, True, False, False])
    assert np.array_equal(orthogonal["bias_hh_l0"], np.zeros(100))


def test_state_dict() -> None:
    layer, other = fastrnn.GRU(I, H, 2, seed=0), fastrnn.GRU(I, H, 2, seed=1)
    saved = layer.state_dict()
    saved["weight_hh_l0"] += 1  # a copy
    other.load_state_dict(layer.state_dict())
    x = draw(T, B, I, dtype=np.float32)
    assert np.array_equal(layer(x)[0], other(x)[0])
    before = other.state_dict()
    wrong = {**saved, "extra": saved["bias_ih_l0"], "weight_hh_l1": saved["weight_hh_l1"].T}
    del wrong["bias_hh_l1"]
    with pytest.raises(ValueError, match=r"missing bias_hh_l1; unexpected extra; weight_hh_l1 has shape \(11, 33\)"):
        other.load_state_dict(wrong)
    assert all(np.array_equal(p, before[name]) for name, p in other.params.items())


def test_copies_are_apart() -> None:
    layer = fastrnn.GRU(I, H, seed=0)
    x = draw(T, B, I, dtype=np.float32)
    y = layer(x)[0]
    other = copy.deepcopy(layer)
    other.params["weight_hh_l0"] *= 2
    assert np.array_equal(layer(x)[0], y)
    assert not np.array_equal(other(x)[0], y)


# --- bad arguments


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastrnn.LSTM(3.0, 4), TypeError, r"LSTM: input_size is 3\.0, expected an int"),
        (lambda: fastrnn.GRU(3, 0), ValueError, "GRU: hidden_size is 0, expected at least 1"),
        (lambda: fastrnn.GRU(3, 4, 0), ValueError, "GRU: num_layers is 0"),
        (lambda: fastrnn.LSTM(3, 4, 2, dropout=1.5), ValueError, r"LSTM: dropout is 1\.5"),
        (lambda: fastrnn.LSTM(3, 4, dtype=np.int32), TypeError, "LSTM: dtype is int32"),
        (lambda: fastrnn.LSTM(3, 4, init="zeros"), ValueError, "LSTM: init is 'zeros'"),
        (lambda: fastrnn.RNN(3, 4, nonlinearity="gelu"), ValueError, "RNN: nonlinearity is 'gelu'"),
        (lambda: fastrnn.GRU(3, 4, reset_after=1), TypeError, "GRU: reset_after is 1"),
        (lambda: fastrnn.GRU(3, 4, bidirectional=True).stream(), ValueError, r"GRU\.stream: a bidirectional"),
        (
            lambda: fastrnn.GRU(3, 4, bidirectional=True)(draw(2, 2, 3, dtype=np.float32), recompute=True),
            ValueError,
            "GRU: recompute goes together neither",
        ),
    ],
)
def test_bad_layers(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [[1.0]]}, TypeError, "LSTM: x is a list"),
        ({"x": draw(T)}, ValueError, r"LSTM: x has shape \(9,\), expected \(T, B, 7\)"),
        (
            {"x": draw(T, B, I, dtype=np.float32)},
            TypeError,
            r"LSTM: x is float32, the layer is float64: x\.astype\(np\.float64\), or LSTM\(\.\.\., dtype=np\.float32\)",
        ),
        ({"x": draw(T, B, 3)}, ValueError, "x has shape"),
        ({"state": draw(1, B, H)}, TypeError, r"LSTM: state is one array, expected the tuple \(h, c\)"),
        ({"state": (draw(1, B, H), draw(1, B, 3))}, ValueError, r"LSTM: state's c has shape \(1, 5, 3\)"),
        ({"state": (draw(1, B, H), "c")}, TypeError, "LSTM: state's c is a str, expected a NumPy array"),
        ({"lengths": np.full(B, 2.0)}, TypeError, "LSTM: lengths is an array of float64"),
        ({"lengths": [1, 2]}, ValueError, r"LSTM: lengths has shape \(2,\)"),
        ({"lengths": [1, 2, 3, 4, 10]}, ValueError, "LSTM: lengths has 1 to 10, expected 0 to T = 9"),
        ({"lengths": [-1, 2, 3, 4, 5]}, ValueError, "LSTM: lengths has -1 to 5"),
    ],
)
def test_bad_calls(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    layer = fastrnn.LSTM(I, H, dtype=np.float64, seed=0)
    with pytest.raises(error, match=message):
        layer(**{"x": draw(T, B, I), **arguments})


@pytest.mark.parametrize(
    ("kind", "options", "name", "message"),
    [
        (fastrnn.LSTM, {"proj_size": 2}, "weight_hr_l0", r"LSTM: weight_hr_l0 has shape \(4, 2\), expected \(2, 4\)"),
        (fastrnn.LSTM, {"proj_size": 2}, "weight_hh_l0", r"LSTM: weight_hh_l0 has shape \(2, 16\), expected \(16, 2\)"),
        (fastrnn.GRU, {}, "weight_hh_l0", r"GRU: weight_hh_l0 has shape \(4, 12\), expected \(12, 4\)"),
    ],
)
def test_parameters_of_another_shape(kind: Any, options: dict[str, Any], name: str, message: str) -> None:
    layer = kind(3, 4, seed=0, **options)
    with pytest.raises(ValueError, match=message):
        layer.params[name] = layer.params[name].T.copy()
    with pytest.raises(TypeError, match=f"{name} is float64, the module is float32"):
        layer.params[name] = layer.params[name].astype(np.float64)
    with pytest.raises(KeyError, match="has no parameter 'weight_l0'; there are weight_ih_l0"):
        layer.params["weight_l0"] = layer.params[name]
    with pytest.raises(TypeError, match="cannot be removed"):
        del layer.params[name]


def test_bad_backward() -> None:
    layer = fastrnn.GRU(I, H, seed=0)
    x = draw(T, B, I, dtype=np.float32)
    with pytest.raises(RuntimeError, match=r"GRU\.backward: there was no call in training mode"):
        layer.backward()
    layer(x)
    with pytest.raises(TypeError, match="dy is float64"):
        layer.backward(draw(T, B, H))
    with pytest.raises(ValueError, match=r"dy has shape \(9, 5, 3\)"):
        layer.backward(draw(T, B, 3, dtype=np.float32))


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (np.array([2, 3]), ValueError, "count of 3"),
        (np.array([5, 0]), ValueError, "count of 0"),
        (np.array([-5, 10]), ValueError, "count of -5"),
        (np.array([2, 2]), ValueError, "x has 5 rows, expected the sum of row_counts = 4"),
        (np.array([2**62, 2**62, 5 - 2**63 + 2**62]), ValueError, "count of"),
        (np.array([3.0, 2.0]), TypeError, "row_counts has dtype float64"),
        (np.array([[3, 2]]), ValueError, r"row_counts has shape \(1, 2\)"),
        (5, TypeError, "row_counts is a int"),
    ],
)
def test_bad_row_counts(counts: Any, error: type[Exception], message: str) -> None:
    w = draw(4 * H, I), draw(4 * H, H), None, None
    with pytest.raises(error, match=message):
        _core.forward("lstm", True, True, None, counts, draw(5, I), *w, None, None, None, None, None)
