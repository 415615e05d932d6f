"""``--weights``: how a model that demo or train saved is to keep its weights while it reads or writes."""

import argparse

from fastrnn.charlm.checkpoint import Checkpoint
from fastrnn.charlm.errors import SettingsError
from fastrnn.charlm.model import CharModel
from fastrnn.layers import FORMATS


def add_weights(command: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    command.add_argument(
        "--weights",
        choices=FORMATS,
        default="float32",
        help="how to keep the weights of the recurrent net: of fewer bits it is faster, and a little off",
    )


def frozen_model(loaded: Checkpoint, options: argparse.Namespace) -> CharModel:
    """Return the model with weights as the options say."""
    model = loaded.model()
    try:
        model.rnn.freeze(options.weights)
    except ImportError as error:
        raise SettingsError(f"--weights {options.weights}: {error}") from None
    return model
