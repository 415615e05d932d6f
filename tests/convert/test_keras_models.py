"""What comes from Keras gives what Keras gives, live and from the files that it saves."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from problems import Array
from tolerances import output_tolerance

BACKENDS = [name for name in ("torch", "jax", "tensorflow") if importlib.util.find_spec(name)]
if "KERAS_BACKEND" not in os.environ:
    if not BACKENDS:
        pytest.skip("Keras has no backend", allow_module_level=True)
    os.environ["KERAS_BACKEND"] = BACKENDS[0]
keras = pytest.importorskip("keras")
# Both Kerases, the second of which is Keras 2 where the first is Keras 3.
PACKAGES = [keras, *([importlib.import_module("tf_keras")] if importlib.util.find_spec("tf_keras") else [])]
SEEDS = range(40)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*there are weights alone:UserWarning"),
    # Which it says of a model in a model, whose own layers hand the mask on all the same.
    pytest.mark.filterwarnings("ignore:.*this layer does not support masking:UserWarning"),
    pytest.mark.parametrize("package", PACKAGES, ids=lambda package: f"{package.__name__} {package.__version__}"),
]

CELLS = {"LSTM": "LSTMCell", "GRU": "GRUCell", "SimpleRNN": "SimpleRNNCell"}
ACTIVATIONS = ["tanh", "sigmoid", "hard_sigmoid", "softsign", "relu", "linear", "elu", "softplus"]
BOUNDED = {"tanh", "sigmoid", "hard_sigmoid", "softsign"}


def major(package: Any) -> int:
    return int(package.__version__.partition(".")[0])


def expected_activation(package: Any, name: str) -> Any:
    hard = 0.2 if major(package) < 3 else 1 / 6
    others: dict[str, Any] = {"hard_sigmoid": ("hard_sigmoid", hard, 0.5), "linear": "identity", "elu": ("elu", 1.0)}
    return others.get(name, name)


class Setting(NamedTuple):
    """A layer of Keras' in a model, and arguments of a call."""

    kind: str
    layer: Any
    model: Any
    options: dict[str, Any]  # of the layer, or of that in each direction
    cell_options: dict[str, Any]
    bidirectional: bool
    merge_mode: str | None
    levels: int
    own_class: bool  # whether the layer is of the class of the kind, not RNN of its cells
    x: Array
    mask: Array | None
    states: list[Array] | None


def draw_setting(package: Any, seed: int) -> Setting:
    rng = np.random.default_rng([seed, 77])
    L = package.layers

    def chance(p: float = 0.5) -> bool:
        return bool(rng.random() < p)

    kind = ["LSTM", "GRU", "SimpleRNN"][seed % 3]
    T, B, I, H = (int(n) for n in rng.integers((3, 1, 1, 1), (8, 5, 6, 12)))
    bidirectional, levels = chance(0.4), 1
    names = [str(name) for name in rng.choice(ACTIVATIONS, 2)] if chance(0.6) else ["tanh", "sigmoid"]
    cell_options: dict[str, Any] = {"activation": names[0], "use_bias": chance(0.8)}
    if kind != "SimpleRNN":
        cell_options["recurrent_activation"] = names[1]
    if kind == "GRU":
        cell_options["reset_after"] = chance()
    options = {"return_sequences": chance(), "return_state": True}
    options |= {"go_backwards": not bidirectional and chance(0.3), "zero_output_for_mask": chance(0.3)}
    own_class = chance(0.7)
    if own_class:

        def make(**more: Any) -> Any:
            return getattr(L, kind)(H, **{**options, **cell_options, **more})
    else:
        levels = 1 if bidirectional else int(rng.integers(1, 4))

        def make(**more: Any) -> Any:
            cells = [getattr(L, CELLS[kind])(H, **cell_options) for _ in range(levels)]
            return L.RNN(cells if levels > 1 else cells[0], **{**options, **more})

    merge_mode: str | None = "concat"
    if bidirectional:
        merge_mode = [None, "sum", "mul", "ave", "concat", "concat", "concat"][rng.integers(7)]
        given = {"backward_layer": make(go_backwards=True, name="the_other")} if chance(0.3) else {}
        layer = L.Bidirectional(make(), merge_mode=merge_mode, name="both", **given)
    else:
        layer = make(name="the_layer")
    inputs = L.Input((T, I))
    model = package.Model(inputs, layer(L.Dropout(0.5)(inputs)))
    # Weights with which nothing grows from step to step, also where nothing else bounds it.
    scale = 1.0 if BOUNDED.issuperset(names) else 0.4
    drawn = [rng.uniform(-scale, scale, w.shape) / np.sqrt(len(w) if w.ndim > 1 else 1) for w in layer.get_weights()]
    layer.set_weights([w.astype(np.float32) for w in drawn])
    mask = None
    if chance():
        mask = rng.random((B, T)) < 0.6
        mask[:, [0, -1]] = True  # else Keras' backends differ from each other
    count = (2 if kind == "LSTM" else 1) * (1 + bidirectional)
    states = None
    if levels == 1 and chance():
        states = [rng.uniform(-scale, scale, (B, H)).astype(np.float32) for _ in range(count)]
    x = rng.uniform(-1, 1, (B, T, I)).astype(np.float32)
    return Setting(
        kind, layer, model, options, cell_options, bidirectional, merge_mode, levels, own_class, x, mask, states
    )


