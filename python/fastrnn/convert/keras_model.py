"""The layers of a model of Keras, from its configuration: what is in what, and what reaches each of them."""

from __future__ import annotations

import dataclasses
import graphlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastrnn._base import checks

from . import keras_config
from .keras_config import Config, LayerError, class_of, mapping, plain

# What hands on the mask of its input, or of one of them.
HAND_ON = {"InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout"}
HAND_ON |= {"Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "Softmax", "ActivityRegularization"}
HAND_ON |= {"Dense", "TimeDistributed", "BatchNormalization", "LayerNormalization", "GroupNormalization"}
HAND_ON |= {"UnitNormalization", "Rescaling", "Normalization", "Identity", "MultiHeadAttention", "Attention"}
HAND_ON |= {"AdditiveAttention", "GroupQueryAttention", "SpectralNormalization", "SpatialDropout2D", "SpatialDropout3D"}
HAND_ON |= {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}
# What does not; of everything else that is not recurrent it cannot be known.
LOSES = re.compile(
    r".*Pool(ing)?[123]D|(Separable|Depthwise)?Conv(olution)?[123]D(Transpose)?|LocallyConnected[12]D|EinsumDense"
    r"|(Cropping|UpSampling|ZeroPadding)[123]D|Flatten|Reshape|Permute|RepeatVector|Embedding|ReversibleEmbedding"
    r"|RMSNormalization|CategoryEncoding|Discretization|Hashing|HashedCrossing|(Integer|String)Lookup"
    r"|TextVectorization|Resizing|CenterCrop|Random\w+|MelSpectrogram|STFTSpectrogram"
)
MAY_LOSE = {"", "Lambda", "Dot", "TFOpLambda", "SlicingOpLambda"}  # and makes none
GIVES_ALL = {*keras_config.LAYERS, "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}  # if it says so
UNKNOWN = "get_config"  # in place of a configuration: why it is not there
WRAPPER = "TimeDistributed"
WEIGHTS = "weights alone"  # in place of the class of a layer of which there is nothing else


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes:
        name: that of the layer alone.
        config: empty where there is none.
        inner: the layers of a model, or the one that TimeDistributed wraps.
        mask: how to make the mask that reaches it; "" if none does.
        has_state: whether the model gives it initial states.

    """

    name: str
    class_name: str
    config: Config
    inner: tuple[Layer, ...] = ()
    mask: str = ""
    has_state: bool = False

    @property
    def mask_after(self) -> str:
        """How to make the mask of what it gives."""
        if self.class_name == "Masking":
            return (
                f"the model's layer {self.name!r} leaves steps out: pass "
                f"mask=(x != {self.config.get('mask_value', 0.0)}).any(axis=-1) of its input x"
            )
        if self.class_name in ("Embedding", "ReversibleEmbedding") and self.config.get("mask_zero") is True:
            return f"the model's layer {self.name!r} leaves steps out (mask_zero): pass mask=tokens != 0"
        if self.is_model:
            return self._mask_of_outputs
        if self.class_name in HAND_ON:
            return self.mask
        if self.class_name not in GIVES_ALL:
            return "" if LOSES.fullmatch(self.class_name) else self._perhaps
        config: Any = self.config
        if self.class_name == "Bidirectional":
            wrapped = config.get("layer")
            config = wrapped.get("config") if isinstance(wrapped, Mapping) else None
        gives_all = isinstance(config, Mapping) and config.get("return_sequences") is True
        return self.mask if gives_all else ""

    @property
    def _perhaps(self) -> str:
        what = f"the model's layer {self.name!r} ({plain(self.class_name)})"
        if self.mask:
            return self.mask if self.mask.endswith("hands it on") else f"{self.mask}, if {what} hands it on"
        of_keras = self.class_name in MAY_LOSE or self.class_name.startswith("ops.")
        return "" if of_keras else f"{what} may give a mask, which is to be passed as mask"

    @property
    def _mask_of_outputs(self) -> str:
        """How to make the mask of what a model gives, which may be several outputs of which some have one."""
        by_name = {layer.name: layer for layer in self.inner}
        given = [by_name[name] for name, *_ in _tensors(self.config.get("output_layers")) if name in by_name]
        masks = {layer.mask_after for layer in given or self.inner[-1:]}
        if len(masks) < 2:
            return "".join(masks)
        return f"{next(filter(None, sorted(masks)))}, if what it reads of the model {self.name!r} has that mask"

    @property
    def is_model(self) -> bool:
        """Whether its configuration has layers."""
        return self.class_name != WRAPPER and _entries(self.config) is not None

    @property
    def is_in_sequence(self) -> bool:
        """Whether each layer of it reads what the one before gives."""
        return not any("inbound_nodes" in entry for entry in _entries(self.config) or ())

    @property
    def notes(self) -> Iterator[str]:
        """What a call has to heed, because of where it is in the model."""
        if self.mask:
            yield self.mask
        if self.has_state:
            yield "the model gives it initial states: pass them as state"


def layer_of(class_name: str, config: Any, name: str = "", mask: str = "", has_state: bool = False) -> Layer:
    """Return a layer with all that is in it."""
    if isinstance(config, list):  # as Keras had it in Sequential before 2.2.3
        config = {"layers": config}
    config = config if isinstance(config, Mapping) else {}
    own = config.get("name")
    name = name or (own if isinstance(own, str) else "")
    inner: Sequence[Layer] = ()
    entries = _entries(config)
    if class_name == WRAPPER:
        wrapped = mapping(config.get("layer"), "layer")
        inner = [layer_of(class_of(wrapped), wrapped.get("config"))]
    elif entries is not None:
        inner = _inner(entries, mask)
    return Layer(name, class_name, config, tuple(inner), mask, has_state)


def _entries(config: Config) -> list[Any] | None:
    """Return the layers in the configuration of a model, or None if it is none."""
    found = config.get("layers")
    return found if isinstance(found, list) and all(isinstance(entry, Mapping) for entry in found) else None


def _inner(entries: list[Config], mask: str) -> list[Layer]:
    """Return the layers of a model whose input has this mask."""
    if not any("inbound_nodes" in entry for entry in entries):
        return _in_sequence(entries, mask)
    by_name = {_name(entry): entry for entry in entries}
    made: dict[str, Layer] = {}
    for name in _in_order({name: _sources(entry) for name, entry in by_name.items()}):
        entry = by_name.get(name)
        if entry is None:
            continue
        nodes = [_node(node) for node in _list(entry.get("inbound_nodes"))]
        came = mask if class_of(entry) == "InputLayer" else ""
        for node in nodes:
            came = came or node.mask(made, first_alone=class_of(entry) not in HAND_ON)
        has_state = any(node.has_state for node in nodes)
        made[name] = layer_of(class_of(entry), entry.get("config"), name, came, has_state)
    return [made[name] for name in by_name]


def _in_sequence(entries: list[Config], mask: str) -> list[Layer]:
    found: list[Layer] = []
    for entry in entries:
        layer = layer_of(class_of(entry), entry.get("config"), _name(entry), mask)
        found.append(layer)
        mask = layer.mask_after
    return found


def _name(entry: Config) -> str:
    config = entry.get("config")
    found = entry.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    return found if isinstance(found, str) else ""


def _in_order(sources: Mapping[str, set[str]]) -> list[str]:
    try:
        return list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError:  # a layer that reads what it gave when it was called before
        return list(sources)


# --- what a layer is called with


@dataclasses.dataclass(frozen=True)
class Node:
    """One call of a layer: the names of the layers whose outputs are its arguments."""

    inputs: list[str]
    has_state: bool
    has_mask: bool

    def mask(self, made: Mapping[str, Layer], first_alone: bool) -> str:
        """Return the mask that its inputs have, those of a recurrent layer that are states aside."""
        names = self.inputs[:1] if first_alone else self.inputs
        masks = [made[name].mask_after for name in names if name in made]
        found = next(filter(None, masks), "")
        return found or ("the model gives it a mask: pass it as mask" if self.has_mask else "")


def _node(node: Any) -> Node:
    if isinstance(node, Mapping):  # of Keras 3
        inputs, options = list(_references(node.get("args"))), node.get("kwargs")
    else:
        inputs = list(_references(node))
        options = next((each[3] for each in _tensors(node) if len(each) > 3), None)
    options = options if isinstance(options, Mapping) else {}
    has_state = len(inputs) > 1 or options.get("initial_state") is not None
    return Node(inputs, has_state, options.get("mask") is not None)


def _sources(entry: Config) -> set[str]:
    nodes = [_node(node) for node in _list(entry.get("inbound_nodes"))]
    return {name for node in nodes for name in node.inputs} - {_name(entry)}


def _references(value: Any) -> Iterator[str]:
    """Yield the names of layers whose outputs are in the arguments of a call."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            history = _list(mapping(value.get("config"), "inbound_nodes").get("keras_history"))
            yield from (name for name in history[:1] if isinstance(name, str))
        else:
            for each in value.values():
                yield from _references(each)
    elif isinstance(value, list | tuple):
        if _is_tensor(value):
            yield value[0]
        else:
            for each in value:
                yield from _references(each)


def _tensors(value: Any) -> Iterator[Sequence[Any]]:
    if isinstance(value, list | tuple):
        if _is_tensor(value):
            yield value
        else:
            for each in value:
                yield from _tensors(each)


def _is_tensor(value: Sequence[Any]) -> bool:
    """Whether it is what Keras 2 has for a tensor: name, number of the call and of the output, keyword arguments."""
    return len(value) in (3, 4) and isinstance(value[0], str) and all(isinstance(k, int) for k in value[1:3])


def _list(value: Any) -> list[Any]:
    """Return what is a list in a file, and in a live model may be a tuple."""
    if value is not None and not isinstance(value, list | tuple):
        raise LayerError(f"inbound_nodes have {checks.shown(value)}, expected a list")
    return list(value or ())
