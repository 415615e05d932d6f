"""``fastrnn convert``: a model of PyTorch, Keras or ONNX as a file that fastrnn loads."""

import argparse
from typing import Any

import numpy as np

from fastrnn.charlm import checkpoint
from fastrnn.charlm.errors import SaveError, SettingsError, printable
from fastrnn.convert import from_keras, from_onnx, from_torch
from fastrnn.convert.makers import maker_of_file
from fastrnn.layers import FORMATS, Layer

from .arguments import Parser, add
from .imported import told

DESCRIPTION = """\
Read a recurrent net out of a model of PyTorch (.pt, .safetensors), Keras (.keras, .h5, .weights.h5) or ONNX, and save
it as a file that fastrnn.load reads: nothing else is needed then. fastrnn info MODEL shows what nets a model has. Of a
model that demo or train saved it is the recurrent layer."""
ENDING = ".safetensors"
OPTIONS = {"torch": ("batch_first", "nonlinearity"), "keras": ("activations", "reset_after")}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``convert`` to the commands."""
    command = add(commands, "convert", run, "make a file for fastrnn of a model of PyTorch, Keras or ONNX", DESCRIPTION)
    command.add_argument("model", metavar="MODEL", help="the file of the model")
    command.add_argument("out", type=name_to_save, metavar="OUT", help="the .safetensors file to save")
    command.add_argument(
        "--net",
        action="append",
        metavar="NAME",
        help="which net, as info shows it, where there are several; of Keras and ONNX it may be repeated, for nets "
        "that follow each other and become one",
    )
    command.add_argument(
        "--weights",
        choices=FORMATS,
        help="how the file is to keep the weights; of fewer bits than float32 for inference alone (default: as the "
        "model has them)",
    )
    command.add_argument("--float64", action="store_true", help="save float64, whatever the model has")
    torch = command.add_argument_group("what a file of PyTorch does not say")
    torch.add_argument("--batch-first", action="store_true", default=None, help="x is (B, T, I)")
    torch.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of an RNN")
    keras = command.add_argument_group("what a weights-only file of Keras does not say")
    keras.add_argument(
        "--activations",
        type=activations,
        metavar="'NAME[,ALPHA[,BETA]] ...'",
        help="for the gates and the rest, as fastrnn's layers have them, such as 'hard_sigmoid,0.2,0.5 tanh tanh'",
    )
    keras.add_argument("--reset-after", choices=("yes", "no"), help="of a GRU")


def name_to_save(text: str) -> str:
    """Read the name of the file to save."""
    if not text:
        raise argparse.ArgumentTypeError("the name of the file is empty")
    if not text.endswith(ENDING):
        raise argparse.ArgumentTypeError(printable(f"will not save {text}: its name has to end in {ENDING}"))
    return text


def activations(text: str) -> tuple[str | tuple[str | float, ...], ...]:
    """Read the names of activations and their parameters."""
    return tuple(map(activation, text.split()))


def activation(text: str) -> str | tuple[str | float, ...]:
    """Read the name of an activation and its parameters."""
    name, *parameters = text.split(",")
    try:
        return (name, *map(float, parameters)) if parameters else name
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a name and numbers, got {text!r}") from None


def run(options: argparse.Namespace) -> int:
    """``fastrnn convert``."""
    if checkpoint.is_one(options.model):
        layer = layer_of_characters(options)
    else:
        with told(options.model):
            layer = layer_of(options)
    try:
        if options.weights not in (None, layer.weights):
            layer.freeze(options.weights)
        layer.save(options.out)
    except (ImportError, ValueError) as error:
        raise SettingsError(f"--weights {options.weights}: {error}") from None
    except OSError as error:
        raise SaveError(f"cannot save {options.out}: {error.strerror}") from None
    print(printable(f"{options.out}: {layer!r}"))
    return 0


def layer_of_characters(options: argparse.Namespace) -> Layer:
    """Return the layer of a model that demo or train saved."""
    check_use(options, "")
    if options.net not in (None, ["rnn"]):
        raise SettingsError(f"{options.model} has one net, which is called rnn; got --net {' '.join(options.net)}")
    return checkpoint.load(options.model).model(np.float64 if options.float64 else np.float32).rnn


def layer_of(options: argparse.Namespace) -> Layer:
    """Return the layer of a model of others."""
    maker = maker_of_file(options.model)
    if maker is None:
        raise ValueError(f"{options.model} is a file of none of these kinds: PyTorch's, Keras', ONNX' or safetensors")
    check_use(options, maker)
    dtype = "float64" if options.float64 else None
    given: dict[str, Any] = {name: getattr(options, name) for name in OPTIONS.get(maker, ())}
    if maker == "keras":
        given["reset_after"] = {None: None, "yes": True, "no": False}[options.reset_after]
        return from_keras(options.model, options.net, **given, dtype=dtype)
    if maker == "onnx":
        kept = options.weights in (None, "int8")
        return from_onnx(options.model, options.net, dtype=dtype, weights=None if kept else "float32")
    if options.net and len(options.net) > 1:
        raise SettingsError(f"{options.model} is of PyTorch, of which only one --net can be converted at a time")
    return from_torch(options.model, *(options.net or ()), **given, dtype=dtype)


def check_use(options: argparse.Namespace, maker: str) -> None:
    """Raise SettingsError where an option is given that is for models of another maker."""
    for owner, names in OPTIONS.items():
        for name in names:
            if owner != maker and getattr(options, name) is not None:
                raise SettingsError(f"--{name.replace('_', '-')} is of no use for {options.model}")
