"""In the graphs of torch.compile and torch.export modules are an operator, which gives what they give."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from twins import CELLS, KINDS, TOLERANCE, H, I, P, as_tuple, only_ours, random, states_for, twins

import fastrnn.torch

F64 = {"dtype": torch.float64}
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*TF32", "ignore:Exporting a model to ONNX"
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Have nothing compiled that another test has made."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def rnns_in_graphs() -> Iterator[None]:
    """Have Dynamo take recurrent modules into graphs, before which it stops by default."""
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


class Net(torch.nn.Module):
    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, after = self.rnn(x * 2, hx)
        return y + 1, after


def operators_in(graph: Any) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def compiled(net: Any, backend: str, **options: Any) -> tuple[Any, set[str]]:
    """Return a compiled module, and a set to which the operators of its graphs go."""
    seen: set[str] = set()
    behind = torch._dynamo.lookup_backend(backend)

    def spy(graph: Any, inputs: Any) -> Any:
        seen.update(operators_in(graph.graph))
        return behind(graph, inputs)

    return torch.compile(net, backend=spy, **options), seen


@pytest.mark.usefixtures("rnns_in_graphs")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind: str, backend: str) -> None:
    """One graph, with the operator in it, of modules with all options, and with gradients."""
    for options in (
        {},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"bias": False, "num_layers": 2},
        {"proj_size": P} if kind == "LSTM" else {"bidirectional": True},
    ):
        for with_states, unbatched in itertools.product((False, True), (False, True)):
            found = []
            for module in twins(kind, **options, **F64):
                net = Net(module)
                if isinstance(module, getattr(fastrnn.torch, kind)):
                    torch._dynamo.reset()
                    net, seen = compiled(net, backend, fullgraph=True)
                x = random(*((5, I) if unbatched else (5, 3, I)), **F64).requires_grad_()
                batch = None if unbatched else 5 if options.get("batch_first") else 3
                states = tuple(s.requires_grad_() for s in as_tuple(states_for(module, batch)))
                hx = None if not with_states else states if kind == "LSTM" else states[0]
                y, after = net(x, hx)
                (y.pow(2).sum() + sum(s.sum() for s in as_tuple(after))).backward()
                found.append([y, *as_tuple(after), x.grad, *(p.grad for p in module.parameters())])
                found[-1] += [s.grad for s in states if with_states]
            assert "fastrnn.rnn" in str(seen)
            for got, right in zip(*reversed(found), strict=True):
                torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


@pytest.mark.usefixtures("rnns_in_graphs")
def test_compiled_without_gradients_and_of_any_size() -> None:
    theirs, ours = twins("GRU")
    net, seen = compiled(Net(ours), "aot_eager", fullgraph=True, dynamic=True)
    for T, B in ((5, 3), (7, 2), (9, 4), (1, 1)):
        x = random(T, B, I)
        with torch.no_grad():
            for got, right in zip(net(x), Net(theirs)(x), strict=True):
                torch.testing.assert_close(got, right)
    assert "fastrnn.rnn" in str(seen)


@pytest.mark.usefixtures("rnns_in_graphs")
def test_compiled_with_weights_that_change() -> None:
    theirs, ours = twins("LSTM", **F64)
    net, _ = compiled(Net(ours), "aot_eager", fullgraph=True)
    x = random(5, 2, I, **F64)
    for _ in range(3):
        with torch.no_grad():
            torch.testing.assert_close(net(x)[0], Net(theirs)(x)[0], **TOLERANCE[torch.float64])
        for module in (theirs, ours):
            for p in module.parameters():
                p.data.mul_(0.7)


@pytest.mark.usefixtures("rnns_in_graphs")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_dropout(backend: str) -> None:
    """It is drawn anew each time, and gradients are of what was drawn."""
    _, ours = twins("LSTM", num_layers=2, dropout=0.5, **F64)
    net, seen = compiled(Net(ours), backend, fullgraph=True)
    x = random(5, 2, I, **F64)
    outputs = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        y, _ = net(x.requires_grad_())
        (dx,) = torch.autograd.grad(y.sum(), x)
        outputs.append((y, dx))
    assert not torch.equal(outputs[0][0], outputs[1][0])
    assert all(map(torch.equal, outputs[0], outputs[2]))
    assert "fastrnn.rnn" in str(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_by_default_it_runs_between_graphs(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    found = []
    for net in (Net(theirs), torch.compile(Net(ours), backend="aot_eager")):
        x = random(5, 3, I, **F64).requires_grad_()
        y, _ = net(x)
        y.sum().backward()
        found.append([y, x.grad])
    for got, right in zip(*reversed(found), strict=True):
        torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("kind", CELLS)
def test_compiled_cells(kind: str) -> None:
    """They are PyTorch's operators, which it can fuse."""
    found = []
    for module in twins(kind, **F64):
        net, seen = compiled(module, "aot_eager", fullgraph=True)
        x = random(3, I, **F64).requires_grad_()
        y = as_tuple(net(x))[0]
        y.sum().backward()
        found.append([y, x.grad])
    assert seen
    for got, right in zip(*reversed(found), strict=True):
        torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


@pytest.mark.usefixtures("rnns_in_graphs")
def test_what_is_out_of_the_ordinary_is_torchs_in_graphs_too() -> None:
    theirs, ours = twins("GRU")
    theirs.bfloat16(), ours.bfloat16()
    net, seen = compiled(Net(ours), "eager", fullgraph=True)
    x = random(3, 2, I).bfloat16()
    with torch.no_grad():
        torch.testing.assert_close(net(x)[0], Net(theirs)(x)[0])
    assert "gru" in str(seen)
    assert "fastrnn" not in str(seen)
    with pytest.raises(Exception, match=r"input.size\(-1\) must be equal to input_size"):
        torch.compile(twins("GRU")[1], backend="eager", fullgraph=True)(random(3, 2, I + 1))