def flat(values: Any) -> list[Any]:
    return [each for value in values for each in flat(value)] if isinstance(values, list | tuple) else [values]


def as_array(tensor: Any) -> Array:
    found: Array = np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor)
    return found


def as_tensor(package: Any, a: Array) -> Any:
    if major(package) < 3:
        return importlib.import_module("tensorflow").convert_to_tensor(a)
    return package.ops.convert_to_tensor(a)


def with_keras(package: Any, s: Setting) -> tuple[list[Array], Array]:
    """Outputs, which are two without a merge_mode, and states (1 or 2, D * levels, B, H)."""
    states = None if s.states is None else [as_tensor(package, a) for a in s.states]
    mask = None if s.mask is None else as_tensor(package, s.mask)
    results = [as_array(each) for each in flat(s.layer(as_tensor(package, s.x), mask=mask, initial_state=states))]
    count = 2 if s.bidirectional and s.merge_mode is None else 1
    outputs, states_n = results[:count], results[count:]
    N = 2 if s.kind == "LSTM" else 1
    return outputs, np.stack(states_n).reshape(-1, N, *states_n[0].shape).swapaxes(0, 1)


def merged(y: Array, mode: str | None) -> list[Array]:
    """As the note on merge_mode says."""
    if mode == "concat":
        return [y]
    one, other = np.split(y, 2, axis=-1)
    by_mode = {"sum": [one + other], "mul": [one * other], "ave": [(one + other) / 2], None: [one, other]}
    return by_mode[mode]


def imported(source: Any, **arguments: Any) -> tuple[Any, Any, list[str]]:
    """Return a layer, the net that it was, and what was warned of."""
    (net,) = fastrnn.find_nets(source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer = fastrnn.from_keras(source, **arguments)
    assert not layer.training
    return layer, net, [str(each.message) for each in caught if "from_keras" in str(each.message)]


def assert_close(got: Array, right: Array, s: Setting, where: str) -> None:
    I, H = s.x.shape[2], got.shape[-1]
    atol = output_tolerance(np.float32, terms=I + H) * max(1.0, float(np.abs(right).max()))
    assert got.shape == right.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, right, rtol=0, atol=atol, equal_nan=False, err_msg=f"{where}: {s}")


def run(layer: Any, s: Setting, **call: Any) -> tuple[Array, Array]:
    state: Any = None
    if s.states is not None:
        N = 2 if s.kind == "LSTM" else 1
        each = [np.stack(s.states[n::N]) for n in range(N)]
        state = tuple(each) if N == 2 else each[0]
    y, state_n = layer(s.x, state, mask=s.mask, **call)
    return y, np.stack(state_n if s.kind == "LSTM" else [state_n])


def saved(s: Setting, package: Any, folder: Path) -> list[Any]:
    """Return everything that the layer may be imported from with all its options."""
    files = [folder / "model.keras", folder / "model.h5"]
    for file in files:
        s.model.save(file)
    (folder / "moved").write_bytes(files[0].read_bytes())  # whatever its name
    return [s.layer, s.model, str(files[0]), files[1], folder / "moved"]


