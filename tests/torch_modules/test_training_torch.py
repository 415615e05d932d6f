"""What autograd and optimisers do with PyTorch's modules they do with fastrnn's."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from twins import (
    CELLS,
    KINDS,
    TOLERANCE,
    H,
    I,
    as_tuple,
    only_ours,
    only_theirs,
    random,
    states_for,
    twins,
)

import fastrnn.torch
from fastrnn.torch import stack

F64 = {"dtype": torch.float64}


def assert_all_close(got: Any, right: Any, dtype: Any = torch.float64) -> None:
    for a, b in zip(got, right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])


def gradients(module: Any) -> list[Any]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


# --- parameters that change


def sgd(module: Any) -> Any:
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def adam(module: Any) -> Any:
    return torch.optim.Adam(module.parameters(), lr=0.01, foreach=False)


def adam_of_all_at_once(module: Any) -> Any:
    return torch.optim.Adam(module.parameters(), lr=0.01, foreach=True)


def adamw_in_one_kernel(module: Any) -> Any:
    return torch.optim.AdamW(module.parameters(), lr=0.01, fused=True)


@pytest.mark.parametrize("optimiser", [sgd, adam, adam_of_all_at_once, adamw_in_one_kernel])
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_training(kind: str, optimiser: Callable[[Any], Any]) -> None:
    """Twenty steps, after each of which the numbers are those of PyTorch, in evaluation, too."""
    pair = twins(kind, **F64) if kind in CELLS else twins(kind, num_layers=2, bidirectional=True, **F64)
    steps = [optimiser(module) for module in pair]
    for step in range(20):
        x = random(*(() if kind in CELLS else (5,)), 3, I, seed=step, **F64)
        found = []
        for module, of in zip(pair, steps, strict=True):
            of.zero_grad()
            first = as_tuple(module(x))[0]
            first.pow(2).mean().backward()
            of.step()
            with torch.no_grad():
                found.append([as_tuple(module(x))[0], *module.parameters()])
        assert_all_close(*reversed(found))


def copied(p: Any, other: Any) -> None:
    p.data.copy_(other)


def scaled(p: Any, other: Any) -> None:
    p.data.mul_(0.5)


def other_memory(p: Any, other: Any) -> None:
    p.data = other


def transposed(p: Any, other: Any) -> None:
    """Stand where it stood, and be another."""
    p.data = p.data.t() if p.dim() == 2 and p.shape[0] == p.shape[1] else p.data.flip(0)


def by_numpy(p: Any, other: Any) -> None:
    p.detach().numpy()[...] = other


def through_a_view(p: Any, other: Any) -> None:
    p.detach()[0] += 1


def of_the_storage(p: Any, other: Any) -> None:
    p.set_(other.clone())


@pytest.mark.parametrize("change", [copied, scaled, other_memory, transposed, by_numpy, through_a_view, of_the_storage])
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_no_change_goes_unseen(kind: str, change: Callable[[Any, Any], None]) -> None:
    """Whether or not it is counted in a parameter's version, and however often the weights before were used."""
    theirs, ours = twins(kind, H, H, **F64)
    x = random(*(() if kind in CELLS else (2,)), 3, H, **F64)
    for turn in range(3):
        for module in (theirs, ours):
            for number, p in enumerate(module.parameters()):
                other = random(*p.shape, seed=100 * turn + number, **F64)
                with torch.no_grad():
                    change(p, other)
        for _ in range(3):  # the kernels keep packed weights from the second time on
            with torch.no_grad():
                right, got = as_tuple(theirs(x))[0], as_tuple(ours(x))[0]
            torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


def test_a_bit_is_seen() -> None:
    _, ours = twins("LSTM", **F64)
    x = random(2, 1, I, **F64)
    with torch.no_grad():
        for _ in range(3):
            before, _ = ours(x)
        weight = ours.weight_hh_l0.detach().numpy().view("u8")
        weight[0, 0] ^= 1 << 40
        after, _ = ours(x)
    assert not torch.equal(before, after)


