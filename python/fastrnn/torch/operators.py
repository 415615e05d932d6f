"""Calls as operators of graphs, where ``torch.compile`` and ``torch.export`` make some: ``torch.ops.fastrnn.rnn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .calls import arrays_of, go_back, run, tapes_of
from .stack import DTYPES, PADDED, Known, Stack, are_of_nets

OPTIONS = "mode", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size"  # of Stack
SIZES = "str mode, int input_size, int hidden_size, int num_layers, bool bias, bool bidirectional, int proj_size"
LIBRARY = torch.library.Library("fastrnn", "DEF")
LIBRARY.define(
    f"rnn(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor[] masks, bool batch_first, {SIZES}) "
    "-> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
LIBRARY.define(
    "rnn_backward(Tensor dy, Tensor dh, Tensor dc, Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor[] masks, "
    f"bool batch_first, {SIZES}) -> Tensor[]",
    tags=torch.Tag.pt2_compliant_tag,
)


def stack_of(weights: Sequence[Any], sizes: Sequence[Any]) -> tuple[Stack, list[Known]]:
    """Return the nets of such sizes, and what the kernels know of their weights."""
    dtype, num_layers = None, sizes[3]
    if are_of_nets(*sizes) and len(weights) >= 2 * num_layers:
        stack = Stack(*sizes)
        known, dtype = stack.weights(weights)
    if dtype is None:
        raise ValueError("fastrnn::rnn: weights are not those of such a module, on a CPU and of float32 or float64")
    return stack, known


def rnn(x: Any, h: Any, c: Any, weights: Any, masks: Any, batch_first: bool, *sizes: Any) -> tuple[Any, ...]:
    """Return y, h_n and c_n, which is empty where there is none."""
    stack, known = stack_of(weights, sizes)
    if not x.shape[batch_first]:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")  # as PyTorch says it
    found = run(stack, PADDED[batch_first], known, masks, x, (h, c)[: stack.states])
    return (*found, x.new_empty(0))[:3]


def fake_rnn(x: Any, h: Any, c: Any, weights: Any, masks: Any, batch_first: bool, *sizes: Any) -> tuple[Any, ...]:
    """Return tensors of the shapes that there will be."""
    stack = Stack(*sizes)
    T, batch = x.shape[batch_first], x.shape[not batch_first]
    y = x.new_empty(T, batch, stack.directions * stack.sizes[0])
    states = [x.new_empty(stack.places, batch, size) for size in stack.sizes]
    return (y.transpose(0, 1) if batch_first else y, *states, x.new_empty(0))[:3]


def rnn_backward(
    dy: Any, dh: Any, dc: Any, x: Any, h: Any, c: Any, weights: Any, masks: Any, batch_first: bool, *sizes: Any
) -> list[Any]:
    """Return the gradients by x, h, c if there is one, and by the weights; all is computed again."""
    stack, _ = stack_of(weights, sizes)
    steps, inputs = PADDED[batch_first], (x, *(h, c)[: stack.states], *weights)
    arrays = arrays_of((dy, dh, dc)[: 1 + stack.states])
    tapes = tapes_of(stack, steps, masks, inputs)
    return go_back(stack, steps, tapes, masks, [True] * len(inputs), arrays[0], arrays[1:])


def fake_rnn_backward(
    dy: Any, dh: Any, dc: Any, x: Any, h: Any, c: Any, weights: Any, masks: Any, batch_first: bool, *sizes: Any
) -> list[Any]:
    """Return tensors of the shapes that there will be."""
    stack = Stack(*sizes)
    rows = x.transpose(0, 1) if batch_first else x
    dx = rows.new_empty(rows.shape)
    dstates = [x.new_empty(stack.places, rows.shape[1], size) for size in stack.sizes]
    return [dx.transpose(0, 1) if batch_first else dx, *dstates, *(w.new_empty(w.shape) for w in weights)]


def keep(ctx: Any, inputs: Any, output: Any) -> None:
    """Save what the way back needs."""
    x, h, c, weights, masks, *ctx.options = inputs
    ctx.weights, ctx.masks = len(weights), len(masks)
    ctx.save_for_backward(x, h, c, *weights, *masks)


def back(ctx: Any, dy: Any, dh: Any, dc: Any) -> tuple[Any, ...]:
    """Return the gradients by all that the operator was given."""
    x, h, c, *others = ctx.saved_tensors
    weights, masks = others[: ctx.weights], others[ctx.weights :]
    dx, *found = torch.ops.fastrnn.rnn_backward(dy, dh, dc, x, h, c, weights, masks, *ctx.options)
    dh_0, dc_0 = (*found[: -ctx.weights], None)[:2]
    of_states = dh_0 if h is not None else None, dc_0 if c is not None else None
    return dx, *of_states, found[-ctx.weights :], [None] * ctx.masks, *[None] * len(ctx.options)


for name, function, fake in (("rnn", rnn, fake_rnn), ("rnn_backward", rnn_backward, fake_rnn_backward)):
    LIBRARY.impl(name, function, "CPU")
    torch.library.register_fake(f"fastrnn::{name}", fake, lib=LIBRARY)
torch.library.register_autograd("fastrnn::rnn", back, setup_context=keep, lib=LIBRARY)


def traced(module: Any, given: Any, hx: Any) -> Any:
    """Return y and the state after it of a module's call, as an operator computes them; None where it does not."""
    is_lstm = module.mode == "LSTM"
    states = [] if hx is None else module._states(hx)
    weights = [getattr(module, name) for name in module._flat_weights_names]
    if states is None or not is_for_operator(module, given, states, weights):
        return None
    batched = given.dim() == 3
    x = given if batched else given.unsqueeze(1)
    h, c = (*(states if batched else [s.unsqueeze(1) for s in states]), None, None)[:2]
    batch_first = module.batch_first and batched
    directions = 2 if module.bidirectional else 1
    y, h_n, c_n = torch.ops.fastrnn.rnn(
        x,
        h,
        c,
        weights,
        drawn(module, x.transpose(0, 1) if batch_first else x, directions * (module.proj_size or module.hidden_size)),
        batch_first,
        *(getattr(module, name) for name in OPTIONS),
    )
    if not batched:
        y, h_n, c_n = y.squeeze(1), h_n.squeeze(1), c_n.squeeze(1) if is_lstm else c_n
    return y, (h_n, c_n) if is_lstm else h_n


