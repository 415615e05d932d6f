"""Modules from files that know what module their parameters are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import checks
from ._base.described import Description, formats_in, own_in
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
    own, formats = own_in(description), formats_in(description)
    if own is not None:
        frozen = ", freeze its layers so" if formats else ""
        raise ValueError(
            f"{owner}: {path} has what is of a class of your own, {own}: make it{frozen}, and call its load"
        )
    try:
        with checks.at_most(sum(a.size for a in arrays.values())):
            module = _made(description)
        _check_formats(module, formats)
        module._fill(arrays, formats, adopts=True)
        for first, *others in description.get("tied", ()):
            for name in others:
                module.params[name] = module.params[first]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {path} describes no module of fastrnn's, or one of a later version: {error}"
        ) from None
    return module.eval()


def _check_formats(module: Module, formats: Mapping[str, str]) -> None:
    """Raise where layers cannot keep their weights in the formats that they have in a file."""
    leaves = dict(module._leaves())
    for prefix, weights in formats.items():
        layer = leaves.get(prefix)
        if not isinstance(layer, Layer):
            raise ValueError(f"weights is {checks.shown(weights)} of what is no recurrent layer")
        layer._check_freeze(weights)


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
