"""The functions of fastrnn: whole sequences forward and backward, and single steps.

Shapes, everywhere: T steps, B batch, I input size, H hidden size, G gates of the cell (RNN 1, LSTM 4, GRU 3).

Arrays are NumPy arrays of float32 or float64, all of one dtype: that of ``x``, or of ``w_ih`` where ``x`` holds tokens.
Any strides will do; contiguous arrays are not copied. Subclasses of ``numpy.ndarray`` count as the plain arrays that
they hold. Inputs are never written to, and results are new arrays.

Tokens: ``x`` may be an array of any integer dtype, without the axis I. Each token stands for a one-hot input of size I,
which is never made: its column of ``w_ih`` is looked up.

Every function raises

- ``TypeError`` where an argument is not an array, has a wrong dtype, or is no ``bool`` or tape where one belongs;
  nothing is converted silently;
- ``ValueError`` where a shape does not fit, a token is not in 0 .. I-1, or ``nonlinearity`` is unknown;

and names the function, the argument, what it got and what it expected; and ``MemoryError`` where there is no room for
the result. T, B and I may be 0. Denormal numbers count as zero, coming in and going out. Other Python threads run
during a call, several may call at once, and Ctrl-C in the main thread interrupts it. Results are the same, bit for
bit, for any number of threads.

What ``*_forward`` has packed of weights is kept for calls with the same arrays, which may be written to at any time:
:func:`clear_cache` frees it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from . import _core
from ._base import checks
from ._base.packs import clear_cache, packs_of
from ._core import Tape, gru_step, linear, lstm_step, rnn_step

__all__ = [
    "GruGradients",
    "GruOutput",
    "LstmGradients",
    "LstmOutput",
    "RnnGradients",
    "RnnOutput",
    "Tape",
    "clear_cache",
    "gru_backward",
    "gru_forward",
    "gru_step",
    "linear",
    "lstm_backward",
    "lstm_forward",
    "lstm_step",
    "rnn_backward",
    "rnn_forward",
    "rnn_step",
]

Array = NDArray[Any]
_RNNS = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


class LstmOutput(NamedTuple):
    """Result of :func:`lstm_forward`."""

    y: Array  #: (T, B, H): h after every step
    h_n: Array  #: (B, H): h after the last step
    c_n: Array  #: (B, H): c after the last step
    tape: Tape | None  #: for :func:`lstm_backward`; None unless ``training``


class GruOutput(NamedTuple):
    """Result of :func:`gru_forward`."""

    y: Array  #: (T, B, H): h after every step
    h_n: Array  #: (B, H): h after the last step
    tape: Tape | None  #: for :func:`gru_backward`; None unless ``training``


class RnnOutput(NamedTuple):
    """Result of :func:`rnn_forward`."""

    y: Array  #: (T, B, H): h after every step
    h_n: Array  #: (B, H): h after the last step
    tape: Tape | None  #: for :func:`rnn_backward`; None unless ``training``


class LstmGradients(NamedTuple):
    """Result of :func:`lstm_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  #: (T, B, I); None where x held tokens
    dw_ih: Array  #: (4*H, I)
    dw_hh: Array  #: (4*H, H)
    db_ih: Array  #: (4*H,), also where b_ih was None
    db_hh: Array  #: (4*H,), also where b_hh was None
    dh0: Array  #: (B, H), also where h0 was None
    dc0: Array  #: (B, H), also where c0 was None


class GruGradients(NamedTuple):
    """Result of :func:`gru_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  #: (T, B, I); None where x held tokens
    dw_ih: Array  #: (3*H, I)
    dw_hh: Array  #: (3*H, H)
    db_ih: Array  #: (3*H,), also where b_ih was None
    db_hh: Array  #: (3*H,), also where b_hh was None
    dh0: Array  #: (B, H), also where h0 was None


