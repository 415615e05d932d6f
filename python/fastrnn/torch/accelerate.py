"""The exchange of modules in a model that is there, and back.

It changes their class and nothing else: they stay the objects that they are, with their parameters, buffers and hooks,
and so does all that refers to them.
"""

from __future__ import annotations

from typing import Any

import torch

from fastrnn._base import checks

from . import modules
from .stack import DTYPES

OURS = {getattr(torch.nn, name): getattr(modules, name) for name in modules.__all__}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
KINDS = torch.nn.RNNBase, torch.nn.RNNCellBase


class Report:
    """What was exchanged in a model, and what not; ``print`` shows it.

    Attributes:
        exchanged: the modules by name.
        left: why not, by name, of other recurrent modules.

    """

    def __init__(self, done: str) -> None:
        self._done = done
        self.exchanged: dict[str, Any] = {}
        self.left: dict[str, str] = {}

    def __repr__(self) -> str:
        count = len(self.exchanged)
        lines = [f"{count} recurrent {'module' if count == 1 else 'modules'} {self._done}"]
        lines += [f"  {name or '(the model)'}: {module}" for name, module in self.exchanged.items()]
        if self.left:
            lines.append("left as they are")
            lines += [f"  {name or '(the model)'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def accelerate(model: Any) -> Report:
    """Have fastrnn compute the recurrent modules of a model, which stay the same objects.

    Of ``torch.nn.RNN``, ``LSTM``, ``GRU`` and their cells, in whatever module of the model they are, the class becomes
    fastrnn's. Parameters, optimisers made for them, hooks and names in the state dict remain. Left as they are
    subclasses, modules with a forward of their own, on another device than a CPU or of another dtype than float32 or
    float64.

    Args:
        model: a ``torch.nn.Module``.

    Returns:
        A :class:`Report` on what was exchanged, and on what not, and why.

    Raises:
        TypeError: it is no module.

    """
    return _exchanged("accelerate", "computed by fastrnn", model, OURS, _why_not)


def restore(model: Any) -> Report:
    """Take back what :func:`accelerate` has done; returns and raises what it does."""
    return _exchanged("restore", "computed by PyTorch again", model, THEIRS, _why_not_back)


def _exchanged(name: str, done: str, model: Any, kinds: dict[Any, Any], why_not: Any) -> Report:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"fastrnn.torch.{name}: model is {checks.kind(model)}, expected a torch.nn.Module")
    report = Report(done)
    for path, module in model.named_modules():
        why = why_not(module)
        if why is None:
            module.__class__ = kinds[type(module)]
            module.__dict__.pop(modules.STACK, None)
            report.exchanged[path] = module
        elif why:
            report.left[path] = why
    return report


def _why_not(module: Any) -> str | None:
    """Return why a module is not to be exchanged, in nothing if it is no recurrent one; None if it is."""
    kind = type(module)
    if kind.__module__.startswith("torch.ao.nn.quantized") and kind.__name__ in modules.__all__:
        return f"{kind.__name__} is quantized"
    if not isinstance(module, KINDS):
        return ""
    if kind in THEIRS:
        return f"{kind.__name__} is fastrnn's already"
    if kind not in OURS:
        return f"{kind.__name__} is a class of its own: derive it from fastrnn.torch's"
    if "forward" in module.__dict__:
        return f"{kind.__name__} has a forward of its own"
    for weight in module.parameters():
        if weight.device.type != "cpu":
            return f"{kind.__name__} is on {weight.device}, which is no CPU"
        if weight.dtype not in DTYPES:
            return f"{kind.__name__} is {str(weight.dtype).removeprefix('torch.')}, neither float32 nor float64"
    return None


def _why_not_back(module: Any) -> str | None:
    kind = type(module)
    if kind in THEIRS and "forward" in module.__dict__:
        return f"{kind.__name__} has a forward of its own"
    if kind in THEIRS:
        return None
    return f"{kind.__name__} is a class of its own" if isinstance(module, tuple(THEIRS)) else ""
