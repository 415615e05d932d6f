"""Modules from files that know what module their parameters are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import checks
from ._base.described import Description, own_in, parts
from .files import load_with_description, refuse_unread
from .layers import GRU, LSTM, RNN, IndRNN, Layer, MinGRU
from .modules import Dropout, Embedding, Linear, Module, Modules
from .nets import Last, Max, Mean, Relu, Sequential, Tanh

__all__ = ["load"]

KINDS: dict[str, type[Module]] = {
    kind.__name__: kind
    for kind in (RNN, GRU, LSTM, IndRNN, MinGRU, Linear, Embedding, Dropout, Last, Mean, Max, Relu, Tanh)
}


def load(path: str) -> Any:
    """Return the layer, module or net whose ``save`` wrote a file, with its parameters, in evaluation mode.

    Raises OSError where the file cannot be read, and ValueError where it is damaged, or does not say what module its
    parameters are of, or that it is of a class of your own: then make the module, and call its ``load``; or of a model
    of PyTorch's, :func:`fastrnn.from_torch`.
    """
    owner = "load"
    arrays, description = load_with_description(owner, path)
    refuse_unread(owner, path, arrays)
    if description is None:
        raise ValueError(
            f"{owner}: {path} does not say what module its parameters are of: make the module, and call its load; or "
            "from_torch, of a model of PyTorch's"
        )
    own = own_in(description)
    if own is not None:
        raise ValueError(f"{owner}: {path} has what is of a class of your own, {own}: make it, and call its load")
    try:
        with checks.at_most(sum(a.size for a in arrays.values())):
            module = _made(description)
        _fill(module, description, arrays)
        for first, *others in description.get("tied", ()):
            for name in others:
                module.params[name] = module.params[first]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {path} describes no module of fastrnn's, or one of a later version: {error}"
        ) from None
    return module.eval()


def _fill(module: Module, description: Description, arrays: Mapping[str, Any]) -> None:
    """Have the arrays as parameters of a module, some of whose layers may keep their weights in a format."""
    formats = {prefix: part["weights"] for prefix, part in parts(description).items() if "weights" in part}
    if not formats:
        return module.load_state_dict(arrays)
    left = dict(arrays)
    for prefix, part in module._leaves():
        own = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
        if prefix in formats and isinstance(part, Layer):
            part._load_kept(own, formats[prefix])
        else:
            part.load_state_dict(own)
    if left:
        raise ValueError(f"unexpected {', '.join(left)}")
    return None


def _made(description: Description) -> Module:
    """Return the module of a description, with parameters of any values."""
    kind = description["kind"]
    if "modules" in description:
        modules = {name: _made(module) for name, module in description["modules"].items()}
        if kind == "Sequential":
            return Sequential(*modules.values())
        if kind == "Modules":
            return Modules(**modules)
    elif kind in KINDS:
        return KINDS[kind](**description["options"])
    raise ValueError(f"there is no {checks.shown(kind)}")
