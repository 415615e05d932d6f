"""PyTorch's recurrent layers, from modules, state dicts and files."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy.typing as npt

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.described import Description, parts
from fastrnn._base.extras import needed
from fastrnn.files import beginning, load_with_description, names_in_zip
from fastrnn.layers import Layer, in_float32
from fastrnn.modules import Module, Parameters

from .makers import maker_of_file
from .net import KINDS, Frozen, Net, chosen
from .torch_names import MADE, NOT_SAID, OF_PARAMETER, QUANTISED_PROBLEM, made_problem, net_of, nets_of, refused

__all__ = ["from_torch"]

NAMES = (
    ": PyTorch's names are looked for, weight_ih_l0, weight_hh_l0, bias_ih_l0, ... of layers and weight_ih, weight_hh, "
    "... of cells, with or without a prefix; fastrnn.gates helps with weights of other names"
)
OWNER = "from_torch"
EXPECTED = "a PyTorch module, a dict of arrays or the path of a .safetensors or .pt file"
MOST, DEEPEST = 2**20, 50  # entries of dicts, and dicts in each other
OURS = "fastrnn.torch.modules"
THEIRS = "torch.nn.modules.rnn"
SHARD = re.compile(r"-[0-9]+-of-(?!0*1\b)[0-9]+\b")
# What else is in a zip file, by the end of a name in it, and how it is read.
OTHERS = {
    "/.data/extern_modules": "what torch.package.PackageImporter(path).load_pickle(...) returns",
    "/models/model.json": "torch.export.load(path).state_dict",
    "/constants.pkl": "torch.jit.load(path)",
    ".npy": "numpy.load(path)",
}

UNKNOWN_ORDER = "nothing says whether x is (T, B, I), and it is taken so: batch_first=False says it, or True"
HOOKS = "the module has forward hooks, which may change what goes in or comes out: here there are none"


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
    if isinstance(prefix, str):
        prefix = prefix.replace("/", ".")
    net = _submodule(source, prefix)
    if net is None:
        net = chosen(OWNER, "prefix", nets_in(OWNER, source), prefix, source=_said(source), joins=False, expected=NAMES)
    return _with(net, batch_first, nonlinearity).layer(dtype, owner=OWNER)


def _submodule(source: Any, prefix: Any) -> Net | None:
    """Return the net of the module of this very name: one that is in a model twice is listed under one name only."""
    if not (_is_module(source) and isinstance(prefix, str)):
        return None
    name = prefix.strip("./")
    part = source
    for each in name.split("."):
        part = getattr(part, "_modules", {}).get(each)
    kind = None if part is None else _kind(part)
    return None if kind is None else _of_layer(part, kind, name)


def _with(net: Net, batch_first: bool | None, nonlinearity: str | None) -> Net:
    """Return a net of which the user has said more."""
    options, notes = dict(net.options), net.notes
    if batch_first is not None:
        options["batch_first"] = batch_first
        notes = tuple(note for note in notes if note != UNKNOWN_ORDER)
    if nonlinearity is not None and not net.problem:
        if net.kind != "RNN":
            raise ValueError(f"{OWNER}: nonlinearity is {nonlinearity!r}, and the net is of kind {net.kind}")
        its_own = options.get("activations", options.get("nonlinearity", "tanh"))
        if NOT_SAID not in notes and its_own not in (nonlinearity, (nonlinearity,)):
            raise ValueError(f"{OWNER}: nonlinearity is {nonlinearity!r}, and the module has {its_own!r}")
        if "activations" not in options:
            options["nonlinearity"] = nonlinearity
        notes = tuple(note for note in notes if note != NOT_SAID)
    return dataclasses.replace(net, options=options, notes=notes)


def _said(source: Any) -> str:
    """Return what a source is, in a message."""
    return str(source) if isinstance(source, str | os.PathLike) else checks.kind(source)


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a module, state dict or file."""
    if isinstance(source, str | os.PathLike):
        return _of_file(owner, os.fsdecode(source))
    if isinstance(source, Module | Parameters):
        raise TypeError(f"{owner}: source is {checks.kind(source)} of fastrnn's, expected {EXPECTED}")
    if _is_module(source):
        return _of_module(source, "")
    return _of_mapping(owner, source if isinstance(source, Mapping) else _as_dict(owner, source), in_file=False)


