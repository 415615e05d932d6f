"""What the kernels have no part in is PyTorch's: its results, its errors in its words, its transformations."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from twins import CELLS, KINDS, TOLERANCE, H, I, as_tuple, only_ours, only_theirs, random, states_for, twins

import fastrnn.torch

F64 = {"dtype": torch.float64}


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return the outputs of a call, or its error as (class, text)."""
    try:
        found = call()
    except Exception as error:  # noqa: BLE001  whatever it is, it is compared
        return type(error), str(error)
    first, *others = found if isinstance(found, tuple) else (found,)
    first = (first.data, first.batch_sizes) if isinstance(first, PackedSequence) else (first,)
    return (*first, *(t for states in others for t in as_tuple(states))), ""


def assert_same_outcome(theirs: Any, ours: Any, *args: Any, **options: Any) -> None:
    torch.manual_seed(0)
    right, text = outcome(lambda: theirs(*args, **options))
    torch.manual_seed(0)
    got, text_of_ours = outcome(lambda: ours(*args, **options))
    if text:
        assert got is right
        assert text_of_ours.partition(".forward()")[2] == text.partition(".forward()")[2]
        assert text_of_ours == text or ".forward()" in text
        return
    assert not text_of_ours
    for a, b in zip(got, right, strict=True):
        assert (type(a), a.dtype, a.shape, a.device) == (type(b), b.dtype, b.shape, b.device)
        if a.device.type == "cpu":
            torch.testing.assert_close(a, b)


# --- arguments that are wrong, or unusual


def calls_of(kind: str, module: Any) -> dict[str, tuple[Any, ...]]:
    """Return arguments that are wrong or unusual, by what is the matter with them."""
    x, h = random(5, 3, I), states_for(module, 3)
    first, *others = as_tuple(h)

    def hx(other: Any) -> Any:
        return (other, *others) if kind == "LSTM" else other

    packed = pack_padded_sequence(x, torch.tensor([5, 4, 2]))
    rows, sizes, *_ = packed
    unsorted = pack_padded_sequence(x, torch.tensor([2, 5, 4]), enforce_sorted=False)
    return {
        "nothing": (),
        "None": (None,),
        "a list": ([1.0],),
        "an array": (x.numpy(),),
        "features": (random(5, 3, I + 1),),
        "one axis": (random(I),),
        "no axis": (torch.tensor(1.0),),
        "four axes": (random(2, 5, 3, I),),
        "no steps": (random(0, 3, I),),
        "no steps of one sequence": (random(0, I),),
        "no batch": (random(5, 0, I),),
        "float64": (x.double(),),
        "float16": (x.half(),),
        "integers": (torch.ones(5, 3, I, dtype=torch.int64),),
        "complex": (x.to(torch.complex64),),
        "meta": (x.to("meta"),),
        "sparse": (x.to_sparse(),),
        "state: batch": (x, hx(random(1, 4, H))),
        "state: units": (x, hx(random(1, 3, H + 1))),
        "state: nets": (x, hx(random(2, 3, H))),
        "state: axes": (x, hx(random(3, H))),
        "state: float64": (x, hx(first.double())),
        "state: integers": (x, hx(first.long())),
        "state: a list": (x, hx([[1.0]])),
        "state: None in it": (x, hx(None)),
        "state: one": (x, first),
        "state: two": (x, (first, first)),
        "state: three": (x, (first, first, first)),
        "state: a list of it": (x, [*as_tuple(h)]),
        "state: none": (x, ()),
        "state: an array": (x, hx(first.numpy())),
        "one sequence, states of a batch": (random(5, I), h),
        "one sequence, states of more axes": (random(5, I), hx(random(H))),
        "packed: features": (pack_padded_sequence(random(5, 3, I + 1), torch.tensor([5, 4, 2])),),
        "packed: float64": (pack_padded_sequence(x.double(), torch.tensor([5, 4, 2])),),
        "packed: no features": (pack_padded_sequence(random(5, 3), torch.tensor([5, 4, 2])),),
        "packed: state of another batch": (packed, hx(random(1, 4, H))),
        "packed: state without a batch": (packed, hx(random(1, H))),
        "packed: too many": (PackedSequence(rows, sizes + 1),),
        "packed: too few": (PackedSequence(rows, sizes[:-1]),),
        "packed: that rises": (PackedSequence(rows, sizes.flip(0)),),
        "packed: an order of others": (PackedSequence(rows, sizes, torch.tensor([2, 0]), torch.tensor([1, 0])), h),
        "packed: no such order": (PackedSequence(rows, sizes, torch.tensor([2, 0, 7]), torch.tensor([1, 2, 0])), h),
        "packed: a state of lists": (unsorted, hx([[1.0]])),
        "packed: states of another batch, to be sorted": (unsorted, hx(random(1, 4, H))),
        "packed: and three": (packed, h, 3),
    }


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of")
def test_wrong_arguments(kind: str, batch_first: bool) -> None:
    theirs, ours = twins(kind, batch_first=batch_first)
    calls = calls_of(kind, ours)
    for what, args in calls.items():
        with torch.no_grad():
            torch_says, got = outcome(lambda args=args: theirs(*args)), outcome(lambda args=args: ours(*args))
        assert type(got[0]) is type(torch_says[0]), f"{what}: {got}, PyTorch: {torch_says}"
        assert_same_outcome(theirs, ours, *args)


