"""What the configuration of a recurrent layer of Keras means, by the version that made it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn._base import checks

Config = Mapping[str, Any]
NOTHING: Config = {}

LAYERS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN", "CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
LAYERS |= {"UnifiedLSTM": "LSTM", "UnifiedGRU": "GRU"}  # as TensorFlow 1.13 called those that became its version 2
CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}
CUDNN = ("CuDNNLSTM", "CuDNNGRU")
# Keras' activations, but for hard_sigmoid, which is not the same in all versions.
ACTIVATIONS: dict[str, Any] = {name: name for name in ("sigmoid", "tanh", "relu", "softsign", "softplus")}
ACTIVATIONS |= {"linear": "identity", "elu": ("elu", 1.0), "leaky_relu": ("leaky_relu", 0.2)}
OF_KERAS = ("keras.activations", "keras.src.activations", "tf_keras.activations", "tf_keras.src.activations")
# Where Keras is, and the module of each that has its version.
PACKAGES = {"keras": "keras", "tf_keras": "tf_keras", "tensorflow": "tensorflow.python.keras"}
HALVES = {"float16", "bfloat16"}
MERGED = {
    "sum": "y[..., :{H}] + y[..., {H}:]",
    "mul": "y[..., :{H}] * y[..., {H}:]",
    "ave": "(y[..., :{H}] + y[..., {H}:]) / 2",
    None: "y[..., :{H}] and y[..., {H}:], one after the other",
}


class LayerError(ValueError):
    """Why a layer cannot be imported: what comes after its name and a colon."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a cell computes."""

    kind: str
    units: int
    bias: bool
    activations: tuple[Any, ...]  # in the order of fastrnn
    reset_after: bool | None = None  # None where it is no GRU, or where the configuration does not say
    name: str = ""
    is_frozen: bool = False


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """What a recurrent layer computes."""

    directions: list[list[Cell]]  # of each direction its cells, from the bottom
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    if_masked: str = ""  # a note that counts where the model makes a mask
    only_last: str = ""


# --- versions


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of Keras, which may be unknown: then it has no numbers."""

    text: str
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, text: str | None) -> Version:
        """Return the version of this name."""
        found = re.match(r"(\d{1,9})\.(\d{1,9})", text or "")
        return cls(text or "", tuple(map(int, found.groups())) if found else ())

    def __str__(self) -> str:
        return f"Keras {self.text}" if self.text else "a version of Keras that it does not say"

    @property
    def gates(self) -> str | None:
        """The activation of gates by default; None where the version does not tell."""
        if not self.numbers or self.text == "2.2.4-tf":  # which both TensorFlow 1 and 2 called themselves
            return None
        return "hard_sigmoid" if self.numbers < (2, 3) else "sigmoid"

    @property
    def reset_after(self) -> bool | None:
        """What GRU(reset_after) is by default; None where the version does not tell."""
        if self.gates is None:
            return None
        return self.is_of_tensorflow_2

    @property
    def is_of_tensorflow_2(self) -> bool:
        """Whether it is known to be of TensorFlow 2.2 or newer, or Keras 3."""
        return self.numbers >= (2, 4) or (self.numbers >= (2, 3) and self.text.endswith("-tf"))

    @property
    def hard_sigmoid(self) -> tuple[Any, ...]:
        """What this version calls so. Raises LayerError where it is not known."""
        if not self.numbers:
            raise LayerError(
                "its hard_sigmoid is 0.2 x + 0.5 before Keras 3 and x / 6 + 0.5 since, and its version is not "
                "known: save it again with the Keras that made it"
            )
        return ("hard_sigmoid", 0.2, 0.5) if self.numbers < (3,) else ("hard_sigmoid", 1 / 6, 0.5)


# --- values


def value(config: Config, name: str, kind: type, default: Any) -> Any:
    """Return an entry of a configuration that is of this type, or not there."""
    found = config.get(name, default)
    if kind is int and isinstance(found, np.integer):  # of a live layer
        return int(found)
    if type(found) is not kind and found is not default:
        raise LayerError(f"its {name} is {checks.shown(found)}, expected {checks.kind(kind())}")
    return found


def mapping(found: Any, what: str) -> Config:
    """Return what is a dict."""
    if not isinstance(found, Mapping):
        raise LayerError(f"its {what} is {checks.shown(found)}, expected a dict")
    return found


def described(found: Any, what: str) -> tuple[str, Config]:
    """Return class and configuration of an object in another's configuration."""
    entry = mapping(found, what)
    value(entry, "class_name", str, "")
    return class_of(entry), mapping(entry.get("config"), f"{what}'s config")


def class_of(entry: Config) -> str:
    """Return the class of an object in another's configuration, which has a > in it if it is somebody's own.

    Such a class may have the name of one of Keras'. What is of Keras but no layer is called as in ops.Add.
    """
    name, registered, module = entry.get("class_name"), entry.get("registered_name"), entry.get("module")
    name = name if isinstance(name, str) else ""
    if isinstance(registered, str) and ">" in registered:
        return registered
    if "module" not in entry or (module is None and registered is None):  # as versions wrote it that say no more
        return name
    if not isinstance(module, str) or not is_of_keras(module):
        return f">{name}"
    return f"ops.{name}" if ".ops." in f"{module}." else name


