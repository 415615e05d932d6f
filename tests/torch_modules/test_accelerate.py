"""The exchange of modules in models, and what models go through: copies, files, other processes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from twins import CELLS, KINDS, TOLERANCE, H, I, as_tuple, only_ours, only_theirs, random, twins

import fastrnn.torch
from fastrnn.torch.modules import STACK
from isolated import run_code


class Own(torch.nn.LSTM):
    """Somebody's own."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, state = super().forward(x, hx)
        return y + 1, state


class Model(torch.nn.Module):
    """One of each kind, in whatever holds modules, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(I, H, 2, bidirectional=True)
        self.parts = torch.nn.ModuleList([torch.nn.GRU(2 * H, H), torch.nn.RNN(H, H, nonlinearity="relu")])
        self.cells = torch.nn.ModuleDict({kind: getattr(torch.nn, kind)(H, H) for kind in CELLS})
        self.again = self.parts[0]
        self.head = torch.nn.Linear(H, 2)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Any) -> Any:
        y, _ = self.encoder(x)
        for part in self.parts:
            y, _ = part(y)
        state = y[-1]
        for cell in self.cells.values():
            state = as_tuple(cell(state))[0]
        return self.head(state) * self.scale


NAMES = ["encoder", "parts.0", "parts.1", *(f"cells.{kind}" for kind in CELLS)]


def model() -> Model:
    torch.manual_seed(0)
    return Model()


def results(net: Any) -> list[Any]:
    net.zero_grad()
    x = random(5, 3, I).requires_grad_()
    y = net(x)
    y.pow(2).sum().backward()
    return [y, x.grad, *(p.grad.clone() for p in net.parameters())]


def assert_same(got: list[Any], right: list[Any]) -> None:
    for a, b in zip(got, right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float32])


def test_there_and_back() -> None:
    net, plain = model(), model()
    objects, parameters = dict(net.named_modules()), dict(net.named_parameters())
    report = fastrnn.torch.accelerate(net)
    assert list(report.exchanged) == NAMES
    assert report.left == {}
    for name, module in net.named_modules():
        assert module is objects[name]
    assert all(p is parameters[name] for name, p in net.named_parameters())
    assert list(net.state_dict()) == list(plain.state_dict())
    with only_ours():
        got = results(net)
    assert_same(got, results(plain))
    report = fastrnn.torch.restore(net)
    assert list(report.exchanged) == NAMES
    for name, module in net.named_modules():
        assert type(module) is type(dict(plain.named_modules())[name])
        assert module.__dict__.keys() == dict(plain.named_modules())[name].__dict__.keys()
    assert_same(results(net), results(plain))


def test_a_model_that_is_such_a_module() -> None:
    for kind in (*KINDS, *CELLS):
        module, _ = twins(kind)
        report = fastrnn.torch.accelerate(module)
        assert report.exchanged == {"": module}
        assert type(module) is getattr(fastrnn.torch, kind)
        assert str(report) == f"1 recurrent module computed by fastrnn\n  (the model): {module!r}"


def test_an_optimiser_made_before_goes_on() -> None:
    net, plain = model(), model()
    steps = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (net, plain)]
    for turn in range(6):
        if turn == 2:
            fastrnn.torch.accelerate(net)
        if turn == 4:
            fastrnn.torch.restore(net)
        found = [results(m) for m in (net, plain)]
        assert_same(*found)
        for step in steps:
            step.step()


def test_hooks_and_modes_stay() -> None:
    net, seen = model().eval(), []
    net.encoder.register_forward_hook(lambda *_: seen.append("forward"))
    net.encoder.weight_hh_l0.register_hook(lambda g: seen.append("weight"))
    net.encoder.weight_ih_l0.requires_grad_(False)
    fastrnn.torch.accelerate(net)
    assert not net.encoder.training
    assert not net.encoder.weight_ih_l0.requires_grad
    net(random(5, 3, I)).sum().backward()
    assert seen == ["forward", "weight"]


def test_what_is_left() -> None:
    net = torch.nn.ModuleDict(
        {
            "own": Own(I, H),
            "ours": fastrnn.torch.GRU(I, H),
            "patched": torch.nn.GRU(I, H),
            "small": torch.nn.GRU(I, H, dtype=torch.bfloat16),
            "meta": torch.nn.LSTMCell(I, H, device="meta"),
            "normed": torch.nn.utils.parametrizations.weight_norm(torch.nn.GRU(I, H), "weight_hh_l0"),
            "linear": torch.nn.Linear(I, H),
            "good": torch.nn.GRU(I, H),
        }
    )
    net["patched"].forward = lambda x: x
    classes = {name: type(module) for name, module in net.items()}
    report = fastrnn.torch.accelerate(net)
    assert list(report.exchanged) == ["good"]
    assert report.left == {
        "own": "Own is a class of its own: derive it from fastrnn.torch's",
        "ours": "GRU is fastrnn's already",
        "patched": "GRU has a forward of its own",
        "small": "GRU is bfloat16, neither float32 nor float64",
        "meta": "LSTMCell is on meta, which is no CPU",
        "normed": "ParametrizedGRU is a class of its own: derive it from fastrnn.torch's",
    }
    assert {name: type(module) for name, module in net.items() if name != "good"} == {
        name: kind for name, kind in classes.items() if name != "good"
    }
    lines = str(report).splitlines()
    assert lines[:3] == ["1 recurrent module computed by fastrnn", "  good: GRU(4, 6)", "left as they are"]
    assert lines[3] == "  own: Own is a class of its own: derive it from fastrnn.torch's"
    with only_theirs("LSTM"):
        net["own"](random(3, 2, I))
    report = fastrnn.torch.restore(net)
    assert list(report.exchanged) == ["ours", "good"]
    assert report.left == {}
    assert str(fastrnn.torch.restore(net)) == "0 recurrent modules computed by PyTorch again"


def test_a_forward_of_its_own_stays_with_its_class() -> None:
    """It may call that of fastrnn's class, which no other can."""
    net = torch.nn.Sequential(fastrnn.torch.GRU(I, H))
    forward = net[0].forward
    net[0].forward = lambda *args: forward(*args)
    assert fastrnn.torch.restore(net).left == {"0": "GRU has a forward of its own"}
    with only_ours():
        net(random(3, 2, I))