@pytest.mark.parametrize("kind", CELLS)
def test_wrong_arguments_of_cells(kind: str) -> None:
    theirs, ours = twins(kind)
    x, h = random(3, I), random(3, H)
    hx = (h, h) if kind == "LSTMCell" else h
    calls: dict[str, tuple[Any, ...]] = {
        "nothing": (),
        "None": (None,),
        "features": (random(3, I + 1),),
        "three axes": (random(2, 3, I),),
        "no axes": (torch.tensor(1.0),),
        "no batch": (random(0, I),),
        "float64": (x.double(),),
        "integers": (torch.ones(3, I, dtype=torch.int64),),
        "state: batch": (x, (random(2, H),) * 2 if kind == "LSTMCell" else random(2, H)),
        "state: units": (x, (random(3, 2),) * 2 if kind == "LSTMCell" else random(3, 2)),
        "state: float64": (x, (h.double(),) * 2 if kind == "LSTMCell" else h.double()),
        "state: one axis": (x, (random(H),) * 2 if kind == "LSTMCell" else random(H)),
        "state: three axes": (x, (h[None],) * 2 if kind == "LSTMCell" else h[None]),
        "state: None in it": (x, (h, None)),
        "state: one, or two": (x, h if kind == "LSTMCell" else (h, h)),
        "one row, states of two axes": (random(I), hx),
        "meta": (x.to("meta"),),
        "and three": (x, hx, 3),
    }
    for args in calls.values():
        assert_same_outcome(theirs, ours, *args)
    for module in (theirs, ours):
        if kind == "RNNCell":
            module.nonlinearity = "sine"
    assert_same_outcome(theirs, ours, x)


def test_wrong_options() -> None:
    for kind in KINDS:
        for options in (
            {"hidden_size": 0},
            {"input_size": -1},
            {"num_layers": 0},
            {"dropout": 2.0},
            {"dropout": True},
            {"proj_size": H + 1},
            {"proj_size": -1},
            {"bias": 1},
            {"nonlinearity": "sine"},
            {"unknown": 1},
        ):
            sizes = {"input_size": I, "hidden_size": H, **options}
            right = outcome(lambda sizes=sizes, kind=kind: getattr(torch.nn, kind)(**sizes))
            got = outcome(lambda sizes=sizes, kind=kind: getattr(fastrnn.torch, kind)(**sizes))
            assert got == right
            assert got[1]


def test_weights_of_wrong_shapes() -> None:
    """A module whose parameters are no longer what they were."""
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        theirs, ours = twins("GRU")
        for module in (theirs, ours):
            getattr(module, name).data = getattr(module, name).data[1:]
        assert_same_outcome(theirs, ours, random(3, 2, I))
    theirs, ours = twins("LSTM", num_layers=2)
    for module in (theirs, ours):
        module.weight_hh_l1.data = module.weight_hh_l1.data.double()
    assert_same_outcome(theirs, ours, random(3, 2, I))
    for module in (theirs, ours):
        del module.bias_ih_l0
    assert_same_outcome(theirs, ours, random(3, 2, I))


@pytest.mark.parametrize("kind", KINDS)
def test_options_that_no_nets_have(kind: str) -> None:
    """Which only PyTorch can say what to do with: some of them it does not even look at."""
    for name, value in (
        ("mode", "SINE"),
        ("mode", None),
        ("num_layers", 0),
        ("input_size", None),
        ("bidirectional", 2),
    ):
        theirs, ours = twins(kind)
        for module in (theirs, ours):
            setattr(module, name, value)
        assert_same_outcome(theirs, ours, random(3, 2, I))


