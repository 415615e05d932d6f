"""Layers of Keras' models, live or read from the files of all its versions by h5py alone.

keras_files     a file, and what is in it
keras_model     the layers of a model, from its configuration
keras_config    what the configuration of a recurrent layer means
keras_weights   which weights in a file are whose
keras_live      the same of live layers and models
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn.layers import Layer as RecurrentLayer

from . import keras_config
from .keras_config import LayerError, Recurrent, Version, activations, is_own, plain, recurrent
from .keras_files import opened
from .keras_live import live_layer, of_live, version_of
from .keras_model import UNKNOWN, WEIGHTS, WRAPPER, Layer, layer_of
from .keras_weights import Cell, Cells, Weights, gates_of, of_layers, of_objects
from .net import BY_GATES, DEFAULTS, GATES, Net, chosen
from .orders import gates

__all__ = ["from_keras"]

EXPECTED = "a layer or model of Keras, or the name of a file, .keras or .h5"
ORDERS = {"LSTM": "ifco", "GRU": "zrh", "RNN": "h"}
BETWEEN = "another layer is between them"
UNCHANGED = ("InputLayer", "Dropout", "Identity")  # what they read is what they give
RECURRENT = (*keras_config.LAYERS, *keras_config.CELLS, "RNN", "Bidirectional", WEIGHTS)


@dataclasses.dataclass(frozen=True)
class Given:
    """What the user says of layers of which the file does not, and the version that made the model."""

    version: Version
    activations: Any = None
    reset_after: bool | None = None


def from_keras(
    source: Any,
    name: str | Sequence[str] | None = None,
    *,
    activations: Any = None,
    reset_after: bool | None = None,
    dtype: Any = None,
) -> RecurrentLayer:
    """Return a recurrent layer of a Keras model, of Keras 2, tf.keras or Keras 3, which need not be installed.

    Args:
        source: a live layer or model, or the name of a file: ``.keras``, ``.h5`` with a model or with weights alone, or
            ``.weights.h5``. What is in a file tells which of them, not its name. Reading one takes h5py.
        name: which layer, by its name in the model, after that of the model that it is in and a slash if that is in
            another; or a list of the names of layers that follow each other, which become one of as many levels. None
            is the only one that there is.
        activations: those of a layer of which there are only weights, as the arguments of :class:`fastrnn.LSTM` and
            others have them. None is what the file says, or by default in the version that wrote it.
        reset_after: of such a GRU without a bias, which would tell.
        dtype: float32 or float64; None is that of the weights, float32 at least.

    Returns:
        An RNN, GRU or LSTM in evaluation mode, whose y and state are the model's. x is (B, T, I), as in Keras. A layer
        with ``return_sequences=False`` gives the last output if it is called so, ``return_sequence=False``. A warning
        tells what else a call has to heed: see :class:`fastrnn.Net`.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the file is damaged, or not of Keras; there is no such layer, or none is chosen of several; fastrnn
            has not what it computes; an argument says another thing than the model, or what it leaves open is not said.
        OSError: the file cannot be read.
        ImportError: h5py is not installed.

    """
    owner = "from_keras"
    if reset_after is not None:
        reset_after = checks.boolean(owner, "reset_after", reset_after)
    where, nets = _nets(owner, source, activations, reset_after)
    return chosen(owner, "name", nets, name, source=where, joins=True).layer(dtype, owner=owner)


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a layer, model or file."""
    return _nets(owner, source)[1]


