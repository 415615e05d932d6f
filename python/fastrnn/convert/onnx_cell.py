"""What a recurrent node of ONNX means: its attributes as options of a layer, its weights as parameters.

Shapes: D directions, G gates of the kind, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn._base.checks import Array
from fastrnn.layers import LONGEST_ROW, SCALE

from .net import DEFAULTS
from .orders import gates

SLOTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
QUANTISED_SLOTS = (*SLOTS, "W_scale", "W_zero_point", "R_scale", "R_zero_point")
WEIGHTS = ("W", "R", "B", "P", *QUANTISED_SLOTS[8:])
MICROSOFT = "com.microsoft"
# The operators, by domain and name, each with its kind and the names of its inputs.
OPERATORS = {
    ("", "RNN"): ("RNN", SLOTS[:6]),
    ("", "GRU"): ("GRU", SLOTS[:6]),
    ("", "LSTM"): ("LSTM", SLOTS),
    (MICROSOFT, "DynamicQuantizeLSTM"): ("LSTM", QUANTISED_SLOTS),
}
STATES = {"RNN": ("initial_h",), "GRU": ("initial_h",), "LSTM": ("initial_h", "initial_c")}
ORDERS = {"RNN": "h", "GRU": "zrh", "LSTM": "iofc"}  # of the gates' blocks
FASTRNN = {"RNN": "h", "GRU": "rzh", "LSTM": "ifco"}  # what they are in a layer, by the same letters
PEEPHOLES = "iof"
SUFFIXES = ("_l0", "_l0_reverse")


class Function(NamedTuple):
    """An activation: its name in fastrnn, how many of alpha and beta it has, and what they are where they are left out.

    There are defaults where all runtimes take the same. ONNX Runtime has 0 for those of the others, which ONNX leaves
    to operators of the same names, some of which it has no more.
    """

    name: str
    parameters: int = 0
    defaults: tuple[float, ...] = ()


FUNCTIONS = {
    "Relu": Function("relu"),
    "Tanh": Function("tanh"),
    "Sigmoid": Function("sigmoid"),
    "Softsign": Function("softsign"),
    "Softplus": Function("softplus"),
    "LeakyRelu": Function("leaky_relu", 1, (0.01,)),
    "Elu": Function("elu", 1, (1.0,)),
    "HardSigmoid": Function("hard_sigmoid", 2, (0.2, 0.5)),
    "ThresholdedRelu": Function("thresholded_relu", 1),
    "ScaledTanh": Function("scaled_tanh", 2),
    "Affine": Function("affine", 2),
}
LETTERS = ("alpha", "beta")
BY_NAME = {function.name: name for name, function in FUNCTIONS.items()}
BY_LOWER_CASE = {name.lower(): name for name in FUNCTIONS}

Activation = str | tuple[str | float, ...]


def kind_of(node: Any) -> tuple[str, tuple[str, ...]] | None:
    """Return the kind of a recurrent node and the names of its inputs, or None if it is another node."""
    return OPERATORS.get((domain_of(node), node.op_type))


def domain_of(node: Any) -> str:
    """Return the domain of a node: ONNX's own has two names."""
    domain: str = node.domain
    return "" if domain == "ai.onnx" else domain