@pytest.mark.parametrize("kind", CELLS)
def test_options_that_no_cells_have(kind: str) -> None:
    theirs, ours = twins(kind)
    for module in (theirs, ours):
        module.input_size = None
    assert_same_outcome(theirs, ours, random(2, I))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_memory_that_is_freed(kind: str) -> None:
    """No numbers come of it, but the error of PyTorch's operators, of which some crash instead."""
    _, ours = twins(kind)
    x = random(*(() if kind in CELLS else (3,)), 2, I)
    ours(x)
    freed, weight = x.clone(), next(ours.parameters())
    for tensor, given in ((freed, freed), (weight, x)):
        tensor.untyped_storage().resize_(0)
        for grad in (True, False):
            error = pytest.raises(RuntimeError, match=r"its data is not allocated yet|storage of size 0")
            with torch.set_grad_enabled(grad), error:
                ours(given)


def test_options_that_are_set_later() -> None:
    theirs, ours = twins("LSTM", num_layers=2, **F64)
    x = random(3, 3, I, **F64)
    for name, value in (("batch_first", True), ("dropout", 0.5), ("training", False), ("num_layers", 1)):
        for module in (theirs, ours):
            setattr(module, name, value)
        assert_same_outcome(theirs, ours, x)


# --- other numbers, other places


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_other_dtypes(kind: str, dtype: Any) -> None:
    theirs, ours = twins(kind, dtype=dtype)
    x = random(*(() if kind in CELLS else (3,)), 2, I).to(dtype)
    with only_theirs(kind):
        assert_same_outcome(theirs, ours, x)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_other_devices(kind: str) -> None:
    theirs, ours = twins(kind)
    theirs.to("meta"), ours.to("meta")
    x = random(*(() if kind in CELLS else (3,)), 2, I)
    with only_theirs(kind):
        assert_same_outcome(theirs, ours, x.to("meta"))
    ours.to_empty(device="cpu")
    with only_ours():
        ours(x)


@pytest.mark.filterwarnings("ignore:An output with one or more elements")
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_autocast(kind: str) -> None:
    theirs, ours = twins(kind)
    x = random(*(() if kind in CELLS else (3,)), 2, I)
    with torch.autocast("cpu", dtype=torch.bfloat16), only_theirs(kind):
        assert_same_outcome(theirs, ours, x)
    with only_ours():
        ours(x)


def test_another_device_by_default() -> None:
    theirs, ours = twins("GRU", num_layers=2, dropout=0.5)
    x = random(3, 2, I)
    with torch.device("meta"), only_ours():
        y, _ = ours(x)
        y.sum().backward()
    assert y.device.type == ours.weight_hh_l0.grad.device.type == "cpu"
    assert_same_outcome(theirs, ours, x)


class Marked(torch.Tensor):
    """A subclass that does nothing else."""


def test_subclasses_of_tensors() -> None:
    theirs, ours = twins("GRU")
    x = random(3, 2, I).as_subclass(Marked)
    with only_theirs("GRU"):
        assert_same_outcome(theirs, ours, x)
    assert type(ours(x)[0]) is Marked
    for module in (theirs, ours):
        module.weight_hh_l0.data = module.weight_hh_l0.data.as_subclass(Marked)
        module._parameters["weight_ih_l0"] = module.weight_ih_l0.detach().as_subclass(Marked)
    assert_same_outcome(theirs, ours, random(3, 2, I))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_modes_see_operators(kind: str) -> None:
    """Whoever watches operators sees those of PyTorch."""
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    _, ours = twins(kind)
    with Watch(), only_theirs(kind):
        ours(random(*(() if kind in CELLS else (3,)), 2, I))
    assert seen


