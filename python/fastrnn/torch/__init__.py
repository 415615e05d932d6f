"""PyTorch's recurrent modules, computed by fastrnn: the same classes, parameters, calls and gradients.

``RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` and ``GRUCell`` are subclasses of those of ``torch.nn``, and take
their place: arguments, names of parameters, results and errors are theirs. :func:`accelerate` exchanges the modules of
a model that is there. On a CPU, in float32 and float64, fastrnn computes; everything else PyTorch does as ever.
"""

from fastrnn._base.extras import needed

version = needed("fastrnn.torch", "torch").__version__
if tuple(map(int, version.split(".")[:2])) < (2, 7):
    raise ImportError(f"fastrnn.torch needs PyTorch 2.7 or newer, and this is {version}: pip install --upgrade torch")

from .accelerate import Report, accelerate, restore  # noqa: E402  first it says what is missing
from .modules import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell  # noqa: E402

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Report",
    "accelerate",
    "restore",
]
