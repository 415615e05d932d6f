"""PyTorch's recurrent layers, from modules, state dicts and files: sizes come from the shapes of weights."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn.files import load_with_about
from fastrnn.layers import Layer
from fastrnn.saved import plain

from .net import KINDS, Net, chosen

__all__ = ["from_torch"]

OWNER = "from_torch"
EXPECTED = "a PyTorch module, a dict of arrays or the path of a .safetensors or .pt file"
GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
OF_PARAMETER = re.compile(
    r"(?:(?P<prefix>.*)[./])?(?P<what>(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"(?:_l(?P<level>\d+)(?P<reverse>_reverse)?)?)"
)
# What stands in the place of weights that something makes anew for each call, or has made smaller.
MADE = re.compile(
    r"(?:(?P<prefix>.*)[./])?(?:parametrizations[./])?(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?(?:_[gvu]|_orig|_mask|"
    r"[./]original\d*)"
)
QUANTISED = re.compile(r"(?:(?P<prefix>.*)[./])?(?:_all_weight_values[./].*|_packed_weight_[ih]h)")

QUANTISED_PROBLEM = "its weights are quantised: import the model that it was made of, before quantize_dynamic"
MADE_PROBLEM = (
    "its weights are made anew for each call, by weight_norm or another parametrization: call "
    "torch.nn.utils.parametrize.remove_parametrizations(module, name), or of the old kind "
    "torch.nn.utils.remove_weight_norm(module, name), and import it then"
)
NOT_SAID = (
    "nothing says whether it is of tanh or relu, so that it is taken as tanh: nonlinearity='tanh' says it, or 'relu'"
)
DTYPES = ("float32", "float64", "float16", "bfloat16")
UNKNOWN_ORDER = "nothing says whether x is (T, B, I), and it is taken so: batch_first=False says it, or True"

Tensors = Mapping[str, Any]  # torch's tensors, or whatever NumPy makes arrays of, by name


def from_torch(
    source: Any,
    prefix: str | None = None,
    *,
    batch_first: bool | None = None,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Layer:
    """Return a recurrent layer that was trained with PyTorch.

    Args:
        source: an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, one of their cells, or a module that has one in it, of
            TorchScript too; a state dict, or any dict of arrays by PyTorch's names, of NumPy, torch or others, or a
            whole checkpoint with such a dict in it; or the path of a .safetensors file, which needs no PyTorch, or of
            one that ``torch.save`` has written, which is read with ``weights_only=True``.
        prefix: which, where there are several: the name of the module, ``"encoder.rnn"``, or the end of it.
        batch_first: whether x and y are (B, T, ...); None is as the module says, or else no.
        nonlinearity: of an RNN, which a dict or file does not say; None is as the module says, or else ``"tanh"``, with
            a warning.
        dtype: float32 or float64; None is float64 for weights of float64, and float32 for all others.

    Returns:
        :class:`~fastrnn.RNN`, :class:`~fastrnn.GRU` or :class:`~fastrnn.LSTM`, in evaluation mode, with weights of its
        own. A cell is a layer of one level: ``layer.stream(batch).step(x)`` is a call of it.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is none, or there are several; or what it has fastrnn has not, as the message says.
        OSError: a file cannot be read.
        ImportError: PyTorch is not installed, and the file needs it.

    """
    if batch_first is not None:
        batch_first = checks.boolean(OWNER, "batch_first", batch_first)
    if nonlinearity is not None:
        nonlinearity = checks.choice(OWNER, "nonlinearity", nonlinearity, ("tanh", "relu"))  # type: ignore[assignment]
    nets = nets_in(OWNER, source)
    net = chosen(OWNER, "prefix", nets, prefix, source=_said(source), joins=False)
    return _with(net, batch_first, nonlinearity).layer(dtype, owner=OWNER)


def _with(net: Net, batch_first: bool | None, nonlinearity: str | None) -> Net:
    """Return a net of which the user has said more."""
    options, notes = dict(net.options), net.notes
    if batch_first is not None:
        options["batch_first"] = batch_first
        notes = tuple(note for note in notes if note != UNKNOWN_ORDER)
    if nonlinearity is not None:
        if net.kind != "RNN":
            raise ValueError(f"{OWNER}: nonlinearity is {nonlinearity!r}, and the net is of kind {net.kind}")
        if NOT_SAID not in notes and nonlinearity != options.get("nonlinearity", "tanh"):
            raise ValueError(
                f"{OWNER}: nonlinearity is {nonlinearity!r}, and the module has {options.get('nonlinearity', 'tanh')!r}"
            )
        options["nonlinearity"] = nonlinearity
        notes = tuple(note for note in notes if note != NOT_SAID)
    return dataclasses.replace(net, options=options, notes=notes)


def _said(source: Any) -> str:
    """Return what a source is, in a message."""
    return str(source) if isinstance(source, str | os.PathLike) else checks.kind(source)


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a module, state dict or file."""
    if isinstance(source, str | os.PathLike):
        return _of_file(owner, os.fspath(source))
    if _is_module(source):
        return _of_module(source, "")
    if not isinstance(source, Mapping):
        source = _as_dict(owner, source)
    return list(_of_mapping(source, ""))


