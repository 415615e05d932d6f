"""Calls that autograd goes back through: what is saved for it, and the way back, also through itself.

The input, the states and the parameters are saved as PyTorch's own modules save them: then it sees to it that they have
not changed meanwhile, frees them in time, and has whoever wants to keep them elsewhere do so. From them all can be
computed again. What makes that unnecessary, the tape, is there for the first way back only, for it takes more memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import _VF, from_numpy
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
from torch.autograd import Function

from fastrnn import _core
from fastrnn._base.checks import Array

from .stack import PADDED, Known, Packed, Stack, Steps, follow_threads

Tensors = Sequence[Any]  # a state that was not given is None


def goes_back(tensors: Tensors) -> bool:
    """Return whether autograd is to go back to any of these."""
    if torch.is_grad_enabled():
        for t in tensors:
            if t is not None and t.requires_grad:
                return True
    return False


def arrays_of(tensors: Tensors) -> list[Any]:
    """Return the memory of tensors as arrays."""
    return [None if t is None else t.numpy() for t in tensors]


def run(stack: Stack, steps: Steps, weights: list[Known], masks: Tensors, x: Any, states: Tensors) -> list[Any]:
    """Return y and the states after it, where nobody goes back."""
    follow_threads()
    found, _ = stack.forward(steps, x.numpy(), arrays_of(states), weights, arrays_of(masks), False)
    return list(map(from_numpy, found))


def step(stack: Stack, weights: list[Known], x: Any, states: Tensors) -> tuple[Any, ...]:
    """Return the states after one step of a cell."""
    follow_threads()
    return tuple(map(from_numpy, stack.step(x.numpy(), arrays_of(states), weights[0])))


def go_back(
    stack: Stack,
    steps: Steps,
    tapes: list[_core.Tape],
    masks: Tensors,
    needed: Sequence[bool],
    dy: Array | None,
    dstates: Sequence[Array | None],
) -> list[Any]:
    """Return those gradients by x, states and parameters that are needed."""
    follow_threads()
    return chosen(stack.backward(steps, tapes, arrays_of(masks), dy, dstates), needed)


def tapes_of(stack: Stack, steps: Steps, masks: Tensors, inputs: Tensors) -> list[_core.Tape]:
    """Return the tapes of a call, computed again; ``inputs`` are x, states and parameters."""
    follow_threads()
    x, *given = arrays_of(inputs)
    weights = stack.known(given[stack.states :])
    return stack.forward(steps, x, given[: stack.states], weights, arrays_of(masks), True)[1]


def by_torch(stack: Stack, steps: Steps, masks: Tensors, inputs: Tensors) -> list[Any]:
    """Return y and the states after it, computed by PyTorch: the same, and anything may be done with its operators."""
    rows, *given = inputs
    states, weights = given[: stack.states], given[stack.states :]
    packed = isinstance(steps, Packed)
    batch = steps.counts[0] if isinstance(steps, Packed) else rows.shape[not steps.batch_first]
    states = [
        rows.new_zeros(stack.places, int(batch), size) if s is None else s
        for s, size in zip(states, stack.sizes, strict=True)
    ]
    function = getattr(_VF, stack.mode.lower())
    after: list[list[Any]] = [[] for _ in states]
    for k in range(stack.layers):
        places = slice(k * stack.directions, (k + 1) * stack.directions)
        before = [s[places] for s in states]
        hx = before if stack.states > 1 else before[0]
        flat = weights[places.start * stack.each : places.stop * stack.each]
        options = stack.bias, 1, 0.0, False, stack.directions == 2
        if packed:
            rows, *found = function(rows, from_numpy(steps.counts), hx, flat, *options)
        else:
            rows, *found = function(rows, hx, flat, *options, steps.batch_first)
        if k < len(masks):
            rows = rows * (masks[k].transpose(0, 1) if steps.batch_first else masks[k])
        for of_state, s in zip(after, found, strict=True):
            of_state.append(s)
    return [rows, *map(torch.cat, after)]


def go_back_by_torch(
    stack: Stack, steps: Steps, masks: Tensors, inputs: Tensors, needed: Sequence[bool], gradients: Tensors
) -> list[Any]:
    """Return the gradients by the inputs that need some, through which there is a way back in turn."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: hooks of the inputs are for the gradients that are returned, and are called on them.
        aliases = [None if t is None else t.view_as(t) for t in inputs]
        outputs = by_torch(stack, steps, masks, aliases)
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None]
        wanted = [a for a, needs in zip(aliases, needed, strict=True) if needs]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=further, allow_unused=True
            )
        )
    return [next(found) if needs else None for needs in needed]