class RnnGradients(NamedTuple):
    """Result of :func:`rnn_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  #: (T, B, I); None where x held tokens
    dw_ih: Array  #: (H, I)
    dw_hh: Array  #: (H, H)
    db_ih: Array  #: (H,), also where b_ih was None
    db_hh: Array  #: (H,), also where b_hh was None
    dh0: Array  #: (B, H), also where h0 was None


def _gradients(family: str, tape: Tape | None, *upstream: Array | None) -> tuple[Any, ...]:
    found = _core.backward(family, tape, None, False, *upstream)
    return *found[:5], *found[6:-1]  # without those of what layers alone have


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    training: bool = False,
) -> LstmOutput:
    """Run a long short-term memory net over a sequence.

    With h' and c' the states before a step::

        i = sigmoid(W_ii x + b_ii + W_hi h' + b_hi)
        f = sigmoid(W_if x + b_if + W_hf h' + b_hf)
        g =    tanh(W_ig x + b_ig + W_hg h' + b_hg)
        o = sigmoid(W_io x + b_io + W_ho h' + b_ho)
        c = f * c' + i * g
        h = o * tanh(c)

    Args:
        x: (T, B, I), or tokens (T, B).
        w_ih: (4*H, I), the blocks of H rows in the order i, f, g, o.
        w_hh: (4*H, H), likewise.
        b_ih: (4*H,), or None for zeros.
        b_hh: (4*H,), or None for zeros.
        h0: (B, H), or None for zeros.
        c0: (B, H), or None for zeros.
        training: whether to make a tape for :func:`lstm_backward`.

    Returns:
        y (T, B, H), h_n (B, H), c_n (B, H) and the tape. With T = 0, h_n and c_n are h0 and c0.

    Raises:
        TypeError: an argument is not an array, or has another dtype.
        ValueError: a shape does not fit, or a token is outside 0 .. I-1.

    """
    kept = packs_of("lstm", w_ih, w_hh) if training is False else None
    return LstmOutput._make(
        _core.forward("lstm", training, True, kept, None, x, w_ih, w_hh, b_ih, b_hh, h0, c0, None, None, None)
    )


def lstm_backward(
    tape: Tape | None, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LstmGradients:
    """Return the gradients by every input of an :func:`lstm_forward` call.

    Args:
        tape: of that call, made with ``training=True``. It may be used again, and from several threads.
        dy: (T, B, H), the gradient by y, or None for zeros.
        dh_n: (B, H), the gradient by h_n, or None for zeros.
        dc_n: (B, H), the gradient by c_n, or None for zeros.

    Returns:
        dx (None where x held tokens), dw_ih, dw_hh, db_ih, db_hh, dh0 and dc0, of the tape's dtype.

    Raises:
        TypeError: the tape is that of another family, or a gradient is not an array of the tape's dtype.
        ValueError: a shape does not fit.

    """
    return LstmGradients._make(_gradients("lstm", tape, dy, dh_n, dc_n))


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    reset_after: bool = True,
    training: bool = False,
) -> GruOutput:
    """Run a net of gated recurrent units over a sequence.

    With h' the state before a step::

        r = sigmoid(W_ir x + b_ir + W_hr h' + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h' + b_hz)
        n =    tanh(W_in x + b_in + r * (W_hn h' + b_hn))    reset_after: PyTorch, Keras, ONNX linear_before_reset=1
        n =    tanh(W_in x + b_in + W_hn (r * h') + b_hn)    otherwise: Cho et al. (2014), ONNX linear_before_reset=0
        h = (1 - z) * n + z * h'

    Args:
        x: (T, B, I), or tokens (T, B).
        w_ih: (3*H, I), the blocks of H rows in the order r, z, n.
        w_hh: (3*H, H), likewise.
        b_ih: (3*H,), or None for zeros.
        b_hh: (3*H,), or None for zeros.
        h0: (B, H), or None for zeros.
        reset_after: whether the reset gate is applied after the product with W_hn, or before it.
        training: whether to make a tape for :func:`gru_backward`.

    Returns:
        y (T, B, H), h_n (B, H) and the tape. With T = 0, h_n is h0.

    Raises:
        TypeError: an argument is not an array, or has another dtype.
        ValueError: a shape does not fit, or a token is outside 0 .. I-1.

    """
    if reset_after is not True and reset_after is not False:
        reset_after = checks.boolean("gru_forward", "reset_after", reset_after)
    cell = "gru_reset_after" if reset_after else "gru_reset_before"
    kept = packs_of(cell, w_ih, w_hh) if training is False else None
    return GruOutput._make(
        _core.forward(cell, training, True, kept, None, x, w_ih, w_hh, b_ih, b_hh, h0, None, None, None, None)
    )


def gru_backward(tape: Tape | None, dy: Array | None = None, dh_n: Array | None = None) -> GruGradients:
    """Return the gradients by every input of a :func:`gru_forward` call.

    Args:
        tape: of that call, made with ``training=True``. It may be used again, and from several threads.
        dy: (T, B, H), the gradient by y, or None for zeros.
        dh_n: (B, H), the gradient by h_n, or None for zeros.

    Returns:
        dx (None where x held tokens), dw_ih, dw_hh, db_ih, db_hh and dh0, of the tape's dtype.

    Raises:
        TypeError: the tape is that of another family, or a gradient is not an array of the tape's dtype.
        ValueError: a shape does not fit.

    """
    return GruGradients._make(_gradients("gru", tape, dy, dh_n, None))


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    training: bool = False,
) -> RnnOutput:
    """Run a plain recurrent net over a sequence.

    With h' the state before a step::

        h = tanh(W_ih x + b_ih + W_hh h' + b_hh)      or relu

    Args:
        x: (T, B, I), or tokens (T, B).
        w_ih: (H, I).
        w_hh: (H, H).
        b_ih: (H,), or None for zeros.
        b_hh: (H,), or None for zeros.
        h0: (B, H), or None for zeros.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        training: whether to make a tape for :func:`rnn_backward`.

    Returns:
        y (T, B, H), h_n (B, H) and the tape. With T = 0, h_n is h0.

    Raises:
        TypeError: an argument is not an array, or has another dtype.
        ValueError: a shape does not fit, or a token is outside 0 .. I-1.

    """
    cell = _RNNS.get(nonlinearity) if type(nonlinearity) is str else None
    if cell is None:
        cell = _RNNS[checks.choice("rnn_forward", "nonlinearity", nonlinearity, tuple(_RNNS))]
    kept = packs_of(cell, w_ih, w_hh) if training is False else None
    return RnnOutput._make(
        _core.forward(cell, training, True, kept, None, x, w_ih, w_hh, b_ih, b_hh, h0, None, None, None, None)
    )


def rnn_backward(tape: Tape | None, dy: Array | None = None, dh_n: Array | None = None) -> RnnGradients:
    """Return the gradients by every input of an :func:`rnn_forward` call.

    Args:
        tape: of that call, made with ``training=True``. It may be used again, and from several threads.
        dy: (T, B, H), the gradient by y, or None for zeros.
        dh_n: (B, H), the gradient by h_n, or None for zeros.

    Returns:
        dx (None where x held tokens), dw_ih, dw_hh, db_ih, db_hh and dh0, of the tape's dtype.

    Raises:
        TypeError: the tape is that of another family, or a gradient is not an array of the tape's dtype.
        ValueError: a shape does not fit.

    """
    return RnnGradients._make(_gradients("rnn", tape, dy, dh_n, None))
