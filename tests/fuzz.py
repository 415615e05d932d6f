"""Calls of everything that fastrnn has, made worse at some places: a result, TypeError, ValueError or MemoryError.

    python tests/fuzz.py [CALLS [SEED]]

Anything else - another exception, a warning, a crash, a call that does not end - fails; hypothesis, which draws what is
called and how, then looks for the simplest call that does. After every few hundred calls the good calls still give the
bits that they gave at first. `targets` lists what is called; test_fuzz.py shows that nothing is missing.
"""

from __future__ import annotations

import atexit
import copy
import faulthandler
import importlib.util
import itertools
import json
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

import fastrnn
from fastrnn import _core, data, optim
from isolated import SLOWNESS, limit_memory
from layer_problems import LAYERS, VARIANTS
from mutations import mutated
from problems import CELLS, Array, make_problem

T, B, I, H = 3, 2, 4, 5
F = np.float32


class Target(NamedTuple):
    """Something to call, what of `covers` it shows, and good arguments for it."""

    covers: str
    call: Callable[..., Any]
    arguments: dict[str, Any]  # by name; those that begin with an underscore by position
    reruns: bool = True  # whether the same call gives the same again


def at(*values: Any) -> dict[str, Any]:
    return {f"_{k}": value for k, value in enumerate(values)}


def draw(*shape: int, dtype: Any = F, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)


def functions() -> Iterator[Target]:
    for cell in CELLS:
        for dtype in (np.float32, np.float64):
            for tokens in (False, True):
                problem = make_problem(cell, T, B, I, H, dtype=dtype, tokens=tokens)
                forward, backward, step = (
                    getattr(fastrnn, f"{cell.family}_{k}") for k in ("forward", "backward", "step")
                )
                arguments = {**problem.inputs, **cell.options}
                yield Target(f"fastrnn.{cell.family}_forward", forward, {**arguments, "training": True})
                tape = forward(**arguments, training=True).tape
                yield Target(f"fastrnn.{cell.family}_backward", backward, {"tape": tape, **problem.upstream})
                states = {f"{s}0": s for s in cell.state_names}
                single = {states.get(k, k): a[0] if k == "x" else a for k, a in arguments.items()}
                yield Target(f"fastrnn.{cell.family}_step", step, single)
    for out in (None, np.zeros((B, H), F)):
        yield Target("fastrnn.linear", fastrnn.linear, at(draw(B, I), draw(H, I), draw(H), out))
    logits, targets = draw(T, B, 4), np.array([[0, 1], [2, 3], [1, 1]])
    mask = np.ones((T, B), bool)
    yield Target(
        "fastrnn.cross_entropy",
        fastrnn.cross_entropy,
        {"logits": logits, "targets": targets, "mask": mask, "ignore_index": 3},
    )
    yield Target(
        "fastrnn.mean_squared_error",
        fastrnn.mean_squared_error,
        {"y": logits, "target": draw(T, B, 4, seed=1), "mask": mask},
    )
    yield Target("data.side_by_side", data.side_by_side, {"sequence": np.arange(12), "batch": 2})
    yield Target("data.windows", lambda **a: list(data.windows(**a)), {"streams": draw(9, B), "steps": 2})
    yield Target("fastrnn.isa", fastrnn.isa, {})
    yield Target("fastrnn.available_isas", fastrnn.available_isas, {})
    yield Target("fastrnn.clear_cache", fastrnn.clear_cache, {})
    yield Target("fastrnn.get_num_threads", fastrnn.get_num_threads, {}, False)
    yield Target("fastrnn.set_num_threads", fastrnn.set_num_threads, at(2))


def fitting(options: dict[str, Any]) -> dict[str, Any]:
    """Return a variant's options for so few units."""
    return {name: 3 if name == "proj_size" else value for name, value in options.items()}