def _is_module(value: Any) -> bool:
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in ("named_modules", "state_dict", "named_parameters")
    )


def _as_dict(owner: str, source: Any) -> dict[Any, Any]:
    """Return pairs of a name and an array, such as those of ``named_parameters``, as a dict."""
    if isinstance(source, list | tuple | Iterator):
        pairs = list(itertools.islice(source, MOST))
        if all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            return dict(pairs)
    raise TypeError(f"{owner}: source is {checks.kind(source)}, expected {EXPECTED}")


def _of_mapping(owner: str, mapping: Mapping[Any, Any], *, in_file: bool) -> list[Net]:
    """Return the recurrent nets of a dict of tensors, and of dicts and modules in it."""
    entries = list(_flat(owner, mapping, "", (id(mapping),), itertools.count(1)))
    of_modules = [net for name, value in entries if _is_module(value) for net in _of_module(value, name)]
    tensors = [(name, value) for name, value in entries if not _is_module(value)]
    return [*of_modules, *nets_of(tensors, in_file=in_file)]


def _flat(
    owner: str, mapping: Mapping[Any, Any], prefix: str, inside: tuple[int, ...], count: Iterator[int]
) -> Iterator[tuple[str, Any]]:
    """Yield what is in a dict, and in dicts in it, by names with dots."""
    for name, value in mapping.items():
        if next(count) > MOST:
            raise ValueError(
                f"{owner}: there are more than {MOST:,} entries in the dicts: give the one with the tensors"
            )
        if isinstance(name, str):
            whole = f"{prefix}.{name}" if prefix else name
            if not isinstance(value, Mapping):
                yield whole, value
            elif id(value) not in inside and len(inside) < DEEPEST:
                yield from _flat(owner, value, whole, (*inside, id(value)), count)


# --- files


def _of_file(owner: str, path: str) -> list[Net]:
    try:
        maker = maker_of_file(path)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from None
    if maker in ("keras", "onnx"):
        raise ValueError(
            f"{owner}: {path} is a file of {'Keras' if maker == 'keras' else 'ONNX'}: from_{maker} reads it"
        )
    begin = beginning(path, 9)
    if SHARD.search(os.path.basename(path)):
        raise ValueError(
            f"{owner}: {path} is one of several files of a model: read all, and give one dict of their tensors"
        )
    if begin[8:] == b"{" and not begin.startswith(b"PK"):
        arrays, description = load_with_description(owner, path)
        return list(_of_saved(arrays, description) if description else nets_of(arrays.items(), in_file=False))
    for name in names_in_zip(path) or ():
        way = next(
            (way for end, way in OTHERS.items() if name.endswith(end) and name.count("/") == end.count("/")), None
        )
        if way is not None:
            code = "code of its own, which would run: where you trust it, " if "torch." in way else "arrays: "
            raise ValueError(f"{owner}: {path} has {code}{way} is the source to give")
    return _of_mapping(owner, _loaded(owner, path), in_file=True)


def _loaded(owner: str, path: str) -> Mapping[Any, Any]:
    """Return the dict in a file that ``torch.save`` has written."""
    torch = needed(owner, "torch")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  of a file that may hold anything
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise ValueError(
                f"{owner}: {path} holds more than tensors, perhaps a whole module: where you trust it, "
                "torch.load(path, weights_only=False) is the source to give"
            ) from None
        raise ValueError(f"{owner}: {path} is not a file of tensors, or damaged: {checks.first_line(error)}") from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{owner}: {path} holds {checks.kind(loaded)}, expected a dict of tensors")
    return loaded


def _of_saved(arrays: Mapping[str, Any], description: Description) -> Iterator[Net]:
    """Yield the layers of a module that fastrnn has saved, which says what it is."""
    for start, part in parts(description).items():
        kind, name = part["kind"], start.removesuffix(".")
        if kind in ("IndRNN", "MinGRU"):
            yield refused(name, "", f"it is of kind {kind}, which PyTorch has not: fastrnn.load reads it")
        if kind in KINDS:
            own = {each.removeprefix(start): a for each, a in arrays.items() if each.startswith(start)}
            yield _of_part(kind, name, part["options"], own, part.get("weights", "float32"))


