"""Files as all versions of Keras have written them, made here, and what is wrong with files."""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from isolated import run_code
from problems import Array
from tolerances import output_tolerance

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:.*there are weights alone:UserWarning")
I, H, B, T = 3, 4, 2, 6
GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
Weights = list[Array]  # of a cell: kernel, recurrent kernel and perhaps bias


# --- what Keras computes


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def hard_sigmoid(a: Array) -> Array:
    return np.clip(0.2 * a + 0.5, 0, 1)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {"sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid, "tanh": np.tanh}


def with_keras(kind: str, x: Array, weights: Weights, gates: str = "sigmoid", other: str = "tanh") -> Array:
    """The outputs of a layer of Keras, by its equations: (B, T, I) to (B, T, H)."""
    W, U, *biases = weights
    units, f, g = len(U), FUNCTIONS[gates], FUNCTIONS[other]
    b = (biases[0] if biases else np.zeros(W.shape[1])).reshape(-1, W.shape[1])
    h = c = np.zeros((len(x), units))
    ys = []
    for t in range(x.shape[1]):
        a, r = x[:, t] @ W + b[0], h @ U
        if kind == "SimpleRNN":
            h = g(a + r)
        elif kind == "LSTM":
            i, forget, candidate, o = np.split(a + r, 4, axis=1)
            c = f(forget) * c + f(i) * g(candidate)
            h = f(o) * g(c)
        else:
            az, ar, ah = np.split(a, 3, axis=1)
            if len(b) == 2:  # reset_after
                rz, rr, rh = np.split(r + b[1], 3, axis=1)
                candidate = g(ah + f(ar + rr) * rh)
            else:
                rz, rr, _ = np.split(r, 3, axis=1)
                candidate = g(ah + (f(ar + rr) * h) @ U[:, 2 * units :])
            z = f(az + rz)
            h = z * h + (1 - z) * candidate
        ys.append(h)
    return np.stack(ys, axis=1)


def draw(kind: str, rng: np.random.Generator, inputs: int = I, bias: bool = True, reset_after: bool = False) -> Weights:
    G = GATES[kind] * H
    shapes: list[tuple[int, ...]] = [(inputs, G), (H, G)]
    if bias:
        shapes.append((2, G) if reset_after else (G,))
    return [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


# --- files


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}, "name": name}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": list(layers)}}


def write(
    path: Path, model: Any, groups: dict[str, dict[str, Array]], version: str | None, as_bytes: bool = True
) -> Path:
    """Write an .h5 file with the weights of each layer by their names, and a model, unless that is None."""

    def text(names: list[str]) -> Any:
        return [name.encode() for name in names] if as_bytes else names

    with h5py.File(path, "w") as file:
        if model is not None:
            file.attrs["model_config"] = json.dumps(model).encode() if as_bytes else json.dumps(model)
        root = file if model is None else file.create_group("model_weights")
        for group in (file, root):
            if version is not None:
                group.attrs["keras_version"] = version.encode() if as_bytes else version
        root.attrs["layer_names"] = text(list(groups))
        for name, arrays in groups.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = text(list(arrays))
            for each, a in arrays.items():
                group[each] = a
    return path


def archive(path: Path, model: Any, arrays: dict[str, Array], version: str | None) -> Path:
    """Write a .keras file, with arrays by their paths in it."""
    with io.BytesIO() as buffer:
        with h5py.File(buffer, "w") as file:
            for name, a in arrays.items():
                file[name] = a
        with zipfile.ZipFile(path, "w") as whole:
            whole.writestr("config.json", json.dumps(model))
            whole.writestr("metadata.json", json.dumps({"keras_version": version} if version else {}))
            whole.writestr("model.weights.h5", buffer.getvalue())
    return path


def named(prefix: str, weights: Weights, end: str = ":0", number: str = "") -> dict[str, Array]:
    names = ("kernel", "recurrent_kernel", "bias")
    return {f"{prefix}/{name}{number}{end}": w for name, w in zip(names, weights, strict=False)}


def numbered(prefix: str, weights: Weights) -> dict[str, Array]:
    return {f"{prefix}/vars/{k}": w for k, w in enumerate(weights)}


CELL = {"LSTM": "lstm_cell", "GRU": "gru_cell", "SimpleRNN": "simple_rnn_cell"}
SNAKE = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}


class Layout(NamedTuple):
    """How versions of Keras have called a layer's weights: a path from the kind; for .h5 the end of names."""

    version: str
    path: Callable[[str], str]
    two: tuple[str, str] = ("forward_it/", "backward_it/")
    end: str | None = ":0"  # None is a .keras file
    as_bytes: bool = True


LAYOUTS = {
    "2.1.3": Layout("2.1.3", lambda kind: "it/{}"),
    "2.2.4 with Theano": Layout("2.2.4", lambda kind: "it/{}", end=""),
    "2.3.1": Layout("2.3.1", lambda kind: "it_3/{}"),
    "2.2.4-tf": Layout("2.2.4-tf", lambda kind: f"it/{{}}{CELL[kind]}"),
    "2.4.0": Layout("2.4.0", lambda kind: f"it/{{}}{CELL[kind]}_7", as_bytes=False),
    "3.0": Layout("3.0.5", lambda kind: f"sequential/it/{{}}{CELL[kind]}", end="", as_bytes=False),
    "2.13": Layout(
        "2.13.1",
        lambda kind: f"_layer_checkpoint_dependencies/{SNAKE[kind]}/{{}}cell",
        ("forward_layer/", "backward_layer/"),
        None,
    ),
    "3.15": Layout(
        "3.15.1", lambda kind: f"layers/{SNAKE[kind]}/{{}}cell", ("forward_layer/", "backward_layer/"), None
    ),
}


def path_of(layout: Layout, kind: str, both: bool, side: int) -> str:
    path = layout.path(kind).format(layout.two[side] if both else "")
    return (path.replace(f"/{SNAKE[kind]}/", "/bidirectional/") if both else path).rstrip("/")