def layers() -> Iterator[Target]:
    for family, options in VARIANTS:
        own = fitting(options)
        kind: Any = LAYERS[family]
        yield Target(
            f"fastrnn.{kind.__name__}",
            lambda *, kind=kind, **a: kind(**a).state_dict(),
            {
                "input_size": I,
                "hidden_size": H,
                "num_layers": 2,
                "bidirectional": True,
                "batch_first": False,
                "bias": True,
            }
            | {
                "dropout": 0.1,
                "zoneout": 0.0,
                "recurrent_dropout": 0.0,
                "dtype": F,
                "init": "orthogonal",
                "seed": 0,
                **own,
            },
        )
        for both in (False, True):
            layer = kind(I, H, 2, bidirectional=both, seed=0, **own)
            directions = 2 * (1 + both)
            states = tuple(draw(directions, B, size, seed=s) for s, size in enumerate(layer._spec.state_sizes))
            state = states if len(states) > 1 else states[0]
            dy = draw(T, B, layer._spec.state_sizes[0] * (1 + both))

            def run(*, layer: fastrnn.Layer = layer, **a: Any) -> Any:
                call = layer.record(**a)
                return call.y, call.state, call.trace

            arguments = {"x": draw(T, B, I), "state": state, "lengths": np.array([2, 3])}
            flags = {"return_sequence": True, "trace": both, "recompute": False}
            yield Target("fastrnn.Layer", run, {**arguments, **flags})
            yield Target("fastrnn.Layer", layer, {**arguments, **flags})
            frozen = copy.copy(layer).eval().freeze(weights="int8")
            yield Target(
                "fastrnn.Layer",
                lambda *, layer=layer, **a: copy.copy(layer).freeze(**a).state_dict(),
                {"weights": "int8", "calibrate": arguments["x"]},
            )
            yield Target("fastrnn.Layer", frozen, {**arguments, **flags, "trace": True})
            yield Target("fastrnn.Layer", run, {**arguments, **flags, "x": np.array([[0, 1], [3, 2], [1, 1]])})
            call = layer.record(**arguments)
            yield Target("fastrnn.Call", call.backward, {"dy": dy, "dstate": state, "trace": True})
            layer(arguments["x"])
            yield Target("fastrnn.Layer", layer.backward, {"dy": dy, "dstate": state})
            yield Target("fastrnn.Layer", copy.copy(layer).load_state_dict, at(layer.state_dict()), False)
            if not both:
                yield Target("fastrnn.Stream", layer.stream, {"batch": B, "tokens": False}, False)
                width = layer._spec.state_sizes[0]
                for x, tokens in ((draw(B, I), False), (np.array([0, 3]), True)):
                    stream = layer.stream(B, tokens=tokens)
                    yield Target("fastrnn.Stream", stream.step, {"x": x, "out": np.zeros((B, width), F)}, False)

                def set_state(state: Any, *, stream: fastrnn.Stream = stream) -> None:
                    stream.state = state

                yield Target("fastrnn.Stream", set_state, {"state": state})
                yield Target("fastrnn.Stream", stream.reset, at(np.array([True, False])))