def test_parameters_that_are_replaced() -> None:
    theirs, ours = twins("GRU", **F64)
    x = random(3, 2, I, **F64)
    for module in (theirs, ours):
        module(x)
        module.weight_hh_l0 = torch.nn.Parameter(random(3 * H, H, seed=8, **F64))
        module(x)[0].sum().backward()
    assert_all_close(gradients(ours), gradients(theirs))


def test_another_dtype_and_back() -> None:
    theirs, ours = twins("LSTM")
    x = random(3, 2, I)
    ours(x)
    for dtype in (torch.float64, torch.float32):
        theirs.to(dtype), ours.to(dtype)
        with only_ours():
            y, _ = ours(x.to(dtype))
        torch.testing.assert_close(y, theirs(x.to(dtype))[0], **TOLERANCE[dtype])


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_weights_that_change_before_the_way_back(kind: str) -> None:
    """PyTorch's own error, for the parameters, the input and the state."""
    for changed in range(3):
        for module in twins(kind):
            x = random(*(() if kind in CELLS else (2,)), 3, I).requires_grad_()
            h = random(*(() if kind in CELLS else (1,)), 3, H).requires_grad_()
            weight = module.weight_hh if kind in CELLS else module.weight_hh_l0
            y = as_tuple(module(x, (h, torch.zeros_like(h)) if kind.startswith("LSTM") else h))[0]
            with torch.no_grad():
                (x, h, weight)[changed].mul_(2)
            with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
                y.sum().backward()


# --- graphs


def test_many_calls_in_one_graph() -> None:
    theirs, ours = twins("GRU", num_layers=2, bidirectional=True, **F64)
    found = []
    for module in (theirs, ours):
        a, b = random(4, 2, I, seed=1, **F64).requires_grad_(), random(7, 1, I, seed=2, **F64).requires_grad_()
        first, second = module(a)[0], module(b)[0]
        third = module(first[..., :I])[0]
        (third.sum() * second.mean()).backward()
        found.append([a.grad, b.grad, *gradients(module)])
    assert_all_close(*reversed(found))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_in_evaluation_mode_there_are_gradients_too(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    x = random(*(() if kind in CELLS else (4,)), 3, I, **F64)
    for module in (theirs, ours):
        as_tuple(module.eval()(x))[0].sum().backward()
    assert_all_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_the_way_back_many_times(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    x = random(*(() if kind in CELLS else (4,)), 3, I, **F64)
    found = []
    for module in (theirs, ours):
        y = as_tuple(module(x))[0]
        for n in range(3):
            (y * (n + 1)).sum().backward(retain_graph=True)
        y.sum().backward()
        found.append(gradients(module))
        with pytest.raises(RuntimeError, match="second time"):
            y.sum().backward()
    assert_all_close(*reversed(found))


def test_what_needs_no_gradient_gets_none() -> None:
    theirs, ours = twins("LSTM", num_layers=2, **F64)
    for frozen in (["weight_ih_l0"], ["bias_hh_l1", "weight_hh_l0"], [n for n, _ in ours.named_parameters()]):
        found = []
        for module in (theirs, ours):
            module.zero_grad()
            for name, p in module.named_parameters():
                p.requires_grad_(name not in frozen)
            x = random(4, 2, I, **F64).requires_grad_()
            h, c = states_for(module, 2)
            y, _ = module(x, (h, c.requires_grad_()))
            y.sum().backward()
            assert h.grad is None
            found.append([x.grad, c.grad, *gradients(module)])
        for got, right in zip(*reversed(found), strict=True):
            assert (got is None) == (right is None)
            if right is not None:
                torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])
    y, _ = ours(random(4, 2, I, **F64))  # all of them are frozen
    assert not y.requires_grad


