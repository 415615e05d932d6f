"""One call of a layer, from the arguments to the kernels and back.

Shapes: T steps, B batch, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.options import Options
from ._base.parts import add, joined, quiet, scale
from ._layer.arguments import checked_gradient, checked_input, checked_steps, explain_tokens
from ._layer.noise import Regularisation
from ._layer.packed import PackedParams
from ._layer.spec import STATES, Spec
from ._layer.states import State, States, narrowed, states_of, widened
from ._layer.steps import Counted, Repeats, steps_of
from ._layer.weights import Weights
from .modules import Gradients, Grads

__all__ = ["Call", "State"]


class Call:
    """One call of a layer, made by :meth:`Layer.record`: what it returned, and the way back through it.

    Attributes:
        y: see :meth:`Layer.__call__`.
        state: the state after the last step of each sequence, as there.
        trace: with ``trace=True`` every state and gate by name, layer and direction, such as ``c_l0`` or
            ``i_l1_reverse``, (T, B, H) each with axes as x has them, zero past the end of a sequence; ``backward`` with
            ``trace=True`` adds ``dh_l0`` and so on.

    """

    y: Array
    state: State
    trace: dict[str, Array]

    def __init__(
        self,
        layer: Options,
        spec: Spec,
        weights: Weights | PackedParams,
        regularisation: Regularisation | None,
        batch_first: bool,
        x: Array,
        state: Any,
        lengths: Any,
        mask: Any,
        repeats: bool,
        return_sequence: bool,
        trace: bool,
        recompute: bool,
        *,
        goes_back: bool,
    ) -> None:
        self.layer = layer  # only to keep it alive, and to tell whose call this is
        self.spec = spec
        if not (type(return_sequence) is type(trace) is type(recompute) is bool):
            return_sequence = checks.boolean(spec.name, "return_sequence", return_sequence)
            trace = checks.boolean(spec.name, "trace", trace)
            recompute = checks.boolean(spec.name, "recompute", recompute)
        x, self.tokens, self.single, self.batch_first, T, batch = checked_input(spec, x, batch_first)
        self.T, self.batch = T, batch
        self.return_sequence = return_sequence
        self.goes_back = goes_back
        counted = None
        if lengths is not None or mask is not None:
            counted = checked_steps(spec.name, lengths, mask, T, batch, self.single, self.batch_first)
        steps = max(T, 1)  # without any there are states yet
        if steps * batch > 2**31 and not _core.addressable(spec.cell, steps, batch, spec.input_size, spec.hidden_size):
            raise ValueError(f"{spec.name}: x has shape {x.shape}, which is more than memory can hold")
        before = self._no_states if state is None else self._checked_states(spec.name, "state", state)
        if regularisation is not None:
            regularisation.begin()
        self.repeats: list[Repeats] = []
        if repeats and return_sequence and counted is not None and counted.mask is not None:
            self.repeats = [Repeats(counted, self.batch_first, from_end) for from_end in spec.from_end]
        self.kept = weights.kept
        self.weights = {suffix: weights.known(suffix) for suffix in self.kept}
        self.learned_states = [a is None for a in before] if spec.learn_state else []
        if any(self.learned_states):
            before = self._with_learned(before, [weights.initial(suffix) for suffix in self.kept])
        if recompute and (spec.directions == 2 or trace):
            raise ValueError(f"{spec.name}: recompute goes together neither with bidirectional nor with trace")
        if recompute and goes_back:
            self.parts = self._parts(x, counted)
        else:
            self.parts = [Part(0, x, counted, self.batch_first)]
        try:
            self._run(before, regularisation, trace)
        except ValueError:
            if self.tokens:
                explain_tokens(spec, x, counted, self.single, self.batch_first)
            raise
        if len(self.parts) == 1:  # which has its tape
            del self.weights, self.parts[0].x

    def _parts(self, x: Array, counted: Counted | None) -> list[Part]:
        """Return the parts of a call, as they are gone through, that is to compute again all but the last of them."""
        T = self.T
        # Of each step backward needs some 8 numbers, of each part about 2: together they are the fewest where a part
        # has half the square root of T. In a part of one block of steps what it costs to begin counts.
        steps = T
        if counted is not None and counted.mask is None:
            steps = int(counted.lengths.max(initial=0))
        rows = self.batch if counted is None else int(np.count_nonzero(counted.lengths))
        block = _core.block_steps(rows, self.spec.hidden_size)
        each = block * max(2, math.ceil(math.sqrt(steps) / 2 / block)) if block else 1
        if each >= steps or rows == 0:
            return [Part(0, x, counted, self.batch_first)]
        for suffix, arrays in self.weights.items():  # whatever becomes of them until then
            self.weights[suffix] = tuple(None if a is None else a.copy() for a in arrays)
        parts = []
        for t in range(0, steps, each):
            end = min(t + each, steps)
            left = None if counted is None else counted.between(t, end)
            parts.append(Part(t, self._cut(x, t, end), left, self.batch_first))
        return parts[::-1] if self.spec.from_end[0] else parts

    def _with_learned(self, states: States, learned: list[tuple[Array, ...] | None]) -> States:
        """Return the states before the first step, those that were not given as the layer has learned them."""
        found = list(states)
        for s, size in enumerate(self.spec.state_sizes):
            if found[s] is None:
                rows = np.stack([of_net[s] for of_net in learned if of_net is not None])
                found[s] = np.broadcast_to(rows[:, None], (len(rows), self.batch, size))
        return found

    @property
    def _no_states(self) -> States:
        return [None] * len(self.spec.state_sizes)

    def _checked_states(self, owner: str, what: str, state: Any) -> States:
        """Return (L*D, B, H) of each state, or None."""
        spec = self.spec
        nets = spec.num_layers * spec.directions
        shapes: list[tuple[int, ...]] = [(nets, self.batch, size) for size in spec.state_sizes]
        return states_of(owner, what, state, shapes, spec.dtype, single=self.single)

    @property
    def _axes(self) -> list[int]:
        """The axes of y but for the last, its features."""
        steps = [self.T] if self.return_sequence else []
        batch = [] if self.single else [self.batch]
        return batch + steps if self.batch_first else steps + batch

    # --- forward

    def _cut(self, a: Array, begin: int, end: int) -> Array:
        """Return steps [begin, end) of what has the axes of x."""
        return a[:, begin:end] if self.batch_first else a[begin:end]

    def _whole(self, of_parts: list[Array]) -> Array:
        """Return what has the axes that x was given with, of that of the parts in their order."""
        if len(of_parts) == 1:
            whole = of_parts[0]
        else:
            first = of_parts[0]
            shape = (self.batch, self.T) if self.batch_first else (self.T, self.batch)
            whole = np.empty((*shape, *first.shape[2:]), first.dtype)
            for part, of_part in zip(self.parts, of_parts, strict=True):
                self._cut(whole, part.begin, part.begin + part.T)[:] = of_part
            self._cut(whole, max(part.begin + part.T for part in self.parts), self.T)[:] = 0
        return whole[:, 0] if self.single else whole

    def _of_directions(self, rows: Array) -> list[Array]:
        """Return of y, or of gradients by it, what each direction has: (T * B, units), all of which may be written."""
        D, P = self.spec.directions, self.spec.state_sizes[0]
        flat = rows.reshape(self.T * self.batch, D * P)
        return [flat[:, direction * P : (direction + 1) * P] for direction in range(D)]

    def _run(self, state: States, regularisation: Regularisation | None, trace: bool) -> None:
        ys: list[Array] = []
        for part in self.parts:
            # Backward begins with the last part, which it need not compute again.
            goes_back = self.goes_back and part is self.parts[-1]
            y, state = part.run(self, regularisation, state, goes_back, self.return_sequence, trace)
            if y is not None:
                ys.append(y)
        self.trace = {name: self._whole([a]) for name, a in self.parts[0].trace.items()} if trace else {}
        after: Any = state
        self.state = self._as_state(after)
        if self.return_sequence:
            self.y = self._whole(ys)
            for direction, repeats in enumerate(self.repeats):
                repeats.fill(self._of_directions(self.y)[direction])
        else:
            last = after[0][-self.spec.directions :]
            y = joined(last, -1) if self.spec.directions == 2 else last[0].copy()  # not a part of the state
            self.y = y[0] if self.single else y

    def _as_state(self, arrays: list[Array]) -> State:
        if self.single:
            arrays = [a[:, 0] for a in arrays]
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    # --- backward

    def backward(self, dy: Array | None = None, dstate: Any = None, *, trace: bool = False) -> Gradients:
        """Go back through the call; may be called again.

        Args:
            dy: the gradient by y, of y's shape; None is zeros. What it says past the end of a sequence counts nothing.
            dstate: the gradient by ``state``, of its shape; None is zeros.
            trace: whether to add to ``trace`` the gradient by h of every layer and step, all that comes from later
                steps and upper layers included: ``dh_l{k}``.

        Returns:
            A named tuple: ``dx``, of x's shape, None for tokens; ``dstate``, by the initial state, of the shape of
            ``state``; and ``grads``, by the parameters, a dict of this call's own.

        Raises:
            TypeError, ValueError: an argument has not the dtype or shape that belongs to it.
            RuntimeError: with ``recompute``, x has changed since the call.

        """
        spec, P = self.spec, self.spec.state_sizes[0]
        if type(trace) is not bool:
            trace = checks.boolean(f"{spec.name}.backward", "trace", trace)
        if spec.without_gradient is not None:
            raise ValueError(
                f"{spec.name}.backward: there is no gradient of {spec.without_gradient} with a negative alpha: it is "
                "told from the values, which are the same on both sides of the corner"
            )
        if dy is not None:
            dy = checked_gradient(spec, dy, self._axes)
        given = self._no_states
        if dstate is not None:
            given = self._checked_states(f"{spec.name}.backward", "dstate", dstate)
        dstates = [
            np.zeros((len(self.kept), self.batch, size), spec.dtype) if a is None else a.copy()
            for a, size in zip(given, spec.state_sizes, strict=True)
        ]
        if dy is not None and not self.return_sequence:
            last = dstates[0][-spec.directions :]
            with quiet():
                for direction, dh in enumerate(last):
                    dh += dy[..., direction * P : (direction + 1) * P]
            dy = None
        if dy is not None and self.repeats:
            dy = dy.copy()
            for direction, repeats in enumerate(self.repeats):
                repeats.add(self._of_directions(dy)[direction])
        if dy is not None and self.single:
            dy = dy[:, None]
        several = len(self.parts) > 1
        sums = {suffix: _core.Sums() for suffix in self.kept} if several else {}
        grads: dict[str, tuple[Any, ...]] = {}
        dxs: list[Array] = []
        dhs: list[dict[str, Array]] = []
        for part in reversed(self.parts):
            of_part = self._cut(dy, part.begin, part.begin + part.T) if several and dy is not None else dy
            dx, dh = part.run_back(self, of_part, dstates, sums, grads, trace)
            if dx is not None:
                dxs.insert(0, dx)
            dhs.insert(0, dh)
        if trace:
            self.trace |= {name: self._whole([dh[name] for dh in dhs]) for name in dhs[0]}
        for suffix, total in sums.items():
            grads[suffix] = total.finish()
        return Gradients(self._whole(dxs) if dxs else None, self._as_state(dstates), self._named(grads, dstates))

    def _named(self, grads: dict[str, tuple[Any, ...]], dstates: list[Array]) -> Grads:
        """Return the gradients by the names of the parameters, in their order."""
        spec = self.spec
        named: dict[str, Array] = {}
        for suffix, (*of_weights, of_own) in grads.items():
            for name, g in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), of_weights, strict=True):
                named[name + suffix] = g
            row = 0
            for name, shape in spec.own.shapes.items() if spec.own is not None else ():
                rows = math.prod(shape[:-1])
                named[name + suffix] = of_own[row : row + rows]
                row += rows
            if spec.proj_size:
                of_gates = 4 * spec.hidden_size * spec.proj_size
                both = named["weight_hh" + suffix]
                named["weight_hh" + suffix], named["weight_hr" + suffix] = both[:of_gates], both[of_gates:]
        for s, (state, is_learned) in enumerate(zip(STATES, self.learned_states, strict=False)):
            for rows, suffix in zip(dstates[s], self.kept, strict=True):
                named[state + suffix] = _core.column_sums(rows if is_learned else rows[:0])
        ordered = {name: named[name] for name in spec.shapes}
        for name, g in ordered.items():
            if g.shape != spec.shapes[name]:
                ordered[name] = g.reshape(spec.shapes[name])
        return Grads(ordered)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise TypeError: a call belongs to its layer."""
        raise TypeError("a call cannot be copied or pickled: its y, state and gradients can")

    def __repr__(self) -> str:
        layer = f"{self.spec.name}({self.layer._arguments()})"
        return f"<Call of {layer}: y {self.y.dtype} of shape {self.y.shape}>"