def modules() -> Iterator[Target]:
    linear, embedding, dropout = fastrnn.Linear(I, H, seed=0), fastrnn.Embedding(6, I, seed=0), fastrnn.Dropout(0.0)
    tokens = np.array([[0, 5], [2, 2]])
    yield Target(
        "fastrnn.Linear",
        lambda **a: fastrnn.Linear(**a).state_dict(),
        {"in_features": I, "out_features": H, "bias": True, "dtype": F, "seed": 0},
    )
    yield Target(
        "fastrnn.Embedding",
        lambda **a: fastrnn.Embedding(**a).state_dict(),
        {"num_embeddings": 6, "embedding_dim": 3, "dtype": F, "seed": 0},
    )
    yield Target("fastrnn.Dropout", fastrnn.Dropout, {"p": 0.5, "seed": 0}, False)
    for name, module, argument, width in (
        ("Linear", linear, draw(T, B, I), H),
        ("Embedding", embedding, tokens, I),
        ("Dropout", dropout, draw(T, B, I), I),
    ):
        module(argument)
        dy = draw(*argument.shape[:-1], width) if name != "Embedding" else draw(*argument.shape, width)
        yield Target(f"fastrnn.{name}", module, at(argument))
        yield Target("fastrnn.ModuleCall", lambda x, *, module=module: module.record(x).y, {"x": argument})
        yield Target("fastrnn.ModuleCall", module.record(argument).backward, {"dy": dy})
        yield Target(f"fastrnn.{name}", module.backward, {"dy": dy}, False)
        yield Target("fastrnn.Module", copy.copy(module).train, at(True), False)
        yield Target("fastrnn.Module", copy.copy(module).load_state_dict, at(module.state_dict()), False)
    net = copy.copy(fastrnn.Modules(linear=linear, embedding=embedding))
    yield Target("fastrnn.Modules", lambda **a: repr(fastrnn.Modules(**a)), {"a": linear, "b": embedding})
    yield Target("fastrnn.Modules", net.load_state_dict, at(net.state_dict()), False)

    def exchange(value: Any) -> None:
        net.params["linear.bias"] = value

    yield Target("fastrnn.Parameters", exchange, {"value": np.zeros(H, F)}, False)
    yield Target("fastrnn.Grads", lambda grads: dict(fastrnn.Grads(grads)), {"grads": {"a": np.ones(2)}})
    yield Target("fastrnn.Gradients", fastrnn.Gradients, {"dx": None, "dstate": None, "grads": fastrnn.Grads()})


def nets() -> Iterator[Target]:
    y, lengths, mask = draw(T, B, H), np.array([2, 3]), np.array([[True, False], [False, True], [True, True]])
    for kind in (fastrnn.Last, fastrnn.Mean, fastrnn.Max):
        name = f"fastrnn.{kind.__name__}"
        yield Target(name, lambda *, kind=kind, **a: repr(kind(**a)), {"batch_first": True})
        call = kind().record(y, lengths, mask)
        yield Target(name, kind().eval(), {"y": y, "lengths": lengths, "mask": mask})
        yield Target(name, lambda *, call=call, **a: call.backward(**a), {"dy": draw(B, H)})
    for kind in (fastrnn.Relu, fastrnn.Tanh):
        name, module = f"fastrnn.{kind.__name__}", kind()
        yield Target(name, kind, {})
        yield Target(name, lambda *, module=module, **a: module.record(**a).y, {"x": y})
        yield Target(name, module.record(y).backward, {"dy": y})

    def net_of(*modules: Any) -> fastrnn.Sequential:
        return fastrnn.Sequential(*modules)

    for net, x in (
        (net_of(fastrnn.GRU(I, H, seed=0), fastrnn.Last(), fastrnn.Linear(H, 2, seed=0)), draw(T, B, I)),
        (net_of(fastrnn.Embedding(6, I, seed=0), fastrnn.LSTM(I, H, seed=0), fastrnn.Tanh()), np.ones((T, B), int)),
        (net_of(fastrnn.Linear(I, H, seed=0), fastrnn.Relu(), fastrnn.Mean(batch_first=True)), draw(B, T, I)),
    ):
        own = copy.copy(net).eval()
        arguments = {"x": x, "lengths": lengths}
        yield Target("fastrnn.Sequential", own, arguments)
        yield Target("fastrnn.Sequential", lambda *, net=net, **a: net.record(**a).y, arguments)
        yield Target("fastrnn.Sequential", net.record(x).backward, {"dy": net.record(x).y})
        yield Target("fastrnn.Sequential", lambda *modules: net_of(*modules).summary(), at(*copy.copy(net)))
        yield Target("fastrnn.Sequential", copy.copy(net).load_state_dict, at(net.state_dict()), False)
        if not isinstance(net[-1], fastrnn.Mean):
            options = {"batch": B, "tokens": False}
            yield Target("fastrnn.Sequential", lambda *, net=net, **a: repr(net.stream(**a)), options)
            stream = net.stream(B)
            step = {"x": x[0], "out": stream.step(x[0])}
            yield Target("fastrnn.Sequential", stream.step, step, False)
            yield Target("fastrnn.Sequential", stream.reset, at(np.array([True, False])))

            def set_state(state: Any, *, stream: Any = stream) -> None:
                stream.state = state

            yield Target("fastrnn.Sequential", set_state, {"state": stream.state})