def _nets(owner: str, source: Any, activations: Any = None, reset_after: bool | None = None) -> tuple[str, list[Net]]:
    """Return in what nets are looked for, as a message names it, and the nets."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str):
            raise TypeError(f"{owner}: source is {checks.shown(path)}, expected {EXPECTED}")
        where, found = path, _in_file(owner, path)
    elif hasattr(source, "get_config") and hasattr(source, "get_weights") and not isinstance(source, type):
        where, found = "the model", _live(source)
    else:
        raise TypeError(f"{owner}: source is {checks.kind(source)}, expected {EXPECTED}")
    try:
        with found as (version, layer, weights):
            given = Given(Version.of(version), activations, reset_after)
            return where, list(_walked(layer, weights, "", given))
    except LayerError as error:
        raise ValueError(f"{owner}: {where} is damaged: {error}") from None
    except RecursionError:
        raise ValueError(f"{owner}: {where} is damaged: its layers are in each other too deeply") from None


Model = tuple[str | None, Layer, Weights]  # the version of Keras, the outermost layer or model, and its weights


@contextlib.contextmanager
def _live(layer: Any) -> Iterator[Model]:
    yield version_of(layer), live_layer(layer), of_live(layer)


@contextlib.contextmanager
def _in_file(owner: str, path: str) -> Iterator[Model]:
    with opened(owner, path) as file:
        weights: Weights = of_layers(file.weights) if file.by_layer else of_objects(file.weights)
        class_name, config, version = "", keras_config.NOTHING, file.version
        if file.config is not None:
            class_name, config = keras_config.described(_with_mapping(file.config), "model")
        elif not file.by_layer and version is None:
            version = "2.12"  # the first that wrote such files, of which all have the same defaults
        yield version, layer_of(class_name, config), weights


def _with_mapping(model: Any) -> Any:
    """Return the configuration of a model with that of Sequential, once a list, as it is today."""
    if isinstance(model, dict) and isinstance(model.get("config"), list):
        return {**model, "config": {"layers": model["config"]}}
    return model


# --- the layers of a model


def _walked(layer: Layer, weights: Weights, name: str, given: Given) -> Iterator[Net]:
    """Yield the nets in a layer or model that has this name, which the outermost model has not."""
    if layer.class_name in RECURRENT:
        yield from _nets_of(name or layer.name, layer, weights, given)
    elif layer.class_name == WRAPPER:
        note = "it is in TimeDistributed, which runs it on each step of a longer sequence: x is (B * N, T, I)"
        for net in _walked(layer.inner[0], weights.wrapped(), name or layer.name, given):
            yield dataclasses.replace(net, notes=(*net.notes, note))
    elif is_own(layer.class_name):
        yield from _walked_own(layer, weights, name, given)
    else:
        yield from _inside(layer, weights, name, given)


def _inside(layer: Layer, weights: Weights, name: str, given: Given) -> Iterator[Net]:
    """Yield the nets in a model, or in a layer that is none of Keras' wrappers."""
    if layer.is_model:
        reads: frozenset[str] | None = None  # which is what comes from outside, until there is a net
        for inner, its_own in zip(layer.inner, weights.of_each(layer.inner), strict=True):
            nets = list(_walked(inner, its_own, _joined(name, inner.name), given))
            if layer.is_in_sequence and inner.class_name in RECURRENT and len(nets) == 1:
                nets = [dataclasses.replace(nets[0], reads=reads, instead="" if reads else BETWEEN)]
                reads = frozenset([nets[0].name])
            elif nets:  # of which it cannot be known whose outputs these are
                reads = None
            elif inner.class_name not in UNCHANGED:
                reads = frozenset()
            yield from nets
    else:
        others = weights.others()
        for inner, its_own in others or ():
            yield from _walked(inner, its_own, _joined(name, inner.name), given)
        if others is None or (not others and any(part in layer.class_name for part in ("LSTM", "GRU", "RNN"))):
            yield from _nets_of(name or layer.name, layer, weights, given)  # which says that it is of another class


def _walked_own(layer: Layer, weights: Weights, name: str, given: Given) -> Iterator[Net]:
    """Yield the nets in a layer or model of somebody's own class."""
    if UNKNOWN in layer.config:
        problem = f"it is of a class {plain(layer.class_name)} whose get_config fails: {layer.config[UNKNOWN]}"
        yield Net(name or layer.name, "", {}, dict, problem=problem)
    elif plain(layer.class_name) in RECURRENT or "recurrent_initializer" in layer.config:
        yield from _nets_of(name or layer.name, layer, weights, given)  # which refuses it
    else:
        note = (
            f"it is in {plain(layer.class_name)}, whose call is not Keras': masks, states and what comes before it are "
        )
        for net in _inside(layer, weights, name, given):
            yield dataclasses.replace(net, notes=(*net.notes, f"{note}yours to know"))


def _joined(outer: str, inner: str) -> str:
    return "/".join(filter(None, (outer, inner)))


def _nets_of(name: str, layer: Layer, weights: Weights, given: Given) -> Iterator[Net]:
    """Yield the net that a layer is, or, if the cells in it differ, one for each."""
    try:
        if layer.class_name == WEIGHTS:
            cells = weights.cells([])
            found = _guessed(cells, given)
        else:
            found = recurrent(layer.class_name, layer.config, given.version)
            cells = weights.cells(found.directions)
        _check_numbers(found.directions, cells)
        notes = [*layer.notes, *found.notes, *([found.if_masked] if layer.mask and found.if_masked else [])]
        halves = " and ".join(sorted(keras_config.precisions(layer.config)))
        notes += [f"the model computes in {halves}, this layer in float32, or what dtype says"] if halves else []
        directions = [_with_resets(*each, given) for each in zip(found.directions, cells, strict=True)]
        found = dataclasses.replace(found, directions=directions, notes=tuple(notes))
        _check(found.directions, cells)
        if len({_same(cell) for cell in found.directions[0]}) == 1:
            nets = [_net(name, found, cells, given)]
        else:
            nets = [_net(f"{name}/{k}", each, [[cells[0][k]]], given) for k, each in enumerate(_apart(found))]
    except LayerError as error:
        nets = [Net(name, _kind(layer), {}, dict, problem=str(error))]
    yield from nets