@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_keras(package: Any, seed: int, tmp_path: Path) -> None:
    s = draw_setting(package, seed)
    right, right_states = with_keras(package, s)
    H = right_states.shape[-1]
    for source in saved(s, package, tmp_path):
        where = f"{package.__name__}, {source}"
        layer, net, told = imported(source)
        y, states = run(layer, s, **net.call)
        reversed_outputs = s.options["go_backwards"] and s.options["return_sequences"]
        outputs = merged(y[:, ::-1] if reversed_outputs else y, s.merge_mode)
        assert len(outputs) == len(right), where
        for got, expected in zip(outputs, right, strict=True):
            assert_close(got, expected, s, where)
        assert_close(states, right_states, s, where)
        # Whatever is done above beyond the call was told, and nothing else.
        words = {
            "go_backwards": reversed_outputs,
            "merge_mode": s.bidirectional and s.merge_mode != "concat",
            "zero_output_for_mask": not s.bidirectional
            and s.options["zero_output_for_mask"]
            and not s.options["return_sequences"],
        }
        assert len(told) == any(words.values()), where
        assert all((word in "".join(told)) is bool(wanted) for word, wanted in words.items()), where
        assert net.call == ({} if s.options["return_sequences"] else {"return_sequence": False})
        assert bool(net.only_last) is (
            not s.options["return_sequences"] or words["go_backwards"] or words["merge_mode"]
        )
        assert (layer.hidden_size, layer.num_layers) == (H, s.levels)


@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_keras_from_weights_alone(package: Any, seed: int, tmp_path: Path) -> None:
    s = draw_setting(package, seed)
    _, right = with_keras(package, s)
    if s.options["go_backwards"]:  # which weights alone do not tell
        s = s._replace(x=s.x[:, ::-1], mask=None if s.mask is None else s.mask[:, ::-1])
    names = [s.cell_options.get(name) for name in ("recurrent_activation", "activation")]
    f, g = (expected_activation(package, name) if name else None for name in names)
    activations = {"LSTM": (f, g, g), "GRU": (f, g), "SimpleRNN": (g,)}[s.kind]
    given = {"reset_after": s.cell_options["reset_after"]} if s.kind == "GRU" else {}
    files = [tmp_path / "all.weights.h5", *([tmp_path / "all.h5"] if major(package) == 2 else [])]
    for file in files:
        s.model.save_weights(file)
        layer = fastrnn.from_keras(file, activations=activations, **given)
        _, states = run(layer, s)
        assert_close(states, right, s, str(file))
        # Without being told, it says what it takes them to be.
        default = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "SimpleRNN": ("tanh",)}[s.kind]
        if s.kind != "GRU" or s.cell_options["use_bias"] or s.cell_options["reset_after"]:
            with pytest.warns(UserWarning, match=r"there are weights alone.*activations="):
                layer = fastrnn.from_keras(file)
            if activations == default:
                assert_close(run(layer, s)[1], right, s, str(file))


def nested(package: Any) -> Any:
    """A model with others in it, layers of every kind, and names that are not in the order of anything."""
    L = package.layers
    deepest = package.Sequential([L.Input((None, 5)), L.SimpleRNN(3, return_sequences=True, name="z")], name="deepest")
    inside = L.Input((None, 6))
    y = L.Dense(6, name="lstm")(inside)
    y = L.LSTM(4, return_sequences=True, name="b")(y)
    y = L.GRU(5, return_sequences=True, name="a")(y)
    inner = package.Model(inside, deepest(y), name="inner")
    inputs = L.Input((None, 3))
    y = L.Bidirectional(L.LSTM(3, return_sequences=True), name="bi")(L.Masking(-1.0, name="cover")(inputs))
    y = inner(y)
    y = L.LSTM(4, return_sequences=True, name="c")(y)
    y = L.TimeDistributed(L.Dense(3))(y)
    y = L.BatchNormalization()(y)
    y = L.RNN([L.LSTMCell(4), L.LSTMCell(2)], return_sequences=True, name="stack")(y)
    y = L.LSTM(3, return_sequences=True)(y)
    return package.Model(inputs, L.LSTM(3, name="an_lstm")(y))


def by_name(model: Any) -> dict[str, Any]:
    """Return every layer that is somewhere in a model."""
    found = {}
    for layer in model.layers:
        found[layer.name] = layer
        if hasattr(layer, "layers"):
            found |= {f"{layer.name}/{name}": inside for name, inside in by_name(layer).items()}
    return found


def sums(layer: Any) -> list[float]:
    return sorted(float(np.abs(w).sum()) for w in layer.get_weights())