def optimisers() -> Iterator[Target]:
    for kind, options in (
        (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (optim.Adam, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}),
    ):
        params = {"a": np.ones(3), "b": np.ones((2, 2), F)}
        grads = {"a": np.ones(3), "b": np.full((2, 2), 0.5, F)}
        yield Target("optim." + kind.__name__, lambda *, kind=kind, **a: repr(kind(**a)), {"params": params, **options})
        yield Target("optim.Optimiser", kind(params, **options).step, {"grads": grads}, False)
        yield Target(
            "optim.Optimiser",
            lambda params, grads, *, kind=kind: kind(params, 0.1).step(grads),
            {"params": params, "grads": grads},
            False,
        )
    yield Target("optim.clip_global_norm", optim.clip_global_norm, at([np.ones(3), np.ones(2)], 9.0), False)
    yield Target("optim.clip_value", optim.clip_value, at([np.ones(3), np.ones(2)], 9.0), False)


# Every cell of _core, with what a layer gives it.
def in_int8(cell: str, w_ih: Array, w_hh: Array | None, b_ih: Any, b_hh: Any, vectors: Any) -> tuple[Any, ...]:
    """Arguments of _core.FormatWeights, with weights of such shapes."""
    rng, of_hidden = np.random.default_rng(0), (None, None)
    numbers = rng.integers(-128, 128, w_ih.shape, dtype=np.int8)
    if w_hh is not None:  # of a projection in one row, with those of W_hr
        rows = len(w_hh) if w_hh.ndim == 2 else len(w_ih) + len(w_hh) * 4 // (5 * len(w_ih))
        of_hidden = rng.integers(-128, 128, w_hh.shape, dtype=np.int8), draw(rows) ** 2
    return cell, "int8", numbers, draw(len(w_ih)) ** 2, *of_hidden, b_ih, b_hh, vectors


