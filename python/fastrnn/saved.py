"""Modules from files that know what module their parameters are of."""

from __future__ import annotations

from typing import Any

from ._base import checks
from .files import load_with_about
from .layers import GRU, LSTM, RNN, IndRNN, MinGRU
from .modules import Dropout, Embedding, Linear, Module
from .nets import Last, Max, Mean, Relu, Sequential, Tanh

__all__ = ["load"]

KINDS: dict[str, type[Module]] = {
    kind.__name__: kind
    for kind in (RNN, GRU, LSTM, IndRNN, MinGRU, Linear, Embedding, Dropout, Last, Mean, Max, Relu, Tanh)
}
DEPTH = 50  # of nets in nets


def load(path: str) -> Any:
    """Return the layer, module or net whose ``save`` wrote a file, with its parameters, in evaluation mode.

    Raises OSError where the file cannot be read, and ValueError where it is damaged, or does not say what module its
    parameters are of: then make the module, and call its ``load``; or of a model of PyTorch's,
    :func:`fastrnn.from_torch`.
    """
    owner = "load"
    arrays, about = load_with_about(owner, path)
    if about is None:
        raise ValueError(
            f"{owner}: {path} does not say what module its parameters are of: make the module, and call its load, or "
            "from_torch"
        )
    try:
        with checks.at_most(sum(a.size for a in arrays.values())):
            module = _made(about, DEPTH)
        module.load_state_dict(arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {path} describes no module of fastrnn's, or one of a later version: {error}"
        ) from None
    return module.eval()


def _made(description: Any, depth: int) -> Module:
    """Return the module of a description, with parameters of any values."""
    if not isinstance(description, dict) or not depth:
        raise ValueError(f"it is {checks.shown(description)}")
    kind, modules, options = (description.get(name) for name in ("kind", "modules", "options"))
    if not isinstance(kind, str):
        raise ValueError(f"it is {checks.shown(description)}")
    if kind == "Sequential" and isinstance(modules, list):
        return Sequential(*(_made(module, depth - 1) for module in modules))
    if kind not in KINDS or not isinstance(options, dict):
        raise ValueError(f"there is no {checks.shown(kind)}")
    return KINDS[kind](**{name: plain(value) for name, value in options.items()})


def plain(value: Any) -> Any:
    """Return an option with tuples for JSON's lists."""
    return tuple(map(plain, value)) if isinstance(value, list) else value
