"""Masks: a step that does not count keeps the state, and the kernels do not see it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from layer_problems import LAYERS, VARIANTS, B, H, I, T, draw, each_family, each_variant, parts, state_like
from problems import Array
from tolerances import gradient_tolerance

# One row each of: in the middle, all, none, the first ones, the last ones.
MASK = np.array([[0, 1, 0, 0, 1, 1, 0, 1, 0], [1] * T, [0] * T, [1] * 4 + [0] * 5, [0] * 3 + [1] * 6], bool).T
each_direction = pytest.mark.parametrize("direction", [{}, {"bidirectional": True}, {"reverse": True}], ids=str)


def by_hand(
    layer: fastrnn.Layer, x: Array, state: Any, dy: Array, dstate: Any, mask: Array, lengths: Array, repeat: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """All results with each sequence gone through alone, without the steps that do not count; gradients added up."""
    P = layer._spec.state_sizes[0]
    found = {"y": np.zeros_like(dy), "dx": np.zeros_like(x)}
    for name, states in (("state", state), ("dstate", dstate)):
        found |= {f"{name}{k}": np.zeros_like(a) for k, a in enumerate(parts(states))}
    grads = {name: np.zeros_like(p) for name, p in layer.params.items()}
    for b in range(x.shape[1]):
        t = np.flatnonzero(mask[:, b] & (np.arange(len(mask)) < lengths[b]))
        only = slice(b, b + 1)
        state_b, dstate_b = (tuple(a[:, only] for a in parts(s)) for s in (state, dstate))
        single = len(state_b) == 1
        call = layer.record(x[t, only], state_b[0] if single else state_b)
        # Which step's output each step shows, in each direction.
        dy_b = np.zeros((len(t), 1, dy.shape[2]), dy.dtype)
        for d, from_end in enumerate(layer._spec.from_end):
            of = slice(d * P, (d + 1) * P)
            for s in range(lengths[b]):
                if s in t:
                    source = s
                elif repeat:
                    read = t[t > s][:1] if from_end else t[t < s][-1:]
                    if not len(read):
                        continue
                    source = read[0]
                else:
                    continue
                place = int(np.searchsorted(t, source))
                found["y"][s, b, of] = call.y[place, 0, of]
                dy_b[place, 0, of] += dy[s, b, of]
        dx, d0, g = call.backward(dy_b, dstate_b[0] if single else dstate_b)
        assert dx is not None
        found["dx"][t, only] = dx
        for k, a in enumerate(parts(call.state)):
            found[f"state{k}"][:, only] = a
        for k, a in enumerate(parts(d0)):
            found[f"dstate{k}"][:, only] = a
        for name, value in g.items():
            grads[name] += value
    return found, grads


@pytest.mark.parametrize("masked_output", ["repeat", "zero"])
@pytest.mark.parametrize("lengths", [None, np.array([6, 9, 9, 9, 7])], ids=["same", "lengths"])
@pytest.mark.parametrize("batch_first", [False, True])
@each_direction
@each_variant
def test_each_sequence_without_its_masked_steps(
    family: str,
    options: dict[str, Any],
    direction: dict[str, bool],
    batch_first: bool,
    lengths: Any,
    masked_output: Any,
) -> None:
    made = {"dtype": np.float64, "seed": 1, **direction, **options}
    layer = LAYERS[family](I, H, 2, **made)
    x, state, dstate = draw(T, B, I), state_like(layer), state_like(layer, seed=5)
    dy = draw(T, B, layer._spec.state_sizes[0] * layer._spec.directions, seed=3)
    known = np.full(B, T) if lengths is None else lengths
    expected, grads = by_hand(layer, x, state, dy, dstate, MASK, known, masked_output == "repeat")

    def axes(a: Array) -> Array:
        return a.swapaxes(0, 1) if batch_first else a

    given = x.copy()
    given[~MASK] = np.nan  # nobody looks there
    layer.batch_first = batch_first
    call = layer.record(axes(given), state, lengths=lengths, mask=axes(MASK), masked_output=masked_output)
    dx, dstate_0, found = call.backward(axes(dy), dstate)
    assert dx is not None
    got = {"y": axes(call.y), "dx": axes(dx)}
    got |= {f"state{k}": a for k, a in enumerate(parts(call.state))}
    got |= {f"dstate{k}": a for k, a in enumerate(parts(dstate_0))}
    allowed = gradient_tolerance(np.float64, terms=T * H, rows=T * B)
    for name, right in expected.items():
        if name in ("y", "state0", "state1"):
            assert np.array_equal(got[name], right), name
        else:  # what repeats adds to what it repeats, in another order
            assert np.abs(got[name] - right).max() <= allowed * max(1, np.abs(right).max()), name
    for name, right in grads.items():
        assert np.abs(found[name] - right).max() <= allowed * max(1, np.abs(right).max()), name
    last = layer(axes(given), state, lengths=lengths, mask=axes(MASK), return_sequence=False)[0]
    h_n = parts(call.state)[0][-layer._spec.directions :]
    assert np.array_equal(last, np.concatenate(h_n, axis=-1))


@each_direction
@each_family
def test_a_long_mask_repeats_across_parts(
    family: str, direction: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with steps gone through a few at a time."""
    layer = LAYERS[family](I, H, dtype=np.float64, seed=1, **direction)
    x, mask = draw(50, 7, I), draw(50, 7, seed=2) > 0.6
    mask[5:30, 1] = False
    dy = draw(50, 7, layer._spec.directions * H, seed=3)
    whole = layer.record(x, mask=mask)
    expected = whole.backward(dy)
    monkeypatch.setattr("fastrnn._base.parts.BYTES", 600)
    cut = layer.record(x, mask=mask)
    got = cut.backward(dy)
    assert np.array_equal(cut.y, whole.y)
    assert got.dx is not None
    assert expected.dx is not None
    np.testing.assert_allclose(got.dx, expected.dx, rtol=0, atol=1e-14)