# --- transformations


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_function_transforms(kind: str) -> None:
    """Some of them PyTorch does not know for these operators."""
    theirs, ours = twins(kind, **F64)
    cell = kind in CELLS
    x = random(*(() if cell else (3,)), 2, I, **F64)
    many = random(4, *x.shape, **F64)

    def first(module: Any) -> Callable[[Any], Any]:
        return lambda a: as_tuple(module(a))[0]

    def of_parameters(module: Any) -> Callable[[Any], Any]:
        return lambda p: as_tuple(torch.func.functional_call(module, p, (x,)))[0].sum()

    for transform in (
        lambda m: torch.vmap(first(m))(many),
        lambda m: torch.func.jvp(first(m), (x,), (x,))[1],
        lambda m: torch.func.vjp(first(m), x)[1](first(m)(x))[0],
        lambda m: torch.func.jacrev(first(m))(x),
        lambda m: torch.func.jacfwd(first(m))(x),
        lambda m: torch.func.hessian(lambda a: first(m)(a).sum())(x),
        lambda m: torch.func.grad(of_parameters(m))(dict(m.named_parameters()))[
            "weight_hh" if cell else "weight_hh_l0"
        ],
    ):
        assert_same_outcome(lambda t=transform: t(theirs), lambda t=transform: t(ours))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_forward_mode(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    x = random(*(() if kind in CELLS else (3,)), 2, I, **F64)
    found = []
    for module in (theirs, ours):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            found.append(torch.autograd.forward_ad.unpack_dual(as_tuple(module(dual))[0]).tangent)
    torch.testing.assert_close(*found, **TOLERANCE[torch.float64])


class Net(torch.nn.Module):
    """A model as others have it."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.rnn = getattr(fastrnn.torch, kind)(I, H, **options)
        self.head = torch.nn.Linear(H, 2)

    def forward(self, x):  # noqa: ANN001, ANN201  TorchScript takes what is not annotated for a tensor
        y, _ = self.rnn(x)
        return self.head(y)


class CellNet(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell = getattr(fastrnn.torch, kind)(I, H)

    def forward(self, x):  # noqa: ANN001, ANN201
        return self.cell(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_torchscript(kind: str) -> None:
    """Traced and compiled there are PyTorch's operators, with the parameters of the module, in files, too."""
    net = CellNet(kind) if kind in CELLS else Net(kind)
    x = random(*(() if kind in CELLS else (3,)), 2, I)
    right = net(x)
    traced = torch.jit.trace(net, (x,))
    assert "aten::" in str(traced.inlined_graph)  # operators, and no numbers that they once had
    assert not torch.equal(as_tuple(traced(2 * x))[0], as_tuple(traced(x))[0])
    scripted = torch.jit.script(net)
    for module in (traced, scripted):
        file = io.BytesIO()
        torch.jit.save(module, file)
        file.seek(0)
        for made in (module, torch.jit.load(file)):
            for got, expected in zip(as_tuple(made(x)), as_tuple(right), strict=True):
                torch.testing.assert_close(got, expected)
    as_tuple(scripted(x))[0].sum().backward()
    assert all(p.grad is not None for n, p in net.named_parameters() if n.startswith(("rnn.", "cell.")))


class Derived(fastrnn.torch.GRU):
    """A class of others that adds to how it is made, and nothing to what it does."""


class DerivedCell(fastrnn.torch.LSTMCell):
    """The like of a cell."""


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize("kind", [Derived, DerivedCell])
def test_torchscript_of_subclasses_without_a_forward(kind: Any) -> None:
    net = torch.nn.Sequential(kind(I, H))
    x = random(3, I)
    for got, right in zip(as_tuple(torch.jit.script(net)(x)), as_tuple(net(x)), strict=True):
        torch.testing.assert_close(got, right)


class Decoder(torch.nn.Module):
    """What it is called with are the states: x it has itself."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, h: Any, c: Any) -> Any:
        x = torch.ones(2, I) if type(self.rnn).__name__ in CELLS else torch.ones(3, 2, I)
        return self.rnn(x, (h, c) if "LSTM" in type(self.rnn).__name__ else h)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_symbolic_traces_with_states_alone(kind: str) -> None:
    net = Decoder(twins(kind)[1])
    h, c = (random(*(() if kind in CELLS else (1,)), 2, H, seed=s) for s in (1, 2))
    traced = torch.fx.symbolic_trace(net)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["rnn"]
    for got, right in zip(traced(h, c), net(h, c), strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_symbolic_traces(kind: str) -> None:
    net = CellNet(kind) if kind in CELLS else Net(kind)
    x = random(*(() if kind in CELLS else (3,)), 2, I)
    traced = torch.fx.symbolic_trace(net)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls[0] == ("cell" if kind in CELLS else "rnn")
    with only_ours():
        got, right = as_tuple(traced(x)), as_tuple(net(x))
    assert all(map(torch.equal, got, right))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize.*", "ignore:must run observer")
def test_quantization() -> None:
    """A restored model is quantized as ever."""
    net = Net("LSTM")
    fastrnn.torch.restore(net)
    from torch.ao.quantization import quantize_dynamic

    quantized = quantize_dynamic(net, {torch.nn.LSTM, torch.nn.Linear}, dtype=torch.qint8)
    assert type(quantized.rnn).__module__.startswith("torch.ao.nn.quantized")
    report = fastrnn.torch.accelerate(quantized)
    assert report.left == {"rnn": "LSTM is quantized"}
    quantized(random(3, 2, I))


def test_single_steps_of_large_layers_are_torchs_where_it_is_faster() -> None:
    _, ours = twins("GRU", 200, 300)
    x = random(1, 2, 200)
    with only_theirs("GRU"):
        ours(x)
    with torch.no_grad(), only_ours():
        ours(x)
    with only_ours():
        ours(random(2, 2, 200))
    for kind, sizes in (("GRUCell", (200, 300)), ("LSTMCell", (200, 300)), ("RNNCell", (I, H))):
        _, cell = twins(kind, *sizes)
        x = random(2, sizes[0])
        with only_theirs(kind):
            cell(x)
        with torch.no_grad(), only_ours():
            cell(x)
