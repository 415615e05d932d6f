"""``fastrnn convert``: a model of PyTorch, Keras or ONNX as a file that fastrnn loads."""

import argparse
from typing import Any

from fastrnn.charlm.errors import SaveError, SettingsError, UserError
from fastrnn.convert import from_keras, from_onnx, from_torch
from fastrnn.convert.makers import maker_of_file
from fastrnn.layers import Layer

from .arguments import Parser, add

DESCRIPTION = """\
Read a recurrent net out of a model of PyTorch (.pt, .safetensors), Keras (.keras, .h5, .weights.h5) or ONNX, and save
it as a file that fastrnn.load reads: nothing else is needed then. fastrnn info MODEL shows what nets a model has."""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``convert`` to the commands."""
    command = add(commands, "convert", run, "make a file for fastrnn of a model of PyTorch, Keras or ONNX", DESCRIPTION)
    command.add_argument("model", metavar="MODEL", help="the file of the model")
    command.add_argument("out", metavar="OUT", help="the .safetensors file to save")
    command.add_argument(
        "--net",
        nargs="+",
        metavar="NAME",
        help="which net, as info shows it, where there are several; of Keras and ONNX also several that follow each "
        "other, which become one",
    )
    command.add_argument("--float64", action="store_true", help="save float64, whatever the model has")
    torch = command.add_argument_group("what a file of PyTorch does not say")
    torch.add_argument("--batch-first", action="store_true", help="x is (B, T, I)")
    torch.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of an RNN")
    keras = command.add_argument_group("what a weights-only file of Keras does not say")
    keras.add_argument(
        "--activations",
        nargs="+",
        type=activation,
        metavar="NAME[,ALPHA[,BETA]]",
        help="for the gates and the rest, as fastrnn's layers have them, such as hard_sigmoid,0.2,0.5 tanh tanh",
    )
    keras.add_argument("--reset-after", choices=("yes", "no"), help="of a GRU")


def activation(text: str) -> str | tuple[str | float, ...]:
    """Read the name of an activation and its parameters."""
    name, *parameters = text.split(",")
    try:
        return (name, *map(float, parameters)) if parameters else name
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a name and numbers, got {text!r}") from None


def run(options: argparse.Namespace) -> int:
    """``fastrnn convert``."""
    if not options.out.endswith(".safetensors"):
        raise SaveError(f"will not save {options.out}: its name has to end in .safetensors")
    try:
        layer = layer_of(options)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"cannot read {options.model}: {error.strerror or error}") from None
    try:
        layer.save(options.out)
    except OSError as error:
        raise SaveError(f"cannot save {options.out}: {error.strerror}") from None
    print(f"{options.out}: {layer!r}")
    return 0


def layer_of(options: argparse.Namespace) -> Layer:
    """Return the layer that the options mean."""
    dtype = "float64" if options.float64 else None
    names = options.net if options.net is None or len(options.net) > 1 else options.net[0]
    maker = maker_of_file(options.model)
    if maker is None:
        raise ValueError(f"{options.model} is a file of none of these kinds: PyTorch's, Keras', ONNX' or safetensors")
    of_torch: dict[str, Any] = {"batch_first": options.batch_first or None, "nonlinearity": options.nonlinearity}
    reset_after = None if options.reset_after is None else options.reset_after == "yes"
    activations = None if options.activations is None else tuple(options.activations)
    of_keras: dict[str, Any] = {"activations": activations, "reset_after": reset_after}
    for owner, given in (("torch", of_torch), ("keras", of_keras)):
        for name, value in given.items():
            if value is not None and maker != owner:
                raise SettingsError(f"--{name.replace('_', '-')} is of no use for {options.model}")
    if maker == "keras":
        return from_keras(options.model, names, **of_keras, dtype=dtype)
    if maker == "onnx":
        return from_onnx(options.model, names, dtype=dtype)
    return from_torch(options.model, names, **of_torch, dtype=dtype)
