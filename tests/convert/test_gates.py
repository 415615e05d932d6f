"""Blocks of gates come from any order into PyTorch's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import Array

H, I = 2, 3
ORDERS = {"LSTM": "ifgo", "GRU": "rzn"}


def block(gate: str) -> Array:
    """The rows of a gate, which tell its letter."""
    return np.full((H, I), ord(gate), np.float32)


@pytest.mark.parametrize("kind", ORDERS)
def test_every_order(kind: str) -> None:
    right = np.concatenate([block(gate) for gate in ORDERS[kind]])
    for order in map("".join, itertools.permutations(ORDERS[kind])):
        blocks = [block(gate) for gate in order]
        whole = np.concatenate(blocks)
        several: list[tuple[Any, dict[str, int]]] = [
            (whole, {}),
            (whole.T, {"axis": 1}),
            (whole.T, {"axis": -1}),
            (blocks, {}),
            ([b.T for b in blocks], {"axis": 1}),
            (dict(zip(order, blocks, strict=True)), {}),
        ]
        for weights, options in several:
            np.testing.assert_array_equal(fastrnn.gates(order, weights, **options), right)
        np.testing.assert_array_equal(fastrnn.gates(order, whole[:, 0]), right[:, 0])


@pytest.mark.parametrize(
    ("order", "same"), [("icfo", "igfo"), ("ijfo", "igfo"), ("zrh", "zrn"), ("ruc", "rzn"), ("ur", "zr")]
)
def test_other_names_of_gates(order: str, same: str) -> None:
    weights = np.arange(len(order) * H * I, dtype=np.float32).reshape(-1, I)
    np.testing.assert_array_equal(fastrnn.gates(order, weights), fastrnn.gates(same, weights))


def test_parts_of_a_cell() -> None:
    both = np.concatenate([block("z"), block("r")])
    np.testing.assert_array_equal(fastrnn.gates("ur", both), np.concatenate([block("r"), block("z")]))
    np.testing.assert_array_equal(fastrnn.gates("c", block("n")), block("n"))


def test_an_update_gate_that_is_the_other_way_round() -> None:
    """h = z * n + (1 - z) * h' is fastrnn's GRU with -z."""
    rng = np.random.default_rng(0)
    w_ih, w_hh = (rng.standard_normal((3, H, n)).astype(np.float32) for n in (I, H))
    bias = rng.standard_normal((3, H)).astype(np.float32)
    gru = fastrnn.GRU(I, H, reset_after=False)
    order = ("r", "-z", "n")
    gru.load_state_dict(
        {
            "weight_ih_l0": fastrnn.gates(order, list(w_ih)),
            "weight_hh_l0": fastrnn.gates(order, list(w_hh)),
            "bias_ih_l0": fastrnn.gates(order, list(bias)),
            "bias_hh_l0": np.zeros(3 * H, np.float32),
        }
    )
    x = rng.standard_normal((5, 1, I)).astype(np.float32)
    h = np.zeros(H)
    for x_t in x[:, 0]:
        r, z = (1 / (1 + np.exp(-(w_ih[k] @ x_t + w_hh[k] @ h + bias[k]))) for k in (0, 1))
        n = np.tanh(w_ih[2] @ x_t + w_hh[2] @ (r * h) + bias[2])
        h = z * n + (1 - z) * h
    np.testing.assert_allclose(gru(x)[1][0, 0], h, atol=1e-6)
    right = fastrnn.gates(order, list(w_ih))
    for names in (("r", "-z", "n"), ("r", "z", "n")):
        np.testing.assert_array_equal(fastrnn.gates(order, dict(zip(names, w_ih, strict=True))), right)


def test_what_comes_back_is_new() -> None:
    weights = np.ones((4 * H, I), np.float32)
    fastrnn.gates("ifgo", weights)[:] = 2
    assert (weights == 1).all()


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "order", {"order": 3}),
        (TypeError, "order", {"order": ""}),
        (ValueError, "order", {"order": "ifgx"}),
        (ValueError, "order", {"order": "iigo"}),
        (ValueError, "order", {"order": "ign"}),
        (ValueError, "order", {"order": "rznh"}),
        (ValueError, "blocks", {"order": "rzn"}),
        (TypeError, "an int", {"weights": 3}),
        (TypeError, "expected numbers", {"weights": np.array(["a"] * 4)}),
        (ValueError, "shape", {"weights": np.zeros((4, 1, 1))}),
        (ValueError, "axis", {"weights": np.zeros(4), "axis": 1}),
        (ValueError, "axis", {"axis": 2}),
        (ValueError, "2 arrays", {"weights": [np.zeros(3)] * 2}),
        (ValueError, "different shapes", {"weights": [np.zeros(3)] * 3 + [np.zeros(2)]}),
        (ValueError, "expected i, f, g, o", {"weights": {"i": np.zeros(3)}}),
    ],
)
def test_what_is_refused(error: type[Exception], words: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=f"^gates: .*{words}"):
        fastrnn.gates(**{"order": "ifgo", "weights": np.zeros((4 * H, I)), **arguments})
