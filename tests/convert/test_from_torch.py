"""Weights under PyTorch's names become layers, whatever they lie in; none of this needs PyTorch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastrnn
from fastrnn.files import save_arrays
from problems import Array

I, H = 3, 4
SAYS_TANH = pytest.mark.filterwarnings("ignore:from_torch.*taken as tanh:UserWarning")
KINDS: list[tuple[type[fastrnn.Layer], dict[str, Any]]] = [
    (kind, options)
    for kind in (fastrnn.RNN, fastrnn.GRU, fastrnn.LSTM)
    for options in (
        {},
        {"num_layers": 3},
        {"bias": False},
        {"num_layers": 2, "bidirectional": True},
        {"dtype": np.float64},
        {"input_size": 1, "hidden_size": 1},
    )
] + [(fastrnn.LSTM, {"proj_size": 2}), (fastrnn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True})]


def made(kind: type[fastrnn.Layer], options: dict[str, Any]) -> fastrnn.Layer:
    return kind(**{"input_size": I, "hidden_size": H, "seed": 0, **options})


def assert_same(got: fastrnn.Layer, right: fastrnn.Layer) -> None:
    """The same layer: its options, and the bits of its parameters."""
    assert repr(got) == repr(right)
    assert list(got.params) == list(right.params)
    for name, p in right.params.items():
        assert got.params[name].tobytes() == p.tobytes()
        assert not np.shares_memory(got.params[name], p)
    assert not got.training


@SAYS_TANH
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_dicts_in_any_order_under_any_name(kind: type[fastrnn.Layer], options: dict[str, Any], tmp_path: Path) -> None:
    layer = made(kind, options)
    state = layer.state_dict()
    upside_down = dict(reversed(state.items()))
    for prefix in ("", "lstm.", "encoder.rnn.", "module.", "_orig_mod.net.0.", "a/b/"):
        named: dict[str, Any] = {prefix + name: p for name, p in upside_down.items()}
        assert_same(fastrnn.from_torch(named), layer)
        if prefix:
            for wanted in {prefix[:-1], prefix, prefix[:-1].rpartition(".")[2]}:
                assert_same(fastrnn.from_torch(named, wanted), layer)
            beside = {"head.weight": np.zeros((2, 2)), "epoch": 3, "names": ["a"], "optimizer": {0: {"lr": 1}}}
            assert_same(fastrnn.from_torch(named | beside), layer)
            assert_same(fastrnn.from_torch({"step": 1, "state": {"model": named}}), layer)
        safetensors.numpy.save_file(named, tmp_path / "x.safetensors")
        assert_same(fastrnn.from_torch(tmp_path / "x.safetensors"), layer)
        assert_same(fastrnn.from_torch(str(tmp_path / "x.safetensors")), layer)
    assert_same(fastrnn.from_torch(iter(state.items())), layer)
    (net,) = fastrnn.find_nets(state)
    assert net.kind == kind.__name__
    assert net.parameters == sum(p.size for p in state.values())


@SAYS_TANH
@pytest.mark.parametrize("kind", [fastrnn.RNN, fastrnn.GRU, fastrnn.LSTM])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(kind: type[fastrnn.Layer], bias: bool) -> None:
    layer = made(kind, {"bias": bias})
    cell = {"cell." + name.removesuffix("_l0"): p for name, p in layer.state_dict().items()}
    assert_same(fastrnn.from_torch(cell), layer)


@pytest.mark.parametrize("there", ["bias_ih", "bias_hh"])
def test_one_bias_of_two(there: str) -> None:
    layer = made(fastrnn.GRU, {"num_layers": 2, "bidirectional": True})
    for name, p in layer.params.items():
        if name.startswith("bias") and not name.startswith(there):
            p[...] = 0
    state = {n: p for n, p in layer.state_dict().items() if n.startswith(("weight", there))}
    assert_same(fastrnn.from_torch(state), layer)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_widened(name: str) -> None:
    dtype: Any = np.float16 if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    state = {name: p.astype(dtype) for name, p in made(fastrnn.LSTM, {}).params.items()}
    layer = fastrnn.from_torch(state)
    assert layer.dtype == np.float32
    for name, p in state.items():
        np.testing.assert_array_equal(layer.params[name], p.astype(np.float32))


def test_options_that_are_given() -> None:
    state = made(fastrnn.RNN, {}).state_dict()
    layer = fastrnn.from_torch(state, batch_first=True, nonlinearity="relu", dtype=np.float64)
    assert repr(layer).startswith("RNN(3, 4, nonlinearity='relu', batch_first=True, dtype=np.float64)")
    with pytest.warns(UserWarning, match="taken as tanh"):
        fastrnn.from_torch(state)


@pytest.mark.parametrize(
    "net",
    [
        fastrnn.LSTM(I, H, activations=("hard_sigmoid", "tanh", "relu"), peepholes=True, seed=0),
        fastrnn.GRU(I, H, reset_after=False, reverse=True, learn_state=True, batch_first=True, seed=0),
        fastrnn.RNN(I, H, 2, nonlinearity="relu", bidirectional=True, dtype=np.float64, seed=0),
        fastrnn.LSTM(I, H, layer_norm=True, seed=0),
    ],
    ids=repr,
)
def test_what_fastrnn_has_saved_says_what_it_is(net: fastrnn.Layer, tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    net.save(path)
    assert_same(fastrnn.from_torch(path), net)
    fastrnn.Sequential(fastrnn.Linear(I, I), fastrnn.Sequential(net)).save(path)
    assert_same(fastrnn.from_torch(path, "1.0"), net)
    fastrnn.MinGRU(I, H).save(path)
    with pytest.raises(ValueError, match=r"MinGRU.*fastrnn\.load"):
        fastrnn.from_torch(path)


def test_several_nets_are_told_apart() -> None:
    encoder, decoder = made(fastrnn.GRU, {}), made(fastrnn.GRU, {"seed": 1})
    state = {f"net.{n}.rnn.{k}": p for n, g in (("a", encoder), ("b", decoder)) for k, p in g.state_dict().items()}
    assert [net.name for net in fastrnn.find_nets(state)] == ["net.a.rnn", "net.b.rnn"]
    assert_same(fastrnn.from_torch(state, "b.rnn"), decoder)
    with pytest.raises(
        ValueError, match=r"^from_torch: there are 2 .*prefix='net\.a\.rnn'.*'net\.b\.rnn', GRU\(3, 4\)"
    ):
        fastrnn.from_torch(state)
    with pytest.raises(ValueError, match=r"'rnn', which may be 'net\.a\.rnn'"):
        fastrnn.from_torch(state, "rnn")
    with pytest.raises(ValueError, match=r"no recurrent net 'net\.c\.rnn': did you mean"):
        fastrnn.from_torch(state, "net.c.rnn")
    with pytest.raises(TypeError, match="prefix is"):
        fastrnn.from_torch(state, ["net.a.rnn", "net.b.rnn"])  # type: ignore[arg-type]


def changed(**changes: Any) -> dict[str, Any]:
    """A dict of an LSTM of two levels, in which something is other, or (None) missing."""
    state = made(fastrnn.LSTM, {"num_layers": 2}).state_dict() | changes
    return {name: value for name, value in state.items() if value is not None}


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("there is no recurrent net in a dict", {}),
        ("there is no recurrent net in a dict", {"weight": zeros(2, 2)}),
        ("there is no weight_ih", changed(weight_ih_l0=None)),
        ("there is no weight_hh", changed(weight_hh_l0=None)),
        ("missing weight_hh_l1", changed(weight_hh_l1=None)),
        ("no weight_ih_l1", {k: v for k, v in changed(weight_ih_l3=zeros(16, 4)).items() if "l1" not in k}),
        ("weight_hh_l0 has shape", changed(weight_hh_l0=zeros(8, 4))),
        ("weight_hh_l0 has shape", changed(weight_hh_l0=zeros(16, 4, 1))),
        ("weight_hh_l0 has shape", changed(weight_hh_l0=zeros(0, 0))),
        ("weight_hh_l1 has shape", changed(weight_hh_l1=zeros(16, 5))),
        ("bias_ih_l1 has shape", changed(bias_ih_l1=zeros(15))),
        ("another level or direction", changed(weight_ih_l1_reverse=zeros(16, 8))),
        ("bias_ih_l1 is int32", changed(bias_ih_l1=zeros(16, dtype=np.int32))),
        ("bias_ih_l1 is complex64", changed(bias_ih_l1=zeros(16, dtype=np.complex64))),
        ("bias_ih_l1 is a str", changed(bias_ih_l1="a")),
        ("there is weight_ch_l0 besides", changed(weight_ch_l0=zeros(3, 4))),
        ("there is norm.weight besides", changed(**{"norm.weight": zeros(4)})),
        ("there is cell.norm.weight besides", {"cell": {**changed(), "norm": {"weight": zeros(4)}}}),
        ("there is a.lora_A.x.weight besides", under("a.base_layer.", changed()) | {"a.lora_A.x.weight": zeros(4)}),
        ("there is a.b.c.weight_hh besides", under("a.b.", changed()) | {"a.b.c.weight_hh": zeros(4, 1)}),
        ("two tensors under the same name", under("a.", changed()) | under("a/", changed())),
        ("there is no bias_hh_l1, and there is one of another level", changed(bias_hh_l1=None)),
        ("there is no bias_ih_l0, and there is one of another level", changed(bias_ih_l0=None, bias_hh_l0=None)),
        ("there is no weight_ih_l2, and there is one of level 99999", changed(weight_ih_l99999=zeros(16, 4))),
        ("there is weight_ih_l300000000 besides", changed(weight_ih_l300000000=zeros(16, 4))),
        ("prune.remove", changed(weight_hh_l0=None, weight_hh_l0_orig=zeros(16, 4), weight_hh_l0_mask=zeros(16, 4))),
        ("remove_spectral_norm", changed(weight_hh_l0=None, weight_hh_l0_orig=zeros(16, 4), weight_hh_l0_u=zeros(16))),
        ("dropped out anew.*name_raw", changed(weight_hh_l0=None, weight_hh_l0_raw=zeros(16, 4))),
        ("quantised", {"rnn._all_weight_values.0.param": object()}),
        ("quantised", {"rnn._packed_weight_ih": object()}),
        ("weight_norm", changed(weight_hh_l0=None, weight_hh_l0_g=zeros(16, 1), weight_hh_l0_v=zeros(16, 4))),
        ("weight_norm", {"weight_ih": zeros(16, 3), "weight_hh_v": zeros(16, 4)}),
        (
            "remove_parametrizations",
            changed(weight_hh_l0=None, **{"parametrizations.weight_hh_l0.original0": zeros(16, 1)}),
        ),
    ],
)
def test_what_is_refused(words: str, state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^from_torch: .*{words}"):
        fastrnn.from_torch(state)
    for net in fastrnn.find_nets(state):
        assert str(net)
        assert net.parameters >= 0


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "source is an int", {"source": 3}),
        (TypeError, "source is None", {"source": None}),
        (TypeError, "source is a list", {"source": [3]}),
        (TypeError, "source is a ndarray", {"source": zeros(3)}),
        (TypeError, "batch_first", {"batch_first": 1}),
        (ValueError, "nonlinearity", {"nonlinearity": "sigmoid"}),
        (ValueError, "of kind LSTM", {"nonlinearity": "tanh"}),
        (TypeError, "dtype", {"dtype": np.int32}),
        (TypeError, "prefix", {"prefix": 3}),
        (ValueError, "no recurrent net 'x'", {"prefix": "x"}),
    ],
)
def test_what_is_no_argument(error: type[Exception], words: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=f"^from_torch: .*{words}"):
        fastrnn.from_torch(**{"source": changed(), **arguments})


def test_weights_that_are_dropped_out() -> None:
    """As fastai has them: the weights that a dropout has changed in a module, and what they were made of outside."""
    state = under("rnn.module.", changed()) | {"rnn.weight_hh_l0_raw": changed()["weight_hh_l0"]}
    with pytest.raises(ValueError, match=r"there is rnn\.weight_hh_l0_raw besides"):
        fastrnn.from_torch(state, "rnn.module")


def test_dicts_in_each_other() -> None:
    state = changed()
    inside: dict[str, Any] = {"net": state}
    inside["self"] = inside
    assert_same(fastrnn.from_torch(inside), made(fastrnn.LSTM, {"num_layers": 2}))
    many: dict[str, Any] = {"a": 1}
    for _ in range(8):
        many = {f"k{k}": many for k in range(8)}
    with pytest.raises(ValueError, match=r"^find_nets: there are more than 1,048,576 entries"):
        fastrnn.find_nets(many)
    names = {f"m{k}.weight_ih": zeros(4, 3) for k in range(5000)} | {f"n{k}.x": 1 for k in range(5000)}
    assert len(fastrnn.find_nets(names)) == 5000  # in less than a second


def test_whatever_else_is_in_a_dict() -> None:
    class Odd:
        def __array__(self, *_: Any, **__: Any) -> Array:
            raise RuntimeError("no")

    state = changed()
    others = {"cls": fastrnn.LSTM, "odd": Odd(), "none": None, "text": "a", 3: state}
    assert_same(fastrnn.from_torch({"model": state, **others}), made(fastrnn.LSTM, {"num_layers": 2}))
    for odd in (Odd(), None, [[1.0], [1.0, 2.0]], "a", 3, fastrnn.LSTM):
        with pytest.raises(ValueError, match=r"^from_torch: bias_ih_l0 is .*, expected an array of numbers"):
            fastrnn.from_torch({**state, "bias_ih_l0": odd})
    swapped = {name: p.astype(p.dtype.newbyteorder()) for name, p in state.items()}
    assert_same(fastrnn.from_torch(swapped), made(fastrnn.LSTM, {"num_layers": 2}))
    with pytest.raises(TypeError, match=r"source is a LSTM of fastrnn's"):
        fastrnn.from_torch(fastrnn.LSTM(I, H))


@pytest.mark.parametrize(
    "metadata", ["0.3", "1", "true", '{"version": 1}', '{"kind": "LSTM"}', "v1", "{}", "[]", "[" * 9000 + "]" * 9000]
)
def test_metadata_of_others(metadata: str, tmp_path: Path) -> None:
    """What stands under the same key and is no description says nothing."""
    path, layer = tmp_path / "x.safetensors", made(fastrnn.LSTM, {"num_layers": 2})
    safetensors.numpy.save_file(layer.state_dict(), path, {"fastrnn": metadata})
    assert_same(fastrnn.from_torch(path), layer)
    other = made(fastrnn.LSTM, {"num_layers": 2, "seed": 1})
    other.load(str(path))
    np.testing.assert_array_equal(other.params["weight_hh_l1"], layer.params["weight_hh_l1"])


@pytest.mark.parametrize(
    "options",
    [
        '{"hidden_size": 4}',
        '{"input_size": 3, "hidden_size": 4, "seed": "a"}',
        '{"input_size": 3, "hidden_size": 9}',
        "{}",
    ],
)
def test_descriptions_that_do_not_fit(options: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    about = {"kind": "LSTM", "options": json.loads(options)}
    safetensors.numpy.save_file(made(fastrnn.LSTM, {}).state_dict(), path, {"fastrnn": json.dumps(about)})
    (net,) = fastrnn.find_nets(path)
    assert "describes no layer" in net.problem
    assert str(net)
    with pytest.raises(ValueError, match="describes no layer"):
        fastrnn.from_torch(path)


def as_safetensors(tensors: dict[str, tuple[str, Array]]) -> bytes:
    """The bytes of a file of tensors of these dtypes, which NumPy may not have."""
    header, data = {}, b""
    for name, (dtype, a) in tensors.items():
        header[name] = {"dtype": dtype, "shape": a.shape, "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors_with_more_than_numpy_has(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {name: ("F32", a) for name, a in under("net.", changed()).items()}
    tensors |= {"mask": ("BOOL", zeros(3, dtype=np.uint8)), "scale": ("F8_E4M3", zeros(16, dtype=np.uint8))}
    path.write_bytes(as_safetensors(tensors))
    assert_same(fastrnn.from_torch(path), made(fastrnn.LSTM, {"num_layers": 2}))
    tensors["net.bias_ih_l0"] = tensors.pop("scale")
    path.write_bytes(as_safetensors(tensors))
    with pytest.raises(ValueError, match="bias_ih_l0 is F8_E4M3, expected float32"):
        fastrnn.from_torch(path)


def test_one_file_of_several(tmp_path: Path) -> None:
    for name, fits in (("model-00001-of-00002.safetensors", False), ("model-00001-of-00001.safetensors", True)):
        save_arrays(str(tmp_path / name), changed())
        if fits:
            fastrnn.from_torch(tmp_path / name)
        else:
            with pytest.raises(ValueError, match="one of several files of a model"):
                fastrnn.from_torch(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", "/dev/zero", tmp_path):
        for read in (fastrnn.from_torch, fastrnn.find_nets, fastrnn.load):
            with pytest.raises(OSError, match=r"regular|directory|folder"):
                read(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        fastrnn.from_torch(path)
    save_arrays(str(path), changed())
    whole = path.read_bytes()
    for bad in (whole[:-1], whole[:20], whole[:8] + b"{" * 40, b"\0" * 8 + b"{"):
        path.write_bytes(bad)
        for read in (fastrnn.from_torch, fastrnn.find_nets):
            with pytest.raises(ValueError, match=f"{read.__name__}: .*x.safetensors"):
                read(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"^find_nets: .* none of these kinds"):
        fastrnn.find_nets(path)
