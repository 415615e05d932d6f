"""Fast recurrent nets on the CPU: RNN, LSTM and GRU, forward and backward, on NumPy arrays.

Shapes, everywhere: T steps, B batch, I input size, H hidden size, G gates of the cell (RNN 1, LSTM 4, GRU 3).
float32 and float64. Layout, gate order and names of weights are PyTorch's.

>>> import numpy as np, fastrnn
>>> T, B, I, H = 100, 1, 16, 32
>>> rng = np.random.default_rng(0)
>>> x, w_ih, w_hh = (rng.normal(0, 0.2, shape).astype("f") for shape in [(T, B, I), (4 * H, I), (4 * H, H)])
>>> out = fastrnn.lstm_forward(x, w_ih, w_hh, training=True)
>>> out.y.shape, out.h_n.shape, out.c_n.shape
((100, 1, 32), (1, 32), (1, 32))
>>> gradients = fastrnn.lstm_backward(out.tape, dy=np.ones_like(out.y))
>>> gradients.dw_hh.shape
(128, 32)
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._base import startup as _startup  # noqa: F401  the first, for it tells what goes wrong in what follows
from ._base import threads as _threads
from ._core import __version__, available_isas, get_num_threads, isa, set_num_threads
from .calls import Call
from .functional import (
    GruGradients,
    GruOutput,
    LstmGradients,
    LstmOutput,
    RnnGradients,
    RnnOutput,
    Tape,
    clear_cache,
    gru_backward,
    gru_forward,
    gru_step,
    linear,
    lstm_backward,
    lstm_forward,
    lstm_step,
    rnn_backward,
    rnn_forward,
    rnn_step,
)
from .layers import GRU, LSTM, RNN, IndRNN, Layer, MinGRU, Stream
from .losses import cross_entropy, mean_squared_error
from .modules import Dropout, Embedding, Gradients, Grads, Linear, Module, ModuleCall, Modules, Parameters
from .nets import Last, Max, Mean, Relu, Sequential, Tanh
from .saved import load

if TYPE_CHECKING:
    from .convert import Net, find_nets, from_keras, from_onnx, from_torch, gates, onnx_ops, to_onnx, to_torch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Call",
    "Dropout",
    "Embedding",
    "Gradients",
    "Grads",
    "GruGradients",
    "GruOutput",
    "IndRNN",
    "Last",
    "Layer",
    "Linear",
    "LstmGradients",
    "LstmOutput",
    "Max",
    "Mean",
    "MinGRU",
    "Module",
    "ModuleCall",
    "Modules",
    "Net",
    "Parameters",
    "Relu",
    "RnnGradients",
    "RnnOutput",
    "Sequential",
    "Stream",
    "Tanh",
    "Tape",
    "__version__",
    "available_isas",
    "clear_cache",
    "cross_entropy",
    "find_nets",
    "from_keras",
    "from_onnx",
    "from_torch",
    "gates",
    "get_num_threads",
    "gru_backward",
    "gru_forward",
    "gru_step",
    "isa",
    "linear",
    "load",
    "lstm_backward",
    "lstm_forward",
    "lstm_step",
    "mean_squared_error",
    "onnx_ops",
    "rnn_backward",
    "rnn_forward",
    "rnn_step",
    "set_num_threads",
    "to_onnx",
    "to_torch",
]

_threads.tell_threadpoolctl()


_LATER = ("convert", "data", "optim", "reference", "torch")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LATER})


def __getattr__(name: str) -> Any:
    """Import what not everybody needs when it is first used."""
    if name in _LATER:
        return importlib.import_module(f".{name}", __name__)
    if name in __all__:
        return getattr(importlib.import_module(".convert", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
