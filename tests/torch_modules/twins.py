"""Pairs of modules with the same parameters, PyTorch's and fastrnn's, and all that comes of a call."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn.torch

I, H, P = 4, 6, 3
KINDS = "RNN", "LSTM", "GRU"
CELLS = "RNNCell", "LSTMCell", "GRUCell"
TOLERANCE = {
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
}


def twins(kind: str, *sizes: int, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """Return PyTorch's module, and fastrnn's with the same parameters."""
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, kind)(*(sizes or (I, H)), **options)
    ours = getattr(fastrnn.torch, kind)(*(sizes or (I, H)), **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """Have PyTorch's implementations fail, so that results can only be the kernels', also where those are slower."""
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.dict(fastrnn.torch.stack.SMALL_WEIGHTS_OF_CELL, rnn=2**17))
        for kind in (*KINDS, *CELLS):
            refusal = mock.Mock(side_effect=AssertionError(f"PyTorch's {kind} was asked"))
            patches.enter_context(mock.patch.object(getattr(torch.nn, kind), "forward", refusal))
        yield


@contextlib.contextmanager
def only_theirs(kind: str) -> Iterator[Any]:
    """Count the calls of PyTorch's implementation, one of which there has to be."""
    forward = getattr(torch.nn, kind).forward
    with mock.patch.object(getattr(torch.nn, kind), "forward", autospec=True, side_effect=forward) as counted:
        yield counted
    assert counted.call_count > 0, f"PyTorch's {kind} was not asked"


class Setting(NamedTuple):
    """A module, and what it is called with."""

    kind: str
    options: dict[str, Any]
    form: str  # of the input

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.kind}({options}) {self.form}"


FORMS = "padded", "packed", "unsorted", "unbatched"


def settings(dtype: Any) -> list[Setting]:
    found = []
    for kind, layers, bidirectional, bias, batch_first, form in itertools.product(
        KINDS, (1, 3), (False, True), (True, False), (False, True), FORMS
    ):
        options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": batch_first}
        variants: list[dict[str, Any]] = [{}]
        if kind == "LSTM":
            variants.append({"proj_size": P})
        if kind == "RNN":
            variants.append({"nonlinearity": "relu"})
        found += [Setting(kind, {**options, **variant, "dtype": dtype}, form) for variant in variants]
    return found


def states_for(module: Any, batch: int | None, seed: int = 1) -> Any:
    """Return random initial states."""
    generator = torch.Generator().manual_seed(seed)
    nets = module.num_layers * (1 + module.bidirectional)
    axes = (nets,) if batch is None else (nets, batch)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)[: 1 + (module.mode == "LSTM")]
    dtype = module.weight_ih_l0.dtype
    states = tuple(torch.randn(*axes, size, dtype=dtype, generator=generator) for size in sizes)
    return states if module.mode == "LSTM" else states[0]


def as_tuple(states: Any) -> tuple[Any, ...]:
    return states if isinstance(states, tuple) else (states,)


def copied(states: Any) -> Any:
    """Return states that are leaves of their own."""
    found = tuple(s.clone().requires_grad_() for s in as_tuple(states))
    return found if isinstance(states, tuple) else found[0]


def random(*shape: int, dtype: Any = torch.float32, seed: int = 2) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def inputs_for(module: Any, form: str, T: int = 9) -> tuple[Any, int | None, list[int]]:
    """Return x, the batch if there is one, and the lengths of a packed sequence."""
    dtype, batch = module.weight_ih_l0.dtype, 3
    if form == "unbatched":
        return random(T, module.input_size, dtype=dtype), None, []
    shape = (batch, T) if module.batch_first else (T, batch)
    lengths = {"padded": [], "packed": [T, 4, 1], "unsorted": [2, T, 5]}[form]
    return random(*shape, module.input_size, dtype=dtype), batch, lengths


def packed(module: Any, x: Any, lengths: list[int], form: str) -> Any:
    if not lengths:
        return x
    return pack_padded_sequence(x, torch.tensor(lengths), module.batch_first, enforce_sorted=form == "packed")


def everything(module: Any, form: str, *, with_states: bool, T: int = 9, seed: int = 3) -> dict[str, Any]:
    """Return the outputs and states of a call, and the gradients of a random sum of them by all that went in."""
    x, batch, lengths = inputs_for(module, form, T)
    x.requires_grad_()
    states = copied(states_for(module, batch)) if with_states else None
    torch.manual_seed(seed)
    y, after = module(packed(module, x, lengths, form), states)
    found: dict[str, Any] = {}
    if isinstance(y, PackedSequence):
        found |= {"batch_sizes": y.batch_sizes, "sorted": y.sorted_indices, "unsorted": y.unsorted_indices}
        y = y.data
    found |= {"y": y, **{f"state {i}": s for i, s in enumerate(as_tuple(after))}}
    outputs = [y, *as_tuple(after)]
    loss = sum((o * random(*o.shape, dtype=o.dtype, seed=10 + i)).sum() for i, o in enumerate(outputs))
    module.zero_grad()
    loss.backward()
    found["dx"] = x.grad
    if with_states:
        found |= {f"dstate {i}": s.grad for i, s in enumerate(as_tuple(states))}
    return found | {f"d{name}": p.grad for name, p in module.named_parameters()}


def assert_same(got: dict[str, Any], right: dict[str, Any], dtype: Any, where: str) -> None:
    assert got.keys() == right.keys(), where
    for name, expected in right.items():
        value = got[name]
        what = f"{where}: {name}"
        if expected is None:
            assert value is None, what
            continue
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype), what
        assert type(value) is type(expected), what
        torch.testing.assert_close(value, expected, **TOLERANCE[dtype], msg=lambda text, what=what: f"{what}: {text}")


def weights_moved(module: Any, by: float = 0.1) -> None:
    """Change the parameters as an optimiser does."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by)
