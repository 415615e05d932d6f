"""Files say what module their parameters are of, and load makes it again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastrnn
from formats import NETS, H, I
from formats import answer as answer_of
from layer_problems import LAYERS, VARIANTS, draw

ALL = {**{name: make for name, make in NETS.items() if name != "tagger"}}
OPTIONS = {"num_layers": 2, "bidirectional": True, "zoneout": 0.1, "dropout": 0.2, "masked_output": "zero"}


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_net(name: str, tmp_path: Path) -> None:
    net, path = ALL[name](), str(tmp_path / "net.safetensors")
    net.save(path)
    loaded = fastrnn.load(path)
    assert repr(loaded) == repr(net)
    assert not loaded.training
    x = draw(5, 2, I).astype(getattr(net, "dtype", np.float32))
    np.testing.assert_array_equal(answer_of(loaded, x), answer_of(net.eval(), x))


@pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)
def test_every_option(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    own = {**OPTIONS, **options}
    if own.get("proj_size"):
        own |= {"proj_size": 2, "zoneout": 0.0}
    layer, path = LAYERS[family](I, H, seed=0, **own), str(tmp_path / "layer.safetensors")
    layer.save(path)
    loaded = fastrnn.load(path)
    assert repr(loaded) == repr(layer)
    x = draw(5, 2, I, dtype=np.float32)
    np.testing.assert_array_equal(loaded(x)[0], layer.eval()(x)[0])


SILENT: list[tuple[Any, dict[str, Any]]] = [
    (fastrnn.RNN, {"nonlinearity": "relu"}),
    (fastrnn.RNN, {"activations": ("softsign",)}),
    (fastrnn.IndRNN, {"nonlinearity": "tanh"}),
    (fastrnn.GRU, {"reset_after": False}),
    (fastrnn.GRU, {"gate_clip": 0.5}),
    (fastrnn.GRU, {"reverse": True}),
    (fastrnn.LSTM, {"coupled": True}),
    (fastrnn.LSTM, {"cell_clip": 0.5}),
    (fastrnn.LSTM, {"activations": (("hard_sigmoid", 0.2, 0.5), "tanh", "tanh")}),
]


@pytest.mark.parametrize(("kind", "options"), SILENT, ids=str)
def test_what_computes_otherwise_is_not_loaded_into(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Options that no name and no shape of a parameter shows."""
    path, (name,) = str(tmp_path / "layer.safetensors"), options
    layer, plain = kind(I, H, seed=0, **options), kind(I, H, seed=1)
    for saved, other in ((layer, plain), (plain, layer)):
        saved.save(path)
        before = other.state_dict()
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.load: {name} .*fastrnn\.load"):
            other.load(path)
        for own, p in other.params.items():
            np.testing.assert_array_equal(p, before[own])
        fastrnn.Sequential(fastrnn.Linear(I, I), saved).save(path)
        with pytest.raises(ValueError, match=f"{name} .*load"):
            fastrnn.Sequential(fastrnn.Linear(I, I), other).load(path)
    layer.save(path)
    kind(I, H, dropout=0.0, batch_first=True, dtype=np.float64, **options).load(path)  # what may well differ


def test_classes_of_ones_own_say_nothing(tmp_path: Path) -> None:
    class Own(fastrnn.LSTM):
        pass

    path = str(tmp_path / "net.safetensors")
    for net in (Own(I, H), fastrnn.Sequential(Own(I, H)), fastrnn.Modules(a=fastrnn.Linear(I, H))):
        net.save(path)
        net.load(path)
        with pytest.raises(ValueError, match=r"^load: .* does not say what module"):
            fastrnn.load(path)


@pytest.mark.parametrize(
    "about",
    [
        "",
        "{",
        "null",
        "3",
        "[]",
        "[" * 5000 + "]" * 5000,
        '{"kind": "LSTM"}',
        '{"kind": [], "options": {}}',
        '{"kind": "Layer", "options": {}}',
        '{"kind": "LSTM", "options": {"input_size": 3}}',
        '{"kind": "LSTM", "options": {"input_size": 3, "hidden_size": 4, "hidden": 4}}',
        '{"kind": "LSTM", "options": {"input_size": 3, "hidden_size": "4"}}',
        '{"kind": "LSTM", "options": {"input_size": 3, "hidden_size": 5}}',
        '{"kind": "LSTM", "options": {"input_size": 1000000, "hidden_size": 1000000}}',
        '{"kind": "LSTM", "options": {"input_size": 0, "hidden_size": 1000, "num_layers": 65536}}',
        '{"kind": "Linear", "options": {"in_features": 1000000, "out_features": 1000000}}',
        '{"kind": "Sequential", "modules": []}',
        '{"kind": "Sequential", "modules": 3}',
        '{"kind": "Sequential", "modules": [3]}',
        '{"kind": "Sequential", "modules": ' * 80 + "[]" + "}" * 80,
    ],
)
def test_damaged_descriptions(about: str, tmp_path: Path) -> None:
    path, layer = str(tmp_path / "net.safetensors"), fastrnn.LSTM(I, H)
    safetensors.numpy.save_file(dict(layer.params), path, {"fastrnn": about})
    with pytest.raises(ValueError, match=r"^load: "):
        fastrnn.load(path)
    for load in (layer.load, fastrnn.from_torch):
        with contextlib.suppress(ValueError):
            load(path)


def test_what_a_file_says_is_json(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    fastrnn.LSTM(I, H, gate_clip=0.5, dtype=np.float64).save(path)
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()["fastrnn"])
    options = {"input_size": I, "hidden_size": H, "gate_clip": 0.5, "dtype": "float64"}
    assert about == {"kind": "LSTM", "options": options}