def is_for_operator(module: Any, x: Any, states: Sequence[Any], weights: Sequence[Any]) -> bool:
    """Return whether a module's call is one that the operator computes, and nothing is wrong with it."""
    tensors = [x, *states, *weights]
    if torch.onnx.is_in_onnx_export() or torch._C._is_any_autocast_enabled():
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    if not all(isinstance(t, torch.Tensor) for t in tensors):
        return False
    if x.dtype not in DTYPES or not all(t.device.type == "cpu" and t.dtype == x.dtype for t in tensors):
        return False
    if x.dim() not in (2, 3) or x.size(-1) != module.input_size:
        return False
    batch = [] if x.dim() == 2 else [x.size(0 if module.batch_first else 1)]
    places = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size, module.hidden_size]
    expected = [[places, *batch, size] for size in sizes][: 2 if module.mode == "LSTM" else 1]
    return len(states) == 0 or [list(s.size()) for s in states] == expected


def drawn(module: Any, rows: Any, units: int) -> list[Any]:
    """Return what dropout multiplies the outputs of each layer but the last with."""
    if not (module.dropout and module.training):
        return []
    ones = rows.new_ones(rows.size(0), rows.size(1), units)
    return [torch.nn.functional.dropout(ones, module.dropout) for _ in range(module.num_layers - 1)]