def _is_module(value: Any) -> bool:
    return callable(getattr(value, "named_modules", None)) and callable(getattr(value, "state_dict", None))


def _as_dict(owner: str, source: Any) -> dict[Any, Any]:
    """Return pairs of a name and an array, such as those of ``named_parameters``, as a dict."""
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray):
        pairs = list(itertools.islice(source, 2**20))
        if all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            return dict(pairs)
    raise TypeError(f"{owner}: source is {checks.kind(source)}, expected {EXPECTED}")


# --- files


def _of_file(owner: str, path: str) -> list[Net]:
    with open(path, "rb") as file:
        begin = file.read(9)
    if begin[8:] == b"{" and not begin.startswith(b"PK"):
        arrays, about = load_with_about(owner, path)
        return list(_of_saved(arrays, about, "") if about else _of_mapping(arrays, ""))
    torch = needed(owner, "torch")
    way = _with_code(path)
    if way:
        raise ValueError(
            f"{owner}: {path} has code of its own, which would run: where you trust it, {way} is the source to give"
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  of a file that may hold anything
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise ValueError(
                f"{owner}: {path} holds more than tensors, perhaps a whole module: where you trust it, "
                "torch.load(path, weights_only=False) is the source to give"
            ) from None
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{owner}: {path} is not a file of tensors, or damaged: {first}") from None
    if isinstance(loaded, Mapping):
        return list(_of_mapping(loaded, ""))
    raise ValueError(f"{owner}: {path} holds {checks.kind(loaded)}, expected a dict of tensors")


def _of_saved(arrays: Mapping[str, Array], about: Any, prefix: str) -> Iterator[Net]:
    """Yield the layers of a module that fastrnn has saved, which says what it is."""
    about = about if isinstance(about, dict) else {}
    kind, modules, options = (about.get(name) for name in ("kind", "modules", "options"))
    for k, module in enumerate(modules if isinstance(modules, list) else ()):
        yield from _of_saved(arrays, module, f"{prefix}.{k}".removeprefix("."))
    if kind in ("IndRNN", "MinGRU"):
        yield _refused(prefix, "", f"it is of kind {kind}, which PyTorch has not: fastrnn.load reads it")
    if isinstance(kind, str) and kind in KINDS and isinstance(options, dict):
        start = f"{prefix}." if prefix else ""
        own = {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
        options = {name: plain(value) for name, value in options.items() if name != "dtype"}
        yield Net(prefix, kind, options, lambda: own)


def _with_code(path: str) -> str:
    """Return how a file is read that holds code beside tensors; "" if it is none of those."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return ""
    if ".data/extern_modules" in names:
        return "what torch.package.PackageImporter(path).load_pickle(...) returns"
    return "torch.jit.load(path)" if "constants.pkl" in names else ""


# --- modules


def _of_module(module: Any, prefix: str) -> list[Net]:
    """Return the recurrent nets of a module, which may be one; ``prefix`` is where it is."""
    found = []
    for name, part in module.named_modules():
        name = ".".join(filter(None, (prefix, name)))
        kind = _kind(part)
        if kind is not None:
            found.append(_of_layer(part, kind, name))
    return found


def _kind(module: Any) -> str | None:
    """Return RNN, GRU or LSTM, if a module is one of these or of their cells."""
    names = [getattr(module, "original_name", "")]  # of TorchScript
    names += [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.")]
    return next((name.removesuffix("Cell") for name in names if name.removesuffix("Cell") in KINDS), None)


def _of_layer(module: Any, kind: str, name: str) -> Net:
    torch = needed(OWNER, "torch")
    scripted = isinstance(module, torch.jit.ScriptModule)
    if not scripted and not isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return _refused(name, kind, QUANTISED_PROBLEM)
    if not scripted and not type(module).forward.__module__.startswith(("torch.nn.", "fastrnn.")):
        own = type(module).__name__
        return _refused(
            name,
            kind,
            f"{own} has a forward of its own: where that does what PyTorch's {kind} does, its state_dict() is the "
            "source to give",
        )
    tensors = dict(module.named_parameters(recurse=False))
    if any(MADE.fullmatch(each) for each in tensors) or hasattr(module, "parametrizations"):
        return _refused(name, kind, MADE_PROBLEM)
    options: dict[str, Any] = {}
    if getattr(module, "batch_first", False):
        options["batch_first"] = True
    dropout = getattr(module, "dropout", 0)
    if dropout and getattr(module, "num_layers", 1) > 1:
        options["dropout"] = float(dropout)
    nonlinearity = getattr(module, "nonlinearity", None) or getattr(module, "mode", "").lower().removeprefix("rnn_")
    net = _of_tensors(tensors, name, options, nonlinearity)
    # What was traced has its tensors left, and those with steps an order of axes that nobody knows any more.
    unknown = scripted and not hasattr(module, "batch_first") and "weight_ih" not in tensors and not net.problem
    return dataclasses.replace(net, notes=(*net.notes, UNKNOWN_ORDER)) if unknown else net


# --- dicts


def _of_mapping(mapping: Mapping[Any, Any], prefix: str, depth: int = 8) -> Iterator[Net]:
    """Yield the recurrent nets of a dict of tensors, and of dicts and modules in it."""
    by_prefix: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    for name, value in mapping.items():
        if not isinstance(name, str):
            continue
        whole = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            if depth:
                yield from _of_mapping(value, whole, depth - 1)
        elif _is_module(value):
            yield from _of_module(value, whole)
        elif QUANTISED.fullmatch(whole) or MADE.fullmatch(whole) or OF_PARAMETER.fullmatch(whole):
            by_prefix.setdefault(_module_of(whole), {})[whole] = value
        else:
            others.append(whole)
    for module, tensors in by_prefix.items():
        yield _of_names(module, tensors, [name for name in others if _is_in(module, name)])


def _module_of(name: str) -> str:
    for pattern in (QUANTISED, MADE, OF_PARAMETER):
        match = pattern.fullmatch(name)
        if match:
            return re.sub(r"(?:^|[./])parametrizations$", "", match["prefix"] or "")
    return ""


def _is_in(module: str, name: str) -> bool:
    return not module or name.startswith((f"{module}.", f"{module}/"))


def _of_names(module: str, tensors: dict[str, Any], others: list[str]) -> Net:
    """Return the net of a module in a dict; ``others`` are what else there is in the module."""
    for pattern, problem in ((QUANTISED, QUANTISED_PROBLEM), (MADE, MADE_PROBLEM)):
        if any(pattern.fullmatch(name) for name in tensors):
            return _refused(module, "", problem)
    own = {OF_PARAMETER.fullmatch(name)["what"]: tensor for name, tensor in tensors.items()}  # type: ignore[index]
    net = _of_tensors(own, module, {}, None)
    if others and not net.problem:
        return _refused(
            module,
            net.kind,
            f"there is {others[0]} besides, which none of PyTorch's layers has: leave it out of the dict where it is "
            "another module's",
        )
    return net


# --- weights


def _refused(name: str, kind: str, problem: str) -> Net:
    return Net(name, kind, {}, dict, problem=problem)


def _of_tensors(tensors: Tensors, name: str, options: dict[str, Any], nonlinearity: str | None) -> Net:
    """Return the net of the parameters of one module, whose names have no prefix."""
    cell = "weight_ih" in tensors or "weight_hh" in tensors
    if cell:
        tensors = {f"{each}_l0": tensor for each, tensor in tensors.items()}
    kind, sizes, problem = _sizes(tensors)
    problem = problem or next(filter(None, map(_problem, tensors, tensors.values())), "")
    if problem:
        return _refused(name, kind, problem)
    options = {**sizes, **options}
    notes: tuple[str, ...] = ()
    if kind == "RNN":
        if nonlinearity == "relu":
            options["nonlinearity"] = "relu"
        elif not nonlinearity:
            notes = (NOT_SAID,)
    return Net(name, kind, options, lambda: _weights(tensors, sizes), {}, notes)


def _sizes(tensors: Tensors) -> tuple[str, dict[str, Any], str]:
    """Return the kind and the sizes that shapes tell, or what is wrong with them."""
    shapes = {
        name: tuple(tensor.shape) if hasattr(tensor, "shape") else np.shape(tensor) for name, tensor in tensors.items()
    }
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in shapes:
            return "", {}, f"there is no {name.removesuffix('_l0')} of its first level"
        if len(shapes[name]) != 2:
            return "", {}, f"{name} has shape {shapes[name]}, expected two axes"
    rows, width = shapes["weight_hh_l0"]
    projected = shapes.get("weight_hr_l0")
    hidden = projected[-1] if projected else width
    kind = GATES.get(rows // hidden if hidden and rows % hidden == 0 else 0, "")
    if not kind or (projected and kind != "LSTM"):
        return (
            "",
            {},
            (f"weight_hh_l0 has shape {(rows, width)}, expected that of an RNN, a GRU or an LSTM of {hidden} units"),
        )
    levels = {int(match["level"]) for match in map(OF_PARAMETER.fullmatch, shapes) if match and match["level"]}
    sizes: dict[str, Any] = {"input_size": shapes["weight_ih_l0"][1], "hidden_size": hidden}
    if len(levels) > 1:
        sizes["num_layers"] = max(levels) + 1
    if levels != set(range(max(levels) + 1)):
        missing = min(set(range(max(levels))) - levels)
        return kind, {}, f"there is no weight_ih_l{missing}, and there is one of level {max(levels)}"
    if any(name.endswith("_reverse") for name in shapes):
        sizes["bidirectional"] = True
    if not any(name.startswith("bias") for name in shapes):
        sizes["bias"] = False
    if projected:
        sizes["proj_size"] = projected[0]
    return kind, sizes, ""


def _weights(tensors: Tensors, sizes: Mapping[str, Any]) -> dict[str, Array]:
    """Return the weights as arrays; a bias that is missing beside others is zeros."""
    weights = {name: _array(tensor) for name, tensor in tensors.items()}
    if sizes.get("bias", True):
        for name, w in list(weights.items()):
            if name.startswith("weight_ih"):
                for bias in ("bias_ih", "bias_hh"):
                    weights.setdefault(name.replace("weight_ih", bias), np.zeros(w.shape[:1], w.dtype))
    return weights


def _array(tensor: Any) -> Array:
    """Return a tensor of whatever library as an array of a dtype that NumPy has, or ml_dtypes."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().to("cpu")
        tensor = tensor if tensor.dtype.itemsize > 2 else tensor.float()
    return np.asarray(tensor)


def _problem(name: str, tensor: Any) -> str:
    """Return why a tensor cannot become such an array, and what to do, or nothing."""
    if hasattr(tensor, "detach"):
        torch = needed(OWNER, "torch")
        if tensor.is_quantized:
            return QUANTISED_PROBLEM
        if tensor.layout != torch.strided:
            return f"{name} is sparse: give what to_dense() makes of it"
        if tensor.is_meta:
            return f"{name} is on the device meta, and has no numbers"
        dtype = str(tensor.dtype).removeprefix("torch.")
    else:
        dtype = str(getattr(tensor, "dtype", checks.kind(tensor)))
    return "" if dtype in DTYPES else f"{name} is {dtype}, expected {' or '.join(DTYPES)}"
