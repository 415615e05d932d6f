"""Modules and cells give what PyTorch's give: outputs, states and every gradient, in every setting."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from twins import (
    CELLS,
    FORMS,
    KINDS,
    TOLERANCE,
    H,
    I,
    as_tuple,
    assert_same,
    everything,
    only_ours,
    random,
    settings,
    states_for,
    twins,
)

import fastrnn.torch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # of PyTorch's own
DTYPES = torch.float32, torch.float64


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_they_are_modules_of_torch(kind: str) -> None:
    theirs, ours = twins(kind)
    assert isinstance(ours, getattr(torch.nn, kind))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.manual_seed(5)
    a = getattr(torch.nn, kind)(I, H)
    torch.manual_seed(5)
    b = getattr(fastrnn.torch, kind)(I, H)
    assert all(map(torch.equal, a.parameters(), b.parameters()))  # initial values


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_modules(kind: str, dtype: Any) -> None:
    for setting in settings(dtype):
        if setting.kind != kind:
            continue
        for with_states in (False, True):
            theirs, ours = twins(kind, **setting.options)
            right = everything(theirs, setting.form, with_states=with_states)
            with only_ours():
                got = everything(ours, setting.form, with_states=with_states)
            assert_same(got, right, dtype, f"{setting}, states {with_states}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_zeroes_what_torch_zeroes(kind: str, dtype: Any) -> None:
    """Masks are drawn from PyTorch's generator, and are the very same: so all numbers are, too."""
    for bidirectional, batch_first, p, form in itertools.product((False, True), (False, True), (0.3, 1.0), FORMS):
        options = {"num_layers": 3, "bidirectional": bidirectional, "batch_first": batch_first}
        theirs, ours = twins(kind, dropout=p, dtype=dtype, **options)
        right = everything(theirs, form, with_states=True)
        with only_ours():
            got = everything(ours, form, with_states=True)
            other = everything(ours, form, with_states=True, seed=4)
        assert_same(got, right, dtype, f"{kind} {options} p={p} {form}")
        if p < 1:
            assert not torch.equal(got["y"], other["y"])
        theirs.eval(), ours.eval()
        right = everything(theirs, form, with_states=True)
        with only_ours():
            assert_same(everything(ours, form, with_states=True), right, dtype, f"{kind} {options} eval {form}")


def test_dropout_is_a_share() -> None:
    _, ours = twins("RNN", 1, 50, num_layers=2, dropout=0.3, nonlinearity="relu")
    with torch.no_grad():
        for name, p in ours.named_parameters():
            p.zero_()
            if name == "bias_ih_l0":
                p.fill_(1.0)
            if name == "weight_ih_l1":
                p.copy_(torch.eye(50))
        y, _ = ours(torch.zeros(40, 50, 1))
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.7))
    assert abs(kept.float().mean() - 0.7) < 0.006  # four standard deviations of 100,000


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_modules_without_gradients(kind: str, dtype: Any) -> None:
    for layers, bidirectional, batch_first, mode in itertools.product(
        (1, 2), (False, True), (False, True), (torch.no_grad, torch.inference_mode)
    ):
        options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first}
        theirs, ours = twins(kind, dtype=dtype, **options)
        x = random(5, 3, I, dtype=dtype)
        with mode():
            right, state = theirs(x)
            with only_ours():
                y, state_ours = ours(x)
        assert (y.is_inference(), y.requires_grad, y.stride()) == (right.is_inference(), False, right.stride())
        for got, expected in zip((y, *as_tuple(state_ours)), (right, *as_tuple(state)), strict=True):
            torch.testing.assert_close(got, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_of_any_rows(kind: str, dtype: Any) -> None:
    """Up to ROWS_OF_STEP rows, a call of one step is computed another way, with the same results, each of its own."""
    for B, bidirectional, given, packed in itertools.product((1, 2, 8, 9), *[(False, True)] * 3):
        theirs, ours = twins(kind, num_layers=2, bidirectional=bidirectional, dtype=dtype)
        x: Any = random(1, B, I, dtype=dtype)
        x = PackedSequence(x[0], torch.tensor([B])) if packed else x
        shape = (4 if bidirectional else 2, B, H)
        states = [random(*shape, dtype=dtype, seed=k) for k in range(1 + (kind == "LSTM"))] if given else None
        hx = None if states is None else tuple(states) if kind == "LSTM" else states[0]
        with torch.no_grad():
            right, right_states = theirs(x, hx)
            with only_ours():
                y, found = ours(x, hx)
            y, right = (y.data, right.data) if packed else (y, right)
            last = as_tuple(found)[0].clone()
            torch.testing.assert_close(y, right, **TOLERANCE[dtype])
            for s, r in zip(as_tuple(found), as_tuple(right_states), strict=True):
                torch.testing.assert_close(s, r, **TOLERANCE[dtype])
            y.zero_()
            assert torch.equal(as_tuple(found)[0], last)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, dtype: Any) -> None:
    states = 2 if kind == "LSTMCell" else 1
    for option, bias, batch, given, need in itertools.product(
        ({}, {"nonlinearity": "relu"}) if kind == "RNNCell" else ({},),
        (True, False),
        (None, 1, 5, 20),
        (False, True),
        (False, True),
    ):
        theirs, ours = twins(kind, bias=bias, dtype=dtype, **option)
        axes = () if batch is None else (batch,)

        def results(module: Any) -> dict[str, Any]:
            x = random(*axes, I, dtype=dtype).requires_grad_(need)  # noqa: B023  called at once
            hx = tuple(random(*axes, H, dtype=dtype, seed=s).requires_grad_(need) for s in range(states))  # noqa: B023
            after = as_tuple(module(x, (hx if states == 2 else hx[0]) if given else None))  # noqa: B023
            sum((s * random(*s.shape, dtype=dtype, seed=9)).sum() for s in after).backward()
            found = {f"state {i}": s for i, s in enumerate(after)} | {"dx": x.grad}
            found |= {f"d{name}": p.grad for name, p in module.named_parameters()}
            found |= {f"dstate {i}": s.grad for i, s in enumerate(hx)}
            with torch.no_grad():
                without = as_tuple(module(x, (hx if states == 2 else hx[0]) if given else None))  # noqa: B023
            return found | {f"state {i} without gradients": s for i, s in enumerate(without)}

        right = results(theirs)
        with only_ours():
            got = results(ours)
        assert_same(got, right, dtype, f"{kind} {option} bias {bias}, batch {batch}, states {given}")