def core() -> Iterator[Target]:
    layers = [LAYERS[family](I, H, seed=0, **fitting(options)) for family, options in VARIANTS]
    for cell, layer in {layer._spec.cell: layer for layer in layers}.items():
        spec = layer._spec
        options = spec.options[0]
        *weights, vectors = layer._weights.known("_l0")
        state = (draw(B, H), draw(B, H, seed=1) if len(spec.state_sizes) == 2 else None)
        keep = None if spec.proj_size else draw(1, H)
        regularised = (None, keep, keep)[: 1 + len(spec.state_sizes)]
        for x, counts, kept in (
            (draw(T, B, I), None, None),
            (np.array([[0, 1], [3, 2], [1, 1]]), None, None),
            (draw(5, I), np.array([2, 2, 1]), _core.KeptWeights(False)),
            (draw(T, B, I), None, _core.KeptWeights(True)),
        ):
            arguments = at(cell, True, True, kept, counts, x, *weights, *state, vectors, options, regularised)
            frozen = kept is not None and arguments["_4"] is None
            if not frozen:  # a frozen one takes weights for what they were, whatever they are
                yield Target("_core.forward", lambda *a: _core.forward(*a)[:-1], arguments)
            else:
                in_bytes = _core.FormatWeights(*in_int8(cell, *weights, vectors))
                traced = at(cell, True, True, in_bytes, counts, x, *weights, *state, vectors, options, regularised)
                yield Target("_core.forward", lambda *a: _core.forward(*a)[:-1], traced, False)
                yield Target("_core.trace", _core.trace, at(_core.forward(*traced.values())[-1]))
            tape = _core.forward(*arguments.values())[-1]
            upstream = (draw(T, B, H) if counts is None else draw(5, H), *state)
            for sums in (None, _core.Sums()):
                yield Target("_core.backward", _core.backward, at(spec.family, tape, sums, True, *upstream), False)
            yield Target("_core.trace", _core.trace, at(tape))
        begins = tuple(draw(H, seed=s) for s in range(len(spec.state_sizes)))
        yield Target("_core.FormatWeights", _core.FormatWeights, at(*in_int8(cell, *weights, vectors)), False)
        yield Target("_core.FormatWeights", _core.FormatWeights(*in_int8(cell, *weights, vectors)).unpack, at(True))
        upper = (draw(spec.shapes["weight_ih_l0"][0], H), *weights[1:])
        outputs = spec.state_sizes[0]
        for tokens, in_bytes in itertools.product((False, True), (False, True)):
            kept = [_core.FormatWeights(*in_int8(cell, *w, vectors)) if in_bytes else None for w in (weights, upper)]
            first = (*weights, vectors, regularised, None, kept[0])
            above = (*upper, vectors, regularised, begins, kept[1])
            arguments = at(cell, options, [first, above], B, tokens, outputs)
            yield Target("_core.Stream", lambda *a: _core.Stream(*a).state, arguments)
            stream = _core.Stream(*arguments.values())
            x = np.array([0, 3]) if tokens else draw(B, I)
            yield Target("_core.Stream", stream.step, at(x, np.zeros((B, outputs), F)), False)
            yield Target("_core.Stream", stream.reset, at(np.array([True, False])))
            yield Target(
                "_core.Stream", lambda state, *, stream=stream: setattr(stream, "state", state), at(stream.state)
            )
            yield Target("_core.Stream", stream.copy, {}, False)
    for cell, count in (("rnn_general", 1), ("gru_general_after", 2), ("lstm_general", 3)):
        activations = (("hard_sigmoid", 0.2, 0.5), ("tanh", 0.0, 0.0), ("elu", 1.0, 0.0))[:count]
        yield Target("_core.CellOptions", _core.CellOptions, at(cell, activations, 0.5, None, True, False), False)
    yield Target("_core.activations", _core.activations, {})
    yield Target("_core._activation", _core._activation, at(("elu", 1.0, 0.0), draw(T, H)))
    yield Target("_core.KeptWeights", _core.KeptWeights, at(False), False)
    yield Target("_core.KeptWeights", _core.KeptWeights(False).expect_the_same, {}, False)
    yield Target("_core.Sums", _core.Sums, {}, False)
    yield Target("_core.Sums", _core.Sums().finish, {}, False)
    yield Target("_core.Tape", _core.Tape, {}, False)
    yield Target("_core.addressable", _core.addressable, at("lstm", T, B, I, H))
    yield Target("_core.block_steps", _core.block_steps, at(B, H))
    yield Target("_core.column_sums", _core.column_sums, at(draw(T, H)))
    yield Target("_core.fingerprint", _core.fingerprint, at(draw(T, H)))
    for name in ("lstm", "gru", "rnn"):
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[name]
        step = getattr(_core, f"{name}_step")
        arguments = at(draw(B, I), draw(gates * H, I), draw(gates * H, H), draw(gates * H), draw(gates * H), draw(B, H))
        yield Target(f"_core.{name}_step", step, arguments)
    yield Target("_core.linear", _core.linear, at(draw(B, I), draw(H, I), draw(H), None))
    yield Target("_core.set_isa", _core.set_isa, at(fastrnn.isa()), False)
    yield Target("_core.set_num_threads", _core.set_num_threads, at(2))
    yield Target("_core._fp_control", _core._fp_control, {"flags": False}, False)
    for name in ("isa", "available_isas", "get_num_threads"):
        yield Target(f"_core.{name}", getattr(_core, name), {}, False)
    yield Target("_core._product_flops", _core._product_flops, at(10, "int8"))
    yield Target("_core._read_bytes", _core._read_bytes, at(draw(9), 2))
    yield Target("_core._math", _core._math, at("tanh", draw(9)))


# Where the models are that importers read; and what reads them, if it is installed.
FOLDER = tempfile.TemporaryDirectory()
atexit.register(FOLDER.cleanup)
INSTALLED = {name for name in ("h5py", "onnx") if importlib.util.find_spec(name)}