def test_outputs_may_be_changed_in_place() -> None:
    theirs, ours = twins("GRU", **F64)
    for module in (theirs, ours):
        y, h = module(random(4, 2, I, **F64))
        (y.relu_().sum() + h.mul_(3).sum()).backward()
    assert_all_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_gradients_of_gradients(kind: str) -> None:
    """A penalty on a gradient, of float32 too."""
    for dtype in (torch.float32, torch.float64):
        theirs, ours = twins(kind, dtype=dtype)
        found = []
        for module in (theirs, ours):
            x = random(*(() if kind in CELLS else (4,)), 3, I, dtype=dtype).requires_grad_()
            y = as_tuple(module(x))[0]
            (dx,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
            (dx.norm() + y.sum()).backward()
            found.append([dx, x.grad, *gradients(module)])
        assert_all_close(*reversed(found), dtype)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_a_graph_of_the_way_back_calls_hooks_once() -> None:
    theirs, ours = twins("GRU", **F64)
    found = []
    for module in (theirs, ours):
        x = random(4, 2, I, **F64).requires_grad_()
        doubled = x * 1
        doubled.register_hook(lambda g: g * 2)
        module.weight_hh_l0.register_hook(lambda g: g * 3)
        doubled.retain_grad()
        module(doubled)[0].sum().backward(create_graph=True)
        found.append([x.grad.detach(), doubled.grad.detach(), *(p.grad.detach() for p in module.parameters())])
        module.zero_grad()
    assert_all_close(*reversed(found))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of PyTorch's own
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_jacobians(kind: str) -> None:
    theirs, ours = twins(kind, **F64)
    x = random(*(() if kind in CELLS else (3,)), 2, I, **F64)
    for vectorize in (False, True):
        right, got = (
            torch.autograd.functional.jacobian(lambda a, m=m: as_tuple(m(a))[0], x, vectorize=vectorize)
            for m in (theirs, ours)
        )
        torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_checkpoint(kind: str, reentrant: bool) -> None:
    """The masks of dropout are drawn again as they were."""
    options = {} if kind in CELLS else {"num_layers": 3, "dropout": 0.5}
    theirs, ours = twins(kind, **options, **F64)
    found = []
    for module, through in ((theirs, True), (ours, True), (ours, False)):
        module.zero_grad()
        x = random(*(() if kind in CELLS else (5,)), 3, I, **F64).requires_grad_()
        torch.manual_seed(0)
        y = as_tuple(checkpoint(module, x, use_reentrant=reentrant) if through else module(x))[0]
        y.pow(2).sum().backward()
        found.append([y, x.grad, *gradients(module)])
    assert_all_close(found[1], found[0])
    assert_all_close(found[1], found[2])


def test_a_checkpoint_keeps_nothing() -> None:
    _, ours = twins("LSTM", 20, 30)
    kept = []
    forward = stack.Stack.forward

    def spy(self: Any, *args: Any) -> Any:
        kept.append(args[-1])
        return forward(self, *args)

    with mock.patch.object(stack.Stack, "forward", spy):
        y, _ = checkpoint(ours, random(40, 2, 20), use_reentrant=False)
        assert kept == [False]
        y.sum().backward()
    assert kept[-1] is True


def test_saved_tensors_may_be_kept_elsewhere() -> None:
    theirs, ours = twins("LSTM", num_layers=2, dropout=0.5, **F64)
    found = []
    for module in (theirs, ours):
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), lambda a: torch.tensor(a, **F64)):
            y, _ = module(random(4, 2, I, **F64))
        y.sum().backward()
        found.append(gradients(module))
    assert_all_close(*reversed(found))


def test_nothing_is_kept_longer_than_needed() -> None:
    """The tapes go with the way back, and calls with what they returned."""
    _, ours = twins("LSTM", 50, 60)
    y, _ = ours(random(30, 4, 50))
    call = y.grad_fn
    while type(call).__name__ != "RecurrenceBackward":
        call = call.next_functions[0][0]
    assert call.tapes
    y.sum().backward()
    assert call.tapes is None
    x = random(3, 2, 50).requires_grad_()
    outputs = ours(x)
    gone = weakref.ref(outputs[0].grad_fn)
    del outputs
    gc.collect()
    assert gone() is None


def test_small_steps_of_large_layers_keep_no_tapes() -> None:
    """Each would have a copy of the weights."""
    _, ours = twins("LSTM", 200, 300)
    y, _ = ours(random(1, 2, 200))
    assert y.grad_fn.tapes is None
    y, _ = ours(random(stack.FEW_STEPS, 2, 200))
    assert y.grad_fn.tapes is not None


