"""Tensors by PyTorch's names: which are of one recurrent layer, and what layer that is.

Shapes: H hidden size, I input size, P projection, G gates of the kind.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn.files import Unread

from .net import BY_GATES, Net

Tensors = Mapping[str, Any]  # torch's tensors, or whatever NumPy makes arrays of, by name
Shape = tuple[int, ...]

DTYPES = ("float32", "float64", "float16", "bfloat16")

PREFIX = r"(?:(?P<prefix>.*)\.)?"
LEVEL = r"(?:_l(?P<level>[0-9]{1,5})(?P<reverse>_reverse)?)?"
OF_PARAMETER = re.compile(
    rf"{PREFIX}(?P<what>(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh){LEVEL})", re.DOTALL
)
# What stands in the place of weights that something makes anew for each call, or has made smaller.
MADE = re.compile(
    rf"{PREFIX}(?:weight|bias)_(?:ih|hh|hr){LEVEL}(?:_(?P<suffix>g|v|u|orig|mask|raw)|\.original\d*)", re.DOTALL
)
QUANTISED = re.compile(rf"{PREFIX}(?:_all_weight_values\..*|_packed_weight_[ih]h)", re.DOTALL)

QUANTISED_PROBLEM = "its weights are quantised: import the model that it was made of, before quantize_dynamic"
NOT_SAID = (
    "nothing says whether it is of tanh or relu, and it is taken as tanh: from_torch(..., nonlinearity='tanh') says "
    "it, or 'relu'"
)


def made_problem(names: Iterable[str]) -> str:
    """Return what to do with weights that are made anew for each call, by what there is instead."""
    suffixes = {match["suffix"] for match in map(MADE.fullmatch, names) if match}
    if "raw" in suffixes:
        return (
            "its weights are dropped out anew for each call: give a dict with each name_raw as name, and nothing else"
        )
    if "mask" in suffixes:
        way, what = "torch.nn.utils.prune.remove(module, name)", "pruning"
    elif suffixes & {"orig", "u"}:
        way, what = "torch.nn.utils.remove_spectral_norm(module, name)", "spectral_norm"
    elif suffixes & {"g", "v"}:
        way, what = "torch.nn.utils.remove_weight_norm(module, name)", "weight_norm"
    else:
        way, what = "torch.nn.utils.parametrize.remove_parametrizations(module, name)", "a parametrization"
    return f"its weights are made anew for each call, by {what}: call {way}, and import it then"


def refused(name: str, kind: str, problem: str) -> Net:
    """Return a net that cannot be imported."""
    return Net(name, kind, {}, dict, problem=problem)


def nets_of(entries: Iterable[tuple[str, Any]], *, in_file: bool) -> Iterator[Net]:
    """Yield the recurrent nets of tensors with names; ``in_file``: a tensor may say that it is larger than its file."""
    by_module: dict[str, dict[str, Any]] = {}
    every: list[str] = []
    twice: set[str] = set()
    for given, value in entries:
        name = given.replace("/", ".")
        every.append(name)
        module = _module_of(name)
        if module is not None:
            own = by_module.setdefault(module, {})
            if name in own:
                twice.add(module)
            own[name] = value
    every.sort()
    for module, tensors in by_module.items():
        besides = _besides(module, tensors, every)
        if module in twice:
            yield refused(module, "", "there are two tensors under the same name")
        elif any(map(QUANTISED.fullmatch, tensors)):
            yield refused(module, "", QUANTISED_PROBLEM)
        elif any(map(MADE.fullmatch, tensors)):
            yield refused(module, "", made_problem(tensors))
        elif besides:
            yield refused(
                module,
                "",
                f"there is {besides} besides, which none of PyTorch's layers has, and which may change what it "
                "computes: leave it out of the dict where it does not",
            )
        else:
            own = {OF_PARAMETER.fullmatch(name)["what"]: t for name, t in tensors.items()}  # type: ignore[index]
            yield net_of(own, module, {}, None, in_file=in_file)


def _module_of(name: str) -> str | None:
    """Return the name of the module that a tensor belongs to; None if it is of no recurrent one."""
    for pattern in (QUANTISED, MADE, OF_PARAMETER):
        match = pattern.fullmatch(name)
        if match:
            prefix = match["prefix"] or ""
            return prefix.removesuffix("parametrizations").removesuffix(".")
    return None


def _besides(module: str, own: Tensors, every: list[str]) -> str | None:
    """Return what else there is in a module, or around it, of all names in their order."""
    outer, _, last = module.rpartition(".")
    around = f"{outer}." if outer else ""
    if last in ("module", "base_layer"):  # of what makes its weights anew, or adds to them
        for name in _under(f"{around}lora_", every):
            return name
        for name in _under(f"{around}weight_", every):
            if name.endswith("_raw"):
                return name
    return next((name for name in _under(f"{module}." if module else "", every) if name not in own), None)


def _under(start: str, every: list[str]) -> Iterator[str]:
    for k in range(bisect.bisect_left(every, start), len(every)):
        if not every[k].startswith(start):
            return
        yield every[k]


# --- one layer


def net_of(tensors: Tensors, name: str, options: dict[str, Any], nonlinearity: str | None, *, in_file: bool) -> Net:
    """Return the net of the parameters of one module, whose names have no prefix."""
    if "weight_ih" in tensors or "weight_hh" in tensors:  # of a cell
        tensors = {f"{each}_l0": tensor for each, tensor in tensors.items()}
    shapes: dict[str, Shape] = {}
    for each, tensor in tensors.items():
        shapes[each], problem = _looked_at(each, tensor, in_file)
        if problem:
            return refused(name, "", problem)
    kind, sizes, problem = _sizes(shapes)
    if problem:
        return refused(name, kind, problem)
    options = {**sizes, **options}
    notes: tuple[str, ...] = ()
    if kind == "RNN" and nonlinearity == "relu":
        options["nonlinearity"] = "relu"
    if kind == "RNN" and not nonlinearity:
        notes = (NOT_SAID,)
    return Net(name, kind, options, lambda: _weights(tensors, sizes), {}, notes)


def _sizes(shapes: Mapping[str, Shape]) -> tuple[str, dict[str, Any], str]:
    """Return the kind and the sizes that shapes tell, or what is wrong with them."""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in shapes:
            return "", {}, f"there is no {name.removesuffix('_l0')} of its first level"
        if len(shapes[name]) != 2:
            return "", {}, f"{name} has shape {shapes[name]}, expected two axes"
    rows, width = shapes["weight_hh_l0"]
    projected = shapes.get("weight_hr_l0")
    hidden = projected[-1] if projected else width
    kind = BY_GATES.get(rows // hidden if hidden and rows % hidden == 0 else 0, "")
    if not kind or (projected and kind != "LSTM"):
        expected = f"expected that of an RNN, a GRU or an LSTM of {hidden} units"
        return "", {}, f"weight_hh_l0 has shape {(rows, width)}, {expected}"
    matches = [match for match in map(OF_PARAMETER.fullmatch, shapes) if match]
    levels = {int(match["level"]) for match in matches}
    if len(levels) <= max(levels):
        missing = next(k for k in range(max(levels)) if k not in levels)
        return kind, {}, f"there is no weight_ih_l{missing}, and there is one of level {max(levels)}"
    sizes: dict[str, Any] = {"input_size": shapes["weight_ih_l0"][1], "hidden_size": hidden}
    sizes |= {"num_layers": len(levels)} if len(levels) > 1 else {}
    sizes |= {"bidirectional": True} if any(match["reverse"] for match in matches) else {}
    sizes |= {"proj_size": projected[0]} if projected else {}
    places = {name.removeprefix("weight_ih") for name in shapes if name.startswith("weight_ih")}
    biases = [name for name in shapes if name.startswith("bias")]
    for kind_of_bias in ("bias_ih", "bias_hh"):
        absent = [kind_of_bias + place for place in sorted(places) if kind_of_bias + place not in shapes]
        if absent and len(absent) < len(places):
            return kind, {}, f"there is no {absent[0]}, and there is one of another level or direction"
    return kind, sizes | ({} if biases else {"bias": False}), ""


# --- tensors


def _is_of_torch(value: Any) -> bool:
    return hasattr(value, "detach") and any(k.__module__.partition(".")[0] == "torch" for k in type(value).__mro__)


def _looked_at(name: str, tensor: Any, in_file: bool) -> tuple[Shape, str]:
    """Return the shape of a tensor, and why it cannot become an array, if so."""
    try:
        if _is_of_torch(tensor):
            return tuple(tensor.shape), _problem_of_torch(name, tensor, in_file)
        shape, dtype = np.shape(tensor), tensor.dtype if isinstance(tensor, Unread) else np.asarray(tensor).dtype.name
        shape = tuple(tensor.shape) if isinstance(tensor, Unread) else shape
    except Exception:  # noqa: BLE001  what claims to be a tensor may raise anything
        return (), f"{name} is {checks.kind(tensor)}, expected an array of numbers"
    if not hasattr(tensor, "dtype"):
        return shape, f"{name} is {checks.kind(tensor)}, expected an array of numbers"
    return shape, _problem_of_dtype(name, dtype)


def _problem_of_dtype(name: str, dtype: str) -> str:
    return "" if dtype in DTYPES else f"{name} is {dtype}, expected {', '.join(DTYPES[:-1])} or {DTYPES[-1]}"


def _problem_of_torch(name: str, tensor: Any, in_file: bool) -> str:
    if tensor.is_quantized:
        return QUANTISED_PROBLEM
    if "strided" not in str(tensor.layout):
        return f"{name} has the layout {tensor.layout}: give what to_dense() makes of it"
    if tensor.is_meta:
        return f"{name} is on the device meta, and has no numbers"
    if in_file and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"{name} is larger than what the file has of it: its numbers are repeated"
    return _problem_of_dtype(name, str(tensor.dtype).removeprefix("torch."))


def _weights(tensors: Tensors, sizes: Mapping[str, Any]) -> dict[str, Array]:
    """Return the weights as arrays; where there is but one bias, the other is zeros."""
    weights = {name: _array(name, tensor) for name, tensor in tensors.items()}
    if sizes.get("bias", True):
        for name, w in list(weights.items()):
            if name.startswith("weight_ih"):
                for bias in ("bias_ih", "bias_hh"):
                    weights.setdefault(name.replace("weight_ih", bias), np.zeros(w.shape[:1], w.dtype))
    return weights


def _array(name: str, tensor: Any) -> Array:
    """Return a tensor of whatever library as an array of a dtype that NumPy has, or ml_dtypes."""
    try:
        if _is_of_torch(tensor):
            tensor = tensor.detach().to("cpu").resolve_neg()
            tensor = (tensor if tensor.dtype.itemsize > 2 else tensor.float()).numpy()
        return np.asarray(tensor)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  as above
        raise ValueError(f"{name} cannot be read: {checks.first_line(error)}") from None
