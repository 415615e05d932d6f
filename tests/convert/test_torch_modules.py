"""PyTorch's modules become layers, which compute the same."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import Array
from tolerances import output_tolerance

torch = pytest.importorskip("torch")
nn = torch.nn

T, B, I, H = 6, 4, 3, 5
KINDS = ("RNN", "GRU", "LSTM")
OPTIONS: list[dict[str, Any]] = [
    {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": order}
    for layers, both, bias, order in itertools.product((1, 2), (False, True), (True, False), (False, True))
]
SETTINGS = [(kind, options) for kind in KINDS for options in OPTIONS]
SETTINGS += [("RNN", {**options, "nonlinearity": "relu"}) for options in OPTIONS[:4]]
SETTINGS += [("LSTM", {**options, "proj_size": 2}) for options in OPTIONS]
# PyTorch says of a projection that it has no fast way, and of much else that there will be another.
pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections:UserWarning",
    *(
        f"ignore:.*({old})"
        for old in (
            "torch.jit",
            "torch.ao.quantization",
            "quantized tensor",
            "weight_norm",
            "might cause the trace",
            "TypedStorage",
            "during export",
        )
    ),
)


def make(kind: str, dtype: Any = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(nn, kind)(I, H, dtype=dtype, **options).eval()


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def assert_same_numbers(module: Any, layer: fastrnn.Layer) -> None:
    """The same y and states, from initial states, with and without lengths."""
    order, D = layer.batch_first, 1 + layer.bidirectional
    dtype = layer.dtype
    x = draw(B, T, I).astype(dtype)
    x = x if order else x.swapaxes(0, 1)
    sizes = layer._spec.state_sizes
    states = [draw(layer.num_layers * D, B, size, seed=s).astype(dtype) for s, size in enumerate(sizes)]
    lengths = np.array([6, 1, 3, 6])
    tensors: Any = tuple(map(torch.from_numpy, states))
    padded = torch.from_numpy(x.copy())
    packed = nn.utils.rnn.pack_padded_sequence(padded, lengths, batch_first=order, enforce_sorted=False)
    for source, n in ((padded, None), (packed, lengths)):
        with torch.no_grad():
            right, right_states = module(source, tensors if len(states) == 2 else tensors[0])
        if n is not None:
            right, _ = nn.utils.rnn.pad_packed_sequence(right, batch_first=order)
        y, state = layer(x, tuple(states) if len(states) == 2 else states[0], lengths=n)
        got = [y, *(state if isinstance(state, tuple) else (state,))]
        expected = [right, *(right_states if isinstance(right_states, tuple) else (right_states,))]
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=output_tolerance(dtype, terms=I + H) * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("kind", "options"), SETTINGS, ids=str)
def test_there_and_back(kind: str, options: dict[str, Any], dtype: Any) -> None:
    module = make(kind, dtype, **options)
    layer = fastrnn.from_torch(module)
    assert_same_numbers(module, layer)
    again = fastrnn.to_torch(layer)
    assert type(again) is type(module)
    assert repr(again) == repr(module)
    assert not again.training
    for name, p in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], p)
        assert layer.params[name].tobytes() == p.numpy().tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind: str) -> None:
    torch.manual_seed(0)
    cell = getattr(nn, kind + "Cell")(I, H)
    layer = fastrnn.from_torch(nn.ModuleDict({"a": cell, "b": nn.Linear(3, 3)}))
    step, state, x = layer.stream(B).step, None, draw(T, B, I)
    for x_t in x:
        with torch.no_grad():
            state = cell(torch.from_numpy(x_t), state)
        h = state[0] if isinstance(state, tuple) else state
        np.testing.assert_allclose(step(x_t), h.numpy(), rtol=0, atol=output_tolerance(np.float32, terms=I + H))


class Tagger(nn.Module):
    """A model with a layer in it, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, I)
        self.rnn = nn.LSTM(I, H, 2, batch_first=True, bidirectional=True, dropout=0.25)
        self.head = nn.Linear(2 * H, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


def test_whatever_holds_it(tmp_path: Path) -> None:
    model = Tagger()
    right = fastrnn.from_torch(model.rnn)
    assert (right.batch_first, right.dropout) == (True, 0.25)
    torch.save({"epoch": 3, "model_state": model.state_dict()}, tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    scripted = torch.jit.script(model)
    tokens = torch.zeros((2, 3), dtype=torch.int64)
    traced = torch.jit.trace(model.eval(), tokens)
    with pytest.warns(UserWarning, match=r"taken so: batch_first"):
        fastrnn.from_torch(traced)
    sources: list[tuple[Any, dict[str, Any]]] = [
        (model, {}),
        (nn.DataParallel(model), {}),
        (torch.compile(model), {}),
        (scripted, {}),
        (traced, {"batch_first": True}),
        (model.state_dict(), {"batch_first": True}),
        (torch.compile(nn.DataParallel(model)).state_dict(), {"batch_first": True}),
        (model.named_parameters(), {"batch_first": True}),
        (dict(model.named_parameters()), {"batch_first": True}),
        ({"model": model}, {}),
        (tmp_path / "a.pt", {"batch_first": True}),
        (tmp_path / "old", {"batch_first": True}),
    ]
    for source, options in sources:
        assert source is not None
        layer = fastrnn.from_torch(source, **options)
        assert layer.batch_first
        for name, p in right.params.items():
            assert layer.params[name].tobytes() == p.tobytes()
    (net,) = fastrnn.find_nets(model)
    assert (net.name, str(net)) == ("rnn", "LSTM(3, 5, 2, bidirectional=True, batch_first=True, dropout=0.25)")
    assert [net.name for net in fastrnn.find_nets(tmp_path / "a.pt")] == ["model_state.rnn"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_widened(dtype: Any) -> None:
    module = make("GRU").to(dtype)
    layer = fastrnn.from_torch(module)
    assert layer.dtype == np.float32
    assert_same_numbers(module.float(), layer)


class Own(nn.LSTM):
    """Computes something else."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(2 * x, hx)


class Named(nn.LSTM):
    """Computes the same."""


class Disguised(nn.LSTM):
    """Computes something else, under the name of what it calls."""

    @functools.wraps(nn.LSTM.forward)
    def forward(self, *arguments: Any) -> Any:
        y, state = super().forward(*arguments)
        return 2 * y, state


class Called(nn.LSTM):
    """Computes something else before its forward."""

    def __call__(self, x: Any, hx: Any = None) -> Any:
        return super().__call__(2 * x, hx)


class Extended(nn.GRU):
    """Has a parameter more, which it does not use."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.scale = nn.Parameter(torch.ones(3))


class GRUCell(nn.Module):
    """Another cell under PyTorch's name, with parameters of its names."""

    def __init__(self) -> None:
        super().__init__()
        for name, p in nn.GRUCell(I, H).named_parameters():
            setattr(self, name, nn.Parameter(p.detach()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight_ih.t() + self.bias_ih + self.bias_hh + self.weight_hh.sum()


class LSTM(nn.Module):
    """Somebody's own class, with PyTorch's in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(I, H)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[0]


def test_whose_class_it_is() -> None:
    module = make("LSTM")
    module.forward = lambda x, hx=None: type(module).forward(module, 2 * x, hx)
    for own in (Disguised(I, H), Called(I, H), module):
        with pytest.raises(ValueError, match=r"has a forward of its own"):
            fastrnn.from_torch(own)
    for source in (GRUCell(), torch.jit.script(GRUCell()), torch.jit.trace(GRUCell(), torch.ones(2, I))):
        with pytest.raises(ValueError, match="there is no recurrent net"):
            fastrnn.from_torch(source)
    with pytest.raises(ValueError, match=r"there is fc\.weight besides"):
        fastrnn.from_torch({**GRUCell().state_dict(), "fc.weight": torch.ones(2)})
    (net,) = fastrnn.find_nets(torch.jit.script(LSTM()))
    assert net.name == "inner"
    extended = Extended(I, H)
    assert_same_numbers(extended, fastrnn.from_torch(extended))


def test_hooks_are_told() -> None:
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        module = make("GRU")
        getattr(module, register)(lambda *_: None)
        with pytest.warns(UserWarning, match="has forward hooks"):
            fastrnn.from_torch(module)


def test_a_module_in_two_places() -> None:
    module = nn.ModuleDict({"enc": make("GRU")})
    module["dec"] = module["enc"]
    for name in ("enc", "dec", "dec."):
        assert_same_numbers(module["enc"], fastrnn.from_torch(module, name))
    assert [net.name for net in fastrnn.find_nets(module)] == ["enc"]


def test_the_mode_of_an_rnn_counts() -> None:
    module = make("RNN")
    module.nonlinearity = "relu"  # which PyTorch does not look at any more
    assert_same_numbers(module, fastrnn.from_torch(module))


def test_tensors_that_are_larger_than_their_file(tmp_path: Path) -> None:
    one = torch.zeros(1)
    torch.save({"weight_ih_l0": one.expand(40000, 1), "weight_hh_l0": one.expand(40000, 10000)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="weight_ih_l0 is larger than what the file has of it"):
        fastrnn.from_torch(tmp_path / "x.pt")


def test_dtypes_of_pytorch() -> None:
    assert fastrnn.from_torch(make("GRU"), dtype=torch.float64).dtype == np.float64
    with pytest.raises(TypeError, match="dtype is"):
        fastrnn.from_torch(make("GRU"), dtype=torch.float16)


def test_other_files_and_how_to_read_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weight_ih_l0=np.zeros((4, 3)))
    program = torch.export.export(make("GRU"), (torch.ones(T, B, I),))
    torch.export.save(program, tmp_path / "x.pt2")
    for name, way in (("x.npz", r"numpy\.load"), ("x.pt2", r"torch\.export\.load\(path\)\.state_dict")):
        with pytest.raises(ValueError, match=f"{way}.* is the source to give"):
            fastrnn.from_torch(tmp_path / name)
    assert_same_numbers(make("GRU"), fastrnn.from_torch(program.state_dict))


def weight_norm(old: bool) -> Any:
    module = make("LSTM")
    return (nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm)(module, "weight_hh_l0")


def test_what_is_refused(tmp_path: Path) -> None:
    lstm, meta = make("LSTM"), nn.GRU(I, H, device="meta")
    quantised = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.LSTM(I, H), nn.LSTMCell(I, H)), {nn.LSTM, nn.LSTMCell}
    )
    sparse = {name: p.to_sparse() if name == "weight_hh_l0" else p for name, p in lstm.state_dict().items()}
    per_row = torch.quantize_per_tensor(lstm.state_dict()["weight_hh_l0"], 0.1, 0, torch.qint8)
    torch.save(lstm, tmp_path / "whole.pt")
    torch.jit.script(lstm).save(tmp_path / "script.pt")
    with torch.package.PackageExporter(tmp_path / "package.pt") as package:
        package.extern("torch.**")
        package.save_pickle("models", "model.pkl", lstm)
    (tmp_path / "bad.pt").write_bytes(b"PK\3\4 no archive")
    torch.save([1, 2], tmp_path / "list.pt")
    cases: list[tuple[Any, str]] = [
        (nn.Linear(2, 2), "there is no recurrent net in a Linear"),
        (Own(I, H), "Own has a forward of its own.*state_dict"),
        (weight_norm(True), "weight_norm"),
        (weight_norm(False), "remove_parametrizations"),
        (weight_norm(True).state_dict(), "weight_norm"),
        (weight_norm(False).state_dict(), "remove_parametrizations"),
        (quantised[0], "quantised.*quantize_dynamic"),
        (quantised[1], "quantised.*quantize_dynamic"),
        (nn.Sequential(quantised[0]).state_dict(), "quantised.*quantize_dynamic"),
        (sparse, "weight_hh_l0 has the layout.*to_dense"),
        ({**lstm.state_dict(), "weight_hh_l0": per_row}, "quantised"),
        (meta, "meta"),
        ({**lstm.state_dict(), "bias_ih_l0": torch.zeros(20, dtype=torch.int64)}, "bias_ih_l0 is int64"),
        ({**lstm.state_dict(), "bias_ih_l0": torch.zeros(20, dtype=torch.complex64)}, "bias_ih_l0 is complex64"),
        (tmp_path / "whole.pt", "more than tensors.*weights_only=False"),
        (tmp_path / "script.pt", "code of its own.*torch.jit.load"),
        (tmp_path / "package.pt", "code of its own.*PackageImporter"),
        (tmp_path / "bad.pt", "a zip file that is damaged"),
        (tmp_path / "list.pt", "holds a list"),
    ]
    for source, words in cases:
        with pytest.raises(ValueError, match=f"^from_torch: .*{words}"):
            fastrnn.from_torch(source)
    named = Named(I, H)
    assert_same_numbers(named, fastrnn.from_torch(named))
    with pytest.raises(ValueError, match="the module has 'relu'"):
        fastrnn.from_torch(make("RNN", nonlinearity="relu"), nonlinearity="tanh")
