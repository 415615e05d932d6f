"""Models of others in, and nets out to others: PyTorch, Keras and ONNX, none of which is imported before it is needed.

net         a recurrent net in a model, as find_nets tells it, and how one of several is chosen and becomes a layer
orders      blocks of weights, from any order of gates to the one here
find        which recurrent nets a model of any kind holds
torch_in    from_torch
torch_out   to_torch
keras_in    from_keras, without Keras
onnx_cell   what a recurrent node of ONNX means
onnx_graph  the graphs of an ONNX model, and which of their values are constant
onnx_in     from_onnx
onnx_out    to_onnx
onnx_nodes  onnx_ops: recurrent nodes, for ONNX's own evaluator
"""

from .find import find_nets
from .keras_in import from_keras
from .net import Net
from .onnx_in import from_onnx
from .onnx_nodes import onnx_ops
from .onnx_out import to_onnx
from .orders import gates
from .torch_in import from_torch
from .torch_out import to_torch

__all__ = ["Net", "find_nets", "from_keras", "from_onnx", "from_torch", "gates", "onnx_ops", "to_onnx", "to_torch"]