def test_hooks() -> None:
    """Of modules and of parameters."""
    theirs, ours = twins("GRU", **F64)
    found = []
    for module in (theirs, ours):
        seen: list[Any] = []
        module.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        module.register_forward_hook(lambda m, args, out: (out[0] + 1, out[1]))
        module.register_full_backward_hook(lambda m, gi, go, seen=seen: seen.extend([*gi, *go]))
        module.weight_hh_l0.register_hook(lambda g: g * 2)
        module.weight_hh_l0.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad.clone()))
        x = random(4, 2, I, **F64).requires_grad_()
        y, _ = module(x)
        y.pow(2).sum().backward()
        found.append([y, x.grad, *gradients(module), *(t for t in seen if t is not None)])
    assert_all_close(*reversed(found))


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore:Error detected in RecurrenceBackward")
def test_anomalies_are_found() -> None:
    _, ours = twins("GRU")
    with torch.autograd.set_detect_anomaly(True):
        y, _ = ours(random(3, 2, I))
        y.sum().backward()
        y, _ = ours(random(3, 2, I))
        with pytest.raises(RuntimeError, match=r"Recurrence.*returned nan"):
            (y * torch.inf).sum().backward()


# --- whose parameters they are


def test_weights_tied_between_modules() -> None:
    pair = []
    for kind in (torch.nn.GRU, fastrnn.torch.GRU):
        torch.manual_seed(0)
        a, b = kind(H, H, **F64), kind(H, H, **F64)
        b.weight_hh_l0 = a.weight_hh_l0
        b.weight_ih_l0 = b.bias_ih_l0 = None
        b.weight_ih_l0, b.bias_ih_l0 = a.weight_ih_l0, a.bias_hh_l0
        a.bias_ih_l0 = a.bias_hh_l0  # twice in one
        y, _ = b(a(random(3, 2, H, **F64))[0])
        y.sum().backward()
        pair.append([y, *gradients(a), *gradients(b)])
    assert_all_close(*reversed(pair))


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_functional_call(kind: str) -> None:
    """With other parameters for one call, of which the module keeps nothing."""
    theirs, ours = twins(kind, **F64)
    x = random(*(() if kind in CELLS else (3,)), 2, I, **F64)
    before = as_tuple(ours(x))[0]
    others = {n: random(*p.shape, seed=5, **F64).requires_grad_() for n, p in ours.named_parameters()}
    found = []
    for module in (theirs, ours):
        y = as_tuple(torch.func.functional_call(module, others, (x,)))[0]
        found.append([y, *torch.autograd.grad(y.pow(2).sum(), list(others.values()))])
    assert_all_close(*reversed(found))
    assert torch.equal(as_tuple(ours(x))[0], before)
    with only_ours():
        torch.func.functional_call(ours, {n: p.detach() for n, p in others.items()}, (x,))