def test_each_layer_of_a_nested_model_has_its_own_weights(package: Any, tmp_path: Path) -> None:
    model = nested(package)
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0, 1, w.shape) for w in model.get_weights()])
    files = [
        tmp_path / name for name in ("m.keras", "m.h5", "m.weights.h5", *(["w.h5"] if major(package) == 2 else []))
    ]
    for file in files[:2]:
        model.save(file)
    for file in files[2:]:
        model.save_weights(file)
    expected = {name: layer for name, layer in by_name(model).items() if hasattr(layer, "return_sequences")}
    for source in (model, *files[:2]):
        nets = {net.name: net for net in fastrnn.find_nets(source)}
        assert list(nets) == [
            each for name in expected for each in (["stack/0", "stack/1"] if name == "stack" else [name])
        ]
        for name, layer in expected.items():
            parts = [net for key, net in nets.items() if key == name or key.startswith(f"{name}/")]
            got = [w for net in parts for w in net.weights().values()]
            assert sum(map(np.sum, got)) == pytest.approx(sum(sums(layer)), rel=1e-5), (source, name)
        # The mask of the Masking layer goes through all that gives sequences.
        assert all("cover" in "".join(net.notes) for net in nets.values())
        assert all("mask=(x != -1.0)" in "".join(net.notes) for net in nets.values())
    for file in files[2:]:
        found = sorted(sum(map(np.sum, net.weights().values())) for net in fastrnn.find_nets(file))
        cells = [layer.cell.cells if name == "stack" else [layer] for name, layer in expected.items()]
        assert found == pytest.approx(sorted(sum(sums(each)) for some in cells for each in some), rel=1e-5), file


def test_layers_that_follow_each_other_become_one(package: Any, tmp_path: Path) -> None:
    L = package.layers
    for both in (False, True):
        first, second = L.LSTM(4, return_sequences=True), L.LSTM(4)
        layers = [L.Bidirectional(each) for each in (first, second)] if both else [first, second]
        model = package.Sequential([L.Input((None, 3)), *layers])
        model.save(tmp_path / "model.keras")
        x = np.random.default_rng(both).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
        names = [layer.name for layer in layers]
        lstm = fastrnn.from_keras(tmp_path / "model.keras", names)
        assert (lstm.num_layers, lstm.bidirectional) == (2, both)
        y, _ = lstm(x, return_sequence=False)
        np.testing.assert_allclose(y, as_array(model(x)), atol=1e-6)
        with pytest.raises(ValueError, match="gives its last output only"):
            fastrnn.from_keras(tmp_path / "model.keras", [names[1], names[1]])