@pytest.mark.parametrize("kind", KINDS)
def test_one_output_alone_has_gradients(kind: str) -> None:
    """Of y, or of one of the states, as most losses are; gradients of what has no part in it are those of PyTorch."""
    theirs, ours = twins(kind, num_layers=2, bidirectional=True, dtype=torch.float64)
    for which in range(3 if kind == "LSTM" else 2):
        found = []
        for module in (theirs, ours):
            x = random(5, 3, I, dtype=torch.float64).requires_grad_()
            states = tuple(s.requires_grad_() for s in as_tuple(states_for(module, 3)))
            y, after = module(x, states if kind == "LSTM" else states[0])
            output = (y, *as_tuple(after))[which]
            inputs = [x, *states, *module.parameters()]
            found.append(torch.autograd.grad(output.pow(2).sum(), inputs, allow_unused=True))
        for got, right in zip(*reversed(found), strict=True):
            if right is not None:
                torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])
            else:
                assert got is None or not got.any()


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind: str) -> None:
    """Of all inputs, once and twice, with dropout and in both directions."""
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.4, "dtype": torch.float64}
    _, ours = twins(kind, 2, 3, **options)
    parameters = [p for _, p in ours.named_parameters()]
    names = [name for name, _ in ours.named_parameters()]

    def call(x: Any, *others: Any) -> tuple[Any, ...]:
        torch.manual_seed(0)
        states, weights = others[: len(others) - len(names)], others[len(others) - len(names) :]
        hx = states if kind == "LSTM" else states[0]
        y, after = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, hx))
        return y, *as_tuple(after)

    inputs = (random(3, 2, 2, dtype=torch.float64), *as_tuple(states_for(ours, 2)))
    inputs = tuple(t.requires_grad_() for t in inputs) + tuple(p.detach().requires_grad_() for p in parameters)
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("kind", CELLS)
def test_finite_differences_of_cells(kind: str) -> None:
    _, ours = twins(kind, 2, 3, dtype=torch.float64)
    states = 2 if kind == "LSTMCell" else 1
    inputs = [random(2, size, dtype=torch.float64).requires_grad_() for size in (2, *[3] * states)]

    def call(x: Any, *hx: Any) -> Any:
        return ours(x, hx if states == 2 else hx[0])

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_any_strides(kind: str) -> None:
    """Of inputs, states, parameters and gradients."""
    theirs, ours = twins(kind, dtype=torch.float64)
    with torch.no_grad():
        for module in (theirs, ours):
            module.weight_hh_l0.data = module.weight_hh_l0.data.t().contiguous().t()
            module.weight_ih_l0.data = module.weight_ih_l0.data.repeat_interleave(2, 1)[:, ::2]
    x = random(6, I, 5, dtype=torch.float64).transpose(1, 2)[:, ::2]
    expanded = random(1, 1, I, dtype=torch.float64).expand(6, 3, I)
    state = tuple(random(H, 3, 1, dtype=torch.float64, seed=s).permute(2, 1, 0) for s in range(2))
    hx = state if kind == "LSTM" else state[0]
    for given, dy in itertools.product((x, expanded), (random(6, H, 3).double().transpose(1, 2), None)):
        found = []
        for module in (theirs, ours):
            module.zero_grad()
            y, after = module(given, hx)
            (y.sum() if dy is None else (y * dy).sum()).backward()
            found.append([y, *as_tuple(after), *(p.grad for p in module.parameters())])
        for got, right in zip(*reversed(found), strict=True):
            torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