@each_family
def test_masks_that_are_lengths(family: str) -> None:
    """A mask of the first steps gives the bits of lengths, but for the output past the end."""
    layer = LAYERS[family](I, H, 2, bidirectional=True, seed=0)
    x, lengths = draw(T, B, I, dtype=np.float32), np.array([4, 9, 0, 1, 9])
    mask = np.arange(T)[:, None] < lengths
    dy = draw(T, B, 2 * H, dtype=np.float32)
    by_lengths = layer.record(x, lengths=lengths)
    by_mask = layer.record(x, mask=mask, masked_output="zero")
    assert np.array_equal(by_mask.y, by_lengths.y)
    for got, expected in zip(parts(by_mask.state), parts(by_lengths.state), strict=True):
        assert np.array_equal(got, expected)
    a, b = by_mask.backward(dy), by_lengths.backward(dy)
    assert a.dx is not None
    assert b.dx is not None
    assert np.array_equal(a.dx, b.dx)
    assert all(np.array_equal(a.grads[name], g) for name, g in b.grads.items())
    everything = layer.record(x, mask=np.ones((T, B), bool))
    assert np.array_equal(everything.y, layer.record(x).y)


@pytest.mark.parametrize("reverse", [False, True])
@each_family
def test_computing_again_with_masks(family: str, reverse: bool) -> None:
    steps = 400
    layer = LAYERS[family](I, H, 2, dtype=np.float64, seed=0, reverse=reverse)
    x, mask = draw(steps, B, I), draw(steps, B, seed=2) > -0.3
    dy = draw(steps, B, H, seed=3)
    found = []
    for recompute in (False, True):
        call = layer.record(x, mask=mask, recompute=recompute)
        assert (len(call.parts) > 1) is recompute
        found.append((call.y, call.state, call.backward(dy)))
    (y, state, g), (y2, state2, g2) = found
    assert np.array_equal(y, y2)
    assert all(np.array_equal(a, b) for a, b in zip(parts(state), parts(state2), strict=True))
    assert g.dx is not None
    assert g2.dx is not None
    np.testing.assert_allclose(g2.dx, g.dx, rtol=0, atol=1e-12)
    for name, value in g.grads.items():
        np.testing.assert_allclose(g2.grads[name], value, rtol=0, atol=1e-10)