def keras_file(path: str) -> str:
    """Write a layer of Keras', as Keras 2.3 did."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        weights, config = file.create_group("model_weights"), {"name": "gru", "units": H, "reset_after": True}
        layers = [{"class_name": "GRU", "config": {**config, "activation": "tanh", "recurrent_activation": "sigmoid"}}]
        file.attrs["keras_version"] = weights.attrs["keras_version"] = "2.3.1"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        weights.attrs["layer_names"] = [b"gru"]
        group = weights.create_group("gru")
        shapes = {"kernel": (I, 3 * H), "recurrent_kernel": (H, 3 * H), "bias": (2, 3 * H)}
        group.attrs["weight_names"] = [f"gru/{name}:0".encode() for name in shapes]
        for name, shape in shapes.items():
            group[f"gru/{name}:0"] = rng.uniform(-1, 1, shape).astype(F)
    return path


def conversions() -> Iterator[Target]:
    def path_of(name: str) -> str:
        return os.path.join(FOLDER.name, name)

    def outcome(call: Callable[..., Any], **a: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a call has to heed
            try:
                result = call(**a)
            except OSError as error:  # there is no such file
                raise ValueError from error
            except ImportError as error:
                raise ValueError from error
        return result.state_dict() if isinstance(result, fastrnn.Layer) else len(repr(result))

    layer = fastrnn.LSTM(I, H, 2, seed=0).eval()
    net = fastrnn.Sequential(fastrnn.Embedding(6, I, seed=0), layer, fastrnn.Last(), fastrnn.Linear(H, 2, seed=0))
    state, saved = layer.state_dict(), path_of("layer.safetensors")
    layer.save(saved)
    for weights in (draw(3 * H, I), list(draw(3, H, I)), dict(zip("zrh", draw(3, H, I), strict=True))):
        yield Target("fastrnn.gates", fastrnn.gates, {"order": "zrh", "weights": weights, "axis": 0})
    yield Target("fastrnn.load", lambda **a: outcome(fastrnn.load, **a), {"path": saved})
    of_torch = {"prefix": "", "batch_first": True, "nonlinearity": None, "dtype": F}
    inside = {"a": {f"b.{name}": p for name, p in state.items()}}
    for source, prefix in ((state, ""), (saved, ""), (inside, "a.b")):
        arguments = {**of_torch, "source": source, "prefix": prefix}
        yield Target("fastrnn.from_torch", lambda **a: outcome(fastrnn.from_torch, **a), arguments)
        yield Target("fastrnn.find_nets", lambda **a: outcome(fastrnn.find_nets, **a), {"source": source})
    (found,) = fastrnn.find_nets(state)
    yield Target("fastrnn.Net", lambda **a: outcome(found.layer, **a), {"dtype": F, "owner": "a"})
    yield Target("fastrnn.to_torch", lambda **a: outcome(fastrnn.to_torch, **a), {"layer_or_net": net}, False)
    yield Target(
        "fastrnn.to_onnx",
        lambda path, **a: outcome(fastrnn.to_onnx, path=path_of(path) if isinstance(path, str) else path, **a),
        {"layer_or_net": net, "path": "net.onnx", "tokens": True, "lengths": True, "state": False},
        False,
    )
    if "onnx" in INSTALLED:
        fastrnn.to_onnx(layer, path_of("layer.onnx"))
        with open(path_of("layer.onnx"), "rb") as file:
            data = file.read()
        names = [each.name for each in fastrnn.find_nets(data)]
    else:
        data, names = b"", ["a", "b"]
    for node in (names[0], names):
        yield Target(
            "fastrnn.from_onnx",
            lambda **a: outcome(fastrnn.from_onnx, **a),
            {"source": data, "node": node, "dtype": F},
            "onnx" in INSTALLED,
        )
    yield Target("fastrnn.onnx_ops", lambda: len(fastrnn.onnx_ops()) if "onnx" in INSTALLED else 0, {})
    of_keras = {"name": "gru", "activations": ("sigmoid", "tanh"), "reset_after": True, "dtype": F}
    file = keras_file(path_of("model.h5")) if "h5py" in INSTALLED else ""
    yield Target(
        "fastrnn.from_keras",
        lambda **a: outcome(fastrnn.from_keras, **a),
        {**of_keras, "source": file},
        "h5py" in INSTALLED,
    )


def targets() -> list[Target]:
    """Return everything that is called."""
    return [*functions(), *layers(), *modules(), *nets(), *optimisers(), *conversions(), *core()]


def invoke(target: Target, arguments: dict[str, Any]) -> Any:
    positional = [value for name, value in arguments.items() if name.startswith("_")]
    return target.call(*positional, **{name: value for name, value in arguments.items() if not name.startswith("_")})


def numbers_in(result: Any) -> list[bytes]:
    """The bits of all arrays and numbers of a result, in their order."""
    if isinstance(result, np.ndarray):
        return [result.tobytes()]
    if isinstance(result, dict):
        return [bits for value in result.values() for bits in numbers_in(value)]
    if isinstance(result, tuple | list):
        return [bits for value in result for bits in numbers_in(value)]
    return [repr(result).encode()] if isinstance(result, int | float | str | bytes) else []


def worse(r: random.Random, target: Target) -> dict[str, Any]:
    """Return the target's arguments, changed at one to three places."""
    arguments = dict(target.arguments)
    names = sorted(arguments)
    for name in r.sample(names, min(len(names), r.choice([1, 1, 1, 2, 3]))):
        if r.randrange(10) == 9:  # another argument's, the very same array: also one that is written to
            arguments[name] = arguments[r.choice(names)]
        else:
            arguments[name] = mutated(r, arguments[name])
    keywords = [name for name in names if not name.startswith("_")]
    if keywords and r.randrange(32) == 31:
        arguments.pop(r.choice(keywords))
    if r.randrange(32) == 31:
        arguments["surprise"] = 1
    if r.randrange(64) == 63:
        arguments[f"_{len(names)}"] = 1
    return arguments