def _of_part(kind: str, name: str, options: dict[str, Any], own: Mapping[str, Array], kept_as: Any) -> Net:
    """Return the net of a layer that fastrnn has saved, in a format; a file may say anything."""
    try:
        with checks.at_most(sum(a.size for a in own.values())):
            layer = KINDS[kind](**options)
        if kept_as == "float32":
            layer.load_state_dict(own)
        else:
            layer._as_kept(own, kept_as)
    except (AttributeError, TypeError, ValueError) as error:
        return refused(name, kind, f"the file describes no layer of fastrnn's, or one of a later version: {error}")
    options = {each: value for each, value in layer._made_with(KINDS[kind]).items() if each != "dtype"}
    if kept_as == "float32":
        return Net(name, kind, options, lambda: own)
    return Net(name, kind, options, lambda: in_float32(own), frozen=Frozen(kept_as, lambda: own))


# --- modules


def _of_module(module: Any, prefix: str) -> list[Net]:
    """Return the recurrent nets of a module, which may be one; ``prefix`` is where it is."""
    found = []
    for name, part in module.named_modules():
        kind = _kind(part)
        if kind is not None:
            found.append(_of_layer(part, kind, ".".join(filter(None, (prefix, name)))))
    return found


def _kind(module: Any) -> str | None:
    """Return RNN, GRU or LSTM, if a module is one of these or of their cells."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.")]
    if "ScriptModule" in names:
        # "__torch__.torch.nn.modules.rnn.___torch_mangle_3.LSTM"; of somebody's own class the package is another.
        package, _, name = re.sub(r"\.___torch_mangle_[0-9]+", "", module._c._type().qualified_name()).rpartition(".")
        names = [name] if package.endswith(f".{THEIRS}") else []
    return next((name.removesuffix("Cell") for name in names if name.removesuffix("Cell") in KINDS), None)


def _of_layer(module: Any, kind: str, name: str) -> Net:
    torch = needed(OWNER, "torch")
    scripted = isinstance(module, torch.jit.ScriptModule)
    if not scripted and not isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return refused(name, kind, QUANTISED_PROBLEM)
    if not scripted and not _computes_as_usual(module, torch):
        return refused(
            name,
            kind,
            f"{type(module).__name__} has a forward of its own: where that does what PyTorch's {kind} does, its "
            "state_dict() is the source to give",
        )
    tensors = dict(module.named_parameters(recurse=False))
    names = [*tensors, *dict(module.named_buffers(recurse=False))]
    if any(map(MADE.fullmatch, names)) or hasattr(module, "parametrizations"):
        return refused(name, kind, made_problem(names))
    options: dict[str, Any] = {}
    if getattr(module, "batch_first", False):
        options["batch_first"] = True
    if getattr(module, "dropout", 0) and getattr(module, "num_layers", 1) > 1:
        options["dropout"] = float(module.dropout)
    # Of a layer its mode counts, whatever its nonlinearity says; of a cell there is only that.
    nonlinearity = getattr(module, "mode", "").lower().removeprefix("rnn_") or getattr(module, "nonlinearity", None)
    own = {each: tensor for each, tensor in tensors.items() if OF_PARAMETER.fullmatch(each)}
    net = net_of(own, name, options, nonlinearity, in_file=False)
    notes = list(net.notes)
    # What was traced has its tensors left, and where it has steps nobody knows any more on which axis.
    if scripted and not hasattr(module, "batch_first") and "weight_ih" not in tensors:
        notes.append(UNKNOWN_ORDER)
    if not scripted and (module._forward_hooks or module._forward_pre_hooks):
        notes.append(HOOKS)
    return net if net.problem else dataclasses.replace(net, notes=tuple(notes))


def _computes_as_usual(module: Any, torch: Any) -> bool:
    """Whether the way that a module is called is PyTorch's own, or fastrnn's."""
    of_forward = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    of_call = next(kind for kind in type(module).__mro__ if "__call__" in vars(kind))
    return "forward" not in vars(module) and of_call is torch.nn.Module and of_forward.__module__ in (THEIRS, OURS)