def _kind(layer: Layer) -> str:
    """Return what a layer that cannot be imported is closest to."""
    words = f"{layer.class_name} {layer.config.get('layer', '')} {layer.config.get('cell', '')}"
    return "LSTM" if "LSTM" in words else "GRU" if "GRU" in words else "RNN"


def _same(cell: keras_config.Cell) -> tuple[Any, ...]:
    """Return what all cells of a layer have in common; without a bias they have one of zeros."""
    return cell.kind, cell.units, cell.activations, cell.reset_after


def _apart(found: Recurrent) -> list[Recurrent]:
    """Return each cell of a stack as a layer, of which all but the last give all their outputs."""
    stack = found.directions[0]
    below = dataclasses.replace(found, call={}, only_last="")
    return [dataclasses.replace(below, directions=[[cell]]) for cell in stack[:-1]] + [
        dataclasses.replace(found, directions=[[stack[-1]]])
    ]


# --- a net


def _net(name: str, found: Recurrent, cells: Cells, given: Given) -> Net:
    first, second = found.directions[0], found.directions[-1]
    if _same(first[0])[:2] != _same(second[0])[:2] or first[0].reset_after != second[0].reset_after:
        raise LayerError("its two directions differ in kind, units or reset_after, which are the same here")
    cell, bias = first[0], any(cell.bias for each in found.directions for cell in each)
    options: dict[str, Any] = {"input_size": cells[0][0].kernel.shape[0], "hidden_size": cell.units}
    options |= {"num_layers": len(first)} if len(first) > 1 else {}
    options |= {} if bias else {"bias": False}
    options |= {"reset_after": False} if cell.reset_after is False else {}
    of_each = [first[0].activations, second[0].activations]
    both = of_each[0] if of_each[0] == of_each[1] else tuple(of_each)
    _compare(cell, both, given)
    if both == ("relu",):
        options["nonlinearity"] = "relu"
    elif both != DEFAULTS[cell.kind]:
        options["activations"] = both

    def weights() -> dict[str, Array]:
        return {
            f"{kind}_l{level}{suffix}": a
            for stack, suffix in zip(cells, ("", "_reverse"), strict=False)
            for level, its_own in enumerate(stack)
            for kind, a in _parameters(cell.kind, its_own, bias).items()
        }

    options |= found.options
    return Net(name, cell.kind, options, weights, found.call, found.notes, only_last=found.only_last)


def _compare(cell: keras_config.Cell, its_own: tuple[Any, ...], given: Given) -> None:
    """Refuse what a user says of a layer where the model says another thing."""
    if given.activations is not None and _plain(given.activations) != its_own:
        raise LayerError(
            f"activations is {checks.shown(given.activations)}, and the model has {its_own}: leave activations out"
        )
    if given.reset_after is not None and given.reset_after is not cell.reset_after:
        its = f"the model has {cell.reset_after}" if cell.kind == "GRU" else "it is no GRU"
        raise LayerError(f"reset_after is {given.reset_after}, and {its}: leave reset_after out")


def _plain(given: Any) -> Any:
    return tuple(map(_plain, given)) if isinstance(given, list | tuple) else given


def _with_resets(stack: list[keras_config.Cell], cells: list[Cell], given: Given) -> list[keras_config.Cell]:
    """Return cells of which those GRUs say their reset_after that their configuration leaves to its version."""
    return [
        dataclasses.replace(cell, reset_after=_guessed_reset(its_own, given))
        if cell.kind == "GRU" and cell.reset_after is None
        else cell
        for cell, its_own in zip(stack, cells, strict=True)
    ]


def _check_numbers(directions: Sequence[Sequence[keras_config.Cell]], cells: Cells) -> None:
    if [len(each) for each in cells] != [len(each) for each in directions]:
        raise LayerError(
            "its weights are not there" if not any(cells) else "it has another number of cells than weights"
        )


def _check(directions: Sequence[Sequence[keras_config.Cell]], cells: Cells) -> None:
    """Refuse weights that are not those of such cells."""
    I = cells[0][0].kernel.shape[:1]
    for stack, described in zip(cells, directions, strict=True):
        for level, (its_own, cell) in enumerate(zip(stack, described, strict=True)):
            wanted = I if level == 0 else (described[level - 1].units,)
            _check_cell(its_own, cell, wanted)


