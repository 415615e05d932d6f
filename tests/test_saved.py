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
    shown = "activations" if name == "nonlinearity" else name
    layer, plain = kind(I, H, seed=0, **options), kind(I, H, seed=1)
    for saved, other in ((layer, plain), (plain, layer)):
        saved.save(path)
        before = other.state_dict()
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.load: {shown} .*fastrnn\.load"):
            other.load(path)
        for own, p in other.params.items():
            np.testing.assert_array_equal(p, before[own])
        fastrnn.Sequential(fastrnn.Linear(I, I), saved).save(path)
        with pytest.raises(ValueError, match=f"{shown} .*load"):
            fastrnn.Sequential(fastrnn.Linear(I, I), other).load(path)
    layer.save(path)
    kind(I, H, dropout=0.0, batch_first=True, dtype=np.float64, **options).load(path)  # what may well differ


class Own(fastrnn.GRU):
    """A class of one's own."""


def test_classes_of_ones_own_are_not_made_again(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    own = Own(I, H, reset_after=False, seed=0)
    for net in (own, fastrnn.Sequential(own), fastrnn.Modules(a=fastrnn.Sequential(fastrnn.Tanh(), own))):
        net.save(path)
        net.load(path)
        with pytest.raises(ValueError, match=r"^load: .* class of your own, Own: make it, and call its load"):
            fastrnn.load(path)
    own.save(path)
    imported = fastrnn.from_torch(path)  # which is the layer that it is derived from
    assert type(imported) is fastrnn.GRU
    x = draw(5, 2, I, dtype=np.float32)
    np.testing.assert_array_equal(imported(x)[0], own.eval()(x)[0])
    with pytest.raises(ValueError, match=r"Own\.load: reset_after is True, and False in the file"):
        Own(I, H).load(path)


def test_several_modules_come_back_under_their_names(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    net = fastrnn.Modules(rnn=fastrnn.GRU(I, H, reset_after=False, seed=0), head=fastrnn.Linear(H, 2, seed=0))
    net.save(path)
    loaded = fastrnn.load(path)
    assert repr(loaded) == repr(net)
    np.testing.assert_array_equal(loaded.head.params["weight"], net.head.params["weight"])
    assert repr(fastrnn.from_torch(path)) == repr(net.rnn)


def test_what_is_tied_stays_tied(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    embedding, decoder = fastrnn.Embedding(H, I, seed=0), fastrnn.Linear(I, H, seed=0)
    decoder.params["weight"] = embedding.params["weight"]
    net = fastrnn.Sequential(embedding, fastrnn.GRU(I, I, seed=0), decoder)
    net.save(path)
    loaded = fastrnn.load(path)
    assert loaded[0].params["weight"] is loaded[2].params["weight"]


ALIKE: list[tuple[fastrnn.Layer, fastrnn.Layer]] = [
    (fastrnn.LSTM(I, H), fastrnn.LSTM(I, H, activations=("sigmoid", "tanh", "tanh"))),
    (fastrnn.RNN(I, H, nonlinearity="relu"), fastrnn.RNN(I, H, activations=("relu",))),
    (
        fastrnn.GRU(I, H, activations=(("hard_sigmoid", 0.2, 0.5), "tanh")),
        fastrnn.GRU(I, H, activations=(("hard_sigmoid", np.float32(0.2), 0.5), "tanh"), batch_first=True, dropout=0.0),
    ),
    (fastrnn.GRU(I, H, zoneout=0.1), fastrnn.GRU(I, H, zoneout=(0.1,), masked_output="zero")),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=str)
def test_what_computes_the_same_is_loaded_into(one: fastrnn.Layer, other: fastrnn.Layer, tmp_path: Path) -> None:
    path = str(tmp_path / "layer.safetensors")
    for saved, loading in ((one, other), (other, one)):
        saved.save(path)
        loading.load(path)


NETS_UNLIKE: list[tuple[Any, Any]] = [
    (lambda: (fastrnn.Linear(I, H), fastrnn.Relu()), lambda: (fastrnn.Linear(I, H), fastrnn.Tanh())),
    (lambda: (fastrnn.GRU(I, H), fastrnn.Mean()), lambda: (fastrnn.GRU(I, H), fastrnn.Last())),
    (lambda: (fastrnn.GRU(I, H, zoneout=0.5),), lambda: (fastrnn.GRU(I, H),)),
]


@pytest.mark.parametrize(("one", "other"), NETS_UNLIKE)
def test_nets_that_compute_otherwise(one: Any, other: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    for saved, loading in ((one, other), (other, one)):
        fastrnn.Sequential(*saved()).save(path)
        with pytest.raises(ValueError, match=r"^Sequential\.load: module [01]: .*fastrnn\.load"):
            fastrnn.Sequential(*loading()).load(path)


LINEAR = '{"kind": "Linear", "options": {"in_features": 12, "out_features": 12}}'  # more than there is, both together


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
        '{"kind": "Modules", "modules": {"%s": 3}}',
        '{"kind": "Sequential", "modules": {"0": %s, "1": %s}}' % ((LINEAR,) * 2),
        '{"kind": "LSTM", "options": {"hidden_size": 4}}',
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