class Part:
    """Some steps of a call, all of them unless it is to recompute.

    It does not hold the call, which holds it: so both are gone as soon as nobody has the call any more.
    """

    def __init__(self, begin: int, x: Array, counted: Counted | None, batch_first: bool) -> None:
        self.begin = begin
        self.x = x
        self.T = x.shape[batch_first]
        self.counted = counted
        self.batch_first = batch_first
        self.tapes: dict[str, _core.Tape] = {}
        self.masks: list[Array] = []  # of dropout, after each layer but the last
        self.trace: dict[str, Array] = {}

    def run(
        self,
        call: Call,
        regularisation: Regularisation | None,
        state: States,
        tapes: bool,
        sequence: bool,
        trace: bool,
    ) -> tuple[Array | None, States]:
        """Return y, if the whole sequence is wanted, and the state after it; ``state`` is (L*D, B, H) each."""
        spec = call.spec
        H, P, top = spec.hidden_size, spec.state_sizes[0], spec.num_layers - 1
        if call.goes_back and not tapes:  # for when it is run again
            self.before = copy.deepcopy((regularisation, state))
            self.fingerprint = _core.fingerprint(self.x)
        steps = self.steps = steps_of(self.counted, self.T, self.batch_first)
        rows, place = steps.gather(self.x), 0
        after: list[list[Array]] = [[] for _ in state]
        for k, suffixes in enumerate(spec.suffixes):
            outputs = []
            for suffix, options, from_end in zip(suffixes, spec.options, spec.from_end, strict=True):
                before = [None if a is None else widened(a[place][steps.order], H) for a in state]
                h0, c0 = before if len(before) > 1 else (before[0], None)
                w_ih, w_hh, b_ih, b_hh, vectors = call.weights[suffix]
                regularised = None
                if regularisation is not None:
                    count = len(rows) if steps.counts is not None else len(rows) * call.batch
                    regularised = regularisation.of_steps(spec, suffix, steps.order, call.batch, count)
                y, *states, tape = _core.forward(
                    spec.cell,
                    tapes or trace,
                    sequence or k < top,
                    call.kept[suffix],
                    steps.counts,
                    steps.reverse(rows) if from_end else rows,
                    w_ih,
                    w_hh,
                    b_ih,
                    b_hh,
                    h0,
                    c0,
                    vectors,
                    options,
                    regularised,
                )
                if y is not None:
                    y = steps.reverse(y) if from_end else y
                    outputs.append(narrowed(y, P) if P < H else y)
                if P < H:
                    states[0] = narrowed(states[0], P)
                for arrays, a in zip(after, states, strict=True):
                    arrays.append(a)
                if tapes:
                    self.tapes[suffix] = tape
                if trace:
                    for name, a in _core.trace(tape).items():
                        a = narrowed(a, P) if name == "h" else a
                        self.trace[name + suffix] = steps.scatter(steps.reverse(a) if from_end else a)
                place += 1
            if outputs:
                rows = outputs[0] if len(outputs) == 1 else joined(outputs, -1)
            if regularisation is not None and k < top:
                mask = regularisation.between(suffix, rows.shape, rows.dtype)
                if mask is not None:
                    # Drawn in the order in which parts are gone through, that all of them draw what one would.
                    mask = steps.reverse(mask) if spec.from_end == (True,) else mask
                    rows = scale(rows, mask)
                    if tapes:
                        self.masks.append(mask)
        y = steps.scatter(rows) if outputs else None
        return y, [steps.after(a, arrays) for a, arrays in zip(state, after, strict=True)]

    def run_back(
        self,
        call: Call,
        dy: Array | None,
        dstate: list[Array],
        sums: dict[str, _core.Sums],
        grads: dict[str, tuple[Any, ...]],
        trace: bool,
    ) -> tuple[Array | None, dict[str, Array]]:
        """Return dx, and dL/dh by name if there is to be a trace.

        ``dstate``, of the states after the part, becomes that of those before it. The gradients by the weights go to
        ``sums``, by suffix, or where there is none to ``grads``.
        """
        spec = call.spec
        H, P = spec.hidden_size, spec.state_sizes[0]
        if not self.tapes:
            return self._again(call).run_back(call, dy, dstate, sums, grads, trace)
        steps = self.steps
        dhs: dict[str, Array] = {}
        drows = None if dy is None else steps.gather(dy)
        for k in reversed(range(spec.num_layers)):
            if drows is not None and k < len(self.masks):
                drows = scale(drows, self.masks[k])
            dinputs: list[Array] = []
            for direction, (suffix, from_end) in enumerate(zip(spec.suffixes[k], spec.from_end, strict=True)):
                place = k * spec.directions + direction
                dout = None if drows is None else widened(drows[..., direction * P : (direction + 1) * P], H)
                if dout is not None and from_end:
                    dout = steps.reverse(dout)
                after = [widened(a[place][steps.order], H) for a in dstate]
                dinput, *found, dh = _core.backward(
                    spec.family,
                    self.tapes[suffix],
                    sums.get(suffix),
                    trace,
                    dout,
                    after[0],
                    after[1] if len(after) > 1 else None,
                )
                grads[suffix] = tuple(found[:5])
                for a, d in zip(dstate, found[5:], strict=True):
                    a[place, steps.order] = narrowed(d, a.shape[-1])
                if trace:
                    dhs["dh" + suffix] = narrowed(steps.scatter(steps.reverse(dh) if from_end else dh), P)
                if dinput is not None:
                    dinputs.append(steps.reverse(dinput) if from_end else dinput)
            drows = add(dinputs) if dinputs else None
        return None if drows is None else steps.scatter(drows), dhs

    def _again(self, call: Call) -> Part:
        """Return this part, computed again for the way back."""
        if _core.fingerprint(self.x) != self.fingerprint:
            raise RuntimeError(
                f"{call.spec.name}.backward: x has changed since the call, which was to recompute: pass a copy"
            )
        again = Part(self.begin, self.x, self.counted, self.batch_first)
        regularisation, state = copy.deepcopy(self.before)
        again.run(call, regularisation, state, True, False, False)
        return again
