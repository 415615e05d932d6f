"""Layers and nets as PyTorch's modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn._base import checks
from fastrnn._base.extras import needed
from fastrnn.layers import GRU, LSTM, RNN, Layer
from fastrnn.modules import Dropout, Embedding, Linear, Module, Modules
from fastrnn.nets import Last, Max, Mean, Relu, Sequential, Tanh

__all__ = ["to_torch"]

OWNER = "to_torch"
# Cells that PyTorch has too; and what else it has not, by the values that change nothing.
CELLS = {"rnn_tanh", "rnn_relu", "gru_reset_after", "lstm", "lstm_projected"}
PLAIN: dict[str, Any] = {
    "reverse": False,
    "learn_state": False,
    "recurrent_dropout": 0.0,
    "zoneout": 0.0,
    "weights": "float32",
}


def to_torch(layer_or_net: Module) -> Any:
    """Return a module of PyTorch's that computes the same, with the same weights: copies of them, bit for bit.

    Args:
        layer_or_net: an RNN, GRU or LSTM, a Linear, Embedding, Dropout, Relu or Tanh, or a :class:`~fastrnn.Sequential`
            of these, and of Last, Mean and Max.

    Returns:
        ``torch.nn``'s module of the same name, in the same mode, training or evaluation; or of a net a
        ``torch.nn.Sequential`` whose recurrent layers hand on y, ``net(x, lengths)``. Names in ``state_dict()`` are
        those of fastrnn. It is on the CPU, and nothing is drawn for it from PyTorch's random numbers.

    Raises:
        TypeError: it is nothing of that kind.
        ValueError: it has what PyTorch has not, as the message says.
        ImportError: PyTorch is not installed.

    """
    if not isinstance(layer_or_net, Module):
        raise TypeError(f"{OWNER}: layer_or_net is {checks.kind(layer_or_net)}, expected a layer or a net")
    torch = needed(OWNER, "torch")
    whole = _Whole(False, {})
    if type(layer_or_net) is Sequential:
        whole = _Whole(_batch_first(layer_or_net), _read_from_end(layer_or_net))
    module = _made(torch, layer_or_net, "", whole)
    params = layer_or_net.params
    module.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in params.items()})
    _tie(params, module)
    _set_mode(layer_or_net, module)
    return module


class _Whole(NamedTuple):
    """What a module has to know of the net that it is in."""

    batch_first: bool
    from_end: dict[str, int]  # by the name of each Last, how many features of its input a layer has read from the end


def _batch_first(net: Sequential) -> bool:
    try:
        return net._batch_first()
    except ValueError as error:
        raise ValueError(f"{OWNER}: {error}") from None


def _read_from_end(net: Sequential) -> dict[str, int]:
    found: dict[str, int] = {}
    from_end = 0
    for name, module in net._flat():
        if type(module) is Last:
            found[name] = from_end
        elif isinstance(module, Layer):
            from_end = module._spec.state_sizes[0] if module.bidirectional else 0
        elif type(module) not in (Dropout, Relu, Tanh):
            from_end = 0
    return found


def _made(torch: Any, part: Any, place: str, whole: _Whole) -> Any:
    """Return the module of one part, which stands at this place in a net, with weights of any values."""
    nn, kind = torch.nn, type(part)
    dtype = getattr(torch, str(getattr(part, "dtype", np.dtype(np.float32))))
    if isinstance(part, Layer):
        return _layer(nn, part, place, dtype)
    if kind is Linear:
        return _blank(nn.Linear, part.in_features, part.out_features, part.bias, dtype=dtype)
    if kind is Embedding:
        return _blank(nn.Embedding, part.num_embeddings, part.embedding_dim, dtype=dtype)
    if kind is Dropout:
        return nn.Dropout(part.p)
    if kind is Relu:
        return nn.ReLU()
    if kind is Tanh:
        return nn.Tanh()
    nets = needed(OWNER, "fastrnn.torch.nets")
    if kind in (Last, Mean, Max):
        options = {"from_end": whole.from_end.get(place, 0)} if kind is Last else {}
        order = whole.batch_first if part.batch_first is None else part.batch_first
        return getattr(nets, kind.__name__)(order, **options)
    if kind is Sequential:
        names = [f"{place}.{k}".removeprefix(".") for k in range(len(part))]
        return nets.Sequential(*(_made(torch, one, name, whole) for one, name in zip(part, names, strict=True)))
    if isinstance(part, Modules):
        raise ValueError(
            f"{OWNER}: {kind.__name__} does not say in which order its modules are called: pass a Sequential"
        )
    raise ValueError(f"{OWNER}: {_where(place)}{kind.__name__} is a class of its own, of which PyTorch has no module")


def _blank(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return a module on the CPU whose weights have no values yet, none of which were drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return make(*arguments, **options, device="meta").to_empty(device="cpu")


def _where(place: str) -> str:
    return f"module {place}: " if place else ""


def _layer(nn: Any, layer: Any, place: str, dtype: Any) -> Any:
    """Return the module of a recurrent layer."""
    kind = type(layer).__name__
    if layer._spec.cell not in CELLS or type(layer) not in (RNN, GRU, LSTM):
        made = layer._arguments()
        raise ValueError(f"{OWNER}: {_where(place)}PyTorch has no layer that computes what {kind}({made}) does")
    if not layer.input_size:
        raise ValueError(f"{OWNER}: {_where(place)}input_size is 0, which PyTorch's {kind} does not take")
    for name, value in PLAIN.items():
        if getattr(layer, name) not in (value, (value, value)):
            raise ValueError(
                f"{OWNER}: {_where(place)}{name} is {getattr(layer, name)}, which PyTorch's {kind} has not"
            )
    options = {"nonlinearity": layer._spec.cell.removeprefix("rnn_")} if kind == "RNN" else {}
    if layer.proj_size:
        options["proj_size"] = layer.proj_size
    return _blank(
        getattr(nn, kind),
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=layer.bias,
        batch_first=layer.batch_first,
        dropout=layer.dropout if layer.num_layers > 1 else 0.0,
        bidirectional=layer.bidirectional,
        dtype=dtype,
        **options,
    )


def _tie(params: Any, module: Any) -> None:
    """Have one parameter where fastrnn has one array under several names."""
    first: dict[int, Any] = {}
    for name, p in params.items():
        place, _, own = name.rpartition(".")
        owner = module.get_submodule(place)
        setattr(owner, own, first.setdefault(id(p), getattr(owner, own)))


def _set_mode(part: Any, module: Any) -> None:
    """Have a module, and all in it, in the mode of what it was made of."""
    module.train(part.training)
    if isinstance(part, Sequential):
        for one, made in zip(part, module, strict=True):
            _set_mode(one, made)