def options_of(kind: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a layer, but for its sizes, that differ from the defaults.

    Raises ValueError where the attributes are none of an operator's, or mean what fastrnn has not.
    """
    options: dict[str, Any] = {}
    directions = directions_of(attributes)
    if directions == 2:
        options["bidirectional"] = True
    elif attributes.get("direction") == "reverse":
        options["reverse"] = True
    if _integer(attributes, "layout"):
        options["batch_first"] = True
    if kind == "GRU" and not _integer(attributes, "linear_before_reset"):
        options["reset_after"] = False
    if kind == "LSTM" and _integer(attributes, "input_forget"):
        options["coupled"] = True
    clip = attributes.get("clip")
    if clip is not None:
        if not isinstance(clip, float | np.floating) or not clip > 0:
            raise ValueError(f"its clip is {clip}, expected a number above 0, or none")
        options["gate_clip"] = float(clip)
    activations = _activations(kind, directions, attributes)
    default = (DEFAULTS[kind],) * directions
    if activations != default:
        options["activations"] = activations[0] if len(set(activations)) == 1 else activations
    return options


def directions_of(attributes: Mapping[str, Any]) -> int:
    """Return D."""
    direction = attributes.get("direction")
    if direction not in (None, "forward", "reverse", "bidirectional"):
        raise ValueError(f"its direction is {direction!r}, expected 'forward', 'reverse' or 'bidirectional'")
    return 1 + (direction == "bidirectional")


def _integer(attributes: Mapping[str, Any], name: str) -> int:
    value = attributes.get(name)
    if value is None:
        return 0
    if not isinstance(value, int):
        raise ValueError(f"its {name} is {value!r}, expected an integer")
    return value


def _list(attributes: Mapping[str, Any], name: str, kind: Any, expected: str) -> list[Any]:
    values = attributes.get(name)
    if values is None:
        return []
    if not isinstance(values, Sequence) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"its {name} is {values!r}, expected {expected}")
    return list(values)


def _activations(kind: str, directions: int, attributes: Mapping[str, Any]) -> tuple[tuple[Activation, ...], ...]:
    """Return the activations of each direction: each takes the next alpha, and the next beta, if it has one."""
    names = _list(attributes, "activations", str, "names")
    count = len(DEFAULTS[kind])
    if not names:
        return (DEFAULTS[kind],) * directions
    if kind == "RNN" and directions == 1:
        names = names[:1]  # the operator's default are two
    if len(names) != count * directions:
        raise ValueError(f"its activations are {', '.join(names)}, expected {count * directions} of them")
    lists = {letter: _list(attributes, f"activation_{letter}", float | np.floating, "numbers") for letter in LETTERS}
    functions = [_activation(name, lists) for name in names]
    return tuple(tuple(functions[d * count : (d + 1) * count]) for d in range(directions))


def _activation(name: str, lists: dict[str, list[float]]) -> Activation:
    """Return an activation; take its parameters from the beginning of these lists."""
    known = BY_LOWER_CASE.get(name.lower())
    if known is None:
        raise ValueError(f"it has an activation {name!r}, which fastrnn has not; there are {', '.join(FUNCTIONS)}")
    function = FUNCTIONS[known]
    parameters: list[float] = []
    for k, letter in enumerate(LETTERS[: function.parameters]):
        if lists[letter]:
            parameters.append(float(lists[letter].pop(0)))
        elif function.defaults:
            parameters.append(function.defaults[k])
        else:
            raise ValueError(
                f"activation_{letter} of its activation {known} is left out, for which runtimes have different "
                "numbers: write it into the model"
            )
    return (function.name, *parameters) if parameters else function.name


def attributes_for(kind: str, layer: Any) -> dict[str, Any]:
    """Return the attributes of a node that computes a level of a layer, but for its size: as options_of reads them."""
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    found: dict[str, Any] = {"direction": direction}
    if layer.gate_clip is not None:
        found["clip"] = layer.gate_clip
    if kind == "GRU":
        found["linear_before_reset"] = int(layer.reset_after)
    if kind == "LSTM" and layer.coupled:
        found["input_forget"] = 1
    functions = [function for of_direction in layer._full_activations() for function in of_direction]
    if [name for name, *_ in functions] != [*DEFAULTS[kind]] * (1 + layer.bidirectional):
        found |= _named(kind, functions)
    return found


def _named(kind: str, functions: Sequence[tuple[str, float, float]]) -> dict[str, list[Any]]:
    """Return the attributes that say what activations there are: parameters only of those that have some."""
    found: dict[str, list[Any]] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for name, *parameters in functions:
        known, given = ("Affine", [1.0, 0.0]) if name == "identity" else (BY_NAME[name], parameters)
        found["activations"].append(known)
        for letter, p in zip(LETTERS[: FUNCTIONS[known].parameters], given, strict=False):
            found[f"activation_{letter}"].append(p)
    if kind == "RNN" and len(functions) == 2:
        # ONNX Runtime before 1.29 reads one for each direction of an RNN, also past the end. What remains counts not.
        found |= {name: values * 2 for name, values in found.items() if len(values) == 1}
    return {name: values for name, values in found.items() if values}


# --- weights


def plain_weights(given: Mapping[str, Array | None]) -> dict[str, Array | None]:
    """Return W, R, B and P of a node's inputs."""
    found = {name: given.get(name) for name in "WRBP"}
    for name in "WR":
        weight, scale = found[name], given.get(f"{name}_scale")
        if weight is not None and scale is not None:
            found[name] = dequantised(name, weight, scale, given.get(f"{name}_zero_point"))
    return found


def dequantised(name: str, weight: Array, scale: Array, zero_point: Array | None) -> Array:
    """Return W (D, G*H, I), or R, of the 8 bits (D, I, G*H) that DynamicQuantizeLSTM has of it."""
    if weight.ndim != 3 or weight.dtype.kind not in "iu":
        raise ValueError(
            f"its {name} is {weight.dtype} of shape {weight.shape}, expected 8-bit integers (D, inputs, 4*H)"
        )
    steps = weight.astype(np.float32)
    if zero_point is not None:
        steps -= _spread(f"{name}_zero_point", zero_point, weight).astype(np.float32)
    real: Array = (steps * _spread(f"{name}_scale", scale, weight)).swapaxes(1, 2)
    return real


def _spread(name: str, a: Array, weight: Array) -> Array:
    """Return a scale or zero point, of each direction or of each row, as it goes with (D, inputs, G*H)."""
    D, _, width = weight.shape
    if a.shape not in ((D,), (D, width), (1,), ()) or a.dtype.kind not in "fiu":
        shapes = f"(D,) or (D, 4*H) = {(D, width)}"
        raise ValueError(f"its {name} is {a.dtype} of shape {a.shape}, expected numbers of shape {shapes}")
    return a[:, None, :] if a.ndim == 2 else a.reshape(-1, 1, 1)


def in_int8(given: Mapping[str, Array | None]) -> dict[str, Array] | None:
    """Return W and R of DynamicQuantizeLSTM, and the scales of their rows (D, G*H), as int8 has them, all the same.

    W and R, less their zero points, are integers (D, G*H, I or H) from -128 to 127: of int8 the zero point is 0, of
    uint8 128. None where it is another, or where these are no weights of 8 bits. For inputs that :func:`dequantised`
    takes.
    """
    others = [given.get(name) for name in "BP"]
    if any(a is not None and a.dtype != np.float32 for a in others):
        return None
    found: dict[str, Array] = {}
    for name in "WR":
        weight, scale = given.get(name), given.get(f"{name}_scale")
        if weight is None or scale is None or weight.dtype.itemsize > 1 or scale.dtype != np.float32:
            return None
        middle = 128 if weight.dtype == np.uint8 else 0
        zero_point = given.get(f"{name}_zero_point")
        if not np.all((0 if zero_point is None else zero_point) == np.array(middle)):
            return None
        D, length, width = weight.shape
        scales = np.broadcast_to(_spread(f"{name}_scale", scale, weight), (D, 1, width))[:, 0]
        if length > LONGEST_ROW or not (np.isfinite(scales) & (scales >= 0)).all():
            return None
        steps = (weight.astype(np.int16) - middle).astype(np.int8)
        found |= {name: steps.swapaxes(1, 2), f"{name}_scale": scales}
    return found


def sizes_of(kind: str, attributes: Mapping[str, Any], given: Mapping[str, Array | None]) -> tuple[int, int]:
    """Return I and H of a node's weights; raise ValueError where these do not go together."""
    W, R = given["W"], given["R"]
    if W is None or R is None:
        raise ValueError(f"it has no {'W' if W is None else 'R'}")
    D, G = directions_of(attributes), len(ORDERS[kind])
    H = _integer(attributes, "hidden_size") or (R.shape[2] if R.ndim == 3 else 0)
    I = W.shape[2] if W.ndim == 3 else 0
    expected = {"W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    for name, shape in expected.items():
        a = given.get(name)
        if a is None:
            continue
        if a.shape != shape or H < 1:
            raise ValueError(
                f"its {name} has shape {a.shape}, expected {shape} of {kind} with hidden_size {H} and {D} "
                f"direction{'s' if D == 2 else ''}"
            )
        if a.dtype.kind != "f" and a.dtype.name != "bfloat16":
            raise ValueError(f"its {name} is {a.dtype}, expected floating-point numbers")
    return I, H


def parameters_of(kind: str, given: Mapping[str, Array | None]) -> dict[str, Array]:
    """Return the parameters of a layer of one level, of weights whose shapes have been checked, with their scales."""
    W, R, B, P = (given.get(name) for name in "WRBP")
    assert W is not None
    assert R is not None
    found: dict[str, Array] = {}
    for d, suffix in enumerate(SUFFIXES[: len(W)]):
        found["weight_ih" + suffix] = _ordered(kind, W[d])
        found["weight_hh" + suffix] = _ordered(kind, R[d])
        if B is not None:
            for name, b in zip(("bias_ih", "bias_hh"), np.split(B[d], 2), strict=True):
                found[name + suffix] = _ordered(kind, b)
        for name, letter in (("weight_ih", "W"), ("weight_hh", "R")):
            scales = given.get(f"{letter}_scale")
            if scales is not None:
                found[name + suffix + SCALE] = _ordered(kind, scales[d])
        if P is not None:
            found["weight_ch" + suffix] = gates(PEEPHOLES, P[d]).reshape(3, -1)
    return found


def _ordered(kind: str, weights: Array) -> Array:
    return weights if kind == "RNN" else gates(ORDERS[kind], weights)


def from_fastrnn(kind: str, letter: str, weights: Array) -> Array:
    """Return W, R, a half of B, or P, (D, ...), of parameters of each direction: the way back of parameters_of."""
    known, order = ("ifo", PEEPHOLES) if letter == "P" else (FASTRNN[kind], ORDERS[kind])
    blocks = dict(zip(known, np.split(weights, len(known), axis=1), strict=True))
    ordered = np.concatenate([blocks[gate] for gate in order], axis=1)
    return ordered.reshape(len(weights), -1) if letter == "P" else ordered


def optional_of(given: Mapping[str, Array | None]) -> dict[str, Any]:
    """Return the options that follow from which weights there are."""
    options: dict[str, Any] = {}
    if given.get("B") is None:
        options["bias"] = False
    if given.get("P") is not None:
        options["peepholes"] = True
    return options