def as_arrays(gradients: Tensors) -> list[Array | None] | None:
    """Return gradients as arrays; None where they are such as only PyTorch's operators can work with."""
    try:
        return [None if g is None else (g.resolve_neg() if g.is_neg() else g).numpy() for g in gradients]
    except (RuntimeError, TypeError):  # many in one, of torch.autograd.grad(is_grads_batched=True), or sparse ones
        return None


def runs_as_it_is(function: Any) -> Any:
    """Have torch.compile leave a function, and all that it calls, to Python; return it."""
    set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))
    return function


class Recurrence(Function):
    """A module's call: ``apply((stack, steps, weights, masks), x, *states, *parameters)``."""

    @staticmethod
    @runs_as_it_is
    def forward(ctx: Any, call: Any, *inputs: Any) -> Any:
        """Return y and the states after it."""
        stack, steps, weights, masks = call
        follow_threads()
        x, *states = arrays_of(inputs[: 1 + stack.states])
        # Whoever has hooks for what is saved, as torch.utils.checkpoint, wants no more than that to be kept.
        keeps = stack.keeps_tapes(steps, x) and _top_saved_tensors_default_hooks(True) is None
        found, tapes = stack.forward(steps, x, states, weights, arrays_of(masks), keeps)
        ctx.set_materialize_grads(False)
        ctx.call = stack, steps
        ctx.tapes = tapes if keeps else None
        ctx.save_for_backward(*inputs, *masks)
        return tuple(map(from_numpy, found))

    @staticmethod
    @runs_as_it_is
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients by all that apply was given."""
        (stack, steps), needed, saved = ctx.call, ctx.needs_input_grad[1:], ctx.saved_tensors
        inputs, masks = saved[: len(needed)], saved[len(needed) :]
        arrays = None if torch.is_grad_enabled() else as_arrays(gradients)
        if arrays is None:
            return None, *go_back_by_torch(stack, steps, masks, inputs, needed, gradients)
        tapes, ctx.tapes = ctx.tapes, None
        if tapes is None:  # for whoever comes again comes more than once
            tapes = ctx.tapes = tapes_of(stack, steps, masks, inputs)
        return None, *go_back(stack, steps, tapes, masks, needed, arrays[0], arrays[1:])


class Step(Function):
    """A cell's call: ``apply(stack, weights, x, *states, *parameters)``.

    There are as many of them in a sequence as it has steps, and each tape would have a copy of the weights: so it is
    computed again on the way back.
    """

    @staticmethod
    @runs_as_it_is
    def forward(ctx: Any, stack: Stack, weights: list[Known], *inputs: Any) -> Any:
        """Return the states after the step."""
        ctx.set_materialize_grads(False)
        ctx.stack = stack
        ctx.save_for_backward(*inputs)
        return step(stack, weights, inputs[0], inputs[1 : 1 + stack.states])

    @staticmethod
    @runs_as_it_is
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients by all that apply was given."""
        stack, needed, saved = ctx.stack, ctx.needs_input_grad[2:], ctx.saved_tensors
        arrays = None if torch.is_grad_enabled() else as_arrays(gradients)
        of_step, steps = 1 + stack.states, PADDED[False]
        if arrays is None:
            inputs = [*with_axis(saved[:of_step]), *saved[of_step:]]
            found = go_back_by_torch(stack, steps, (), inputs, needed, (None, *with_axis(gradients)))
            return None, None, *[None if g is None else g[0] for g in found[:of_step]], *found[of_step:]
        follow_threads()
        given = arrays_of(saved)
        x, *states = with_axis(given[:of_step])
        _, tapes = stack.forward(steps, x, states, stack.known(given[of_step:]), (), True)
        found = stack.backward(steps, tapes, (), None, with_axis(arrays))
        found[:of_step] = [g[0] for g in found[:of_step]]
        return None, None, *chosen(found, needed)


def with_axis(of_step: Tensors) -> list[Any]:
    """Return what a step has, tensors or arrays, as a sequence of one step has it."""
    return [None if a is None else a[None] for a in of_step]


def chosen(found: list[Array], needed: Sequence[bool]) -> list[Any]:
    """Return those gradients as tensors that are needed."""
    return [from_numpy(g) if needs else None for g, needs in zip(found, needed, strict=True)]


# Function.apply itself, without what it first looks for, which is_ordinary has found not to be there.
apply_recurrence = super(Function, Recurrence).apply
apply_step = super(Function, Step).apply
