"""What a release leaves behind for all that come after it: small files in its formats, and a record of what is public.

    python tests/formats.py

writes those of this version into tests/released/<version>, in the place of what is there. They are written for each
release and never again; test_released.py reads those of every release.
"""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
import fastrnn.data
import fastrnn.optim
from fastrnn.charlm import checkpoint
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.charlm.text import make_corpus
from fastrnn.charlm.train import Trainer
from fastrnn.command.main import parser
from fastrnn.files import save_arrays
from problems import Array

FOLDER = Path(__file__).with_name("released")
T, B, I, H = 6, 2, 3, 4
TEXT = 'The quick brown fox jumps over the lazy dog; she\'s "not" amused. ' * 12


class Tagger(fastrnn.Modules):
    """A net of several modules: one label a step, from tokens."""

    def __init__(self) -> None:
        super().__init__(
            embed=fastrnn.Embedding(I, 3, seed=0), rnn=fastrnn.GRU(3, H, seed=1), out=fastrnn.Linear(H, 2, seed=2)
        )

    def __call__(self, tokens: Array) -> Array:
        y, _ = self.rnn(self.embed(tokens))
        return self.out(y)


# By the name of its file, what makes the net that the file is loaded into. What stands here stays as it is, for the
# files of earlier releases; a new kind is a line of its own.
NETS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: fastrnn.RNN(I, H, num_layers=2, seed=0),
    "rnn-relu": lambda: fastrnn.RNN(I, H, nonlinearity="relu", seed=0),
    "rnn-without-bias": lambda: fastrnn.RNN(I, H, bias=False, seed=0),
    "lstm": lambda: fastrnn.LSTM(I, H, num_layers=2, seed=0),
    "lstm-float64": lambda: fastrnn.LSTM(I, H, dtype=np.float64, seed=0),
    "lstm-peepholes": lambda: fastrnn.LSTM(I, H, peepholes=True, coupled=True, cell_clip=0.2, seed=0),
    "lstm-projected": lambda: fastrnn.LSTM(I, H, num_layers=2, proj_size=2, seed=0),
    "lstm-normalised": lambda: fastrnn.LSTM(I, H, layer_norm=True, seed=0),
    "gru": lambda: fastrnn.GRU(I, H, num_layers=2, bidirectional=True, seed=0),
    "gru-reset-before": lambda: fastrnn.GRU(I, H, reset_after=False, seed=0),
    "gru-normalised": lambda: fastrnn.GRU(I, H, layer_norm=True, seed=0),
    "indrnn": lambda: fastrnn.IndRNN(I, H, num_layers=2, seed=0),
    "mingru": lambda: fastrnn.MinGRU(I, H, num_layers=2, seed=0),
    "rnn-softsign": lambda: fastrnn.RNN(I, H, activations=("softsign",), gate_clip=0.5, seed=0),
    "lstm-general": lambda: fastrnn.LSTM(
        I, H, activations=("hard_sigmoid", "tanh", "tanh"), peepholes=True, proj_size=2, learn_state=True, seed=0
    ),
    "gru-reverse": lambda: fastrnn.GRU(I, H, reverse=True, learn_state=True, seed=0),
    "linear": lambda: fastrnn.Linear(I, H, seed=0),
    "sequential": lambda: fastrnn.Sequential(
        fastrnn.GRU(I, H, bidirectional=True, seed=0), fastrnn.Last(), fastrnn.Linear(2 * H, 2, seed=1), fastrnn.Tanh()
    ),
    "tagger": Tagger,
}


def answer(net: Any, x: Array) -> Array:
    """Return what a net of NETS makes of x."""
    result = net(x)
    y: Array = result[0] if isinstance(result, tuple) else result
    return y


def question(name: str, net: Any) -> Array:
    """Return an x for a net of NETS."""
    rng = np.random.default_rng(len(name))
    if name == "tagger":
        return rng.integers(0, I, (T, B))
    return rng.standard_normal((T, B, I)).astype(getattr(net, "dtype", np.float32))


def char_settings(cell: str) -> Settings:
    return Settings(hidden=5, batch=2, steps=8, lr=0.01, cell=cell)


# What only fastrnn makes: how is its own affair.
RESULTS = {fastrnn.Call, fastrnn.ModuleCall, fastrnn.Stream, fastrnn.Tape, fastrnn.Parameters, fastrnn.Grads}


def _parameters(of: Any) -> str:
    """Each parameter: ``*`` before it is for by name only, ``**`` for any number, ``?`` after it for optional."""
    if not (inspect.isfunction(of) or inspect.ismethod(of) or inspect.isclass(of)) or of in RESULTS:
        return ""  # an attribute, or what tells no signature
    return " ".join(
        {p.KEYWORD_ONLY: "*", p.VAR_POSITIONAL: "**", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        + p.name
        + "?" * (p.default is not p.empty)
        for p in inspect.signature(of).parameters.values()
    )


def _members(of: type) -> set[str]:
    own = (base for base in of.__mro__ if base.__module__.startswith("fastrnn"))
    return {name for base in own for name in vars(base) if not name.startswith("_")}


def interface() -> dict[str, str]:
    """Return what is public: functions, classes with their methods and attributes, and the command's options."""
    found = {}
    for module in (fastrnn, fastrnn.data, fastrnn.optim, fastrnn.reference):
        names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
        for name in names:
            value = getattr(module, name)
            if not getattr(value, "__module__", "").startswith("fastrnn"):
                continue
            where = f"{module.__name__}.{name}"
            found[where] = _parameters(value)
            if inspect.isclass(value):
                found |= {f"{where}.{member}": _parameters(getattr(value, member)) for member in _members(value)}
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        found[f"fastrnn {name}"] = " ".join(option for a in command._actions for option in a.option_strings)
    return found


def main() -> None:
    folder = FOLDER / fastrnn.__version__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expected: dict[str, Array] = {}
    for name, make in NETS.items():
        net = make()
        net.save(str(folder / f"{name}.safetensors"))
        expected[f"{name} x"] = question(name, net)
        expected[f"{name} y"] = answer(net, expected[f"{name} x"])
    save_arrays(str(folder / "expected.safetensors"), expected)
    for cell in CELLS:
        trainer = Trainer(char_settings(cell), make_corpus(TEXT))
        while not trainer.evaluation_due:
            trainer.advance()
        trainer.evaluate()
        checkpoint.save(str(folder / f"model-{cell}.safetensors"), trainer.checkpoint())
    lines = [f"{name}: {parameters}".rstrip() for name, parameters in sorted(interface().items())]
    (folder / "interface.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
