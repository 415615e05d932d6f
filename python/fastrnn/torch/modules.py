"""PyTorch's recurrent modules over fastrnn's kernels.

What is out of the ordinary - another device or dtype, autocast, tracing, a shape that is wrong - is left to the class
of PyTorch that each of them is derived from, which computes it, or says in its own words what is wrong.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from .calls import apply_recurrence, apply_step, goes_back, run, runs_as_it_is, step
from .operators import traced
from .stack import PADDED, Known, Packed, Stack, Steps, are_of_nets, is_empty, is_plain

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

STACK = "_fastrnn"  # in a module's __dict__, what the kernels know of it, and the options that this follows from
OPTIONS = operator.itemgetter("mode", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")


def is_ordinary() -> bool:
    """Return whether PyTorch does with operators nothing but to run them, one after the other."""
    return not (
        torch._C._are_functorch_transforms_active()
        or torch._C._is_any_autocast_enabled()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    )


class _Accelerated(torch.nn.Module):
    """What all of these modules have in common."""

    def __getstate__(self) -> dict[str, Any]:
        get_state = getattr(super(), "__getstate__", None)  # of every object from Python 3.11 on
        state: dict[str, Any] = dict(self.__dict__ if get_state is None else get_state())
        state.pop(STACK, None)
        return state

    def __prepare_scriptable__(self) -> Any:
        """Return the module of PyTorch that TorchScript can compile; its parameters are those of this one."""
        if type(self).forward is not _Accelerated.forward:
            return self
        kind: Any = next(base for base in type(self).__mro__ if base.__module__.startswith("torch.nn."))
        module = kind.__new__(kind)
        module.__dict__.update(self.__dict__)
        module.__dict__.pop(STACK, None)
        return module

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  as PyTorch calls it
        """Do what the class of PyTorch does."""
        if torch.compiler.is_compiling():
            found = self._traced(input, hx)
        else:
            found = self._called(input, hx) if is_ordinary() else None
        if found is not None:
            return found
        for given in (input, *(hx if isinstance(hx, tuple | list) else (hx,))):
            if isinstance(given, torch.fx.Proxy):  # to which modules are operators where they are PyTorch's own
                path = given.tracer.path_of_module(self)
                return given.tracer.create_proxy("call_module", path, (input, hx), {})
        return super().forward(input, hx)

    def _called(self, input: Any, hx: Any) -> Any:  # noqa: A002
        """Return what the kernels compute; None where they do not."""
        raise NotImplementedError

    def _traced(self, input: Any, hx: Any) -> Any:  # noqa: A002
        """Return what an operator in a graph computes; None where there is none."""
        return None

    def _states(self, hx: Any) -> Sequence[Any] | None:
        """Return the states of a call, None for zeros; no states at all where they are not what they should be."""
        return (hx,)

    def _as_hx(self, states: Sequence[Any]) -> Any:
        return states[0]


class _WithCellState:
    """What LSTM and LSTMCell have in common: a state is a pair."""

    def _states(self, hx: Any) -> Sequence[Any] | None:
        if hx is None:
            return None, None
        return hx if isinstance(hx, tuple | list) and len(hx) == 2 and hx[0] is not None and hx[1] is not None else None

    def _as_hx(self, states: Sequence[Any]) -> Any:
        return tuple(states)


class _Recurrent(_Accelerated):
    """What RNN, LSTM and GRU have in common."""

    def _stack(self) -> tuple[Stack | None, list[Any]]:
        """Return what the kernels know of the module, if they do, and the weights that it is to use now."""
        state = self.__dict__
        parameters, weights = state["_parameters"], state["_flat_weights"]
        # They are something else than parameters with weight_norm or parametrizations, and others for the time of
        # torch.func.functional_call.
        if not all(map(operator.is_, map(parameters.get, state["_flat_weights_names"]), weights)):
            self._update_flat_weights()
            weights = state["_flat_weights"]
        options = OPTIONS(state)
        known, stack = state.get(STACK, (None, None))
        if known != options:
            stack = Stack(*options) if are_of_nets(*options) else None
            state[STACK] = options, stack
        return stack, weights

    def _traced(self, input: Any, hx: Any) -> Any:  # noqa: A002
        return traced(self, input, hx)

    @runs_as_it_is
    def _called(self, input: Any, hx: Any) -> Any:  # noqa: A002
        stack, weights = self._stack()
        if stack is None:
            return None
        known, dtype = stack.weights(weights)
        packed = input if type(input) is PackedSequence else None
        x, states = input if packed is None else packed.data, self._states(hx)
        if states is None or not is_plain(x, dtype) or x.shape[-1:] != stack.of_x:
            return None
        if not x.data_ptr() and is_empty(x):
            return None
        steps, batch = steps_of(x, packed, self.__dict__["batch_first"])
        if steps is None:
            return None
        if hx is not None and not fit(states, [(stack.places, *batch, size) for size in stack.sizes], dtype):
            return None
        if packed is not None and packed.sorted_indices is not None:
            if packed.sorted_indices.shape != batch:
                return None
            states = [s if s is None else s.index_select(1, packed.sorted_indices) for s in states]
        if not batch:
            x, states = x.unsqueeze(1), [None if s is None else s.unsqueeze(1) for s in states]
        found = self._run(stack, steps, known, x, states, weights)
        if found is None:
            return None
        y, *after = found
        if not batch:
            y, after = y.squeeze(1), [s.squeeze(1) for s in after]
        if packed is not None:
            y = PackedSequence(y, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
            if packed.unsorted_indices is not None:
                after = [s.index_select(1, packed.unsorted_indices) for s in after]
        return y, self._as_hx(after)

    def _run(
        self, stack: Stack, steps: Steps, known: list[Known], x: Any, states: Sequence[Any], weights: Sequence[Any]
    ) -> Sequence[Any] | None:
        """Return y and the states after it; None where PyTorch is faster."""
        back = goes_back(weights) or goes_back((x, *states))
        if back and not stack.trains_well(steps, x):
            return None
        masks = self._masks(stack, x.shape[:-1], steps, x.dtype) if stack.layers > 1 else ()
        if back:
            outputs: Sequence[Any] = apply_recurrence((stack, steps, known, masks), x, *states, *weights)
            return outputs
        return run(stack, steps, known, masks, x, states)

    def _masks(self, stack: Stack, axes: Any, steps: Steps, dtype: Any) -> list[Any]:
        """Return what dropout multiplies the outputs of each layer but the last with, drawn as PyTorch draws it."""
        state = self.__dict__
        p = state["dropout"]
        if not p or not state["training"]:
            return []
        axes = (axes[1], axes[0]) if steps.batch_first else axes
        shape = (*axes, stack.directions * stack.sizes[0])
        return [dropout_mask(shape, p, dtype) for _ in range(stack.layers - 1)]


def steps_of(x: Any, packed: Any, batch_first: bool) -> tuple[Steps | None, tuple[int, ...]]:
    """Return the steps of x, and the axis of the batch, where there is one; None where x has not the right axes."""
    axes = x.dim()
    if packed is not None:
        steps = packed_steps(x, packed.batch_sizes)
        return steps, () if steps is None else (int(steps.counts[0]),)
    if axes == 3:
        return PADDED[batch_first], (x.shape[not batch_first],)
    return PADDED[False] if axes == 2 else None, ()


def packed_steps(rows: Any, batch_sizes: Any) -> Packed | None:
    """Return the steps of a PackedSequence; None where it is not one that PyTorch could have made."""
    if rows.dim() != 2 or not is_plain(batch_sizes, torch.int64) or batch_sizes.dim() != 1:
        return None
    counts = batch_sizes.numpy().copy()
    falls = counts.size > 0 and counts[-1] > 0 and (counts[1:] <= counts[:-1]).all()
    return Packed(counts) if falls and counts.sum() == len(rows) else None


def fit(states: Sequence[Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> bool:
    """Return whether states have these shapes, and are what kernels can read."""
    return all(is_plain(s, dtype) and s.shape == shape for s, shape in zip(states, shapes, strict=True))


def dropout_mask(shape: Sequence[int], p: float, dtype: Any) -> Any:
    """Return what dropout multiplies with."""
    mask = torch.empty(shape, dtype=dtype, device="cpu")  # whatever the default is
    return mask.zero_() if p == 1 else mask.bernoulli_(1 - p).div_(1 - p)


class RNN(_Recurrent, torch.nn.RNN):
    """``torch.nn.RNN``, computed by fastrnn."""


class LSTM(_WithCellState, _Recurrent, torch.nn.LSTM):
    """``torch.nn.LSTM``, computed by fastrnn."""


class GRU(_Recurrent, torch.nn.GRU):
    """``torch.nn.GRU``, computed by fastrnn."""


class _Cell(_Accelerated):
    """What RNNCell, LSTMCell and GRUCell have in common."""

    _weights = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    _mode: str | None  # what PyTorch calls the mode of modules that have such cells; None where there are none

    def _stack(self) -> tuple[Stack | None, list[Any]]:
        """Return what the kernels know of the cell, if they do, and the weights that it is to use now."""
        state, mode = self.__dict__, self._mode
        parameters = state["_parameters"]
        if (*parameters,) == self._weights:
            found: Any = parameters.values()
        else:  # with weight_norm or parametrizations
            found = [getattr(self, name) for name in self._weights]
        weights = [w for w in found if w is not None]
        if mode is None or len(weights) not in (2, 4):
            return None, weights
        options = mode, state["input_size"], state["hidden_size"], 1, len(weights) == 4
        known, stack = state.get(STACK, (None, None))
        if known != options:
            stack = Stack(*options) if are_of_nets(*options) else None
            state[STACK] = options, stack
        return stack, weights

    @runs_as_it_is
    def _called(self, input: Any, hx: Any) -> Any:  # noqa: A002
        stack, weights = self._stack()
        if stack is None:
            return None
        back = goes_back(weights)
        if back and not stack.trains_cell_well(weights[0]):
            return None
        known, dtype = stack.weights(weights)
        x, states = input, self._states(hx)
        if states is None or not is_plain(x, dtype) or x.shape[-1:] != stack.of_x or x.dim() > 2:
            return None
        if not x.data_ptr() and is_empty(x):
            return None
        batch = x.shape[:-1]  # the axis, where there is one
        if hx is not None and not fit(states, [(*batch, stack.hidden_size)] * stack.states, dtype):
            return None
        if not batch:
            x, states = x.unsqueeze(0), [None if s is None else s.unsqueeze(0) for s in states]
        if back or goes_back((x, *states)):
            after = apply_step(stack, known, x, *states, *weights)
        else:
            after = step(stack, known, x, states)
        if not batch:
            after = [s.squeeze(0) for s in after]
        return self._as_hx(after)


class RNNCell(_Cell, torch.nn.RNNCell):
    """``torch.nn.RNNCell``, computed by fastrnn."""

    @property
    def _mode(self) -> str | None:  # type: ignore[override]
        return {"tanh": "RNN_TANH", "relu": "RNN_RELU"}.get(self.__dict__["nonlinearity"])


class LSTMCell(_WithCellState, _Cell, torch.nn.LSTMCell):
    """``torch.nn.LSTMCell``, computed by fastrnn."""

    _mode = "LSTM"


class GRUCell(_Cell, torch.nn.GRUCell):
    """``torch.nn.GRUCell``, computed by fastrnn."""

    _mode = "GRU"