class OwnOfOurs(fastrnn.torch.LSTM):
    def forward(self, x: Any, hx: Any = None) -> Any:
        y, state = super().forward(x, hx)
        return y + 1, state


def test_a_subclass_of_ours() -> None:
    theirs, ours = Own(I, H), OwnOfOurs(I, H)
    ours.load_state_dict(theirs.state_dict())
    x = random(3, 2, I)
    right = theirs(x)[0]
    with only_ours():
        torch.testing.assert_close(ours(x)[0], right)
    assert fastrnn.torch.restore(ours).left == {"": "OwnOfOurs is a class of its own"}
    assert ours.__prepare_scriptable__() is ours


@pytest.mark.parametrize("exchange", [fastrnn.torch.accelerate, fastrnn.torch.restore], ids=lambda f: f.__name__)
def test_what_is_no_model(exchange: Callable[[Any], Any]) -> None:
    for other, kind in ((None, "None"), (3, "an int"), (torch.nn.LSTM, "a type"), ([torch.nn.GRU(1, 1)], "a list")):
        with pytest.raises(TypeError) as caught:
            exchange(other)
        name = f"fastrnn.torch.{exchange.__name__}"
        assert str(caught.value) == f"{name}: model is {kind}, expected a torch.nn.Module"


def test_modules_inside_containers_of_torch() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(I, I), torch.nn.GRU(I, H))
    wrapped = torch.nn.DataParallel(net)
    assert list(fastrnn.torch.accelerate(wrapped).exchanged) == ["module.1"]
    with only_ours():
        wrapped(random(3, 2, I))


def test_a_torch_that_is_too_old() -> None:
    code = "import torch; torch.__version__ = '2.5.1+cpu'\ntry: import fastrnn.torch\nexcept ImportError as e: print(e)"
    right = "fastrnn.torch needs PyTorch 2.7 or newer, and this is 2.5.1+cpu: pip install --upgrade torch\n"
    assert run_code(code) == right


# --- copies and files


def by_pickle(net: Any) -> Any:
    return pickle.loads(pickle.dumps(net))


def by_torch(net: Any) -> Any:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_torch], ids=lambda f: f.__name__)
def test_copies(copied: Callable[[Any], Any]) -> None:
    """Of modules that have been called and of those that have not; they are fastrnn's, and share nothing."""
    for called in (False, True):
        net = model()
        fastrnn.torch.accelerate(net)
        right = results(net) if called else None
        other = copied(net)
        assert type(other.encoder) is fastrnn.torch.LSTM
        assert other.again is other.parts[0]
        assert STACK not in other.encoder.__getstate__()
        with only_ours():
            got = results(other)
        assert_same(got, right or results(net))
        with torch.no_grad():
            for p in other.parameters():
                p.zero_()
        assert_same(results(net), right or got)


def test_a_shallow_copy_shares_parameters() -> None:
    _, ours = twins("GRU")
    ours(random(3, 2, I))
    other = copy.copy(ours)
    assert other.weight_hh_l0 is ours.weight_hh_l0
    assert torch.equal(other(random(3, 2, I))[0], ours(random(3, 2, I))[0])


def test_state_dicts_go_either_way(tmp_path: Path) -> None:
    net, plain = model(), Model()
    fastrnn.torch.accelerate(net)
    results(net)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    plain.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert_same(results(net), results(plain))
    other = Model()
    net.load_state_dict(other.state_dict())
    assert_same(results(net), results(other))
    net.load_state_dict(plain.state_dict(), assign=True)
    assert_same(results(net), results(plain))


def test_memory_that_processes_share() -> None:
    """The parameters move there, and are seen there."""
    net, plain = model(), model()
    fastrnn.torch.accelerate(net)
    results(net)
    net.share_memory()
    assert_same(results(net), results(plain))
    with torch.no_grad():
        for p, q in zip(net.parameters(), plain.parameters(), strict=True):
            p.mul_(0.5), q.mul_(0.5)
    assert_same(results(net), results(plain))


def test_memory_that_is_freed_and_comes_back() -> None:
    """As some distributed training does between uses of a layer."""
    theirs, ours = twins("GRU")
    x = random(3, 2, I)
    ours(x)
    storage, bytes_ = ours.weight_hh_l0.untyped_storage(), ours.weight_hh_l0.untyped_storage().nbytes()
    kept = ours.weight_hh_l0.detach().clone()
    for _ in range(3):
        storage.resize_(0)
        storage.resize_(bytes_)
        with torch.no_grad():
            ours.weight_hh_l0.copy_(kept)
            torch.testing.assert_close(ours(x)[0], theirs(x)[0])