def fuzz(calls: int, seed: int) -> None:
    """Make so many calls; anything but a result, TypeError, ValueError or MemoryError ends the process."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "LSTM: dropout|.*it has no effect", UserWarning)
    np.seterr(all="raise")  # somebody may have: then half of the work would be done
    faulthandler.enable()
    limit_memory(10 << 30)
    fastrnn.set_num_threads(2)
    isa = fastrnn.isa()
    pool = targets()
    good = {k: numbers_in(invoke(t, t.arguments)) for k, t in enumerate(pool) if t.reruns}
    by_cover: dict[str, list[Target]] = {}
    for target in pool:
        by_cover.setdefault(target.covers, []).append(target)
    counts = Counter[str]()

    def check_good_calls() -> None:
        fastrnn.set_num_threads(2)
        _core.set_isa(isa)
        for k, right in good.items():
            assert numbers_in(invoke(pool[k], pool[k].arguments)) == right, pool[k].covers

    def call(r: random.Random, target: Target) -> None:
        with np.errstate(all="ignore"):
            arguments = worse(r, target)
        faulthandler.dump_traceback_later(60 * SLOWNESS, exit=True)  # a call that does not end
        try:
            invoke(target, arguments)
            counts["result"] += 1
        except (TypeError, ValueError, MemoryError) as error:
            counts[type(error).__name__] += 1
        except BaseException as error:
            print(f"{target.covers} with {arguments}: {error!r}", file=sys.stderr)
            raise

    for same in by_cover.values():  # half of the calls go to each alike, half to those that there are more ways to call
        some = int(calls / 4 * (1 / len(by_cover) + len(same) / len(pool))) + 1
        options = settings(max_examples=some, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        # A plain generator reaches more; what hypothesis draws itself it can make simpler.
        for plain in (True, False):
            draws = given(st.randoms(use_true_random=plain), st.sampled_from(same))
            seeded(seed)(options(draws(call)))()
        check_good_calls()
    faulthandler.cancel_dump_traceback_later()
    print(f"{calls} calls of {len(pool)} things: {dict(counts)}")
    # All kinds of outcome must be common, or the mutations have stopped testing anything.
    assert calls < 1000 or min(counts["result"], counts["TypeError"], counts["ValueError"]) > calls // 20, counts


if __name__ == "__main__":
    fuzz(*(int(argument) for argument in [*sys.argv[1:], "5000", "0"][:2]))