def store(layout: Layout, kind: str, sides: list[Weights], path: Path, model: Any) -> Path:
    both = len(sides) == 2
    paths = [path_of(layout, kind, both, side) for side in range(len(sides))]
    if layout.end is None:
        arrays = [numbered(each, weights) for each, weights in zip(paths, sides, strict=True)]
        whole = {name: a for each in arrays for name, a in each.items()}
        if model is not None:
            return archive(path, model, whole, layout.version)
        with h5py.File(path, "w") as file:
            for name, a in whole.items():
                file[name] = a
        return path
    arrays = [named(each, weights, layout.end) for each, weights in zip(paths, sides, strict=True)]
    group = {name: a for each in arrays for name, a in each.items()}
    return write(path, model, {"input": {}, "it": group}, layout.version, layout.as_bytes)


def cases() -> Iterator[tuple[str, bool, bool | None]]:
    for kind, bias in itertools.product(GATES, (True, False)):
        for reset_after in (True, False) if kind == "GRU" else (None,):
            yield kind, bias, reset_after


def check(got: Array, expected: Array) -> None:
    assert got.shape == expected.shape
    atol = output_tolerance(np.float32, terms=I + H) * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol, equal_nan=False)


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.uniform(-1, 1, (B, T, I)).astype(np.float32)


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout(layout: Layout, both: bool, x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    for kind, bias, reset_after in cases():
        for gates in ("sigmoid", "hard_sigmoid"):
            if gates == "hard_sigmoid" and (kind == "SimpleRNN" or layout.version.startswith("3")):
                continue
            # Before 2.1.5 there was no such option, and nothing in its place.
            if reset_after and layout.version == "2.1.3":
                continue
            weights = [draw(kind, rng, bias=bias, reset_after=bool(reset_after)) for _ in range(1 + both)]
            config: dict[str, Any] = {"units": H, "use_bias": bias, "activation": "tanh", "return_sequences": True}
            config |= {"recurrent_activation": gates} if kind != "SimpleRNN" else {}
            config |= {"reset_after": reset_after} if kind == "GRU" and layout.version != "2.1.3" else {}
            inner = layer(kind, "it", **config)
            model = sequential(layer("Bidirectional", "it", layer=inner, merge_mode="concat") if both else inner)
            path = store(layout, kind, weights, tmp_path / "model", model)
            # A bias of one row tells that the reset gate comes first: without one, that has to be equations of NumPy's.
            sides = [each if bias or not reset_after else [*each, np.zeros((2, 3 * H))] for each in weights]
            outputs = [
                with_keras(kind, x[:, :: 1 - 2 * side], each, gates)[:, :: 1 - 2 * side]
                for side, each in enumerate(sides)
            ]
            expected = np.concatenate(outputs, axis=-1)
            imported = fastrnn.from_keras(path)
            check(imported(x)[0], expected)
            assert imported.bias is bias
            # And from the weights alone.
            alone = store(layout, kind, weights, tmp_path / "alone", None)
            given = {"LSTM": (gates, "tanh", "tanh"), "GRU": (gates, "tanh"), "SimpleRNN": ("tanh",)}[kind]
            more = {} if reset_after is None or bias else {"reset_after": reset_after}
            check(fastrnn.from_keras(alone, activations=given, **more)(x)[0], expected)


def test_cudnn_s_layers(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    """cuDNN has matrices (H, I), one for each gate, and two biases; Keras has put their numbers into (I, H)."""
    for kind, version in itertools.product(("LSTM", "GRU"), ("2.1.5", "2.2.4", "2.3.1")):
        G = GATES[kind]
        inputs, states = rng.uniform(-1, 1, (G, H, I)).astype("f"), rng.uniform(-1, 1, (G, H, H)).astype("f")
        bias = rng.uniform(-1, 1, (2, G * H)).astype("f")
        kernel = np.concatenate([gate.reshape(I, H) for gate in inputs], axis=1)
        recurrent = np.concatenate([gate.reshape(H, H) for gate in states], axis=1)
        plain = [np.concatenate([gate.T for gate in each], axis=1) for each in (inputs, states)]
        expected = with_keras(kind, x, [*plain, bias if kind == "GRU" else bias.sum(axis=0)])
        group = {"rnn_1": named("rnn_1", [kernel, recurrent, bias.ravel()])}
        model = sequential(layer(f"CuDNN{kind}", "rnn_1", units=H, return_sequences=True))
        # Also where a plain layer has been given weights of cuDNN's, which Keras takes.
        options = {"reset_after": True, "recurrent_activation": "sigmoid"}
        other = sequential(layer(kind, "rnn_1", units=H, return_sequences=True, **options))
        for each in (model, other, None):
            path = write(tmp_path / "model.h5", each, group, version)
            check(fastrnn.from_keras(path)(x)[0], expected)
        names = ("hard_sigmoid", "tanh", "tanh")[: 3 if kind == "LSTM" else 2]
        with pytest.raises(ValueError, match=r"activations is .*hard_sigmoid.*, and the model has \('sigmoid', 'tanh'"):
            fastrnn.from_keras(path, activations=names)


def test_stacks(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    """RNN of several cells, whose names Keras 2.2 tells apart by a number, and later versions by those of cells."""
    for kind in GATES:
        stack = [draw(kind, rng, inputs) for inputs in (I, H, H)]
        y: Any = x
        for weights in stack:
            y = with_keras(kind, y, weights)
        cells = [layer(f"{kind}Cell", f"cell_{k}", units=H, recurrent_activation="sigmoid") for k in range(3)]
        model = sequential(
            layer("RNN", "deep", cell=layer("StackedRNNCells", "cells", cells=cells), return_sequences=True)
        )
        old = {
            f"{name}": a
            for k, w in enumerate(stack)
            for name, a in named("deep", w, number=f"_{k}" if k else "").items()
        }
        new = {
            name: a
            for k, w in enumerate(stack)
            for name, a in named(f"deep/stacked_rnn_cells/{CELL[kind]}{f'_{k}' if k else ''}", w).items()
        }
        objects = {
            name: a
            for k, w in enumerate(stack)
            for name, a in numbered(f"layers/rnn/cell/cells/{CELL[kind]}{f'_{k}' if k else ''}", w).items()
        }
        paths = [
            write(tmp_path / "old", model, {"deep": old}, "2.2.4"),
            write(tmp_path / "new", model, {"deep": new}, "2.9.0"),
            archive(tmp_path / "objects", model, objects, "3.1.0"),
            write(tmp_path / "alone", None, {"deep": new}, "2.9.0"),
        ]
        activations = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "SimpleRNN": ("tanh",)}[kind]
        for path in paths:
            imported = fastrnn.from_keras(path, activations=activations)
            assert imported.num_layers == 3
            check(imported(x)[0], y)


def test_levels_that_differ_are_layers_of_their_own(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    lower, upper = (
        draw("LSTM", rng),
        [w[:, :8] if k != 1 else w[:2, :8] for k, w in enumerate(draw("LSTM", rng, H)[:2])],
    )
    cells = [layer("LSTMCell", "a", units=H), layer("LSTMCell", "b", units=2, use_bias=False)]
    model = sequential(layer("RNN", "deep", cell=layer("StackedRNNCells", "cells", cells=cells)))
    arrays = {**named("deep/a", lower), **named("deep/b", upper)}
    path = write(tmp_path / "model.h5", model, {"deep": arrays}, "2.9.0")
    with pytest.raises(ValueError, match=r"name='deep/0'.*'deep/1', LSTM\(4, 2, bias=False"):
        fastrnn.from_keras(path)
    nets = fastrnn.find_nets(path)
    assert [net.call for net in nets] == [{}, {"return_sequence": False}]
    y = fastrnn.from_keras(path, "deep/1")(fastrnn.from_keras(path, "deep/0")(x)[0])[0]
    check(y, with_keras("LSTM", with_keras("LSTM", x, lower), upper))


def test_what_is_not_trained_is_listed_last(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    """Directions and cells are told apart by their names, not by the order of an .h5 file."""
    lower, upper = draw("LSTM", rng), draw("LSTM", rng, H)
    for one, other, trainable in itertools.product(("cell", "b"), ("cell_1", "a"), (True, False)):
        cells = [
            layer("LSTMCell", one, units=H, trainable=trainable),
            layer("LSTMCell", other, units=H),
        ]
        stack = layer("StackedRNNCells", "cells", cells=cells)
        model = sequential(layer("RNN", "deep", cell=stack, return_sequences=True))
        arrays = {**named(f"deep/cells/{other}", upper), **named(f"deep/cells/{one}", lower)}
        path = write(tmp_path / "model.h5", model, {"deep": arrays}, "2.9.0")
        check(fastrnn.from_keras(path)(x)[0], with_keras("LSTM", with_keras("LSTM", x, lower), upper))
        renamed = {name.replace("/cells/", "/cells/its_"): a for name, a in arrays.items()}
        path = write(tmp_path / "model.h5", model, {"deep": renamed}, "2.9.0")
        if not trainable:
            with pytest.raises(ValueError, match="'deep': which of its weights are those of which cell cannot be told"):
                fastrnn.from_keras(path)
    inner = layer("LSTM", "it", units=H, return_sequences=True)
    model = sequential(layer("Bidirectional", "it", layer=inner))
    forward, backward = draw("LSTM", rng), draw("LSTM", rng)
    expected = [with_keras("LSTM", x, forward), with_keras("LSTM", x[:, ::-1], backward)[:, ::-1]]
    for outer, name in itertools.product(("", "forward_net/", "backward_net/"), ("backward_it", "own")):
        arrays = {**named(f"{outer}{name}/cell", backward), **named(f"{outer}forward_it/cell", forward)}
        for each in (model, None) if not outer and name == "backward_it" else (model,):
            path = write(tmp_path / "model.h5", each, {"it": arrays}, "2.9.0")
            if outer == "forward_net/" and name == "own":
                with pytest.raises(ValueError, match="those of which direction cannot be told by their names"):
                    fastrnn.from_keras(path)
            else:
                got = fastrnn.from_keras(path, activations=("sigmoid", "tanh", "tanh"))(x)[0]
                check(got, np.concatenate(expected, axis=-1))


# --- versions


def test_each_version_has_its_own_hard_sigmoid(rng: np.random.Generator, tmp_path: Path) -> None:
    model = sequential(layer("SimpleRNN", "rnn", units=H, activation="hard_sigmoid"))
    group = {"rnn": named("rnn", draw("SimpleRNN", rng))}
    for version, slope in (("2.0.8", 0.2), ("2.2.4-tf", 0.2), ("2.15.0", 0.2), ("3.0.0", 1 / 6), ("3.15.1", 1 / 6)):
        path = write(tmp_path / "model.h5", model, group, version)
        assert fastrnn.from_keras(path).activations == (("hard_sigmoid", slope, 0.5),)
    path = write(tmp_path / "model.h5", model, group, None)
    with pytest.raises(ValueError, match=r"'rnn': its hard_sigmoid is 0.2 x \+ 0.5 before Keras 3 and x / 6 \+ 0.5"):
        fastrnn.from_keras(path)


def test_weights_alone_have_what_the_version_has_by_default(rng: np.random.Generator, tmp_path: Path) -> None:
    hard = (("hard_sigmoid", 0.2, 0.5), "tanh")
    for version, activations, reset_after in (
        ("2.1.5", hard, False),
        ("2.1.6-tf", hard, False),
        ("2.2.5", hard, False),
        ("2.3.1", None, False),
        ("2.3.0-tf", None, True),
        ("2.4.0", None, True),
        ("2.15.0", None, True),
        ("3.2.1", None, True),
    ):
        path = write(tmp_path / "w.h5", None, {"gru": named("gru", draw("GRU", rng, bias=False))}, version)
        with pytest.warns(
            UserWarning, match=r"'gru': there are weights alone: its class and its other options are .*activations="
        ):
            gru = fastrnn.from_keras(path)
        assert (gru.activations, gru.reset_after) == (activations, reset_after)
    for version in ("2.2.4-tf", None):
        path = write(tmp_path / "w.h5", None, {"gru": named("gru", draw("GRU", rng, bias=False))}, version)
        (net,) = fastrnn.find_nets(path)
        assert "neither a configuration nor a bias tells its reset_after: say reset_after=True or False" in net.problem
        with pytest.raises(ValueError, match="say reset_after=True or False"):
            fastrnn.from_keras(path)
        with pytest.raises(
            ValueError, match=r"activations=\('sigmoid', 'tanh'\) or activations=\('hard_sigmoid', 'tanh'\)"
        ):
            fastrnn.from_keras(path, reset_after=True)
        with pytest.warns(UserWarning, match="there are weights alone: its class and its other options"):
            gru = fastrnn.from_keras(path, reset_after=False, activations=["sigmoid", "tanh"])
        assert (gru.activations, gru.reset_after) == (None, False)


def test_what_a_gru_does_not_say(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    """Its reset_after is what its bias tells, or else what its version has by default."""
    model = sequential(layer("GRU", "it", units=H, recurrent_activation="sigmoid", return_sequences=True))
    biasless = copy.deepcopy(model)
    biasless["config"]["layers"][0]["config"]["use_bias"] = False
    for version, by_default in (("2.2.4", False), ("2.4.0", True), ("3.0.0", True), (None, None)):
        for reset_after in (False, True):
            weights = draw("GRU", rng, reset_after=reset_after)
            path = write(tmp_path / "m.h5", model, {"it": named("it", weights)}, version)
            check(fastrnn.from_keras(path)(x)[0], with_keras("GRU", x, weights))
        path = write(tmp_path / "m.h5", biasless, {"it": named("it", weights[:2])}, version)
        if by_default is None:
            with pytest.raises(ValueError, match="neither a configuration nor a bias tells its reset_after: say"):
                fastrnn.from_keras(path)
        for given in (False, True) if by_default is None else (by_default,):
            assert fastrnn.from_keras(path, reset_after=given).reset_after is given


def test_weights_that_no_cell_of_keras_has(rng: np.random.Generator, tmp_path: Path) -> None:
    for kind in GATES:
        weights = draw(kind, rng)
        arrays = {**named("it/its_cell", weights), "it/its_cell/peephole:0": np.ones((3, H), "f")}
        path = write(tmp_path / "w.h5", None, {"it": arrays}, "2.9.0")
        with pytest.raises(ValueError, match="'it': it has weights beside its kernels and bias"):
            fastrnn.from_keras(path)
        with h5py.File(path, "w") as file:
            for name, a in numbered("layers/its/cell", [*weights, np.ones((3, H), "f")]).items():
                file[name] = a
        assert fastrnn.find_nets(path) == []


def test_masked_outputs_of_bidirectional_layers(rng: np.random.Generator, tmp_path: Path) -> None:
    inner = layer("LSTM", "it", units=H, recurrent_activation="sigmoid", return_sequences=True)
    model = sequential(layer("Masking", "m", mask_value=0.0), layer("Bidirectional", "it", layer=inner))
    layout = LAYOUTS["2.4.0"]
    for version, expected, told in (
        ("2.2.4", "repeat", False),
        ("2.3.1", "repeat", False),
        ("2.2.4-tf", "repeat", True),
        ("2.3.0-tf", "zero", False),
        ("2.6.0", "zero", False),
        ("3.15.1", "zero", False),
    ):
        path = store(
            layout._replace(version=version), "LSTM", [draw("LSTM", rng) for _ in range(2)], tmp_path / "m", model
        )
        (net,) = fastrnn.find_nets(path)
        assert net.options.get("masked_output", "repeat") == expected
        assert ("masked_output='zero' for zeros" in "".join(net.notes)) is told
        assert "pass mask=(x != 0.0).any(axis=-1)" in net.notes[0]


# --- which layer


def test_names_in_models_in_models(rng: np.random.Generator, tmp_path: Path) -> None:
    """Several layers of the same size: what is whose is known by names, by order, or not at all."""
    options = {"units": H, "return_sequences": True, "recurrent_activation": "sigmoid"}
    a, b, c = (layer("LSTM", name, **options) for name in "abc")
    conv = layer("ConvLSTM2D", "conv", filters=2)
    inner = {"class_name": "Model", "config": {"name": "inner", "layers": [a, conv, b]}, "name": "inner"}
    model = sequential(layer("Dense", "dense", units=3), inner, c)
    weights = {name: draw("LSTM", rng, inputs) for name, inputs in (("a", I), ("b", H), ("c", H))}
    kernels = [np.zeros((1, 1, 2, 8), "f"), np.zeros((1, 1, 2, 8), "f"), np.zeros(8, "f")]

    def file(first: str, second: str, third: str, model: Any) -> Path:
        group = {**named(first, weights["a"]), **named("conv", kernels), **named(second, weights["b"])}
        groups = {"dense": {"dense/kernel:0": np.ones((3, 3), "f")}, "inner": group, "c": named(third, weights["c"])}
        return write(tmp_path / "model.h5", model, groups, "2.9.0")

    for names in (("a/lstm_cell", "b/lstm_cell", "c/lstm_cell"), ("lstm", "lstm_1", "lstm_2"), ("x/y", "z", "c")):
        path = file(*names, model)
        nets = {net.name: net for net in fastrnn.find_nets(path)}
        assert list(nets) == ["inner/a", "inner/conv", "inner/b", "c"]
        for name, right in weights.items():
            imported = fastrnn.from_keras(path, name)  # the end of its name is enough
            np.testing.assert_array_equal(imported.params["weight_ih_l0"], right[0].T)
        with pytest.raises(ValueError, match=r"'inner/conv': it is of the class ConvLSTM2D, expected one of LSTM, GRU"):
            fastrnn.from_keras(path, "inner/conv")
    with pytest.raises(
        ValueError, match=r"from_keras: there are 4 recurrent nets in .*name='inner/a'.*'c', LSTM\(4, 4"
    ):
        fastrnn.from_keras(path)
    with pytest.raises(ValueError, match=r"there is no recurrent net 'inner/bb': did you mean 'inner/b'\?"):
        fastrnn.from_keras(path, "inner/bb")
    imported = fastrnn.from_keras(path, ["inner/b", "c"])
    assert imported.num_layers == 2
    # Keras lists what is trained before what is not.
    frozen = copy.deepcopy(model)
    frozen["config"]["layers"][1]["config"]["layers"][0]["config"]["trainable"] = False
    with pytest.raises(ValueError, match=r"'inner/b': which of the weights of 'inner' are its own cannot be told"):
        fastrnn.from_keras(file("lstm", "lstm_1", "c", frozen), "inner/b")
    fastrnn.from_keras(file("a", "b", "c", frozen), "inner/b")


def test_what_is_between_two_layers(rng: np.random.Generator, tmp_path: Path) -> None:
    a, b = (layer("LSTM", name, units=H, return_sequences=True, recurrent_activation="sigmoid") for name in "ab")
    groups = {"a": named("a", draw("LSTM", rng)), "b": named("b", draw("LSTM", rng, H))}
    for between in ("Dropout", "Identity", "LayerNormalization", "Dense", "ReLU"):
        path = write(tmp_path / "m.h5", sequential(a, layer(between, "between"), b), groups, "2.9.0")
        if between in ("Dropout", "Identity"):
            assert fastrnn.from_keras(path, ["a", "b"]).num_layers == 2
        else:
            with pytest.raises(ValueError, match="'b' does not read what 'a' gives: another layer is between"):
                fastrnn.from_keras(path, ["a", "b"])


def test_numbers_of_groups_that_count_twice(rng: np.random.Generator, tmp_path: Path) -> None:
    """Keras 2.12 counts each layer with weights twice, from the second on."""
    weights = [draw("LSTM", rng, inputs) for inputs in (I, H, H)]
    options = {"units": H, "return_sequences": True, "recurrent_activation": "sigmoid"}
    model = sequential(*(layer("LSTM", name, **options) for name in "xyz"))
    for suffixes in (("", "_1", "_2"), ("", "_2", "_4"), ("_8", "_10", "_12")):
        arrays = {
            name: a
            for suffix, each in zip(suffixes, weights, strict=True)
            for name, a in numbered(f"_layer_checkpoint_dependencies/lstm{suffix}/cell", each).items()
        }
        path = archive(tmp_path / "model.keras", model, arrays, "2.12.0")
        for name, right in zip("xyz", weights, strict=True):
            np.testing.assert_array_equal(fastrnn.from_keras(path, name).params["weight_hh_l0"], right[1].T)
    del arrays["_layer_checkpoint_dependencies/lstm_8/cell/vars/0"]
    del arrays["_layer_checkpoint_dependencies/lstm_8/cell/vars/1"]
    del arrays["_layer_checkpoint_dependencies/lstm_8/cell/vars/2"]
    path = archive(tmp_path / "model.keras", model, arrays, "2.12.0")
    with pytest.raises(ValueError, match="'y': its weights are not there"):
        fastrnn.from_keras(path, "y")


def test_names_too_many_for_one_attribute(x: Array, rng: np.random.Generator, tmp_path: Path) -> None:
    weights = draw("LSTM", rng)
    path = write(tmp_path / "model.h5", None, {"lstm": named("lstm", weights)}, "2.9.0")
    with h5py.File(path, "r+") as file:
        names = file["lstm"].attrs["weight_names"]
        del file["lstm"].attrs["weight_names"]
        file["lstm"].attrs["weight_names0"], file["lstm"].attrs["weight_names1"] = names[:2], names[2:]
    imported = fastrnn.from_keras(path, activations=("sigmoid", "tanh", "tanh"))
    check(imported(x)[0], with_keras("LSTM", x, weights))


def test_what_comes_before_a_layer_of_keras_2(rng: np.random.Generator, tmp_path: Path) -> None:
    def node(*names: str, **options: Any) -> list[Any]:
        return [[[name, 0, k, options if k == 0 else {}] for k, name in enumerate(names)]]

    gru = {"units": H, "return_sequences": True, "recurrent_activation": "sigmoid"}
    layers = [
        {**layer("InputLayer", "in"), "inbound_nodes": []},
        {**layer("GRU", "after_reshape", **gru), "inbound_nodes": node("reshape")},
        {**layer("GRU", "masked", **gru), "inbound_nodes": node("dropped")},
        {**layer("Dropout", "dropped"), "inbound_nodes": node("words")},
        {**layer("Reshape", "reshape"), "inbound_nodes": node("words")},
        {**layer("Embedding", "words", mask_zero=True), "inbound_nodes": node("in")},
        {**layer("GRU", "begins", **gru), "inbound_nodes": node("other", initial_state=[["in", 0, 0]])},
        {**layer("GRU", "begins_too", **gru), "inbound_nodes": node("other", "masked")},
        {**layer("GRU", "told", **gru), "inbound_nodes": node("other", mask=["in", 0, 0])},
        {**layer("GRU", "again", **gru), "inbound_nodes": [*node("other"), *node("again")]},
        {**layer("InputLayer", "other"), "inbound_nodes": []},
    ]
    names = [each["name"] for each in layers if each["class_name"] == "GRU"]
    model = {"class_name": "Model", "config": {"name": "m", "layers": layers}}
    path = write(tmp_path / "m.h5", model, {name: named(name, draw("GRU", rng)) for name in names}, "2.3.1")
    notes = {net.name: " ".join(net.notes) for net in fastrnn.find_nets(path)}
    states = "the model gives it initial states: pass them as state"
    assert "'words'" in notes.pop("masked")
    assert notes == {
        "after_reshape": "",
        "begins": states,
        "begins_too": states,
        "told": "the model gives it a mask: pass it as mask",
        "again": "",
    }


# --- what is refused by name

LSTM = {"units": H, "recurrent_activation": "sigmoid", "return_sequences": True}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation": "swish"}, "its activation is 'swish', expected one of sigmoid, tanh"),
        ({"recurrent_activation": "mine"}, "its activation is 'mine', expected"),
        (
            {"activation": {"class_name": "function", "config": "relu", "module": "builtins"}},
            "its activation is 'relu'",
        ),
        ({"activation": {"class_name": "__lambda__", "config": {}}}, "its activation is '__lambda__'"),
        ({"activation": {"class_name": "PReLU", "config": {}}}, "its activation is 'PReLU'"),
        ({"activation": {"class_name": "ReLU", "config": {"max_value": 6.0}}}, "its activation is ReLU of"),
        ({"activation": {"class_name": "ELU", "config": {"alpha": "1"}}}, "its activation has alpha '1', expected"),
        ({"activation": {"class_name": "ELU", "config": [1]}}, "its activation's config is"),
        ({"activation": 3}, "its activation is 3, expected a dict"),
        ({"units": "4"}, "its units is '4', expected an int"),
        ({"units": True}, "its units is True, expected an int"),
        ({"units": 0}, "its units are 0, expected at least 1"),
        ({"units": 5}, r"its kernel and recurrent kernel have shapes \(3, 16\) and \(4, 16\), expected \(I, 20\)"),
        ({"units": 10**30}, "its kernel and recurrent kernel have shapes"),
        ({"use_bias": False}, "its use_bias is False, and there is one"),
        ({"use_bias": 1}, "its use_bias is 1, expected a bool"),
        ({"return_sequences": "yes"}, "its return_sequences is 'yes', expected a bool"),
        ({"go_backwards": None}, "its go_backwards is None, expected a bool"),
        ({"output_dim": 4}, "it is of Keras 1"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], message: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model = sequential(layer("LSTM", "it", **{**LSTM, **changed}))
    path = write(tmp_path / "model.h5", model, {"it": named("it", draw("LSTM", rng))}, "2.9.0")
    (net,) = fastrnn.find_nets(path)
    assert net.problem
    assert net.parameters == 0
    with pytest.raises(ValueError, match=f"from_keras: 'it': {message}"):
        fastrnn.from_keras(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer": layer("LSTM", "a", **LSTM), "merge_mode": "max"}, "its merge_mode is 'max'"),
        ({"layer": layer("LSTM", "a", **LSTM), "merge_mode": ["sum"]}, "its merge_mode is \\['sum'\\]"),
        ({"layer": layer("LSTM", "a", **LSTM, go_backwards=True)}, "around a layer that goes backwards"),
        ({"layer": layer("ConvLSTM1D", "a")}, "it is of the class ConvLSTM1D"),
        ({"layer": None}, "its layer is None"),
        ({}, "its layer is None"),
        (
            {"layer": layer("LSTM", "a", **LSTM), "backward_layer": layer("GRU", "b", **LSTM)},
            "its two directions differ in kind|its kernel and",
        ),
        (
            {
                "layer": layer(
                    "RNN", "a", cell=layer("StackedRNNCells", "s", cells=[layer("LSTMCell", "c", **LSTM)] * 2)
                )
            },
            "around several cells",
        ),
        ({"layer": layer("RNN", "a", cell=layer("StackedRNNCells", "s", cells=[]))}, "it has no cells"),
        ({"layer": layer("RNN", "a", cell=layer("MyCell", "s"))}, "its cell is of the class MyCell, expected one of"),
    ],
)
def test_what_is_refused_of_both_directions(
    config: dict[str, Any], message: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = sequential(layer("Bidirectional", "it", **config))
    path = store(LAYOUTS["2.4.0"], "LSTM", [draw("LSTM", rng) for _ in range(2)], tmp_path / "m.h5", model)
    with pytest.raises(ValueError, match=f"from_keras: 'it': .*({message})"):
        fastrnn.from_keras(path)


def test_weights_of_other_shapes_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    gru = {"units": H, "recurrent_activation": "sigmoid"}
    for reset_after, bias, message in (
        (True, (3 * H,), r"expected \(2, 12\) or \(24,\)"),
        (False, (2, 3 * H), r"expected \(12,\)"),
    ):
        weights = [*draw("GRU", rng)[:2], np.zeros(bias, "f")]
        model = sequential(layer("GRU", "it", reset_after=reset_after, **gru))
        path = write(tmp_path / "m.h5", model, {"it": named("it", weights)}, "2.9.0")
        with pytest.raises(ValueError, match=rf"its bias has shape .*, {message} of reset_after={reset_after}"):
            fastrnn.from_keras(path)
    model = sequential(layer("LSTM", "it", **LSTM))
    whole = draw("LSTM", rng)
    for weights in ([whole[0][0], *whole[1:]], [whole[0], whole[1][:3], whole[2]], [*whole[:2], whole[2][:3]]):
        path = write(tmp_path / "m.h5", model, {"it": named("it", weights)}, "2.9.0")
        with pytest.raises(ValueError, match=r"'it': its (kernel and|bias)"):
            fastrnn.from_keras(path)
    path = write(tmp_path / "m.h5", model, {"it": {}}, "2.9.0")
    with pytest.raises(ValueError, match="'it': its weights are not there"):
        fastrnn.from_keras(path)


def test_keras_1_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    names = {f"lstm_1_{letter}_{gate}": np.zeros((H, H), "f") for gate in "ifco" for letter in "WU"}
    for version in ("1.2.2", None):
        path = write(tmp_path / "m.h5", None, {"lstm_1": names}, version)
        with pytest.raises(ValueError, match=r"'lstm_1': it is of Keras 1, .*load it with Keras 2 and save it again"):
            fastrnn.from_keras(path)


def test_arguments_that_say_another_thing(rng: np.random.Generator, tmp_path: Path) -> None:
    model = sequential(layer("GRU", "it", units=H, recurrent_activation="sigmoid", reset_after=True))
    path = write(tmp_path / "m.h5", model, {"it": named("it", draw("GRU", rng, reset_after=True))}, "2.9.0")
    fastrnn.from_keras(path, reset_after=True, activations=["sigmoid", "tanh"])
    with pytest.raises(ValueError, match="reset_after is False, and the model has True: leave reset_after out"):
        fastrnn.from_keras(path, reset_after=False)
    with pytest.raises(ValueError, match=r"activations is \('tanh', 'tanh'\), and the model has \('sigmoid', 'tanh'\)"):
        fastrnn.from_keras(path, activations=("tanh", "tanh"))
    with pytest.raises(TypeError, match="from_keras: reset_after is 1, expected a bool"):
        fastrnn.from_keras(path, reset_after=1)
    path = write(tmp_path / "m.h5", None, {"it": named("it", draw("LSTM", rng))}, "2.9.0")
    with pytest.raises(ValueError, match="reset_after is True, and it is no GRU"):
        fastrnn.from_keras(path, reset_after=True)
    with pytest.raises(ValueError, match=r"there is no activation 'tan'"):
        fastrnn.from_keras(path, activations=("tan", "tanh", "tanh"))
    with pytest.raises(TypeError, match=r"activations"):
        fastrnn.from_keras(path, activations="tanh")
    for wrong in (3, None, b"model.h5", object(), np.zeros(3)):
        with pytest.raises(TypeError, match=r"from_keras: source is .*, expected a layer or model of Keras"):
            fastrnn.from_keras(wrong)


# --- damaged and hostile files


@pytest.fixture
def whole(rng: np.random.Generator, tmp_path: Path) -> dict[str, Path]:
    """A good file of each kind."""
    model = sequential(layer("LSTM", "it", **LSTM))
    weights = draw("LSTM", rng)
    return {
        "model": write(tmp_path / "model.h5", model, {"it": named("it/lstm_cell", weights)}, "2.9.0"),
        "archive": archive(tmp_path / "m.keras", model, numbered("layers/lstm/cell", weights), "3.1.0"),
        "weights": write(tmp_path / "w.h5", None, {"it": named("it/lstm_cell", weights)}, "2.2.5"),
    }


def read_damaged(*paths: str) -> None:
    """Read files that are cut off, or in which some bytes are others; print how many were refused."""
    rng, refused = np.random.default_rng(7), 0
    for path in map(Path, paths):
        good, broken = path.read_bytes(), path.with_name("broken")
        changes = [good[:size] for size in rng.integers(8, len(good), 40)]
        for _ in range(300):
            changed = np.frombuffer(good, np.uint8).copy()
            at = rng.integers(0, len(good), rng.integers(1, 30))
            changed[at] = rng.integers(0, 256, len(at))
            changes.append(changed.tobytes())
        for change in changes:
            broken.write_bytes(change)
            try:
                fastrnn.from_keras(broken, activations=("sigmoid", "tanh", "tanh"))
            except ValueError as error:
                refused += 1
                if "\n" in str(error):
                    raise AssertionError(str(error)) from None
    print(refused)


def test_damaged_files(whole: dict[str, Path]) -> None:
    """In a process of its own, since the library that reads HDF5 might crash, or go on for ever."""
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); from test_keras_files import read_damaged; "
    refused = run_code(code + f"read_damaged(*{[str(path) for path in whole.values()]!r})", timeout=120)
    assert int(refused) > 600  # of 1020


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this platform has no pipes in files")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a regular file"):
        fastrnn.from_keras(tmp_path / "pipe")


def test_what_is_no_file_of_keras(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastrnn.from_keras(tmp_path / "nowhere.h5")
    with pytest.raises(IsADirectoryError, match="such as TensorFlow's SavedModel"):
        fastrnn.from_keras(tmp_path)
    for content in (b"", b"PK", b"\x80\x04 a pickle", b"model: yes"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match="is no file of Keras, which are HDF5 or a zip archive"):
            fastrnn.from_keras(str(tmp_path / "other"))
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measured/here"] = np.ones(3)
    with pytest.raises(ValueError, match="there is no recurrent net in"):
        fastrnn.from_keras(tmp_path / "data.h5")
    assert fastrnn.find_nets(tmp_path / "data.h5") == []


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(path: Path, content: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def test_archives_that_are_not_right(whole: dict[str, Path], tmp_path: Path) -> None:
    good, path = members(whole["archive"]), tmp_path / "bad.keras"
    fastrnn.from_keras(zipped(path, good, compression=zipfile.ZIP_DEFLATED))
    for missing in ("config.json", "model.weights.h5"):
        zipped(path, {name: data for name, data in good.items() if name != missing})
        with pytest.raises(ValueError, match=r"is a zip archive without config.json and model.weights.h5"):
            fastrnn.from_keras(path)
    deep = sequential(layer("LSTM", "it", **LSTM))
    for _ in range(150):
        deep = {**sequential(deep), "name": "m"}
    for config, message in (
        (b"{", "has config.json, which is damaged"),
        (b"\xff\xfe", "has config.json, which is damaged"),
        (b"[" * 100_000, "has config.json, which is damaged"),
        (b"[]", r"its model is \[\], expected a dict"),
        (b'{"config": 3}', "its model's config is 3"),
        (b'{"class_name": [], "config": {}}', "its class_name is"),
        (b'{"config": {"layers": [{"class_name": "TimeDistributed", "config": {}}]}}', "its layer is None"),
        (b'{"config": {"layers": [{"inbound_nodes": 3}]}}', "inbound_nodes have 3, expected a list"),
        (json.dumps(deep).encode(), "its layers are in each other too deeply|its weights are not there"),
    ):
        with pytest.raises(ValueError, match=message):
            fastrnn.from_keras(zipped(path, {**good, "config.json": config}))
    # What says nothing of layers may be of a class of somebody's own.
    zipped(path, {**good, "config.json": b'{"config": {"layers": 5}}'})
    with pytest.warns(UserWarning, match="weights alone"):
        fastrnn.from_keras(path)
    zipped(path, {**good, "model.weights.h5": b"no HDF5"})
    with pytest.raises(ValueError, match="is damaged"):
        fastrnn.from_keras(path)
    bomb = {**good, "config.json": b" " * (5 << 20)}
    with pytest.raises(ValueError, match=r"has config.json of 5,242,880 bytes, and holds"):
        fastrnn.from_keras(zipped(path, bomb, compression=zipfile.ZIP_DEFLATED))


def test_no_other_file_is_read(whole: dict[str, Path], tmp_path: Path) -> None:
    """Whatever a file says: links, arrays kept elsewhere and arrays made of others' are refused."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["bias"] = np.zeros(4 * H, "f")
        file["group/bias:0"] = np.zeros(4 * H, "f")
    (tmp_path / "raw").write_bytes(np.zeros(4 * H, "f").tobytes())
    virtual = h5py.VirtualLayout((4 * H,), "f")
    virtual[:] = h5py.VirtualSource(str(secret), "bias", (4 * H,))

    def external(group: Any) -> None:
        group["bias:0"] = h5py.ExternalLink(str(secret), "/bias")

    def soft(group: Any) -> None:
        group["bias:0"] = h5py.SoftLink("/model_weights/it/it/lstm_cell/kernel:0")

    def elsewhere(group: Any) -> None:
        group.create_dataset("bias:0", (4 * H,), "f", external=[(str(tmp_path / "raw"), 0, 16 * H)])

    def made_of(group: Any) -> None:
        group.create_virtual_dataset("bias:0", virtual)

    good = whole["model"].read_bytes()
    for change, message in (
        (external, "which is a link to somewhere else: that is not followed"),
        (soft, "which is a link to somewhere else: that is not followed"),
        (elsewhere, "which is kept in another file: that is not read"),
        (made_of, "which is kept in another file: that is not read"),
    ):
        bad = tmp_path / "bad.h5"
        bad.write_bytes(good)
        with h5py.File(bad, "r+") as file:
            group = file["model_weights/it/it/lstm_cell"]
            del group["bias:0"]
            change(group)
        with pytest.raises(ValueError, match=message):
            fastrnn.from_keras(bad)
    bad.write_bytes(good)
    with h5py.File(bad, "r+") as file:
        del file["model_weights/it/it"]
        file["model_weights/it/it"] = h5py.ExternalLink(str(secret), "/group")
    with pytest.raises(ValueError, match="which is a link to somewhere else: that is not followed"):
        fastrnn.from_keras(bad)


def test_arrays_that_are_not_right(whole: dict[str, Path], tmp_path: Path) -> None:
    def huge(group: Any) -> None:
        group.create_dataset("kernel:0", (10**6, 10**6), "f", chunks=(1000, 1000))

    def compressed(group: Any) -> None:
        group.create_dataset("kernel:0", data=np.zeros((1 << 20, 32), "f"), compression="gzip")

    def texts(group: Any) -> None:
        group["kernel:0"] = ["a", "b"]

    def integers(group: Any) -> None:
        group["kernel:0"] = np.ones((I, 4 * H), np.int8)

    def nothing(group: Any) -> None:
        group["kernel:0"] = h5py.Empty("f")

    def folder(group: Any) -> None:
        group.create_group("kernel:0")

    bad = tmp_path / "bad.h5"
    for change, message in (
        (huge, r"lstm_cell/kernel:0 of shape \(1000000, 1000000\), 4,000,000,000,000 bytes, and holds 0"),
        (compressed, "bytes, and holds"),
        (texts, "expected floating-point numbers"),
        (integers, "of int8, expected floating-point numbers"),
        (nothing, "expected floating-point numbers"),
        (folder, "'it': its weights are not there"),
    ):
        bad.write_bytes(whole["model"].read_bytes())
        with h5py.File(bad, "r+") as file:
            group = file["model_weights/it/it/lstm_cell"]
            del group["kernel:0"]
            change(group)
        with pytest.raises(ValueError, match=message):
            fastrnn.from_keras(bad)


def test_an_array_that_is_there_many_times(tmp_path: Path, rng: np.random.Generator) -> None:
    """Each link to it is small, and each of what they give takes memory."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        kernel = np.zeros((15 << 14, 4 * H), "f")
        stored = file.create_dataset("kernel", data=kernel, compression="gzip", chunks=(1 << 12, 4 * H))
        weights = draw("LSTM", rng)
        for k in range(200):
            for name, a in numbered(f"layers/lstm_{k}/cell", weights).items():
                if not name.endswith("/0"):
                    file[name] = a
            file[f"layers/lstm_{k}/cell/vars/0"] = stored
    with pytest.raises(ValueError, match=r"from_keras: .*holds [0-9,]+ bytes, and has arrays that are many times that"):
        fastrnn.from_keras(path)


def test_names_that_are_no_text(tmp_path: Path, rng: np.random.Generator) -> None:
    for where in (b"\xff\xfe", b"top/\xff"):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            for name, a in numbered("lstm/cell", draw("LSTM", rng)).items():
                file[name] = a
            file.create_group(where)
        with pytest.raises(ValueError, match=r"is damaged: a name in .* is no text"):
            fastrnn.find_nets(tmp_path / "w.h5")


def test_groups_in_a_circle(tmp_path: Path, rng: np.random.Generator) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, a in numbered("encoder/lstm/cell", draw("LSTM", rng)).items():
            file[name] = a
        for k in range(8):
            file[f"encoder/again_{k}"] = file["encoder"]
            file[f"encoder/top_{k}"] = file["/"]
    (net,) = fastrnn.find_nets(tmp_path / "w.h5")
    assert net.name == "encoder/lstm"


def test_numbers_of_every_precision(whole: dict[str, Path], x: Array, tmp_path: Path) -> None:
    with h5py.File(whole["model"], "r") as file:
        weights = [
            file[f"model_weights/it/it/lstm_cell/{name}:0"][()] for name in ("kernel", "recurrent_kernel", "bias")
        ]
    model = sequential(layer("LSTM", "it", **LSTM))
    for dtype, wanted in (("<f2", "f4"), (">f4", "f4"), ("<f8", "f8"), (">f8", "f8")):
        path = write(tmp_path / "m.h5", model, {"it": named("it", [w.astype(dtype) for w in weights])}, "2.9.0")
        imported = fastrnn.from_keras(path)
        assert imported.dtype == wanted
        np.testing.assert_array_equal(imported.params["weight_ih_l0"], weights[0].astype(dtype).T.astype(wanted))
        assert fastrnn.from_keras(path, dtype=np.float64).dtype == np.float64
    # As h5py keeps bfloat16, the upper half of a float32.
    halves = [(w.view("<u4") >> 16).astype("<u2").view("V2") for w in weights]
    imported = fastrnn.from_keras(write(tmp_path / "m.h5", model, {"it": named("it", halves)}, "3.0.0"))
    expected = (weights[0].view("<u4") & 0xFFFF0000).view("<f4")
    np.testing.assert_array_equal(imported.params["weight_ih_l0"], expected.T)