def trained_twice(module: Any, x: Any) -> Any:
    """Two steps down the gradient; y of the second."""
    for _ in range(2):
        module.zero_grad()
        y = as_tuple(module(x))[0]
        y.pow(2).sum().backward()
        with torch.no_grad():
            for p in module.parameters():
                p.sub_(0.1 * p.grad)
    return y


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_parametrizations(kind: str) -> None:
    """Weights that are computed for each call."""
    name = "weight_hh" if kind in CELLS else "weight_hh_l0"
    for parametrization in (parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal):
        found = []
        for module in twins(kind, **F64):
            torch.manual_seed(1)
            parametrization(module, name)
            x = random(*(() if kind in CELLS else (3,)), 2, I, **F64)
            y = trained_twice(module, x)
            module.eval()
            found.append([y, as_tuple(module(x))[0], *gradients(module)])
        assert_all_close(*reversed(found))
        with only_ours(), torch.no_grad():
            module(x)
        parametrize.remove_parametrizations(module, name)
        with only_ours(), torch.no_grad():
            module(x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_weight_norm_of_old(kind: str) -> None:
    """By a hook that sets an attribute."""
    found = []
    for module in twins(kind, **F64):
        torch.nn.utils.weight_norm(module, "weight_hh" if kind in CELLS else "weight_hh_l0")
        x = random(*(() if kind in CELLS else (3,)), 2, I, **F64)
        found.append([trained_twice(module, x), *gradients(module)])
    assert_all_close(*reversed(found))
    with only_ours(), torch.no_grad():
        module(x)


def test_weights_of_another_function() -> None:
    """Weight drop, as AWD-LSTM has it: tensors in the place of parameters, set before each call."""
    found = []
    for module in twins("LSTM", **F64):
        raw = torch.nn.Parameter(module.weight_hh_l0.detach().clone())
        del module.weight_hh_l0
        module.register_parameter("raw", raw)
        for seed in range(2):
            torch.manual_seed(seed)
            module.weight_hh_l0 = torch.nn.functional.dropout(raw, 0.5)
            y, _ = module(random(3, 2, I, **F64))
            y.sum().backward()
        found.append([y, raw.grad])
    assert_all_close(*reversed(found))


def test_inference_tensors_as_parameters() -> None:
    """They have no version that would tell of changes."""
    with torch.inference_mode():
        theirs, ours = twins("LSTM", **F64)
    x = random(3, 2, I, **F64)
    assert ours.weight_hh_l0.is_inference()
    for _ in range(3):
        with torch.inference_mode(), only_ours():
            y, _ = ours(x)
        with torch.inference_mode():
            torch.testing.assert_close(y, theirs(x)[0], **TOLERANCE[torch.float64])
            for module in (theirs, ours):
                for p in module.parameters():
                    p.mul_(0.5)
    with torch.no_grad(), only_ours():
        ours(x)
    for module in (theirs, ours):
        with pytest.raises(RuntimeError, match=r"[Ii]nference tensor"):
            module(x.requires_grad_())


def test_a_learned_state() -> None:
    theirs, ours = twins("LSTM", **F64)
    found = []
    for module in (theirs, ours):
        h, c = (torch.nn.Parameter(random(1, 1, H, seed=s, **F64)) for s in (1, 2))
        y, _ = module(random(3, 4, I, **F64), (h.expand(-1, 4, -1), c.expand(-1, 4, -1)))
        y.sum().backward()
        found.append([y, h.grad, c.grad])
    assert_all_close(*reversed(found))
    with only_ours(), torch.no_grad():
        ours(torch.nn.Parameter(random(3, 1, I, **F64)), (h, c))


def test_copies_share_nothing() -> None:
    _, ours = twins("GRU", **F64)
    x = random(3, 2, I, **F64)
    y, _ = ours(x)
    other = copy.deepcopy(ours)
    with torch.no_grad():
        other.weight_hh_l0.zero_()
    assert torch.equal(ours(x)[0], y)
    assert not torch.equal(other(x)[0], y)


def test_gradients_with_a_negative_bit() -> None:
    """Which imaginary parts of conjugates have: numbers whose memory has the other sign."""
    theirs, ours = twins("GRU", **F64)
    for module in (theirs, ours):
        y, _ = module(random(3, 2, I, **F64))
        dy = torch.complex(random(3, 2, H, **F64), random(3, 2, H, seed=1, **F64)).conj().imag
        assert dy.is_neg()
        torch.autograd.backward(y, dy)
    assert_all_close(gradients(ours), gradients(theirs))
    with torch.no_grad(), only_theirs("GRU"):
        x = torch.complex(random(3, 2, I, **F64), random(3, 2, I, **F64)).conj().imag
        assert_all_close([ours(x)[0]], [theirs(x)[0]])


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_gradients_that_are_sparse(kind: str) -> None:
    """PyTorch has no operators for them, and says so."""
    theirs, ours = twins(kind)
    for module in (theirs, ours):
        y = as_tuple(module(random(*(() if kind in CELLS else (3,)), 2, I)))[0]
        first = torch.gather(y, 0, torch.zeros(1, *y.shape[1:], dtype=torch.int64), sparse_grad=True)
        with pytest.raises(NotImplementedError, match="SparseCPU"):
            first.sum().backward()