def test_a_model_of_a_class_of_its_own(package: Any, tmp_path: Path) -> None:
    class Block(package.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inside = package.layers.GRU(4)

        def call(self, x: Any) -> Any:
            return self.inside(x)

    class Whole(package.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.reader = package.layers.LSTM(5, return_sequences=True, name="reads")
            self.block = Block()

        def call(self, x: Any) -> Any:
            return self.block(self.reader(x))

    class Own(package.layers.LSTM):  # type: ignore[misc, name-defined]
        def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
            return -super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    model = Whole()
    x = np.random.default_rng(3).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
    right = as_array(model(x))
    with pytest.warns(
        UserWarning, match="it is in Whole, whose call is not Keras': masks, states and what comes before"
    ):
        lstm, gru = (fastrnn.from_keras(model, net.name) for net in fastrnn.find_nets(model))
    _, h_n = gru(lstm(x)[0])
    np.testing.assert_allclose(h_n[0], right, atol=1e-6)
    model.save_weights(tmp_path / "whole.weights.h5")
    nets = sorted(fastrnn.find_nets(tmp_path / "whole.weights.h5"), key=lambda net: net.kind)
    assert nets[0].name == "block/inside"
    assert nets[1].kind == "LSTM"
    assert nets[1].name in ("reader", "reads", "lstm")  # by version, of its attribute, the layer or its class
    own = Own(3)
    own(x)
    with pytest.raises(ValueError, match="it is of a class Own that is not Keras', expected"):
        fastrnn.from_keras(own)


def test_what_the_model_gives_a_layer_is_told(package: Any, tmp_path: Path) -> None:
    L = package.layers
    tokens = L.Input((None,), dtype="int32")
    embedded = L.Embedding(7, 3, mask_zero=True, name="words")(tokens)
    _, *states = L.LSTM(4, return_state=True, name="encoder")(embedded)
    targets = L.Input((None, 2))
    y = L.LSTM(4, return_sequences=True, name="decoder")(targets, initial_state=states)
    model = package.Model([tokens, targets], L.GRU(3, name="last")(y))
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    for source in (model, tmp_path / "model.keras", tmp_path / "model.h5"):
        notes = {net.name: net.notes for net in fastrnn.find_nets(source)}
        assert len(notes["encoder"]) == 1
        assert "'words'" in notes["encoder"][0]
        assert "mask=tokens != 0" in notes["encoder"][0]
        assert notes["decoder"] == ("the model gives it initial states: pass them as state",)
        assert notes["last"] == ()
        with pytest.warns(UserWarning, match="'encoder': .*mask=tokens != 0"):
            fastrnn.from_keras(source, "encoder")


def test_a_layer_without_weights_yet(package: Any) -> None:
    with pytest.raises(ValueError, match=r"from_keras: .*has no weights yet: call it once, or build"):
        fastrnn.from_keras(package.layers.LSTM(3))
    assert fastrnn.find_nets(package.layers.Dense(3)) == []


def test_activations_that_are_layers(package: Any, tmp_path: Path) -> None:
    L = package.layers
    slope = "negative_slope" if major(package) == 3 else "alpha"
    for activation, expected in (
        (L.LeakyReLU(**{slope: 0.3}), ("leaky_relu", 0.3)),
        (L.ELU(alpha=0.5), ("elu", 0.5)),
        (L.ReLU(negative_slope=0.125), ("leaky_relu", 0.125)),
        (L.ReLU(), "relu"),
    ):
        model = package.Sequential([L.Input((None, 3)), L.SimpleRNN(4, activation=activation)])
        layer = fastrnn.from_keras(model)
        (got,) = layer.activations or (layer.nonlinearity,)
        assert got == expected or (got[0], pytest.approx(got[1])) == expected  # which Keras has in float32
        x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
        np.testing.assert_allclose(layer(x, return_sequence=False)[0], as_array(model(x)), atol=1e-5)
    for activation in (lambda x: x, L.ReLU(max_value=6.0), "selu", "swish"):
        model = package.Sequential([L.Input((None, 3)), L.SimpleRNN(4, activation=activation)])
        with pytest.raises(ValueError, match="its activation is"):
            fastrnn.from_keras(model)


def test_numbers_of_every_precision(package: Any, tmp_path: Path) -> None:
    L = package.layers
    for dtype in ("float64", "float32", "float16", *(["bfloat16"] if major(package) == 3 else [])):
        model = package.Sequential(
            [L.Input((None, 3), dtype=dtype), L.GRU(4, dtype=dtype, recurrent_initializer="uniform")]
        )
        model.save(tmp_path / "model.keras")
        for source in (model, tmp_path / "model.keras"):
            layer, _, told = imported(source)
            assert (f"the model computes in {dtype}, this layer in float32" in "".join(told)) is ("16" in dtype)
            its_own = np.asarray(model.get_weights()[0]).dtype  # which with JAX is no float64
            assert layer.dtype == (np.float64 if its_own == np.float64 else np.float32)
            assert layer.params["weight_ih_l0"].astype(float).sum() == pytest.approx(
                float(np.asarray(model.get_weights()[0]).astype(float).sum()), rel=1e-6
            )


def test_what_is_not_trained(package: Any, tmp_path: Path) -> None:
    """Keras lists the weights that are not trained after the others, whichever they are."""
    L = package.layers
    x = np.random.default_rng(3).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
    for kind, which in ((kind, which) for kind in ("both", "own", "stack", "named") for which in (None, 0, 1)):
        if kind in ("both", "own"):
            more = {"backward_layer": L.LSTM(3, return_sequences=True, go_backwards=True)} if kind == "own" else {}
            layer = L.Bidirectional(L.LSTM(3, return_sequences=True), **more)
        else:
            names = [{"name": "z"}, {"name": "y"}] if kind == "named" else [{}, {}]
            layer = L.RNN([L.LSTMCell(3, **name) for name in names], return_sequences=True)
        model = package.Sequential([L.Input((5, 3)), layer])
        parts = [layer.forward_layer, layer.backward_layer] if kind in ("both", "own") else layer.cell.cells
        if which is not None:
            parts[which].trainable = False
        right = as_array(model(as_tensor(package, x)))
        for source in (model, tmp_path / "m.keras", tmp_path / "m.h5"):
            if source is not model:
                model.save(source)
            y, _ = fastrnn.from_keras(source)(x)
            atol = output_tolerance(np.float32, terms=6)
            np.testing.assert_allclose(y, right, rtol=0, atol=atol, err_msg=f"{kind} {which} {source}")


def test_what_has_a_name_of_keras_and_is_not_its(package: Any, tmp_path: Path) -> None:
    """Classes and functions of somebody's own: cells, layers, wrappers and activations."""
    L = package.layers

    def own(class_: Any) -> Any:
        return type(class_.__name__, (class_,), {"__module__": __name__})

    def tanh(x: Any) -> Any:
        return x * 0.5

    lstm = own(L.LSTM)
    with package.utils.custom_object_scope({"LSTM": lstm}):
        both = L.Bidirectional(lstm(4))
    own_tanh, changed = L.LSTM(4, activation=tanh), L.GRU(4)
    changed.build((None, 5, 3))
    changed.cell.recurrent_activation = tanh
    in_files: list[Any] = [
        L.RNN(own(L.LSTMCell)(4)),
        L.RNN([L.GRUCell(4), own(L.GRUCell)(4)]),
        L.RNN(own(L.StackedRNNCells)([L.GRUCell(4)])),
        own(L.LSTM)(4),
        both,
        own(L.Bidirectional)(L.GRU(4)),
        L.SimpleRNN(4, activation=own(L.LeakyReLU)()),
    ]
    for layer in (*in_files, own_tanh, changed, L.SimpleRNN(4, activation=L.Activation(tanh))):
        model = package.Sequential([L.Input((5, 3)), layer])
        sources = [layer, model]
        if any(layer is each for each in in_files):
            # An .h5 file says of a layer no more than the name of its class, so that nothing tells it from Keras'.
            is_named_alone = type(layer).__module__ == __name__
            sources += [tmp_path / "m.keras", *([] if is_named_alone else [tmp_path / "m.h5"])]
            for path in sources[2:]:
                model.save(path)
        for source in sources:
            with pytest.raises(ValueError, match=r"that is not Keras'|which is not Keras'|its activation is"):
                fastrnn.from_keras(source)


def test_precisions_in_which_a_model_computes(package: Any, tmp_path: Path) -> None:
    L = package.layers
    for policy in ("mixed_bfloat16", "mixed_float16"):
        for layer in (
            L.LSTM(4, dtype=policy),
            L.RNN([L.GRUCell(4, dtype=policy), L.GRUCell(4, dtype=policy)], dtype=policy),
            L.Bidirectional(L.LSTM(4, dtype=policy), dtype=policy),
        ):
            model = package.Sequential([L.Input((5, 3)), layer])
            for source in (model, tmp_path / "m.keras", tmp_path / "m.h5"):
                if source is not model:
                    model.save(source)
                for net in fastrnn.find_nets(source):
                    assert f"the model computes in {policy[6:]}, this layer in float32" in "".join(net.notes)


def test_masks_that_may_be_there(package: Any, tmp_path: Path) -> None:
    L = package.layers

    class Twice(L.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return 2 * x

    x = L.Input((5, 3))
    masked = L.Masking(name="cover")(x)
    two = package.Model(x, [masked, L.Conv1D(3, 1)(masked)], name="two")(x)
    one = package.Model(x, L.Masking(name="within")(x), name="one")(x)
    read = {
        "direct": (masked, "'cover'.*axis=-1. of its input x$"),
        "own": (Twice(name="double")(masked), r"'cover'.*, if the model's layer 'double' \(Twice\) hands it on$"),
        "makes": (Twice(name="double_x")(x), r"layer 'double_x' \(Twice\) may give a mask"),
        "lambda": (L.Lambda(lambda x: 2 * x, output_shape=(5, 3), name="fn")(masked), "'cover'.*, if .*'fn'"),
        "lost": (L.Conv1D(3, 1)(masked), "^$"),
        "kept": (L.LayerNormalization()(masked), "'cover'.*input x$"),
        "first": (two[0], "'cover'.*, if what it reads of the model 'two' has that mask"),
        "second": (two[1], "'cover'.*, if what it reads of the model 'two' has that mask"),
        "whole": (one, "'within'.*input x$"),
    }
    model = package.Model(x, [L.GRU(2, name=name)(y) for name, (y, _) in read.items()])
    sources = [model, tmp_path / "m.keras", tmp_path / "m.h5"]
    for path in sources[1:]:
        model.save(path)
    for source in sources:
        notes = {net.name: " ".join(net.notes) for net in fastrnn.find_nets(source)}
        for name, (_, expected) in read.items():
            assert re.search(expected, notes[name]), (source, name, notes[name])


def test_a_configuration_that_fails(package: Any) -> None:
    class Own(package.layers.LSTM):  # type: ignore[misc, name-defined]
        def get_config(self) -> Any:
            return {**super().get_config(), "size": self.size}

    with pytest.raises(ValueError, match=r"of a class Own whose get_config fails: AttributeError: 'Own'.*'size'"):
        fastrnn.from_keras(Own(3))