@pytest.mark.usefixtures("rnns_in_graphs")
@pytest.mark.parametrize("kind", KINDS)
def test_function_transforms_in_graphs(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    x = random(3, 2, I, **F64)
    right = torch.func.grad(lambda a: theirs(a)[0].sum())(x)
    net, seen = compiled(lambda a: torch.func.grad(lambda b: ours(b)[0].sum())(a), "eager", fullgraph=True)
    torch.testing.assert_close(net(x), right, **TOLERANCE[torch.float64])
    assert "fastrnn" not in str(seen)


@pytest.mark.usefixtures("rnns_in_graphs")
def test_states_in_one_tensor_are_wrong_in_graphs_too() -> None:
    for module in twins("LSTM"):
        with pytest.raises(TypeError, match="invalid combination of arguments"):
            torch.compile(module, backend="eager")(random(3, 2, I), torch.zeros(2, 1, 2, H))


@pytest.mark.usefixtures("rnns_in_graphs")
def test_compiled_to_machine_code() -> None:
    theirs, ours = twins("LSTM")
    found = []
    for net in (Net(theirs), torch.compile(Net(ours), fullgraph=True)):
        x = random(5, 3, I).requires_grad_()
        y, _ = net(x)
        y.pow(2).sum().backward()
        found.append([y, x.grad])
    for got, right in zip(*reversed(found), strict=True):
        torch.testing.assert_close(got, right, **TOLERANCE[torch.float32])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exported(kind: str, strict: bool) -> None:
    """To a file and back, with a batch and a number of steps of any size; and it can be trained."""
    for options in ({}, {"num_layers": 2, "bidirectional": True, "batch_first": True}):
        theirs, ours = twins(kind, **options)
        sizes = {0: torch.export.Dim("a", min=2, max=50), 1: torch.export.Dim("b", min=2, max=50)}
        program = torch.export.export(Net(ours), (random(5, 3, I),), dynamic_shapes={"x": sizes}, strict=strict)
        assert "fastrnn.rnn" in str(operators_in(program.graph))
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        for made in (program, torch.export.load(file)):
            net = made.module()
            for shape in ((5, 3), (8, 2), (2, 9)):
                x = random(*shape, I)
                y, after = net(x)
                right, state = Net(theirs)(x)
                torch.testing.assert_close(y, right, **TOLERANCE[torch.float32])
                for got, expected in zip(as_tuple(after), as_tuple(state), strict=True):
                    torch.testing.assert_close(got, expected, **TOLERANCE[torch.float32])
            theirs.zero_grad()
            y.pow(2).sum().backward()
            right.pow(2).sum().backward()
            for (name, p), q in zip(net.named_parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(p.grad, q.grad, **TOLERANCE[torch.float32], msg=name)
            net.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_is_what_it_says(kind: str) -> None:
    """Its shapes without numbers, its gradients, its functions in graphs."""
    for layers, bidirectional, batch_first, given in itertools.product(
        (1, 2), (False, True), (False, True), (False, True)
    ):
        _, ours = twins(kind, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first)
        x = random(3, 3, I).requires_grad_()
        states = as_tuple(states_for(ours, 3)) if given else (None, None)
        h, c = (*states, None)[:2]
        units = (1 + bidirectional) * H
        masks = [random(3, 3, units).abs() for _ in range(layers - 1)]
        sizes = ours.mode, I, H, layers, True, bidirectional, 0
        args = x, h, c, list(ours.parameters()), masks, batch_first, *sizes
        torch.library.opcheck(torch.ops.fastrnn.rnn.default, args)


def test_wrong_arguments_of_the_operator() -> None:
    _, ours = twins("GRU")
    sizes = "GRU", I, H, 1, True, False, 0
    weights = [p.detach() for p in ours.parameters()]
    for args in (
        (random(3, 2, I + 1), None, None, weights, [], False, *sizes),
        (random(3, 2, I), random(1, 3, H), None, weights, [], False, *sizes),
        (random(3, 2, I).double(), None, None, weights, [], False, *sizes),
        (random(3, 2, I), None, None, weights[:3], [], False, *sizes),
        (random(3, I), None, None, weights, [], False, *sizes),
        (random(3, 2, I), None, None, weights, [], False, "GRUX", *sizes[1:]),
    ):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            torch.ops.fastrnn.rnn(*args)
        assert "\n" not in str(caught.value).strip()
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        torch.ops.fastrnn.rnn(random(0, 2, I), None, None, weights, [], False, *sizes)


def test_graphs_of_operators_alone() -> None:
    """make_fx sees PyTorch's."""
    _, ours = twins("GRU", **F64)
    x = random(3, 2, I, **F64)
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda a: ours(a)[0])(x)
    with only_ours():
        torch.testing.assert_close(graph(2 * x), ours(2 * x)[0], **TOLERANCE[torch.float64])
    assert "fastrnn" not in str(operators_in(graph.graph))


@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize("by_graph", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exported_to_onnx(kind: str, by_graph: bool, tmp_path: Path) -> None:
    """As PyTorch's operators, for ONNX has those."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript" if by_graph else "onnx")
    net, x, path = Net(twins(kind)[1]).eval(), random(5, 3, I), str(tmp_path / "model.onnx")
    torch.onnx.export(net, (x,), path, dynamo=by_graph)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(y), net(x)[0], **TOLERANCE[torch.float32])
