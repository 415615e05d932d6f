"""Every contender of the comparison, in one place.

A contender turns a `Problem` into a `Call`: a prepared function without arguments, which is what gets timed, and a way
to read NumPy arrays under fastrnn's names from whatever that function returned. What a careful user of that library
does once (converting weights, building a session, compiling) happens while preparing and is not timed.

Each contender lives in a process of its own (measure.py), which is confined to `threads` cores before its constructor
runs. Constructors import their library, so that a missing one is a ModuleNotFoundError there. A contender has the
methods for what it can do: `inference` (y, h_n, c_n from given initial states), `training` (the same, then the
gradients of x, all weights, biases and initial states from dy, dh_n, dc_n), `step` (h, c after one step, as that
library offers it), and `bfloat16` and `int8` (inference with weights in that format). NotImplementedError tells that a
library has nothing of the kind for a cell.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapes import GATES, MODES, Shape

Array = NDArray[Any]
Answer = dict[str, Array]

OUTPUTS = ("y", "h_n", "c_n")
STATES = ("h", "c")
GRADIENTS = ("dx", "dw_ih", "dw_hh", "db_ih", "db_hh", "dh0", "dc0")


@dataclass(frozen=True)
class Problem:
    """One cell at one shape, with the same numbers for every contender."""

    cell: str
    x: Array  # (T, B, I)
    weights: tuple[Array, ...]  # w_ih (G*H, I), w_hh (G*H, H), b_ih (G*H,), b_hh (G*H,)
    state: tuple[Array, ...]  # h0, and c0 for the LSTM: (B, H) each
    dy: Array  # (T, B, H)
    dstate: tuple[Array, ...]  # dh_n, and dc_n for the LSTM: (B, H) each

    @classmethod
    def draw(cls, cell: str, shape: Shape) -> Problem:
        """Draws float32 weights as PyTorch initialises them, and everything else from a normal distribution."""
        rng = np.random.default_rng(2)
        T, B, I, H = shape
        rows = GATES[cell] * H
        states = 2 if cell == "lstm" else 1

        def normal(*size: int) -> Array:
            return rng.standard_normal(size, np.float32)

        def uniform(*size: int) -> Array:
            return rng.uniform(-1 / np.sqrt(H), 1 / np.sqrt(H), size).astype(np.float32)

        return cls(
            cell=cell,
            x=normal(T, B, I),
            weights=(uniform(rows, I), uniform(rows, H), uniform(rows), uniform(rows)),
            state=tuple(normal(B, H) for _ in range(states)),
            dy=normal(T, B, H),
            dstate=tuple(normal(B, H) for _ in range(states)),
        )

    def as_float64(self) -> Problem:
        """The same problem, for an answer that is exact as far as float32 can tell."""

        def cast(value: Any) -> Any:
            return tuple(map(cast, value)) if isinstance(value, tuple) else value.astype(np.float64)

        return replace(self, **{f.name: cast(getattr(self, f.name)) for f in fields(self) if f.name != "cell"})


class Call(NamedTuple):
    """What gets timed, and how to read its result."""

    run: Callable[[], Any]
    answer: Callable[[Any], Answer]  # of what run() returned


def _named(names: tuple[str, ...], arrays: Any) -> Answer:
    return {name: np.asarray(array) for name, array in zip(names, arrays, strict=False)}


def _step_of(sequence: Call) -> Call:
    """One step, of a library that has sequences only."""

    def answer(out: Any) -> Answer:
        _, *final = sequence.answer(out).values()
        return _named(STATES, final)

    return Call(sequence.run, answer)


def _reordered(problem: Problem, blocks: tuple[int, ...]) -> tuple[Array, ...]:
    """The weights and biases, with their gates in another order."""

    def reordered(array: Array) -> Array:
        ours = np.split(array, GATES[problem.cell])
        return np.concatenate([ours[block] for block in blocks])

    return tuple(map(reordered, problem.weights))


def _feed(problem: Problem) -> tuple[Array, ...]:
    """x and the initial states, as ONNX and PyTorch have them: of one layer and direction."""
    return (problem.x, *(state[None] for state in problem.state))


class Contender:
    """A library that runs recurrent nets."""

    name: ClassVar[str]
    about: dict[str, str]  # its version, and what else belongs beside its times

    @classmethod
    def modes(cls) -> tuple[str, ...]:
        """What it can do, of shapes.MODES."""
        return tuple(mode for mode in MODES if hasattr(cls, mode))


class Fastrnn(Contender):
    name = "fastrnn"

    def __init__(self, threads: int) -> None:
        fastrnn = importlib.import_module("fastrnn")
        fastrnn.set_num_threads(threads)
        self.functions = fastrnn
        self.about = {"version": fastrnn.__version__, "isa": fastrnn.isa()}

    def inference(self, problem: Problem) -> Call:
        forward = getattr(self.functions, f"{problem.cell}_forward")
        arguments = (problem.x, *problem.weights, *problem.state)
        return Call(lambda: forward(*arguments), lambda out: _named(OUTPUTS, out[:-1]))

    def training(self, problem: Problem) -> Call:
        forward = getattr(self.functions, f"{problem.cell}_forward")
        backward = getattr(self.functions, f"{problem.cell}_backward")
        arguments = (problem.x, *problem.weights, *problem.state)
        cotangents = (problem.dy, *problem.dstate)

        def run() -> Any:
            out = forward(*arguments, training=True)
            return out[:-1], backward(out.tape, *cotangents)

        return Call(run, lambda result: _named(OUTPUTS, result[0]) | _named(GRADIENTS, result[1]))

    def step(self, problem: Problem) -> Call:
        step = getattr(self.functions, f"{problem.cell}_step")
        arguments = (problem.x[0], *problem.weights, *problem.state)
        return Call(lambda: step(*arguments), lambda h: _named(STATES, h if problem.cell == "lstm" else (h,)))


class Reference(Fastrnn):
    """The functions of fastrnn.reference are those of fastrnn."""

    name = "reference"

    def __init__(self, threads: int) -> None:
        self.functions = importlib.import_module("fastrnn.reference")
        self.about = {"version": f"numpy {np.__version__}"}


class FastrnnLayer(Contender):
    """A frozen layer, which has packed its weights before, as the others have."""

    name = "fastrnn-layer"

    def __init__(self, threads: int) -> None:
        self.fastrnn = importlib.import_module("fastrnn")
        self.fastrnn.set_num_threads(threads)
        self.about = {"version": self.fastrnn.__version__, "isa": self.fastrnn.isa()}

    def _frozen(self, problem: Problem, weights: str) -> Call:
        I, H = problem.x.shape[2], problem.state[0].shape[1]
        layer = getattr(self.fastrnn, problem.cell.upper())(I, H)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        layer.load_state_dict(dict(zip(names, problem.weights, strict=True)))
        layer.eval().freeze(weights)
        states = tuple(state[None] for state in problem.state)
        state = states if problem.cell == "lstm" else states[0]

        def answer(out: Any) -> Answer:
            y, final = out
            final = final if problem.cell == "lstm" else (final,)
            return _named(OUTPUTS, (y, *(state[0] for state in final)))

        return Call(lambda: layer(problem.x, state), answer)

    def inference(self, problem: Problem) -> Call:
        return self._frozen(problem, "float32")

    def bfloat16(self, problem: Problem) -> Call:
        return self._frozen(problem, "bfloat16")

    def int8(self, problem: Problem) -> Call:
        return self._frozen(problem, "int8")


class Torch(Contender):
    name = "torch"

    def __init__(self, threads: int) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.about = {"version": self.torch.__version__}

    def _tensors(self, arrays: tuple[Array, ...], *, grad: bool = False) -> list[Any]:
        return [self.torch.from_numpy(array.copy()).requires_grad_(grad) for array in arrays]

    def _module(self, kind: str, problem: Problem) -> Any:
        I, H = problem.x.shape[2], problem.state[0].shape[1]
        module = getattr(self.torch.nn, kind)(I, H)
        with self.torch.no_grad():
            for parameter, array in zip(module.parameters(), self._tensors(problem.weights), strict=True):
                parameter.copy_(array)
        return module

    def _inference(self, problem: Problem, net: Any, dtype: Any) -> Call:
        x, *states = (tensor.to(dtype) for tensor in self._tensors(_feed(problem)))
        state = tuple(states) if problem.cell == "lstm" else states[0]

        def run() -> Any:
            with self.torch.inference_mode():
                return net(x, state)

        def answer(out: Any) -> Answer:
            y, final = out
            final = final if problem.cell == "lstm" else (final,)
            return _named(OUTPUTS, (out.float() for out in (y, *(state[0] for state in final))))

        return Call(run, answer)

    def inference(self, problem: Problem) -> Call:
        return self._inference(problem, self._module(problem.cell.upper(), problem).eval(), self.torch.float32)

    def bfloat16(self, problem: Problem) -> Call:
        """All of it, states included: autocast is slower."""
        dtype = self.torch.bfloat16
        return self._inference(problem, self._module(problem.cell.upper(), problem).eval().to(dtype), dtype)

    def int8(self, problem: Problem) -> Call:
        kind = getattr(self.torch.nn, problem.cell.upper())
        if problem.cell == "rnn":
            raise NotImplementedError("no int8 rnn")
        net = self.torch.nn.Sequential(self._module(problem.cell.upper(), problem)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is to move to a package of its own
            net = self.torch.ao.quantization.quantize_dynamic(net, {kind}, dtype=self.torch.qint8)
        return self._inference(problem, net[0], self.torch.float32)

    def training(self, problem: Problem) -> Call:
        net = self._module(problem.cell.upper(), problem)
        lstm = problem.cell == "lstm"
        x, *states = self._tensors(_feed(problem), grad=True)
        cotangents = self._tensors((problem.dy, *(dstate[None] for dstate in problem.dstate)))
        sources = (x, *net.parameters(), *states)
        state = tuple(states) if lstm else states[0]

        def run() -> Any:
            y, final = net(x, state)
            outputs = (y, *final) if lstm else (y, final)
            return outputs, self.torch.autograd.grad(outputs, sources, cotangents)

        def answer(result: Any) -> Answer:
            (y, *final), gradients = result
            dstate_0 = gradients[-len(states) :]
            outputs = (out.detach() for out in (y, *(state[0] for state in final)))
            gradients = (*gradients[: -len(states)], *(gradient[0] for gradient in dstate_0))
            return _named(OUTPUTS, outputs) | _named(GRADIENTS, gradients)

        return Call(run, answer)

    def step(self, problem: Problem) -> Call:
        cell = self._module(f"{problem.cell.upper()}Cell", problem).eval()
        x, *states = self._tensors((problem.x[0], *problem.state))
        state = tuple(states) if problem.cell == "lstm" else states[0]

        def run() -> Any:
            with self.torch.inference_mode():
                return cell(x, state)

        return Call(run, lambda h: _named(STATES, h if problem.cell == "lstm" else (h,)))


class OnnxRuntime(Contender):
    """Its Python package runs the ONNX operators forward only. Threads spin between calls, its default."""

    name = "onnxruntime"
    GATE_BLOCKS: ClassVar = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}  # ours, in the order of ONNX

    def __init__(self, threads: int) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        self.ort: Any = importlib.import_module("onnxruntime")
        self.threads = threads
        self.about = {"version": self.ort.__version__}

    def _model(self, problem: Problem) -> Any:
        helper, cell = self.onnx.helper, problem.cell
        H = problem.state[0].shape[1]
        w_ih, w_hh, b_ih, b_hh = _reordered(problem, self.GATE_BLOCKS[cell])
        weights = {"W": w_ih[None], "R": w_hh[None], "B": np.concatenate([b_ih, b_hh])[None]}
        inputs = ["x", "h0", "c0"][: 1 + len(problem.state)]
        outputs = list(OUTPUTS[: 1 + len(problem.state)])
        no_sequence_lens = ""
        node = helper.make_node(
            cell.upper(),
            ["x", "W", "R", "B", no_sequence_lens, *inputs[1:]],
            outputs,
            hidden_size=H,
            **({"linear_before_reset": 1} if cell == "gru" else {}),
        )

        def value(name: str, rank: int) -> Any:
            return helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, [None] * rank)

        graph = helper.make_graph(
            [node],
            cell,
            [value(name, 3) for name in inputs],
            [value(outputs[0], 4), *(value(name, 3) for name in outputs[1:])],
            [self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    def _quantized(self, model: Any) -> Any:
        quantization = importlib.import_module("onnxruntime.quantization")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            logging.disable(logging.WARNING)  # advice for models of images
            quantization.quantize_dynamic(model, path)
            logging.disable(logging.NOTSET)
            return self.onnx.load(path)

    def _run(self, problem: Problem, model: Any) -> Call:
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        session = self.ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = (value.name for value in session.get_inputs())
        feed = dict(zip(names, _feed(problem), strict=True))

        def answer(out: Any) -> Answer:
            y, *final = out
            return _named(OUTPUTS, (y[:, 0], *(state[0] for state in final)))

        return Call(lambda: session.run(None, feed), answer)

    def inference(self, problem: Problem) -> Call:
        return self._run(problem, self._model(problem))

    def int8(self, problem: Problem) -> Call:
        if problem.cell != "lstm":
            raise NotImplementedError(f"no int8 {problem.cell}")
        return self._run(problem, self._quantized(self._model(problem)))

    def step(self, problem: Problem) -> Call:
        return _step_of(self.inference(problem))


class OpenVino(Contender):
    """Its own operators, with inputs in its own tensors: one stream, for latency.

    Asked for nothing it would take bfloat16 where the processor has it. Its int8 is what its quantiser makes: weights
    with a scale for each row, x and h with one that is fixed beforehand, here from the very numbers that will come.
    """

    name = "openvino"
    GATE_BLOCKS: ClassVar = {"rnn": (0,), "lstm": (1, 0, 2, 3), "gru": (1, 0, 2)}  # ours, in its order

    def __init__(self, threads: int) -> None:
        self.openvino: Any = importlib.import_module("openvino")
        self.ops: Any = importlib.import_module("openvino.opset15")
        self.core = self.openvino.Core()
        self.threads = threads
        self.about = {"version": self.openvino.__version__.partition("-")[0]}

    def _rounded(self, node: Any, lowest: Array, highest: Array, levels: int) -> Any:
        ends = [self.ops.constant(end.astype(np.float32)) for end in (lowest, highest)]
        return self.ops.fake_quantize(node, *ends, *ends, levels)

    def _weights(self, matrix: Array, *, int8: bool) -> Any:
        node = self.ops.constant(matrix[None])
        largest = np.abs(matrix).max(1)[None, :, None]
        return self._rounded(node, -largest, largest, 255) if int8 else node

    def _model(self, problem: Problem, *, int8: bool) -> Any:
        ops, cell = self.ops, problem.cell
        T, B, I = problem.x.shape
        H = problem.state[0].shape[1]
        w_ih, w_hh, b_ih, b_hh = _reordered(problem, self.GATE_BLOCKS[cell])
        bias = np.concatenate([(b_ih + b_hh)[: 2 * H], b_ih[2 * H :], b_hh[2 * H :]]) if cell == "gru" else b_ih + b_hh
        inputs = [ops.parameter([T, B, I]), *(ops.parameter([1, B, H]) for _ in problem.state)]
        x, h, *c = (ops.transpose(node, ops.constant([1, 0, 2])) for node in inputs)
        if int8:
            largest = np.maximum(1, max(np.abs(problem.x).max(), np.abs(problem.state[0]).max()))
            x, h = (self._rounded(node, -largest, largest * 127 / 128, 256) for node in (x, h))
        node = getattr(ops, f"{cell}_sequence")(
            *(x, h, *c, ops.constant(np.full(B, T))),
            *(self._weights(matrix, int8=int8) for matrix in (w_ih, w_hh)),
            ops.constant(bias[None]),
            hidden_size=H,
            direction="forward",
            **{"rnn": {"activations": ["tanh"]}, "lstm": {}, "gru": {"linear_before_reset": True}}[cell],
        )
        y, *final = node.outputs()
        outputs = [
            ops.transpose(y, ops.constant([2, 1, 0, 3])),
            *(ops.transpose(s, ops.constant([1, 0, 2])) for s in final),
        ]
        return self.openvino.Model(outputs, inputs, cell)

    def _run(self, problem: Problem, precision: str, *, int8: bool = False) -> Call:
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = self.core.compile_model(self._model(problem, int8=int8), "CPU", options).create_infer_request()
        for place, array in enumerate(_feed(problem)):
            request.set_input_tensor(place, self.openvino.Tensor(np.ascontiguousarray(array)))

        def answer(_: Any) -> Answer:
            y, *final = (request.get_output_tensor(place).data.copy() for place in range(1 + len(problem.state)))
            return _named(OUTPUTS, (y[:, 0], *(state[0] for state in final)))

        return Call(request.infer, answer)

    def inference(self, problem: Problem) -> Call:
        return self._run(problem, "f32")

    def bfloat16(self, problem: Problem) -> Call:
        return self._run(problem, "bf16")

    def int8(self, problem: Problem) -> Call:
        if problem.cell != "lstm":
            raise NotImplementedError(f"no int8 {problem.cell}")
        return self._run(problem, "f32", int8=True)

    def step(self, problem: Problem) -> Call:
        return _step_of(self.inference(problem))


class Jax(Contender):
    """jit of lax.scan, and its vjp, written for XLA's fast paths.

    The input projection of the whole sequence is hoisted out of the loop; weights are stored (in, G*H), as JAX users
    store them; no bias is added to a product inside the loop, which XLA would fuse into a loop six times as slow; and
    training the gated cells at batch 1 unrolls four steps, the only place where that pays: up to 1.6 times as fast.
    XLA takes its threads from the cores that its process may use, which is how it is held to `threads`.
    """

    name = "jax"

    def __init__(self, threads: int) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        self.jax: Any = importlib.import_module("jax")
        self.about = {"version": self.jax.__version__}

    def _forward(self, cell: str, unroll: int = 1) -> Callable[..., Any]:
        jax, jnp, sigmoid = self.jax, self.jax.numpy, self.jax.nn.sigmoid

        def rnn(xp: Any, hp: Any, b_hn: Any, h: Any) -> Any:
            return (jnp.tanh(xp + hp),)

        def lstm(xp: Any, hp: Any, b_hn: Any, h: Any, c: Any) -> Any:
            i, f, g, o = jnp.split(xp + hp, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            return sigmoid(o) * jnp.tanh(c), c

        def gru(xp: Any, hp: Any, b_hn: Any, h: Any) -> Any:
            (xr, xz, xn), (hr, hz, hn) = jnp.split(xp, 3, axis=1), jnp.split(hp, 3, axis=1)
            z = sigmoid(xz + hz)
            return ((1 - z) * jnp.tanh(xn + sigmoid(xr + hr) * (hn + b_hn)) + z * h,)

        cells: dict[str, Callable[..., Any]] = {"rnn": rnn, "lstm": lstm, "gru": gru}
        following = cells[cell]

        def forward(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, *state_0: Any) -> Any:
            H = w_hh.shape[0]
            outside, b_hn = (b_hh.at[2 * H :].set(0), b_hh[2 * H :]) if cell == "gru" else (b_hh, None)

            def step(state: Any, xp: Any) -> Any:
                state = following(xp, state[0] @ w_hh, b_hn, *state)
                return state, state[0]

            final, y = jax.lax.scan(step, state_0, x @ w_ih + (b_ih + outside), unroll=unroll)
            return (y, *final)

        return forward

    def _arguments(self, problem: Problem) -> tuple[Array, ...]:
        w_ih, w_hh, *biases = problem.weights
        return (problem.x, w_ih.T.copy(), w_hh.T.copy(), *biases, *problem.state)

    def _compiled(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        compiled = self.jax.jit(function)
        on_device = self.jax.device_put(arguments)
        return lambda: self.jax.block_until_ready(compiled(*on_device))

    def inference(self, problem: Problem) -> Call:
        run = self._compiled(self._forward(problem.cell), *self._arguments(problem))
        return Call(run, lambda out: _named(OUTPUTS, out))

    def training(self, problem: Problem) -> Call:
        gated_at_batch_1 = problem.cell != "rnn" and problem.x.shape[1] == 1
        forward = self._forward(problem.cell, unroll=4 if gated_at_batch_1 else 1)

        def both(arguments: Any, cotangents: Any) -> Any:
            out, pull_back = self.jax.vjp(forward, *arguments)
            return out, pull_back(cotangents)

        def answer(result: Any) -> Answer:
            out, (dx, dw_ih, dw_hh, *rest) = result
            return _named(OUTPUTS, out) | _named(GRADIENTS, (dx, dw_ih.T, dw_hh.T, *rest))

        return Call(self._compiled(both, self._arguments(problem), (problem.dy, *problem.dstate)), answer)

    def step(self, problem: Problem) -> Call:
        return _step_of(self.inference(problem))


CONTENDERS: dict[str, type[Any]] = {
    kind.name: kind for kind in (Fastrnn, FastrnnLayer, Reference, Torch, OnnxRuntime, OpenVino, Jax)
}