def is_of_keras(module: str) -> bool:
    """Whether a module is one of Keras, of any of its versions."""
    return module.partition(".")[0] in PACKAGES


def is_own(class_name: str) -> bool:
    """Whether a class, as class_of tells it, is somebody's own."""
    return ">" in class_name


def plain(class_name: str) -> str:
    """Return the name of a class alone."""
    return class_name.rpartition(">")[2]


def precisions(config: Any) -> set[str]:
    """Return in which precisions of 16 bits a layer computes, or one that is in it."""
    if isinstance(config, list | tuple):
        return set().union(*map(precisions, config))
    if not isinstance(config, Mapping):
        return set()
    policy = config.get("dtype")
    if isinstance(policy, Mapping):
        policy = mapping(policy.get("config"), "dtype's config").get("name")
    own = {policy.removeprefix("mixed_")} if isinstance(policy, str) else set()
    return (own & HALVES).union(*(precisions(each) for name, each in config.items() if name != "dtype"))


def is_frozen(config: Any) -> bool:
    """Whether anything in a configuration is not trained."""
    if isinstance(config, Mapping):
        return config.get("trainable") is False or any(map(is_frozen, config.values()))
    return isinstance(config, list | tuple) and any(map(is_frozen, config))


# --- activations


def activation(given: Any, version: Version) -> Any:
    """Return an activation as fastrnn's layers take it."""
    if given is None:
        return "identity"
    if isinstance(given, str):
        if given == "hard_sigmoid":
            return version.hard_sigmoid
        if given in ACTIVATIONS:
            return ACTIVATIONS[given]
        raise _unknown(given)
    entry = mapping(given, "activation")
    name, config = entry.get("class_name"), entry.get("config")
    if name == "function":
        if isinstance(config, str) and str(entry.get("module")).startswith(OF_KERAS):
            return activation(config, version)
        raise _unknown(config)
    of_layer = OF_LAYERS.get(class_of(entry))
    if of_layer is None:
        raise _unknown(name)
    return of_layer(mapping(config, "activation's config"), version)


def _unknown(name: Any) -> LayerError:
    return LayerError(f"its activation is {checks.shown(name)}, expected one of {', '.join(ACTIVATIONS)}, hard_sigmoid")