def test_nothing_is_copied() -> None:
    """What is made is the memory of the kernels' arrays, and what is given is read where it is."""
    seen = []

    def spy(*args: Any) -> Any:
        seen.append(args)
        return forward(*args)

    forward = fastrnn.torch.stack._core.forward
    _, ours = twins("LSTM", batch_first=True)
    x = random(3, 5, I)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(fastrnn.torch.stack._core, "forward", spy)
        y, (h_n, c_n) = ours(x, (h_0 := torch.zeros(1, 3, H), torch.zeros(1, 3, H)))
    ((_, _, _, _, _, rows, *weights, _, _, _),) = seen
    arrays = {
        "x": rows,
        **dict(zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), weights, strict=False)),
    }
    tensors = {"x": x, **dict(ours.named_parameters())}
    for name, a in arrays.items():
        assert a.__array_interface__["data"][0] == tensors[name].data_ptr(), name
    assert weights[4].__array_interface__["data"][0] == h_0.data_ptr()
    assert y.stride() == (H, 3 * H, 1)  # of the kernels' (T, B, H), turned
    assert h_n.is_contiguous()
    assert c_n.is_contiguous()


def test_gradients_are_arrays_of_their_own() -> None:
    for kind in KINDS:
        _, ours = twins(kind, proj_size=3) if kind == "LSTM" else twins(kind)
        ours(random(3, 2, I))[0].sum().backward()
        spans = sorted((p.grad.data_ptr(), p.grad.data_ptr() + 4 * p.grad.numel()) for p in ours.parameters())
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences(kind: str) -> None:
    """One that lists make, of one sequence, and one that says nothing of an order."""
    theirs, ours = twins(kind, bidirectional=True, dtype=torch.float64)
    sequences = [random(t, I, dtype=torch.float64, seed=t) for t in (3, 1, 6)]
    for packed in (
        pack_sequence(sequences, enforce_sorted=False),
        pack_sequence(sequences[:1]),
        pack_padded_sequence(random(4, 3, I, dtype=torch.float64), torch.tensor([4, 4, 4])),
    ):
        right, states = theirs(packed)
        with only_ours():
            y, after = ours(packed)
        assert isinstance(y, PackedSequence)
        assert y.batch_sizes is packed.batch_sizes
        for name in ("sorted_indices", "unsorted_indices"):
            a, b = getattr(y, name), getattr(right, name)
            assert a is b or torch.equal(a, b)
        torch.testing.assert_close(y.data, right.data, **TOLERANCE[torch.float64])
        for got, expected in zip(as_tuple(after), as_tuple(states), strict=True):
            torch.testing.assert_close(got, expected, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("kind", KINDS)
def test_large_calls(kind: str) -> None:
    """Past what one thread does, what one part of an array is, and what keeps tapes."""
    for T, B, sizes in ((30, 40, (33, 100)), (3, 2, (200, 300)), (1, 2, (200, 300)), (200, 1, (65, 129))):
        theirs, ours = twins(kind, *sizes, dtype=torch.float64)
        found = []
        for module in (theirs, ours):
            x = random(T, B, sizes[0], dtype=torch.float64).requires_grad_()
            y, _ = module(x)
            y.square().mean().backward()
            found.append([y, x.grad, *(p.grad for p in module.parameters())])
        for got, right in zip(*reversed(found), strict=True):
            torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_from_call_to_call(kind: str) -> None:
    """A sequence in parts, all of them in one graph."""
    theirs, ours = twins(kind, num_layers=2, dtype=torch.float64)
    found = []
    for module in (theirs, ours):
        state, total = None, 0.0
        for part in random(12, 2, I, dtype=torch.float64).split([1, 4, 1, 6]):
            y, state = module(part, state)
            total = total + y.pow(2).sum()
        total.backward()
        found.append([p.grad for p in module.parameters()])
    for got, right in zip(*reversed(found), strict=True):
        torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


def test_a_cell_steps_through_a_sequence() -> None:
    for kind in CELLS:
        theirs, ours = twins(kind, dtype=torch.float64)
        found = []
        for module in (theirs, ours):
            state = None
            for x in random(8, 2, I, dtype=torch.float64):
                state = module(x, state)
            as_tuple(state)[0].pow(2).sum().backward()
            found.append([*as_tuple(state), *(p.grad for p in module.parameters())])
        for got, right in zip(*reversed(found), strict=True):
            torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])
