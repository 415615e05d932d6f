"""What functions keep packed of weights from call to call: never stale, bounded, and gone with the weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn._base import packs
from isolated import run_code
from layer_problems import draw
from problems import Array

B, I, H, T = 2, 7, 20, 4
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
each_function = pytest.mark.parametrize("family", GATES)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    fastrnn.clear_cache()
    yield
    fastrnn.clear_cache()


def weights(family: str, dtype: Any = np.float32, seed: int = 0, H: int = H) -> list[Array]:
    rows = GATES[family] * H
    return [draw(*shape, dtype=dtype, seed=seed) for shape in ((rows, I), (rows, H), (rows,), (rows,))]


def forward(family: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(fastrnn, f"{family}_forward")(*arguments, **options)
    return found


def kept() -> list[bool]:
    return [entry.kept is not None and entry.kept.nbytes > 0 for entry in packs._entries.values()]


@each_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calls_with_packs_have_the_same_bits(family: str, dtype: Any, isa: str) -> None:
    tokens = np.random.default_rng(0).integers(0, I, (T, B))
    for x in (draw(T, B, I, dtype=dtype), tokens):
        given = weights(family, dtype)
        first = forward(family, x, *given)
        assert kept()[-1] is False
        for _ in range(4):
            for a, b in zip(forward(family, x, *given)[:-1], first, strict=False):
                np.testing.assert_array_equal(a, b)
            assert kept()[-1]


@each_function
def test_a_change_of_any_weight_is_seen(family: str) -> None:
    given, x = weights(family), draw(T, B, I, dtype=np.float32)
    for k in (None, 0, 1, 2, 3, 1, None):
        if k is not None:
            given[k].flat[-1] += 0.25
        right = forward(family, x, *[w.copy() for w in given])[0]
        for _ in range(3):
            np.testing.assert_array_equal(forward(family, x, *given)[0], right)


def test_biases_and_kinds_that_change_are_seen() -> None:
    w_ih, w_hh, b_ih, b_hh = weights("gru")
    x = draw(T, B, I, dtype=np.float32)
    for _ in range(3):
        for biases in ((), (b_ih,), (b_ih, b_hh), (b_hh, None)):
            for reset_after in (True, False):
                right = fastrnn.gru_forward(x, w_ih.copy(), w_hh.copy(), *biases, reset_after=reset_after).y
                got = fastrnn.gru_forward(x, w_ih, w_hh, *biases, reset_after=reset_after).y
                np.testing.assert_array_equal(got, right)


def test_packs_go_with_the_weights() -> None:
    given, x = weights("lstm"), draw(T, B, I, dtype=np.float32)
    for _ in range(3):
        forward("lstm", x, *given)
    assert kept() == [True]
    del given
    gc.collect()
    assert kept() == []


def test_clear_cache() -> None:
    given, x = weights("lstm"), draw(T, B, I, dtype=np.float32)
    expected, *_ = [forward("lstm", x, *given)[0] for _ in range(3)]
    fastrnn.clear_cache()
    assert kept() == []
    np.testing.assert_array_equal(forward("lstm", x, *given)[0], expected)


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(T, B, I, dtype=np.float32)
    nets = [weights("rnn", seed=k) for k in range(packs.MOST + 5)]
    for net in nets:
        forward("rnn", x, *net)
    assert len(kept()) == packs.MOST
    monkeypatch.setattr(packs, "MOST_BYTES", 3 * (nets[0][0].nbytes + nets[0][1].nbytes))
    forward("rnn", x, *nets[0])
    assert len(kept()) == 3
    large = weights("rnn", H=100)
    forward("rnn", x, *large)
    assert len(kept()) == 3


def test_what_is_trained_or_no_array_is_not_kept() -> None:
    given, x = weights("gru"), draw(T, B, I, dtype=np.float32)
    for _ in range(3):
        forward("gru", x, *given, training=True)
    assert kept() == []
    for wrong in (given[0].tolist(), None, 3):
        with pytest.raises(TypeError, match="w_hh"):
            forward("gru", x, given[0], wrong)
    assert kept() == []
    for wrong in (1, None, np.ones(2)):
        with pytest.raises(TypeError, match="training"):
            forward("gru", x, *given, training=wrong)


def test_several_threads() -> None:
    nets = [weights("lstm", seed=k) for k in range(3)]
    x = draw(T, B, I, dtype=np.float32)
    right = [forward("lstm", x, *net)[0] for net in nets]

    def work(k: int) -> bool:
        if k % 50 == 0:
            fastrnn.clear_cache()
        return np.array_equal(forward("lstm", x, *nets[k % 3])[0], right[k % 3])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))


def test_a_child_of_a_fork_that_found_the_lock_taken(needs_fork: None) -> None:
    run_code(
        """
import os
import numpy as np
import fastrnn
from fastrnn._base import packs

w = np.ones((8, 8), np.float32)
with packs._lock:
    child = os.fork()
    if not child:
        fastrnn.rnn_forward(np.ones((2, 1, 8), np.float32), w, w)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    )