def _number(config: Config, name: str, default: float) -> float:
    found = config.get(name, default)
    if found is None:
        found = default
    if isinstance(found, np.ndarray | np.floating) and np.ndim(found) == 0:  # of a live layer
        found = float(found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise LayerError(f"its activation has {name} {checks.shown(found)}, expected a number")
    return float(found)


def _relu(config: Config, version: Version) -> Any:
    slope, threshold = _number(config, "negative_slope", 0.0), _number(config, "threshold", 0.0)
    if config.get("max_value") is not None or (slope and threshold):
        raise LayerError(
            f"its activation is ReLU of {checks.shown(dict(config))}, expected a slope or a threshold alone"
        )
    if threshold:
        return ("thresholded_relu", threshold)
    return ("leaky_relu", slope) if slope else "relu"


def _leaky_relu(config: Config, version: Version) -> Any:
    return ("leaky_relu", _number(config, "negative_slope", _number(config, "alpha", 0.3)))


OF_LAYERS: dict[str, Callable[[Config, Version], Any]] = {
    "Activation": lambda config, version: activation(config.get("activation"), version),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": lambda config, version: ("elu", _number(config, "alpha", 1.0)),
    "ThresholdedReLU": lambda config, version: ("thresholded_relu", _number(config, "theta", 1.0)),
}


def activations(kind: str, gates: Any, other: Any) -> tuple[Any, ...]:
    """Return the activations of a cell, of the gates and of the rest, in the order of fastrnn."""
    return {"RNN": (other,), "GRU": (gates, other), "LSTM": (gates, other, other)}[kind]


# --- layers


def recurrent(class_name: str, config: Config, version: Version) -> Recurrent:
    """Return what a recurrent layer computes; raise LayerError where fastrnn has no such layer."""
    if version.numbers[:1] in ((0,), (1,)) or "output_dim" in config:
        raise LayerError("it is of Keras 1, whose weights have other names: load it with Keras 2 and save it again")
    if class_name == "Bidirectional":
        return _bidirectional(config, version)
    backwards = value(config, "go_backwards", bool, False)
    zero = value(config, "zero_output_for_mask", bool, False)
    sequences = value(config, "return_sequences", bool, class_name in CELLS)
    time_first = value(config, "time_major", bool, False)
    options: dict[str, Any] = {"batch_first": not time_first}
    options |= {"reverse": True} if backwards else {}
    options |= {"masked_output": "zero"} if zero else {}
    notes, only_last = [], ""
    if backwards and sequences:
        flipped = "y[::-1]" if time_first else "y[:, ::-1]"
        notes.append(f"the model has its outputs from the last step to the first (go_backwards), which are {flipped}")
        only_last = "gives its outputs from the end"
    if zero and not sequences:
        notes.append("where the last step is masked the model gives zeros (zero_output_for_mask), here the last output")
    if value(config, "stateful", bool, False):
        notes.append("the model carries its state from call to call (stateful): y, state = layer(x, state)")
    if not sequences:
        only_last = "gives its last output only"
    return Recurrent(
        [_cells(class_name, config, version)],
        {} if sequences else {"return_sequence": False},
        options,
        tuple(notes),
        only_last=only_last,
    )


def _cells(class_name: str, config: Config, version: Version) -> list[Cell]:
    if class_name in LAYERS:
        return [_cell(LAYERS[class_name], config, version, cudnn=class_name in CUDNN)]
    if class_name in CELLS:
        return [_cell(CELLS[class_name], config, version)]
    if class_name != "RNN":
        raise LayerError(f"it is of {_shown(class_name)}, expected one of {', '.join(list(LAYERS)[:5])}, RNN")
    cell_class, cell_config = described(config.get("cell"), "cell")
    stack: Sequence[Any] = [config.get("cell")]
    if cell_class == "StackedRNNCells":
        stack = value(cell_config, "cells", list, [])
    if not stack:
        raise LayerError("it has no cells")
    return [_stacked(each, version) for each in stack]


def _shown(class_name: str) -> str:
    return f"a class {plain(class_name)} that is not Keras'" if is_own(class_name) else f"the class {class_name}"


def _stacked(entry: Any, version: Version) -> Cell:
    class_name, config = described(entry, "cell")
    if class_name not in CELLS:
        raise LayerError(f"its cell is of {_shown(class_name)}, expected one of {', '.join(CELLS)}")
    return _cell(CELLS[class_name], config, version)


def _cell(kind: str, config: Config, version: Version, cudnn: bool = False) -> Cell:
    units = value(config, "units", int, 0)
    if units < 1:
        raise LayerError(f"its units are {checks.shown(units)}, expected at least 1")
    reset_after = None
    if kind == "GRU":
        reset_after = True if cudnn else value(config, "reset_after", bool, None)
    name = config.get("name")
    its_own = (name if isinstance(name, str) else "", is_frozen(config))
    if cudnn:
        return Cell(kind, units, True, activations(kind, "sigmoid", "tanh"), reset_after, *its_own)
    gates: Any = "sigmoid"
    if kind != "RNN":
        if "recurrent_activation" not in config and version.gates is None:
            raise LayerError(f"it does not say its recurrent_activation, and is of {version}")
        gates = activation(config.get("recurrent_activation", version.gates), version)
    other = activation(config.get("activation", "tanh"), version)
    bias = value(config, "use_bias", bool, True)
    return Cell(kind, units, bias, activations(kind, gates, other), reset_after, *its_own)


def _bidirectional(config: Config, version: Version) -> Recurrent:
    class_name, inner = described(config.get("layer"), "layer")
    first = recurrent(class_name, inner, version)
    if "reverse" in first.options:
        raise LayerError("it is Bidirectional around a layer that goes backwards, whose directions change places")
    if config.get("backward_layer") is None:
        second = first
    else:
        second = recurrent(*described(config["backward_layer"], "backward_layer"), version)
    for each in (first, second):
        if len(each.directions[0]) > 1:
            raise LayerError(
                "it is Bidirectional around several cells, each of which here sees the outputs of both directions"
            )
    options, notes = first.options | bidirectional_options(version), list(first.notes)
    if_masked = ""
    if version.is_of_tensorflow_2:
        notes = [note for note in notes if "zero_output_for_mask" not in note]
    elif version.gates is None:
        if_masked = f"{version} has zeros at masked steps or repeats the output before: masked_output='zero' for zeros"
    only_last, mode = first.only_last, config.get("merge_mode", "concat")
    if mode != "concat":
        if not isinstance(mode, str | None) or mode not in MERGED:
            raise LayerError(f"its merge_mode is {checks.shown(mode)}, expected 'concat', 'sum', 'mul', 'ave' or None")
        halves = MERGED[mode].format(H=first.directions[0][0].units)
        notes.append(f"the model gives {halves} (merge_mode={mode!r})")
        only_last = only_last or "gives the outputs of its directions side by side"
    cells = [first.directions[0], second.directions[0]]
    return Recurrent(cells, first.call, options, tuple(notes), if_masked, only_last)


def bidirectional_options(version: Version) -> dict[str, Any]:
    """Return the options of Bidirectional itself.

    It zeroes the outputs of masked steps whatever its layers say, if it gives all of them. Where it gives the last
    alone, this changes nothing but that it can be joined to others.
    """
    zero = {"masked_output": "zero"} if version.is_of_tensorflow_2 else {}
    return {"bidirectional": True, **zero}