def _check_cell(its_own: Cell, cell: keras_config.Cell, inputs: tuple[int, ...]) -> None:
    H, G = cell.units, GATES[cell.kind]
    kernel, recurrent, bias = its_own
    if kernel.shape != (*inputs, G * H) or recurrent.shape != (H, G * H):
        raise LayerError(
            f"its kernel and recurrent kernel have shapes {kernel.shape} and {recurrent.shape}, expected "
            f"(I, {G * H}) and {(H, G * H)}"
        )
    if (bias is not None) is not cell.bias:
        raise LayerError(f"its use_bias is {cell.bias}, and there is {'one' if bias is not None else 'none'}")
    forms: dict[str, list[tuple[int, ...]]] = {"RNN": [(H,)], "LSTM": [(4 * H,), (8 * H,)]}
    forms["GRU"] = [(2, 3 * H), (6 * H,)] if cell.reset_after else [(3 * H,)]
    if bias is not None and bias.shape not in forms[cell.kind]:
        reset = "" if cell.reset_after is None else f" of reset_after={cell.reset_after}"
        expected = " or ".join(map(str, forms[cell.kind]))
        raise LayerError(f"its bias has shape {bias.shape}, expected {expected}{reset}")


def _is_cudnn(cell: Cell) -> bool:
    """Whether weights are as cuDNN has them, which the bias tells: it has two, one after the other."""
    return cell.bias is not None and cell.bias.ndim == 1 and len(cell.bias) == 2 * cell.recurrent.shape[1]


def _parameters(kind: str, cell: Cell, bias: bool) -> dict[str, Array]:
    """Return the weights of a cell as fastrnn has them, without a number."""
    H, I = len(cell.recurrent), len(cell.kernel)
    kernel, recurrent = cell.kernel, cell.recurrent
    if _is_cudnn(cell):
        # cuDNN's matrices are (H, I) and (H, H), one for each gate. Keras has put the numbers of the first, as they
        # follow each other, into an array of shape (I, H), and side by side with those of the other gates.
        blocks = np.split(kernel, GATES[kind], axis=1)
        kernel = np.concatenate([block.reshape(H, I) for block in blocks]).T
        recurrent = np.concatenate(np.split(recurrent, GATES[kind], axis=1)).T
    found = {"weight_ih": _ordered(kind, kernel, 1), "weight_hh": _ordered(kind, recurrent, 1)}
    if bias:
        none = np.zeros(recurrent.shape[1:], recurrent.dtype)
        rows = [] if cell.bias is None else list(cell.bias.reshape(-1, recurrent.shape[1]))
        b_ih, b_hh = (*rows, none, none)[:2]
        found |= {"bias_ih": _ordered(kind, b_ih, 0), "bias_hh": _ordered(kind, b_hh, 0)}
    return found


def _ordered(kind: str, a: Array, axis: int) -> Array:
    return gates(ORDERS[kind], a, axis=axis)


# --- weights alone


def _guessed(cells: Cells, given: Given) -> Recurrent:
    """Return what layer it is of which there are only weights, and what its version has by default."""
    directions = [[_guessed_cell(cell, given) for cell in stack] for stack in cells]
    options: dict[str, Any] = {"batch_first": True}
    if len(directions) == 2:
        options |= keras_config.bidirectional_options(given.version)
    notes = ["there are weights alone: its class and its other options are taken to be as by default"]
    if given.activations is None and not all(_is_cudnn(cell) for stack in cells for cell in stack):
        its_own = directions[0][0].activations
        notes.append(f"so are its activations, activations={its_own}")
    return Recurrent(directions, {}, options, tuple(notes))


def _guessed_cell(cell: Cell, given: Given) -> keras_config.Cell:
    kind = BY_GATES[gates_of(cell)]
    reset_after = _guessed_reset(cell, given) if kind == "GRU" else None
    gates = "sigmoid" if _is_cudnn(cell) or kind == "RNN" else given.version.gates
    its_own = _plain(given.activations)
    if its_own is None or _is_cudnn(cell):
        if gates is None:
            ways = " or ".join(f"activations={activations(kind, each, 'tanh')}" for each in ("sigmoid", "hard_sigmoid"))
            raise LayerError(
                f"there are weights alone, of {given.version}, which does not tell the activations: {ways}"
            )
        its_own = activations(kind, keras_config.activation(gates, given.version), "tanh")
    return keras_config.Cell(kind, len(cell.recurrent), cell.bias is not None, its_own, reset_after)


def _guessed_reset(cell: Cell, given: Given) -> bool:
    if cell.bias is not None:
        return cell.bias.ndim == 2 or _is_cudnn(cell)
    found = given.version.reset_after if given.reset_after is None else given.reset_after
    if found is None:
        raise LayerError("neither a configuration nor a bias tells its reset_after: say reset_after=True or False")
    return found
