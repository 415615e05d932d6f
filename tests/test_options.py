"""What users pass, and what they are told: options, shapes and dtypes in their own words; copies, resets, reprs."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Dropout, Embedding, Linear, Modules, cross_entropy, mean_squared_error
from fastrnn.data import side_by_side, windows
from fastrnn.optim import SGD, Adam, clip_global_norm, clip_value
from layer_problems import LAYERS, VARIANTS, draw, parts
from problems import Array

T, B, I, H = 9, 5, 7, 11
F = np.float32
KINDS = tuple(LAYERS.values())
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_variant = pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)


def x(*shape: int, dtype: Any = F) -> Array:
    return draw(*(shape or (T, B, I)), dtype=dtype)


# --- options

BAD: list[tuple[str, Any, type[Exception]]] = [
    ("input_size", 3.0, TypeError),
    ("input_size", "3", TypeError),
    ("input_size", True, TypeError),
    ("input_size", np.ones(1, int), TypeError),
    ("input_size", -1, ValueError),
    ("hidden_size", 0, ValueError),
    ("num_layers", 0, ValueError),
    ("num_layers", None, TypeError),
    ("bias", 1, TypeError),
    ("bias", "yes", TypeError),
    ("bidirectional", 2, TypeError),
    ("bidirectional", None, TypeError),
    ("batch_first", 0, TypeError),
    ("dropout", 1.5, ValueError),
    ("dropout", -0.1, ValueError),
    ("dropout", "0.5", TypeError),
    ("dropout", float("nan"), ValueError),
    ("recurrent_dropout", 1.0, ValueError),
    ("recurrent_dropout", None, TypeError),
    ("zoneout", 1.0, ValueError),
    ("zoneout", (0.1, 0.1, 0.1), ValueError),
    ("zoneout", "a", TypeError),
    ("dtype", np.float16, TypeError),
    ("dtype", "float", None),
    ("dtype", "nonsense", TypeError),
    ("dtype", None, TypeError),
    ("init", "zeros", ValueError),
    ("init", 3, TypeError),
    ("seed", 1.5, TypeError),
    ("seed", -1, ValueError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD, ids=str)
@each_kind
def test_options_of_layers(kind: Any, name: str, value: Any, error: type[Exception] | None) -> None:
    arguments: dict[str, Any] = {"input_size": 3, "hidden_size": 4, "num_layers": 2, name: value}
    if error is None:
        kind(**arguments)
        return
    with pytest.raises(error, match=rf"^{kind.__name__}: {name} is "):
        kind(**arguments)


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "zoneout", "batch_first"])
def test_options_set_later_are_checked_like_those_given(name: str) -> None:
    layer = fastrnn.LSTM(3, 4, 2, seed=0)
    for bad_name, value, error in BAD:
        if bad_name == name:
            before = getattr(layer, name)
            with pytest.raises(error, match=rf"^LSTM: {name} is "):
                setattr(layer, name, value)
            assert getattr(layer, name) == before
    layer.dropout, layer.zoneout, layer.batch_first, layer.recurrent_dropout = 0.5, (0.1, 0.2), True, 0.3
    assert layer(x(2, 5, 3))[0].shape == (2, 5, 4)
    indrnn = fastrnn.IndRNN(3, 4, seed=0)
    with pytest.raises(ValueError, match="there is no weight_hh"):
        indrnn.recurrent_dropout = 0.2
    with pytest.raises(TypeError, match="GRU: training is 'no', expected a bool"):
        fastrnn.GRU(3, 4).train("no")  # type: ignore[arg-type]
    dropout = Dropout(0.1)
    with pytest.raises(ValueError, match=r"Dropout: p is 2"):
        dropout.p = 2


@each_kind
def test_what_a_layer_is_made_of_stays_so(kind: Any) -> None:
    layer = kind(3, 4, 2, seed=0)
    for name in inspect.signature(kind).parameters:
        if name in ("init", "seed") or name in kind._changeable:
            continue
        with pytest.raises(AttributeError, match=f"{kind.__name__}: {name} is fixed once it is made"):
            setattr(layer, name, getattr(layer, name))
    for module, name in ((Linear(3, 2), "out_features"), (Embedding(3, 2), "embedding_dim")):
        with pytest.raises(AttributeError, match="is fixed once it is made"):
            setattr(module, name, 5)


@pytest.mark.parametrize("integer", [np.int8, np.int64, np.uint16])
def test_numpys_integers_are_integers(integer: Any) -> None:
    for kind in KINDS:
        layer = kind(integer(3), integer(4), integer(2), seed=integer(1))
        assert layer(x(2, 2, 3))[0].shape == (2, 2, 4)
        assert type(layer.hidden_size) is int
    assert Linear(integer(3), integer(2))(x(4, 3)).shape == (4, 2)
    assert Embedding(integer(3), integer(2))(np.array([1])).shape == (1, 2)
    assert fastrnn.GRU(3, 4).stream(integer(2)).step(x(2, 3)).shape == (2, 4)
    assert fastrnn.LSTM(3, 8, proj_size=integer(2))(x(2, 2, 3))[0].shape == (2, 2, 2)
    assert len(list(windows(np.arange(9), integer(4)))) == 2
    assert side_by_side(np.arange(9), integer(2)).shape == (4, 2)


@pytest.mark.parametrize(
    ("thing", "name", "message"),
    [
        (lambda: fastrnn.GRU(3, 4), "batch_frist", "^GRU: batch_frist cannot be set: did you mean batch_first"),
        (lambda: fastrnn.LSTM(3, 4), "weight_hh_l0", r"it is a parameter: params\['weight_hh_l0'\] = "),
        (lambda: Linear(3, 4), "bias_", "did you mean bias"),
        (lambda: Dropout(0.5), "rate", "^Dropout: rate cannot be set"),
        (lambda: Adam({"p": np.ones(2)}), "learning_rate", "^Adam: learning_rate cannot be set: there are betas, "),
        (lambda: Modules(head=Linear(3, 4)), "head", "head cannot be set: make another of the modules"),
        (lambda: Modules(head=Linear(3, 4)), "haed", "haed cannot be set"),
    ],
    ids=str,
)
def test_attributes_that_would_have_no_effect_cannot_be_set(thing: Any, name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        setattr(thing(), name, 1)


def test_classes_of_ones_own_have_attributes_of_their_own() -> None:
    class Net(Modules):
        def __init__(self) -> None:
            self.rnn, self.head = fastrnn.GRU(3, 4, seed=0), Linear(4, 2, seed=0)
            super().__init__(rnn=self.rnn, head=self.head)
            self.note = "mine"

    for net in (
        Net(),
        copy.deepcopy(Net()),
        pickle.loads(pickle.dumps(Modules(rnn=fastrnn.GRU(3, 4), head=Linear(4, 2)))),
    ):
        y, _ = net.rnn(x(2, 1, 3))
        assert net.head(y).shape == (2, 1, 2)
        assert net.params["head.weight"] is net.head.params["weight"]


def test_modules_are_attributes() -> None:
    net = copy.deepcopy(Modules(rnn=fastrnn.GRU(3, 4, seed=0), inner=Modules(head=Linear(4, 2))))
    assert net.inner.head.params["weight"] is net.params["inner.head.weight"]
    with pytest.raises(AttributeError, match="there is no module or attribute hed; there are rnn, inner"):
        print(net.hed)
    for name in ("params", "grads", "train", "save"):
        with pytest.raises(ValueError, match=f"a module cannot be called {name}"):
            Modules(**{name: Linear(1, 1)})
    tied = Modules(a=Linear(4, 4, bias=False), b=Linear(4, 4, bias=False))
    tied.params["b.weight"] = tied.params["a.weight"]
    assert repr(tied).endswith("# 16 parameters")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fastrnn.GRU(3, 4, batchfirst=True), r"GRU: there is no option batchfirst: did you mean batch_first\?"),
        (lambda: fastrnn.LSTM(3, 4, numlayers=2), r"LSTM: there is no option numlayers: did you mean num_layers\?"),
        (lambda: fastrnn.RNN(3, 4, reset_after=True), "RNN: there is no option reset_after"),
        (lambda: fastrnn.GRU(3, 4, proj_size=2), r"GRU: there is no option proj_size"),
        (lambda: Linear(3, 4, biased=False), r"Linear: there is no option biased: did you mean bias\?"),
        (lambda: Dropout(prob=0.5), "Dropout: there is no option prob"),
        (lambda: Embedding(3, 4, padding_idx=0), "Embedding: there is no option padding_idx"),
    ],
)
def test_unknown_options_name_the_nearest(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@each_kind
def test_every_argument_stands_in_the_signature(kind: Any) -> None:
    for function in (kind, kind.__call__, kind.record, kind.backward, kind.stream):
        for p in inspect.signature(function).parameters.values():
            assert p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD), f"{function}: {p}"
            assert p.name == "self" or p.annotation is not p.empty, f"{function}: {p}"


def test_options_that_have_no_effect_are_told() -> None:
    with pytest.warns(UserWarning, match="LSTM: dropout is 0.5 and num_layers 1: it has no effect") as told:
        layer = fastrnn.LSTM(3, 4, dropout=0.5)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"dropout is 0\.25") as told:
        layer.dropout = 0.25
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastrnn.LSTM(3, 4, 2, dropout=0.5)
        fastrnn.LSTM(3, 4).dropout = 0.0


def test_dropout_of_everything() -> None:
    """As in PyTorch, p may be 1: then nothing passes, and nothing is NaN."""
    layer = fastrnn.GRU(I, H, 2, dropout=1.0, seed=0)
    y, _ = layer(x())
    dx, _ = layer.backward(np.ones_like(y))
    assert np.isfinite(y).all()
    assert dx is not None
    assert not dx.any()
    assert not Dropout(1.0)(x()).any()


# --- calls

Y = np.ones((T, B, H), F)
CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fastrnn.GRU(4, 5)(np.ones((3, 2, 4))),
        TypeError,
        r"^GRU: x is float64, the layer is float32: x\.astype\(np\.float32\), or GRU\(\.\.\., dtype=np\.float64\)$",
    ),
    (lambda: fastrnn.GRU(4, 5, dtype="d")(x(3, 2, 4)), TypeError, "^GRU: x is float32, the layer is float64"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4).astype(np.float16)), TypeError, r"^GRU: x is float16, .*x\.astype"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4) > 0), TypeError, "^GRU: x is bool"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4).astype(complex)), TypeError, "^GRU: x is complex128"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4).astype(object)), TypeError, "^GRU: x is object"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4).astype(">f4")), TypeError, "^GRU: x is >f4"),
    (
        lambda: fastrnn.GRU(4, 5)([[1.0]]),
        TypeError,
        r"^GRU: x is a list, expected a NumPy array: np\.asarray\(x, np\.float32\)",
    ),
    (
        lambda: fastrnn.IndRNN(4, 5)(np.zeros((3, 2), ">i8")),
        TypeError,
        r"^IndRNN: x is >i8, expected the byte order of this machine: x\.astype\(np\.int64\)",
    ),
    (
        lambda: fastrnn.GRU(4, 5, bidirectional=True).eval()(x(3, 2, 4), recompute=True),
        ValueError,
        "^GRU: recompute goes",
    ),
    (lambda: fastrnn.LSTM(4, 5)(x(3, 2, 4), ([[0.0]], None)), TypeError, r"state's h is a list.*: np\.asarray\(h\)"),
    (lambda: fastrnn.GRU(4, 5)(1.0), TypeError, "^GRU: x is a float, expected a NumPy array"),
    (lambda: fastrnn.GRU(4, 5)(None), TypeError, "^GRU: x is None, expected a NumPy array$"),
    (
        lambda: Linear(5, 2)(fastrnn.GRU(4, 5)(x(3, 2, 4))),
        TypeError,
        r"x is a tuple.* returns, \(y, state\), the first",
    ),
    (lambda: fastrnn.GRU(4, 5).record(x(3, 2, 4)).backward(0.5), TypeError, "dy is a float.* the gradient beside"),
    (
        lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths=np.ones((3, 2), bool)),
        TypeError,
        r"lengths is .*bool.*its sum over the steps, \.sum\(axis=0\)",
    ),
    (
        lambda: cross_entropy(x(5, 3), x(5, 3)),
        ValueError,
        r"targets has shape \(5, 3\).*: of one-hot rows, targets\.argmax",
    ),
    (lambda: cross_entropy(x(2, 3, 7), np.zeros((2, 7), int)), ValueError, r"np\.moveaxis\(logits, 1, -1\)"),
    (lambda: cross_entropy(x(2, 3), np.array([1, -100])), ValueError, "or ignore_index=-100"),
    (lambda: Adam(Linear(2, 2)), TypeError, r"^Adam: params is a Linear, expected arrays by name, as module\.params"),
    (lambda: fastrnn.LSTM(4, 5)(x(3, 2, 7)), ValueError, r"^LSTM: x has shape \(3, 2, 7\), expected \(T, B, 4\)"),
    (
        lambda: fastrnn.LSTM(4, 5, batch_first=True)(x(3, 2, 7)),
        ValueError,
        r"^LSTM: x has shape \(3, 2, 7\), expected \(B, T, 4\), or \(T, 4\) for one sequence$",
    ),
    (
        lambda: fastrnn.GRU(1, 16, batch_first=True)(x(4, 10)),
        ValueError,
        r"^GRU: x has shape \(4, 10\), expected \(B, T, 1\).*a missing last axis\? x\[\.\.\., None\]$",
    ),
    (lambda: fastrnn.GRU(1, 16)(x(4)), ValueError, r"^GRU: x has shape \(4,\).*x\[\.\.\., None\]$"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4, 1)), ValueError, r"^GRU: x has shape \(3, 2, 4, 1\)"),
    (
        lambda: fastrnn.GRU(4, 5)(np.ones((3, 2, 4), int)),
        ValueError,
        r"^GRU: x has integers, which are tokens, of shape \(3, 2, 4\), expected \(T, B\) .*; for numbers, x\.astype",
    ),
    (
        lambda: fastrnn.GRU(4, 5)(np.array([[1, 2], [9, 0]])),
        ValueError,
        r"^GRU: x\[1, 0\] is token 9, expected 0 to I-1 = 3",
    ),
    (lambda: fastrnn.GRU(4, 5)(np.array([1, -2])), ValueError, r"^GRU: x\[1\] is token -2, expected 0 to I-1 = 3"),
    (
        lambda: fastrnn.GRU(4, 5, batch_first=True)(np.array([[1, 2, 9], [9, 1, 1]]), lengths=[2, 1]),
        ValueError,
        r"^GRU: x\[1, 0\] is token 9",
    ),
    (
        lambda: fastrnn.GRU(4, 5, bidirectional=True)(np.array([[1, 2], [9, 0], [0, 9]]), lengths=[1, 3]),
        ValueError,
        r"^GRU: x\[2, 1\] is token 9",
    ),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), [1, 2]), TypeError, "^GRU: state is 2 of them, expected one array"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), 1.0), TypeError, "^GRU: state is a float, expected a NumPy array"),
    (lambda: fastrnn.LSTM(4, 5)(x(3, 2, 4), x(1, 2, 5)), TypeError, r"^LSTM: state is one array, expected the tuple"),
    (lambda: fastrnn.LSTM(4, 5)(x(3, 2, 4), (None,) * 3), TypeError, r"^LSTM: state is 3 of them, expected the tuple"),
    (
        lambda: fastrnn.LSTM(4, 5)(x(3, 2, 4), (x(1, 2, 5), x(1, 3, 5))),
        ValueError,
        r"^LSTM: state's c has shape \(1, 3, 5\), expected \(L\*D, B, units\) = \(1, 2, 5\)$",
    ),
    (
        lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), x(1, 2, 5, dtype=np.float64)),
        TypeError,
        "^GRU: state is float64, expected float32",
    ),
    (lambda: fastrnn.GRU(4, 5)(x(3, 4), x(1, 2, 5)), ValueError, r"expected .* = \(1, 1, 5\), or \(1, 5\)$"),
    (
        lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths=3),
        ValueError,
        r"^GRU: lengths has shape \(\), expected \(B,\) = \(2,\)",
    ),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths="ab"), TypeError, "^GRU: lengths is 'ab', expected integers"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths=[1.0, 2.0]), TypeError, "^GRU: lengths is .*expected integers"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths=[1, [2]]), TypeError, "^GRU: lengths is .*expected integers"),
    (
        lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), lengths=[1, 4]),
        ValueError,
        "^GRU: lengths has 1 to 4, expected 0 to T = 3",
    ),
    (
        lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), return_sequence=1),
        TypeError,
        "^GRU: return_sequence is 1, expected a bool",
    ),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), trace="yes"), TypeError, "^GRU: trace is 'yes', expected a bool"),
    (lambda: fastrnn.GRU(4, 5)(x(3, 2, 4), recompute=None), TypeError, "^GRU: recompute is None, expected a bool"),
    (
        lambda: Linear(4, 5)(x(3, 2, 4, dtype=np.float64)),
        TypeError,
        r"^Linear: x is float64, the module is float32: x\.a",
    ),
    (
        lambda: Linear(1, 5)(x(3)),
        ValueError,
        r"^Linear: x has shape \(3,\), expected \(\.\.\., 1\): a missing last axis\?",
    ),
    (lambda: Linear(4, 5)(np.float32(1)), TypeError, "^Linear: x is a float32, expected a NumPy array"),
    (lambda: Embedding(4, 5)([1, 2]), TypeError, "^Embedding: tokens is a list, expected a NumPy array"),
    (lambda: Embedding(4, 5)(x(3)), TypeError, "^Embedding: tokens is float32, expected integers"),
    (lambda: Dropout(0.5)([1.0]), TypeError, "^Dropout: x is a list"),
    (lambda: Dropout(0.5)(np.ones(3, int)), TypeError, "^Dropout: x is int64, expected float32 or float64"),
    (lambda: Modules(a=Linear(2, 3), b=3), TypeError, "^Modules: b is 3, expected a module"),
    (lambda: cross_entropy([1.0, 2.0], 0), TypeError, "^cross_entropy: logits is a list, expected a NumPy array"),
    (
        lambda: cross_entropy(np.ones((2, 3), int), np.ones(2, int)),
        TypeError,
        r"^cross_entropy: logits is int64, expected f",
    ),
    (lambda: cross_entropy(x(2, 3), [0, 1]), TypeError, "^cross_entropy: targets is a list"),
    (lambda: cross_entropy(x(2, 3), 1), TypeError, "^cross_entropy: targets is an int, expected"),
    (lambda: cross_entropy(x(2, 3), x(2)), TypeError, "^cross_entropy: targets is float32, expected integers"),
    (lambda: cross_entropy(np.float32(3), np.array(1)), TypeError, "^cross_entropy: logits is a float32"),
    (
        lambda: cross_entropy(x(2, 3), np.zeros(2, int), ignore_index="a"),
        TypeError,
        "ignore_index is 'a', expected an int",
    ),
    (
        lambda: cross_entropy(x(2, 3), np.array([0, 3]), ignore_index=-1),
        ValueError,
        "targets has 0 to 3, expected 0 to 2",
    ),
    (lambda: mean_squared_error(x(2, 3), 1.0), TypeError, "^mean_squared_error: target is a float"),
    (lambda: mean_squared_error(np.ones(3, int), np.ones(3)), TypeError, "^mean_squared_error: y is int64"),
    (
        lambda: mean_squared_error(x(2, 3), x(3, 2)),
        ValueError,
        r"^mean_squared_error: target has shape \(3, 2\), expected",
    ),
    (lambda: mean_squared_error(x(3), np.array(["a"] * 3)), TypeError, "^mean_squared_error: target is <U1"),
    (
        lambda: windows(np.arange(5), 8),
        ValueError,
        r"^windows: streams has shape \(5,\), expected .* at least steps \+ 1 = 9",
    ),
    (lambda: windows(np.arange(5), 5), ValueError, "^windows: streams has shape"),
    (lambda: windows([1, 2, 3], 1), TypeError, "^windows: streams is a list"),
    (lambda: windows(np.arange(5), 1.5), TypeError, "^windows: steps is 1.5, expected an int"),
    (
        lambda: side_by_side(np.arange(3), 4),
        ValueError,
        r"^side_by_side: sequence has shape \(3,\), expected .*batch = 4",
    ),
    (lambda: side_by_side(np.array(3), 1), ValueError, r"^side_by_side: sequence has shape \(\)"),
    (lambda: fastrnn.GRU(4, 5).stream(tokens=1), TypeError, "^GRU.stream: tokens is 1, expected a bool"),
    (lambda: fastrnn.GRU(4, 5).load_state_dict([1]), TypeError, r"^GRU\.load_state_dict: state_dict is \[1\]"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_messages_are_in_the_users_words(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_other_libraries_have_is_named_with_the_way_out() -> None:
    torch = type("Tensor", (), {"__module__": "torch"})()
    pandas = type("DataFrame", (), {"__module__": "pandas.core.frame"})()
    with pytest.raises(TypeError, match=r"GRU: x is a Tensor, expected a NumPy array: x\.numpy\(force=True\)"):
        fastrnn.GRU(4, 5)(torch)
    with pytest.raises(
        TypeError, match=r"Linear: x is a DataFrame, expected a NumPy array: x\.to_numpy\(np\.float32\)"
    ):
        Linear(4, 5)(pandas)


@pytest.mark.parametrize("shape", ["tuple", "list"])
def test_one_of_two_states_may_be_missing(shape: str) -> None:
    layer = fastrnn.LSTM(I, H, 2, seed=0)
    h, c = draw(2, B, H, dtype=F), draw(2, B, H, dtype=F, seed=1)
    zeros, make = np.zeros_like(h), tuple if shape == "tuple" else list
    for given, whole in (
        ((h, None), (h, zeros)),
        ((None, c), (zeros, c)),
        ((None, None), (zeros, zeros)),
        ((h, c), (h, c)),
    ):
        y, state = layer(x(), make(given))
        expected, right = layer(x(), whole)
        assert np.array_equal(y, expected)
        for a, b in zip(parts(state), parts(right), strict=True):
            assert np.array_equal(a, b)
        dx, _ = layer.backward(y, make(given))
        assert np.array_equal(dx, layer.backward(y, whole)[0])
    stream = layer.stream(B)
    stream.state = make((h, None))
    for a, b in zip(parts(stream.state), (h, zeros), strict=True):
        assert np.array_equal(a, b)
    one = fastrnn.GRU(I, H, seed=0)
    assert np.array_equal(one(x(), [h[:1]])[0], one(x(), h[:1])[0])


def test_tokens_past_the_end_count_nothing() -> None:
    """They may be anything, such as -1, which fills up short sequences."""
    for batch_first in (False, True):
        layer = fastrnn.GRU(4, 5, batch_first=batch_first, seed=0)
        tokens = np.array([[1, 2, -1], [3, -1, 99]])
        given = tokens if batch_first else tokens.T
        y, _ = layer(given, lengths=[2, 1])
        clean = np.where((tokens < 0) | (tokens > 3), 0, tokens)
        assert np.array_equal(y, layer(clean if batch_first else clean.T, lengths=[2, 1])[0])


def test_kinds_of_arrays() -> None:
    """Subclasses of arrays are the plain arrays that they hold."""

    class Special(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("it is to be taken as a plain array")

    layer = fastrnn.GRU(4, 5, seed=0)
    tokens = np.array([[1, 2], [3, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subclasses = tokens.view(Special), np.asmatrix(tokens)
    for lengths in (None, [2, 1]):
        expected = layer(tokens, lengths=lengths)[0]
        for special in subclasses:
            got = layer(special, lengths=lengths)[0]
            assert type(got) is np.ndarray
            assert np.array_equal(got, expected)
    assert np.array_equal(layer(tokens, lengths=np.array([2, 1], np.uint8))[0], layer(tokens, lengths=(2, 1))[0])
    assert layer(np.zeros((3, 0), int), lengths=[])[0].shape == (3, 0, 5)


def test_nothing_is_half_loaded_where_a_number_does_not_fit() -> None:
    layer = Linear(3, 2, seed=0)
    with np.errstate(all="raise"):
        for value in (1e-300, np.inf, np.nan):
            layer.load_state_dict({"weight": np.ones((2, 3)), "bias": np.full(2, value)})
            assert (layer.params["weight"] == 1).all()
        with pytest.raises(ValueError, match="load_state_dict: bias has float64 numbers that float32 has not"):
            layer.load_state_dict({"weight": np.zeros((2, 3)), "bias": np.full(2, 1e300)})
        assert (layer.params["weight"] == 1).all()
        clip_value([np.ones(3, F)], 1e300)
        limited = fastrnn.LSTM(2, 3, cell_clip=1e300, gate_clip=1e-300, seed=0)
        assert np.isfinite(limited(x(4, 1, 2))[0]).all()
    with pytest.raises(TypeError, match=r"load_state_dict: weight is .*, expected numbers"):
        layer.load_state_dict({"weight": [[1], [1, 2]], "bias": [1, 2]})


def test_training_of_several_is_training_of_each() -> None:
    net = Modules(rnn=fastrnn.LSTM(2, 3, 2, dropout=0.5), inner=Modules(drop=Dropout(0.5)))
    net.training = False
    assert not (net.rnn.training)
    assert not (net.inner.training)
    assert not (net.inner.drop.training)
    assert net.train() is net
    assert net.rnn.training
    assert net.inner.drop.training
    with pytest.raises(TypeError, match=r"^Modules: training is 1, expected a bool"):
        net.training = 1


def test_modules_that_go_their_own_way() -> None:
    class Encoder(fastrnn.GRU):
        def train(self, mode: bool = True) -> fastrnn.Module:
            return super().train(False)

    class Net(Modules):
        def head(self) -> None: ...

        @property
        def broken(self) -> Any:
            return self.nothing

    net = Net(encoder=Encoder(2, 3, seed=0), drop=Dropout(0.5))
    assert not net.train().encoder.training
    assert net.drop.training
    assert {"encoder", "drop", "params"} <= set(dir(net))
    with pytest.raises(AttributeError, match="nothing"):
        print(net.broken)
    for name in ("head", "training", "_params", "_modules"):
        with pytest.raises(ValueError, match=f"a module cannot be called {name}"):
            Net(**{name: Linear(2, 2)})
    with pytest.raises(AttributeError, match="decoder would be none of its modules"):
        net.decoder = Linear(2, 2)
    with pytest.raises(AttributeError, match="drop cannot be set"):
        net.drop = Dropout(0.1)
    net._mean = copy.deepcopy(net)
    net.note = "mine"


def test_names_that_would_collide() -> None:
    with pytest.raises(ValueError, match=r"'a\.b' has a dot"):
        Modules(**{"a": Modules(b=Linear(2, 2)), "a.b": Linear(2, 2)})


def test_numbers_beyond_all_bounds() -> None:
    huge = 10**400
    calls: list[Callable[[], Any]] = [
        lambda: fastrnn.LSTM(2, 3, cell_clip=huge),
        lambda: fastrnn.LSTM(2, 3, 2, dropout=huge),
        lambda: fastrnn.GRU(2, 3, zoneout=huge),
        lambda: Dropout(huge),
        lambda: clip_global_norm([np.ones(2)], huge),
        lambda: clip_value([np.ones(2)], huge),
        lambda: setattr(Adam({"p": np.ones(2)}), "steps", huge),
        lambda: fastrnn.GRU(2**62, 2**62),
        lambda: Linear(2**40, 2**40),
        lambda: Embedding(2**40, 2**40),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^\w+: \w+"):
            call()


def test_what_numbers_are_drawn_from() -> None:
    for made in (fastrnn.LSTM(2, 3, 2, dropout=0.5, seed=0), Dropout(0.5, seed=0)):
        made.rng = np.random.default_rng(1)
        for bad in (3, None, np.random.RandomState(0), np.random):
            with pytest.raises(TypeError, match=r"rng is .*, expected np\.random\.default_rng"):
                made.rng = bad


def test_calls_are_neither_copied_nor_pickled() -> None:
    for call in (fastrnn.GRU(2, 3).record(x(4, 1, 2)), Linear(2, 3).record(x(4, 2)), Dropout(0.5).record(x(4))):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a call cannot be copied or pickled"):
                way(call)


def test_dropout_of_one_number() -> None:
    for p in (0.0, 0.5, 1.0):
        y = Dropout(p, seed=0)(np.array(3.0, F))
        assert y.shape == ()
        assert y in (0, 3, 6)


def test_ties_are_kept_or_named() -> None:
    one, other = fastrnn.GRU(4, 4, 2, seed=0), fastrnn.GRU(4, 4, seed=1)
    one.params["weight_ih_l0"] = one.params["weight_hh_l0"]
    for layer in (one.freeze(), copy.deepcopy(one), one.unfreeze()):
        assert layer.params["weight_ih_l0"] is layer.params["weight_hh_l0"]
    other.params["weight_hh_l0"] = one.params["weight_hh_l1"]
    for layer, name in ((one, "weight_hh_l1"), (other, "weight_hh_l0")):
        for change in (layer.freeze, layer.unfreeze):
            with pytest.raises(ValueError, match=f"{name} is tied to a parameter of another module"):
                change()
        assert other.params["weight_hh_l0"] is one.params["weight_hh_l1"]
    other.params["weight_hh_l0"] = other.params["weight_hh_l0"].copy()
    one.freeze()
    other.freeze()
    memory = np.zeros(48, F)  # and ties by views of the same memory
    one, other = fastrnn.GRU(4, 4, 2, seed=0), fastrnn.GRU(4, 4, seed=1)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        one.params[name] = memory.reshape(12, 4)
    one.freeze().unfreeze()
    assert one.params["weight_hh_l0"] is one.params["weight_hh_l1"]
    one.params["weight_hh_l0"], other.params["weight_hh_l0"] = memory.reshape(12, 4), memory.reshape(12, 4)
    with pytest.raises(ValueError, match="weight_hh_l0 is tied to a parameter of another module"):
        other.freeze()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 1e-38, 1e-45], ids=str)
def test_nothing_stops_half_way_over_numbers_at_the_edge(value: float) -> None:
    """Where NumPy has been told to raise: infinities, NaN and denormals are results like any others."""

    def like(a: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.full_like(a, value)

    edge = like(np.empty((30, 2, 4), F))
    with np.errstate(all="raise"):
        for bidirectional, sequence, proj_size in itertools.product((False, True), (False, True), (0, 2)):
            layer = fastrnn.LSTM(4, 5, 2, bidirectional=bidirectional, dropout=0.5, proj_size=proj_size, seed=0)
            for lengths in (None, [30, 3]):
                y, state = layer(edge, lengths=lengths, return_sequence=sequence)
                layer.backward(like(y), tuple(like(s) for s in state))
        Dropout(0.5, seed=0)(edge)
        for module in (Linear(4, 3, seed=0), Linear(4, 3, seed=0, dtype=np.float64)):
            for rows in (edge, edge[:1]):
                module.backward(like(module(rows.astype(module.dtype))))
        embedding = fastrnn.Embedding(3, 4, seed=0)
        embedding.backward(like(embedding(np.zeros(9, int))))
        for loss, dy in (cross_entropy(edge, np.ones((30, 2), int)), mean_squared_error(edge, -edge)):
            assert dy.shape == edge.shape, loss
        params = {name: np.ones(4, F) for name in "abc"} | {name: like(np.empty(4, F)) for name in "de"}
        params["tied"] = params["a"]
        for optimiser in (SGD(params, lr=1e-30, momentum=0.9), Adam(params, weight_decay=1e-30), Adam(params, lr=1e30)):
            optimiser.step({name: like(np.empty(4, F)) for name in params})
        grads = [like(np.empty(4, F)) for _ in range(3)]
        clip_global_norm(grads, 1e-40)
        clip_value(grads, 1.0)


# --- losses


def test_a_loss_has_the_dtype_of_its_input() -> None:
    for dtype, other in ((F, np.float64), (np.float64, F)):
        y = x(2, 3, dtype=dtype)
        for target in (y.astype(other), np.ones((2, 3), int), np.ones((2, 3), bool)):
            loss, gradient = mean_squared_error(y, target)
            assert gradient.dtype == dtype
            assert loss == pytest.approx(float(((y.astype(np.float64) - target) ** 2).mean()))
        assert cross_entropy(y, np.array([0, 1], np.uint8))[1].dtype == dtype


@pytest.mark.parametrize("ignored", [-100, -1, 0, 2, 255])
def test_ignore_index(ignored: int) -> None:
    logits, targets = draw(6, 4, 3), np.arange(24).reshape(6, 4) % 3
    targets[::2, 1] = ignored
    loss, gradient = cross_entropy(logits, targets, ignore_index=ignored)
    mask = targets != ignored
    right, expected = cross_entropy(logits, np.where(mask, targets, 0), mask=mask)
    assert loss == pytest.approx(right, rel=1e-14)
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)
    assert not gradient[~mask].any()
    both = mask & (np.arange(24).reshape(6, 4) > 5)
    assert cross_entropy(logits, targets, mask=np.arange(24).reshape(6, 4) > 5, ignore_index=ignored)[
        0
    ] == pytest.approx(cross_entropy(logits, np.where(both, targets, 0), mask=both)[0])
    nothing, zeros = cross_entropy(logits, np.full((6, 4), ignored), ignore_index=ignored)
    assert nothing == 0
    assert not zeros.any()


def test_targets_that_do_not_count_may_be_anything() -> None:
    logits, mask = draw(3, 4), np.array([True, False, True])
    loss, gradient = cross_entropy(logits, np.array([1, -1, 3]), mask=mask)
    assert loss == pytest.approx(cross_entropy(logits[[0, 2]], np.array([1, 3]))[0])
    assert not gradient[1].any()
    with pytest.raises(ValueError, match="targets has -1 to 1"):
        cross_entropy(logits, np.array([-1, 9, 1]), mask=mask)


# --- copies


@each_variant
def test_copies_of_layers_are_apart_and_not_frozen(family: str, options: dict[str, Any]) -> None:
    given = x()
    for frozen in (False, True):
        layer = LAYERS[family](I, H, 2, dropout=0.1, zoneout=0.0, seed=0, **options)
        y, _ = layer(given)
        if frozen:
            layer.freeze()
        expected = layer.eval()(given)[0]
        for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert np.array_equal(other(given)[0], expected)
            assert repr(other) == repr(layer)
            for p in other.params.values():
                p[...] = 0
            assert np.array_equal(layer(given)[0], expected)
            assert not np.array_equal(other(given)[0], expected)
            assert not other.grads
            with pytest.raises(RuntimeError, match="there was no call"):
                other.backward()
        layer.train().backward(y)


def test_copies_of_other_modules() -> None:
    for module in (Linear(3, 2, seed=0), Embedding(5, 2, seed=0), Dropout(0.5, seed=0)):
        given: Any = np.array([1, 2]) if isinstance(module, Embedding) else x(4, 3)
        for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert np.array_equal(other(given), copy.deepcopy(module)(given))
            for p in other.params.values():
                p[...] = 0
            assert all(p.any() for p in module.params.values())
    net = Modules(rnn=fastrnn.GRU(3, 4, seed=0), head=Linear(4, 2, seed=0))
    for other_net in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for name in net.params:
            other_net.params[name][...] = 0
        assert all(p.any() for p in net.params.values())
        assert list(other_net.params) == list(net.params)


def test_copies_keep_what_is_tied() -> None:
    embedding, decoder = Embedding(5, 4, seed=0), Linear(4, 5, bias=False)
    decoder.params["weight"] = embedding.params["weight"]
    for other in (copy.deepcopy(Modules(e=embedding, d=decoder)), copy.copy(Modules(e=embedding, d=decoder))):
        assert other.params["e.weight"] is other.params["d.weight"] is not embedding.params["weight"]


@each_variant
def test_copies_of_streams_go_their_own_way(family: str, options: dict[str, Any]) -> None:
    layer = LAYERS[family](I, H, 2, seed=0, **options)
    stream, step = layer.stream(3), x(3, I)
    stream.step(step)
    before = [a.copy() for a in parts(stream.state)]
    others = [copy.copy(stream), copy.deepcopy(stream), stream.copy()]
    expected = stream.step(step)
    for other in others:
        for a, b in zip(parts(other.state), before, strict=True):
            assert np.array_equal(a, b)
        assert np.array_equal(other.step(step), expected)
    with pytest.raises(TypeError, match="a stream cannot be pickled: pickle its layer and its state"):
        pickle.dumps(stream)


def test_one_module_has_one_name() -> None:
    linear = Linear(3, 3)
    with pytest.raises(ValueError, match="Modules: a and b are the same module: give it one name"):
        Modules(a=linear, b=linear)
    with pytest.raises(ValueError, match=r"Modules: a and net\.inner are the same module"):
        Modules(a=linear, net=Modules(inner=linear))


# --- streams


@pytest.mark.parametrize(
    ("rows", "meant"),
    [
        (None, [0, 1, 2]),
        (..., [0, 1, 2]),
        (1, [1]),
        (-1, [2]),
        (np.int64(2), [2]),
        ([1], [1]),
        ([0, 2], [0, 2]),
        (np.array([0, 2]), [0, 2]),
        (range(1, 3), [1, 2]),
        ((2, 1), [1, 2]),
        ([], []),
        (np.array([], int), []),
        (slice(1, None), [1, 2]),
        (np.array([True, False, True]), [0, 2]),
        ([False, True, False], [1]),
        (np.array([1, 0, 0]), [0]),
        (np.array([0, 0, 1], np.uint8), [2]),
        ([0, 1, 1], [1, 2]),
        (np.array([0, 0, 0]), []),
        (np.array([1, 1, 1]), [0, 1, 2]),
        (np.array([1.0, 0.0, 1.0]), [0, 2]),
        ([0.0, 0.0, 0.0], []),
        (np.zeros(3, np.float32), []),
    ],
    ids=repr,
)
def test_resets_of_the_rows_that_are_meant(rows: Any, meant: list[int]) -> None:
    """Numbers of rows, and masks of the ends of episodes in whatever dtype they come."""
    for layer in (fastrnn.GRU(I, H, 2, seed=0), fastrnn.LSTM(I, H, seed=0), fastrnn.LSTM(I, H, proj_size=3, seed=0)):
        stream = layer.stream(3)
        stream.step(x(3, I))
        before = [a.copy() for a in parts(stream.state)]
        stream.reset(rows)
        for a, b in zip(parts(stream.state), before, strict=True):
            for row in range(3):
                assert np.array_equal(a[:, row], 0 * b[:, row] if row in meant else b[:, row])


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_array_is_a_mask_whatever_is_in_it(batch: int) -> None:
    for ends in itertools.product((0, 1), repeat=batch):
        for dtype in (bool, np.int64, np.uint8, np.float32):
            stream = fastrnn.GRU(I, H, seed=0).stream(batch)
            stream.step(x(batch, I))
            before = stream.state
            stream.reset(np.array(ends, dtype))
            for row, end in enumerate(ends):
                assert np.array_equal(stream.state[:, row], 0 * before[:, row] if end else before[:, row])


@pytest.mark.parametrize(("batch", "rows"), [(1, [0]), (2, [0, 1]), (2, (1, 0))], ids=str)
def test_lists_that_may_be_either(batch: int, rows: Any) -> None:
    stream = fastrnn.GRU(I, H, seed=0).stream(batch)
    stream.step(x(batch, I))
    before = stream.state
    with pytest.raises(ValueError, match="may be numbers of rows or a mask"):
        stream.reset(rows)
    assert np.array_equal(stream.state, before)


def test_the_end_of_the_only_episode() -> None:
    stream = fastrnn.GRU(I, H, seed=0).stream()
    stream.step(x(1, I))
    before = stream.state
    stream.reset(False)
    stream.reset(np.bool_(False))
    assert np.array_equal(stream.state, before)
    stream.reset(True)
    assert not stream.state.any()
    with pytest.raises(TypeError, match="rows is True"):
        fastrnn.GRU(I, H, seed=0).stream(2).reset(True)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([3], ValueError),
        ([-4], ValueError),
        ([0.5, 0.0, 1.0], ValueError),
        ([True, False], ValueError),
        ([1.0], ValueError),
        (np.nan, TypeError),
        (np.array([0, 2, 1]), ValueError),
        ("all", TypeError),
        ([[1]], TypeError),
        ([1, "a"], TypeError),
        ({1}, TypeError),
    ],
    ids=repr,
)
def test_bad_resets(rows: Any, error: type[Exception]) -> None:
    stream = fastrnn.GRU(I, H, seed=0).stream(3)
    stream.step(x(3, I))
    before = stream.state
    with pytest.raises(error, match=r"Stream\.reset: rows"):
        stream.reset(rows)
    assert np.array_equal(stream.state, before)


# --- what things look like


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        (
            fastrnn.GRU(16, 32, num_layers=2, bidirectional=True),
            "GRU(16, 32, num_layers=2, bidirectional=True)  # 28,416 p",
        ),
        (
            fastrnn.LSTM(3, 4, dtype=np.float64, cell_clip=3),
            "LSTM(3, 4, cell_clip=3.0, dtype=np.float64)  # 144 parameters",
        ),
        (
            fastrnn.RNN(3, 4, nonlinearity="relu", bias=False),
            "RNN(3, 4, nonlinearity='relu', bias=False)  # 28 parameters",
        ),
        (fastrnn.LSTM(3, 4, zoneout=(0.1, 0.2)), "LSTM(3, 4, zoneout=(0.1, 0.2))  # 144 parameters"),
        (Linear(3, 2, bias=False), "Linear(3, 2, bias=False)  # 6 parameters"),
        (Embedding(1000, 20), "Embedding(1000, 20)  # 20,000 parameters"),
        (Dropout(0.25), "Dropout(0.25)"),
        (
            Modules(rnn=fastrnn.GRU(3, 4), head=Linear(4, 2)),
            "Modules(\n    rnn=GRU(3, 4),  # 108 parameters\n    head=Linear(4, 2),  # 10 parameters\n)  # 118 p",
        ),
        (fastrnn.GRU(3, 4, 2).stream(5, tokens=True), "GRU(3, 4, num_layers=2).stream(5, tokens=True)"),
        (Linear(3, 2).record(np.ones((4, 3), F)), "<ModuleCall: y float32 of shape (4, 2)>"),
        (fastrnn.GRU(3, 4).record(np.ones((4, 2, 3), F)), "<Call of GRU(3, 4): y float32 of shape (4, 2, 4)>"),
        (Linear(2, 1).params, "<parameters of Linear: weight: float32 (1, 2), bias: float32 (1,)>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reprs(thing: Any, shown: str) -> None:
    assert repr(thing).startswith(shown)


@pytest.mark.parametrize("layer", [kind(3, 4, num_layers=2, seed=0) for kind in KINDS], ids=repr)
def test_what_is_shown_makes_another(layer: fastrnn.Layer) -> None:
    other = eval(repr(layer), {**vars(fastrnn), "np": np})
    assert type(other) is type(layer)
    assert {n: p.shape for n, p in other.params.items()} == {n: p.shape for n, p in layer.params.items()}


def test_parameters_are_a_mapping() -> None:
    net = Modules(rnn=fastrnn.GRU(3, 4, seed=0), head=Linear(4, 2, seed=0))
    assert len(net.params) == len(list(net.params)) == 6
    assert "head.bias" in net.params
    assert "bias" not in net.params
    assert 3 not in net.params
    assert net.params.get("nothing") is None
    assert dict(net.params).keys() == (net.params | {"more": np.ones(1)}).keys() - {"more"}
    assert ({"more": np.ones(1)} | net.params).keys() == {"more", *net.params}
    assert net.params.copy().keys() == net.params.keys()
    new = np.ones(2, F)
    net.params.update({"head.bias": new})
    assert net._modules["head"].params["bias"] is new
    with pytest.raises(KeyError):
        net.params["rnn.bias"]