@each_family
def test_many_repeats_add_up(family: str) -> None:
    """A gradient that a million masked steps send to the step that they repeat is right to the last bits."""
    steps = 200_000
    layer = LAYERS[family](1, 3, seed=0)
    mask = np.zeros((steps, 1), bool)
    mask[0] = True
    call = layer.record(np.ones((steps, 1, 1), np.float32), mask=mask)
    got = call.backward(np.full(call.y.shape, 0.1, np.float32)).grads
    one = layer.record(np.ones((1, 1, 1), np.float32))
    expected = one.backward(np.full((1, 1, 3), steps * float(np.float32(0.1)), np.float32)).grads
    for name, g in expected.items():
        np.testing.assert_allclose(got[name], g, rtol=2e-6, atol=0)


def test_traces_and_single_sequences() -> None:
    layer = fastrnn.GRU(I, H, seed=0, batch_first=True).eval()
    x, mask = draw(T, I, dtype=np.float32), MASK[:, 0]
    y, state = layer(x, mask=mask, trace=True)
    trace = layer.trace
    assert y.shape == (T, H)
    both, _ = layer(x[None], mask=mask[None])
    assert np.array_equal(both[0], y)
    assert np.array_equal(trace["h_l0"][mask], y[mask])
    assert not trace["h_l0"][~mask].any()
    assert np.array_equal(state[0], y[-1])
    layer.masked_output = "zero"
    assert not layer(x, mask=mask)[0][~mask].any()
    assert np.array_equal(layer(x, mask=mask, masked_output="repeat")[0], y)
    tokens = np.full(T, 99)
    tokens[mask] = 1
    layer(tokens, mask=mask)
    with pytest.raises(ValueError, match=r"GRU: x\[0\] is token 99"):
        layer(tokens)
    changed = mask.copy()
    call = layer.record(x, mask=changed)
    expected = call.backward(np.ones((T, H), np.float32)).dx
    changed[:] = True
    assert np.array_equal(call.backward(np.ones((T, H), np.float32)).dx, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (MASK.astype(int), TypeError, r"GRU: mask is an array of int64 .*, expected bools \(T, B\): .astype\(bool\)"),
        (MASK.T, ValueError, r"GRU: mask has shape \(5, 9\), expected \(T, B\) = \(9, 5\)"),
        (MASK[..., None], ValueError, r"GRU: mask has shape \(9, 5, 1\), expected \(T, B\) = \(9, 5\)"),
        ("all", TypeError, "GRU: mask is 'all', expected bools"),
        ([[True], [True, False]], TypeError, "GRU: mask is .*, expected bools"),
        (object(), TypeError, "GRU: mask is .*, expected bools"),
    ],
    ids=range(6),
)
def test_bad_masks(mask: Any, error: type[Exception], message: str) -> None:
    layer = fastrnn.GRU(I, H)
    with pytest.raises(error, match=message):
        layer(draw(T, B, I, dtype=np.float32), mask=mask)


def test_bad_words() -> None:
    x = draw(T, B, I, dtype=np.float32)
    layer = fastrnn.GRU(I, H, batch_first=True)
    with pytest.raises(ValueError, match=r"GRU: mask has shape \(5, 9\), expected \(B, T\) = \(9, 5\)"):
        layer(x, mask=MASK.T)
    with pytest.raises(ValueError, match="GRU: masked_output is 'none', expected 'repeat' or 'zero'"):
        layer(x, mask=MASK, masked_output="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LSTM: masked_output is 'none', expected 'repeat' or 'zero'"):
        fastrnn.LSTM(2, 3, masked_output="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"GRU: mask has shape \(9, 5\), expected \(T,\) = \(9,\)"):
        layer(x[:, 0], mask=MASK)


@each_family
def test_no_features(family: str) -> None:
    """I of 0: what counts is the state and the biases."""
    layer = LAYERS[family](0, H, dtype=np.float64, seed=0)
    x, dy = np.ones((T, B, 0)), draw(T, B, H, seed=3)
    for options in ({"mask": MASK}, {"lengths": MASK.sum(axis=0)}):
        call = layer.record(x, **options)  # type: ignore[arg-type]
        assert call.backward(dy).dx.shape == x.shape  # type: ignore[union-attr]
        for b, n in enumerate(MASK.sum(axis=0)):
            alone, _ = layer(x[:n, [b]])
            assert np.array_equal(
                call.state[0][0, b] if family == "lstm" else call.state[0, b], alone[-1, 0] if n else np.zeros(H)
            )  # type: ignore[index]


def test_there_is_every_variant() -> None:
    assert {family for family, _ in VARIANTS} == set(LAYERS)
