"""Layers and nets as ONNX models, run by onnx's own evaluator and, where it is installed, by ONNX Runtime."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Dropout, Embedding, Last, Linear, Max, Mean, Relu, Sequential, Tanh
from fastrnn.charlm.model import CharModel
from fastrnn.charlm.settings import Settings
from fastrnn.convert import onnx_out
from onnx_nodes import KINDS, RUNNERS
from problems import Array
from tolerances import output_tolerance

onnx = pytest.importorskip("onnx")

LAYERS: dict[str, Any] = {kind: getattr(fastrnn, kind) for kind in KINDS}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
ACTIVATIONS = ["tanh", "sigmoid", "softsign", "identity", ("hard_sigmoid", 0.3, 0.4), ("scaled_tanh", 0.9, 0.8), "relu"]
each_runner = pytest.mark.parametrize("runner", RUNNERS)
each_kind = pytest.mark.parametrize("kind", KINDS)


def draw_layer(kind: str, I: int, rng: np.random.Generator, **options: Any) -> Any:
    """A layer with some options, and with every parameter drawn, the initial states too."""

    def chance(p: float = 0.5) -> bool:
        return bool(rng.random() < p)

    bidirectional = options.setdefault("bidirectional", chance())
    options = {
        "num_layers": int(rng.integers(1, 4)),
        "bias": chance(0.8),
        "reverse": not bidirectional and chance(0.3),
        "learn_state": chance(0.4),
        **options,
    }
    if chance(0.3):
        each = [tuple(ACTIVATIONS[k] for k in rng.integers(len(ACTIVATIONS), size=FUNCTIONS[kind])) for _ in range(2)]
        options["activations"] = tuple(each) if bidirectional and chance() else each[0]
    elif kind == "RNN":
        options["nonlinearity"] = ["tanh", "relu"][chance()]
    if chance(0.3):
        options["gate_clip"] = float(rng.uniform(0.2, 1))
    if kind == "GRU":
        options["reset_after"] = chance()
    if kind == "LSTM":
        options |= {"peepholes": chance(0.3), "coupled": chance(0.3)}
    if options["num_layers"] > 1:
        options["dropout"] = 0.5
    layer = LAYERS[kind](I, int(rng.integers(1, 12)), **options)
    layer.load_state_dict(
        {name: rng.uniform(-1, 1, p.shape) / max(1, np.sqrt(p.shape[-1])) for name, p in layer.params.items()}
    )
    return layer


def written(net: Any, path: Path, **options: Any) -> Any:
    """The model of a net, which is what ONNX says a model is."""
    to_onnx(net, path, **options)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "fastrnn"
    assert model.producer_version == fastrnn.__version__
    return model


def to_onnx(net: Any, path: Path, **options: Any) -> None:
    result: Any = fastrnn.to_onnx(net, path, **options)
    assert result is None


def assert_close(got: dict[str, Array], expected: dict[str, Array], where: str) -> None:
    """As one layer of 40 terms would be, times the most layers that there are."""
    assert got.keys() == expected.keys()
    for name, right in expected.items():
        assert (got[name].dtype, got[name].shape) == (right.dtype, right.shape), f"{name} of {where}"
        allowed = 4 * output_tolerance(right.dtype, terms=40) * max(1, np.abs(right).max(initial=0))
        np.testing.assert_allclose(
            got[name], right, rtol=0, atol=allowed, equal_nan=False, err_msg=f"{name} of {where}"
        )


@pytest.mark.parametrize("seed", range(40))
@each_kind
@each_runner
def test_a_layer(runner: str, kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    T, B, I = (int(n) for n in rng.integers(1, [7, 6, 9]))
    layer = draw_layer(kind, I, rng, batch_first=bool(rng.integers(2)))
    tokens, lengths, state = (bool(rng.integers(2)) for _ in range(3))
    axes = (B, T) if layer.batch_first else (T, B)
    x = rng.integers(0, I, axes) if tokens else rng.uniform(-1, 1, (*axes, I)).astype(np.float32)
    given = {"tokens" if tokens else "x": x}
    letters = "hc" if kind == "LSTM" else "h"
    if lengths:
        given["lengths"] = rng.integers(0, T + 1, B).astype(np.int32)
    states: Any = None
    if state:
        shape = layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size
        given |= {f"{c}_0": rng.uniform(-1, 1, shape).astype(np.float32) for c in letters}
        states = tuple(given[f"{c}_0"] for c in letters)
    model = written(layer, tmp_path / "m.onnx", tokens=tokens, lengths=lengths, state=state)
    assert [value.name for value in model.graph.input] == list(given)
    layer.eval()
    y, state_n = layer(x, states[0] if states and kind != "LSTM" else states, lengths=given.get("lengths"))
    found = state_n if isinstance(state_n, tuple) else (state_n,)
    expected = {"y": y, **{f"{c}_n": a for c, a in zip(letters, found, strict=True)}}
    assert_close(RUNNERS[runner](model, given), expected, repr(layer))


NO_STEPS: dict[str, Any] = {
    "alone": lambda layer: layer,
    "Last": lambda layer: Sequential(layer, Last()),
    "Mean": lambda layer: Sequential(layer, Mean()),
    "Max": lambda layer: Sequential(layer, Max()),
}
# A GRU without steps ends the process in ONNX Runtime.
WITHOUT_STEPS = [(runner, kind) for runner in RUNNERS for kind in KINDS if (runner, kind) != ("onnxruntime", "GRU")]


@pytest.mark.parametrize("end", NO_STEPS)
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("runner", "kind"), WITHOUT_STEPS)
def test_no_steps(runner: str, kind: str, lengths: bool, end: str, tmp_path: Path) -> None:
    for seed in range(4):
        layer = draw_layer(kind, 3, np.random.default_rng(seed), learn_state=True)
        net, given = NO_STEPS[end](layer), {"x": np.zeros((0, 2, 3), np.float32)}
        if lengths:
            given["lengths"] = np.zeros(2, np.int32)
        model = written(net, tmp_path / "m.onnx", lengths=lengths)
        net.eval()
        result = net(given["x"], lengths=given.get("lengths"))
        expected = {"y": result}
        if end == "alone":
            states = result[1] if kind == "LSTM" else result[1:]
            expected = {"y": result[0]} | {f"{c}_n": a for c, a in zip("hc", states, strict=False)}
            assert any(a.any() for a in states)
        assert_close(RUNNERS[runner](model, given), expected, repr(net))


def draw_net(rng: np.random.Generator, batch_first: bool) -> tuple[Any, int, bool]:
    """A net, how many features or tokens it takes, and whether these are tokens."""

    def one(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    I, order = int(rng.integers(1, 9)), {"batch_first": batch_first}
    first = one("embedding", "linear", "tokens", "numbers")
    modules: list[Any] = []
    if first == "embedding":
        modules = [Embedding(I, 5, seed=0)]
    elif first == "linear":
        modules = [Linear(I, 5, seed=0), one(Relu, Tanh)()]
    width = 5 if modules else I
    layer = draw_layer(one(*KINDS), width, rng, **order)
    width = layer.hidden_size * (1 + layer.bidirectional)
    modules += [layer, *one((), (Dropout(0.5),), (Tanh(), Dropout(0.5)), (Linear(width, width, bias=False, seed=1),))]
    if rng.random() < 0.5:
        layer = draw_layer(one(*KINDS), width, rng, **order)
        width = layer.hidden_size * (1 + layer.bidirectional)
        modules += [Sequential(layer, *one((), (Relu(),)))]
    over = one(None, Last, Mean, Max, Last)
    modules += [] if over is None else [over()]
    modules += one((), (Linear(width, 3, seed=2),), (Sequential(Linear(width, 3, seed=2), Tanh()),))
    return Sequential(*modules), I, first in ("embedding", "tokens")


@pytest.mark.parametrize("seed", range(100))
@each_runner
def test_a_net(runner: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, 100])
    batch_first = bool(rng.integers(2))
    net, I, tokens = draw_net(rng, batch_first)
    T, B = (int(n) for n in rng.integers(1, [7, 6]))
    axes = (B, T) if batch_first else (T, B)
    x = rng.integers(0, I, axes) if tokens else rng.uniform(-1, 1, (*axes, I)).astype(np.float32)
    given = {"tokens" if tokens else "x": x}
    lengths = bool(rng.integers(2))
    if lengths:
        given["lengths"] = rng.integers(0, T + 1, B).astype(np.int32)
    has_embedding = isinstance(net[0], Embedding)
    model = written(net, tmp_path / "m.onnx", tokens=tokens and (not has_embedding or bool(seed % 2)), lengths=lengths)
    net.eval()
    expected = {"y": net(x, lengths=given.get("lengths"))}
    assert_close(RUNNERS[runner](model, given), expected, repr(net))


@pytest.mark.parametrize("seed", range(12))
@each_runner
def test_states_of_a_net(runner: str, seed: int, tmp_path: Path) -> None:
    """Each recurrent layer has its own, as layers that are called by themselves have."""
    rng = np.random.default_rng([seed, 200])
    T, B, I = 5, 3, 4
    first, second = (
        draw_layer(KINDS[k], n, rng, bidirectional=False) for k, n in zip(rng.integers(3, size=2), (I, 6), strict=True)
    )
    between = Linear(first.hidden_size, 6, seed=3)
    over: list[Any] = [[], [Last()], [Mean()]][seed % 3]
    net = Sequential(first, Sequential(between, second), *over)
    model = written(net, tmp_path / "m.onnx", lengths=True, state=True)
    x = rng.uniform(-1, 1, (T, B, I)).astype(np.float32)
    lengths = np.array([5, 0, 2], np.int32)
    given, expected, y = {"x": x, "lengths": lengths}, {}, x
    net.eval()
    for name, layer in (("0", first), ("1.1", second)):
        letters = "hc" if isinstance(layer, fastrnn.LSTM) else "h"
        shape = layer.num_layers, B, layer.hidden_size
        states = tuple(rng.uniform(-1, 1, shape).astype(np.float32) for _ in letters)
        given |= {f"{name}.{c}_0": a for c, a in zip(letters, states, strict=True)}
        y, after = layer(
            y if layer is first else between(y), states if len(states) == 2 else states[0], lengths=lengths
        )
        found = after if isinstance(after, tuple) else (after,)
        expected |= {f"{name}.{c}_n": a for c, a in zip(letters, found, strict=True)}
    for module in over:
        y = fastrnn.Sequential(module)(y, lengths=lengths)
        if isinstance(module, Last) and second.reverse:
            y = np.where(lengths[:, None] > 0, expected["1.1.h_n"][-1], 0).astype(np.float32)
    assert_close(RUNNERS[runner](model, given), {"y": y, **expected}, repr(net))


@each_runner
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_character_model(cell: str, runner: str, tmp_path: Path) -> None:
    model = CharModel(Settings(cell=cell, hidden=16, layers=2, dropout=0.3, seed=0), vocabulary=11)
    read = written(Sequential(model.rnn, model.decoder), tmp_path / "m.onnx", tokens=True, state=True)
    rng = np.random.default_rng(0)
    tokens, letters = rng.integers(0, 11, (7, 2)), "hc" if cell == "lstm" else "h"
    states = [rng.uniform(-1, 1, (2, 2, 16)).astype(np.float32) for _ in letters]
    given = {"tokens": tokens, **{f"0.{c}_0": a for c, a in zip(letters, states, strict=True)}}
    model.eval()
    y, after = model.rnn(tokens, states[0] if len(states) == 1 else tuple(states))
    found = after if isinstance(after, tuple) else (after,)
    expected = {"y": model.decoder(y), **{f"0.{c}_n": a for c, a in zip(letters, found, strict=True)}}
    assert_close(RUNNERS[runner](read, given), expected, cell)
    with pytest.raises(ValueError, match="CharModel does not say in which order"):
        fastrnn.to_onnx(model, tmp_path / "n.onnx")


@each_runner
@pytest.mark.parametrize(
    "net",
    [
        Linear(4, 3, seed=0),
        Sequential(Linear(4, 5, seed=0), Tanh(), Dropout(0.5), Linear(5, 3, bias=False, seed=1), Relu()),
        Sequential(Embedding(4, 5, seed=0), Linear(5, 3, seed=0)),
        Sequential(Relu()),
    ],
    ids=["linear", "several", "embedding", "relu"],
)
def test_without_steps(net: Any, runner: str, tmp_path: Path) -> None:
    is_embedding = isinstance(net, Sequential) and isinstance(net[0], Embedding)
    x = np.arange(3) if is_embedding else np.random.default_rng(0).standard_normal((3, 4), np.float32)
    model = written(net, tmp_path / "m.onnx")
    net.eval()
    assert_close(RUNNERS[runner](model, {"tokens" if is_embedding else "x": x}), {"y": net(x)}, repr(net))


@each_runner
@pytest.mark.parametrize("over", [Last, Mean, Max])
@pytest.mark.parametrize("batch_first", [False, True])
def test_over_time_alone(over: Any, batch_first: bool, runner: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 5, 2), np.float32) - 1
    net = over(batch_first=batch_first)
    size = 4 if batch_first else 5
    lengths = np.array([5, 0, 1, 3, 2][:size] if batch_first else [4, 0, 1, 3, 2], np.int32)
    assert_close(RUNNERS[runner](written(net, tmp_path / "a"), {"x": x}), {"y": net(x)}, repr(net))
    model = written(net, tmp_path / "b", lengths=True)
    given = {"x": x, "lengths": lengths}
    assert_close(RUNNERS[runner](model, given), {"y": net(x, lengths=lengths)}, repr(net))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(15))
@each_kind
def test_a_layer_comes_back_bit_for_bit(kind: str, seed: int, dtype: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    layer = draw_layer(kind, 5, rng, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*for which ONNX Runtime has no recurrent nodes")
        fastrnn.to_onnx(layer, tmp_path / "m.onnx")
    names = [f"{kind}_l{k}" for k in range(layer.num_layers)]
    assert [net.name for net in fastrnn.find_nets(str(tmp_path / "m.onnx"))] == names
    back: Any = fastrnn.from_onnx(tmp_path / "m.onnx", names)
    assert type(back) is type(layer)
    assert list(back.params) == list(layer.params)
    for name, p in layer.params.items():
        assert back.params[name].dtype == dtype
        assert back.params[name].tobytes() == p.tobytes(), name
    assert not back.training
    layer.eval()
    x = rng.uniform(-1, 1, (4, 3, 5)).astype(dtype)
    np.testing.assert_allclose(back(x)[0], layer(x)[0], rtol=0, atol=1e-6)


def test_initial_states_come_back(tmp_path: Path) -> None:
    for kind, both in itertools.product(KINDS, (False, True)):
        layer = draw_layer(kind, 3, np.random.default_rng(0), learn_state=True, bidirectional=both, reverse=False)
        fastrnn.to_onnx(layer, tmp_path / "m.onnx")
        back = fastrnn.from_onnx(tmp_path / "m.onnx", [f"{kind}_l{k}" for k in range(layer.num_layers)])
        assert back.learn_state
        assert back.params["h_0_l0"].any()


def test_float64_warns_and_is_float64(tmp_path: Path) -> None:
    layer = fastrnn.GRU(3, 4, dtype=np.float64, seed=0)
    with pytest.warns(UserWarning, match="float64, for which ONNX Runtime has no recurrent nodes"):
        fastrnn.to_onnx(layer, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((3, 2, 3))
    layer.eval()
    y, h_n = layer(x)
    assert_close(RUNNERS["onnx"](onnx.load(tmp_path / "m.onnx"), {"x": x}), {"y": y, "h_n": h_n}, "GRU")


class Own(fastrnn.Module):
    def record(self, x: Array) -> Any:
        raise AssertionError("nobody calls it")


class OwnLinear(Linear):
    def record(self, x: Array) -> Any:
        raise AssertionError("nobody calls it")


R, L = fastrnn.RNN, fastrnn.LSTM
REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (fastrnn.IndRNN(3, 4), {}, "to_onnx: ONNX has no operator that computes what IndRNN does"),
    (Sequential(fastrnn.MinGRU(3, 4)), {}, "to_onnx: module 0: ONNX has no operator that computes what MinGRU does"),
    (L(3, 4, proj_size=2), {}, "to_onnx: proj_size is 2, which ONNX's LSTM has not"),
    (Sequential(R(3, 3), L(3, 4, layer_norm=True)), {}, "to_onnx: module 1: layer_norm is True, which ONNX's LSTM"),
    (fastrnn.GRU(3, 4, layer_norm=True), {}, "to_onnx: layer_norm is True, which ONNX's GRU has not"),
    (L(3, 4, cell_clip=2.0), {}, "to_onnx: cell_clip is 2.0, which"),
    (L(3, 4, zoneout=(0.0, 0.1)), {}, r"to_onnx: zoneout is \(0.0, 0.1\), which"),
    (Own(), {}, "to_onnx: Own is a class of its own, for which ONNX has no operator"),
    (Sequential(R(3, 4), Own()), {}, "to_onnx: module 1: Own is a class of its own, for which ONNX has no operator"),
    (Sequential(OwnLinear(3, 4)), {}, "to_onnx: module 0: OwnLinear is a class of its own"),
    (fastrnn.Modules(a=R(3, 4)), {}, "to_onnx: Modules does not say in which order its modules are called: pass a Seq"),
    (Linear(3, 4), {"tokens": True}, "to_onnx: tokens is True, and Linear takes numbers"),
    (Linear(3, 4), {"lengths": True}, "to_onnx: lengths is True, and no module takes them"),
    (Sequential(Linear(3, 4), Last()), {"state": True}, "to_onnx: state is True, and there is no recurrent layer"),
    (Sequential(Tanh(), Embedding(3, 4)), {}, "to_onnx: module 1: Embedding takes tokens, and is not the first module"),
    (Sequential(R(3, 4), Linear(4, 2, dtype=np.float64)), {}, "to_onnx: module 0 is float32 and module 1 is float64"),
]


@pytest.mark.parametrize(("net", "options", "message"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_refused(net: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("as it was")
    with pytest.raises(ValueError, match="^" + message) as raised:
        fastrnn.to_onnx(net, path, **options)
    assert "\n" not in str(raised.value)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, "m.onnx"), {}, "layer_or_net is an int, expected a layer or a Sequential"),
        ((R(3, 4), 3), {}, "path is an int, expected the path of a file"),
        ((R(3, 4), "m.onnx"), {"tokens": 1}, "tokens is 1, expected a bool"),
        ((R(3, 4), "m.onnx"), {"lengths": [3]}, "lengths is [3], expected a bool"),
        ((R(3, 4), "m.onnx"), {"state": None}, "state is None, expected a bool"),
    ],
)
def test_of_another_kind(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match="^to_onnx: " + re.escape(message) + "$"):
        fastrnn.to_onnx(*arguments, **options)


def test_more_than_a_model_can_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_out, "LARGEST", 100)
    message = "^to_onnx: the parameters have 192 bytes, and a model of ONNX has at most 100$"
    with pytest.raises(ValueError, match=message):
        fastrnn.to_onnx(R(6, 4), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        fastrnn.to_onnx(R(3, 4), tmp_path / "no" / "m.onnx")
