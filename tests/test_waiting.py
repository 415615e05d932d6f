"""Whatever a call does that can take long - read, copy, sort, pack, draw - Ctrl-C is seen, and other threads run.

Each case runs in a process of its own, for seconds if nobody stopped it. What is impossible is refused first.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from isolated import SLOWNESS, press_ctrl_c, run_function
from layer_problems import parts
from problems import Array

Case = Callable[[], Callable[[], Any]]


def tokens(count: int) -> Array:
    """So many tokens, without memory for them."""
    return np.broadcast_to(np.int64(1), (count, 1))


def read_tokens() -> Callable[[], Any]:
    w = np.ones((1, 2), np.float32), np.ones((1, 1), np.float32)
    return lambda: fastrnn.rnn_forward(tokens(2**30), *w)


def read_tokens_of_a_layer() -> Callable[[], Any]:
    layer = fastrnn.GRU(2, 1, seed=0).eval()
    return lambda: layer(tokens(2**30))


def read_tokens_of_a_step() -> Callable[[], Any]:
    w = np.ones((1, 2), np.float32), np.ones((1, 1), np.float32)
    return lambda: fastrnn.rnn_step(np.broadcast_to(np.int64(1), (2**30,)), *w)


def copy_what_has_gaps() -> Callable[[], Any]:
    x = np.broadcast_to(np.float32(1), (2**27, 1, 3))
    w = np.ones((1, 3), np.float32), np.ones((1, 1), np.float32)
    return lambda: fastrnn.rnn_forward(x, *w)


def sort_by_lengths() -> Callable[[], Any]:
    layer = fastrnn.RNN(4, 1, bidirectional=True, seed=0)
    x, lengths = np.ones((2**16, 400, 4), np.float32), np.random.default_rng(0).integers(0, 2**16, 400)
    return lambda: layer(x, lengths=lengths)


def turn_batch_first() -> Callable[[], Any]:
    layer = fastrnn.RNN(4, 1, batch_first=True, seed=0)
    x = np.ones((2000, 2**14, 4), np.float32)
    return lambda: layer(x)


def go_back() -> Callable[[], Any]:
    layer = fastrnn.RNN(4, 1, bidirectional=True, seed=0)
    call = layer.record(np.ones((2**15, 300, 4), np.float32), lengths=np.arange(300) * 100)
    dy = np.ones((2**15, 300, 2), np.float32)

    def again_and_again() -> None:
        for _ in range(20):
            call.backward(dy)

    return again_and_again


def cut_into_parts() -> Callable[[], Any]:
    layer = fastrnn.RNN(1, 1, seed=0)
    x = np.broadcast_to(np.float32(1), (2**31, 1, 1))
    return lambda: layer.record(x, recompute=True, return_sequence=False)


def draw_zoneout() -> Callable[[], Any]:
    layer = fastrnn.GRU(1, 8, zoneout=0.5, recurrent_dropout=0.1, seed=0)
    x = np.ones((2**17, 256, 1), np.float32)
    return lambda: layer(x, return_sequence=False)


def draw_dropout() -> Callable[[], Any]:
    x = np.broadcast_to(np.float32(1), (2**27, 1))
    return lambda: [fastrnn.Dropout(0.5, seed=0)(x) for _ in range(4)]


def pack_weights() -> Callable[[], Any]:
    H = 9000  # 972 MB, of pages that nobody has touched
    weights = np.zeros((3 * H, 1), np.float32), np.zeros((3 * H, H), np.float32), *[None] * 6
    return lambda: [_core.Stream("gru_reset_after", None, [weights], 1, False, H) for _ in range(4)]


def pack_weights_of_a_step() -> Callable[[], Any]:
    H = 9000
    weights = np.zeros((3 * H, 1), np.float32), np.zeros((3 * H, H), np.float32)
    x = np.zeros((9, 1), np.float32)  # more rows than are worth reading plain weights
    return lambda: [fastrnn.gru_step(x, *weights) for _ in range(8)]


def multiply() -> Callable[[], Any]:
    layer, x = fastrnn.Linear(512, 512, seed=0), np.ones((250_000, 512), np.float32)
    return lambda: layer.record(x).backward(x)


def embed() -> Callable[[], Any]:
    layer, dy = fastrnn.Embedding(1000, 2, seed=0), np.ones((30_000_000, 2), np.float32)
    which = np.random.default_rng(0).integers(0, 1000, 30_000_000, np.int16)
    return lambda: layer.record(which).backward(dy)


def make_one_step_of_many() -> Callable[[], Any]:
    y = np.broadcast_to(np.float32(0.1), (30_000, 64, 64))
    mask, dy = np.ones((30_000, 64), bool), np.ones((64, 64), np.float32)
    pools = fastrnn.Mean(), fastrnn.Max(), fastrnn.Last()
    return lambda: [pool.record(y, mask=mask).backward(dy) for _ in range(9) for pool in pools]


def change_each_number() -> Callable[[], Any]:
    x = np.broadcast_to(np.float32(0.1), (2**26, 2))
    return lambda: [module.record(x).backward(x) for _ in range(9) for module in (fastrnn.Tanh(), fastrnn.Relu())]


def lose() -> Callable[[], Any]:
    logits, targets = np.zeros((1_500_000, 100), np.float32), np.zeros(1_500_000, np.int64)
    return lambda: [fastrnn.cross_entropy(logits, targets) for _ in range(3)]


def step_of_many_rows() -> Callable[[], Any]:
    """And what was interrupted has not happened."""
    layer = fastrnn.LSTM(1024, 64, 2, seed=0)
    rows = 200_000
    stream, x = layer.stream(rows), np.broadcast_to(np.float32(0.1), (rows, 1024))
    before = parts(stream.state)

    def step() -> None:
        try:
            stream.step(x)
        except KeyboardInterrupt:
            for a, b in zip(parts(stream.state), before, strict=True):
                assert np.array_equal(a, b)
            raise

    return step


def draw_weights() -> Callable[[], Any]:
    return lambda: (fastrnn.Linear(10_000, 10_000, seed=0), fastrnn.Embedding(100_000, 1000, seed=0))


CASES: tuple[Case, ...] = (
    read_tokens,
    read_tokens_of_a_layer,
    read_tokens_of_a_step,
    copy_what_has_gaps,
    sort_by_lengths,
    turn_batch_first,
    go_back,
    cut_into_parts,
    draw_zoneout,
    draw_dropout,
    pack_weights,
    pack_weights_of_a_step,
    multiply,
    embed,
    make_one_step_of_many,
    change_each_number,
    lose,
    step_of_many_rows,
    draw_weights,
)


def _interrupt(name: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fastrnn.set_num_threads(1)
    call = {case.__name__: case for case in CASES}[name]()
    beats: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.002)

    def interrupt() -> None:
        time.sleep(0.4)
        beats.append(-time.perf_counter())
        press_ctrl_c()

    threads = [threading.Thread(target=f) for f in (beat, interrupt)]
    for thread in threads:
        thread.start()
    try:
        call()
    except KeyboardInterrupt:
        seen = time.perf_counter()
    else:
        raise AssertionError("it was over before anyone could stop it")
    finally:
        over.set()
    for thread in threads:
        thread.join()
    (sent,) = (-beat for beat in beats if beat < 0)
    assert seen - sent < 0.5 * SLOWNESS, f"seen after {seen - sent:.2f} s"
    gaps = np.diff([beat for beat in beats if beat > 0])
    assert gaps.max() < 0.25 * SLOWNESS, f"another thread stood still for {gaps.max():.2f} s"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_ctrl_c_is_seen_and_other_threads_run(case: Case) -> None:
    run_function(_interrupt, case.__name__, timeout=120)


def _refuse() -> None:
    start = time.perf_counter()
    lstm = fastrnn.LSTM(4, 5, seed=0)
    huge = np.broadcast_to(np.float32(0), (2**40, 2, 4))
    for settings in ({}, {"recompute": True}, {"lengths": [3, 2]}, {"recompute": True, "lengths": [3, 2]}):
        for sequence in (True, False):
            with pytest.raises(ValueError, match=r"LSTM: x has shape .*, which is more than memory can hold"):
                lstm.record(huge, return_sequence=sequence, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LSTM: x has shape"):
        lstm(np.broadcast_to(np.int8(0), (2**45, 1)))
    for batch in (2**40, 2**50):
        with pytest.raises((ValueError, MemoryError)):
            lstm(np.broadcast_to(np.float32(0), (0, batch, 4)), lengths=np.broadcast_to(np.int64(0), batch))
    counts = np.broadcast_to(np.int64(1), (2**40,))
    w = lstm.params["weight_ih_l0"], lstm.params["weight_hh_l0"], *[None] * 7
    with pytest.raises(ValueError, match="more than memory can hold"):
        _core.forward("lstm", False, True, None, counts, np.broadcast_to(np.float32(0), (2**40, 4)), *w)
    with pytest.raises(ValueError, match=r"expected at least 1, at most the one before, and x's 5 rows"):
        _core.forward("lstm", False, True, None, np.array([4, 4]), np.zeros((5, 4), np.float32), *w)
    assert time.perf_counter() - start < 5


def test_what_is_impossible_is_refused_first() -> None:
    run_function(_refuse, timeout=60)


def _go_without_rows() -> None:
    x = np.broadcast_to(np.float32(0), (2**44, 0, 4))
    for kind in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU):
        for settings in ({}, {"trace": True}, {"recompute": True}):
            call = kind(4, 8, seed=0).record(x, **settings)  # type: ignore[arg-type]
            assert call.y.shape == (2**44, 0, 8)
            assert all(a.shape == (2**44, 0, 8) for a in call.trace.values())
            dx = call.backward(call.y).dx
            assert dx is not None
            assert dx.shape == x.shape


def test_steps_without_rows_take_no_time() -> None:
    run_function(_go_without_rows, timeout=60)
