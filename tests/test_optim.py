"""Optimisers, against their equations and against PyTorch."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, Embedding, Grads, Linear, Modules
from fastrnn.optim import SGD, Adam, clip_global_norm, clip_value
from problems import Array


def test_first_step_of_adam_by_hand() -> None:
    p = np.array([1.0, -2.0, 3.0])
    Adam({"p": p}, lr=0.1).step({"p": np.array([0.5, -4.0, 0.0])})
    # m and v, corrected, are g and g**2: every parameter with a gradient moves by lr against its sign.
    np.testing.assert_allclose(p, [0.9, -1.9, 3.0], rtol=1e-7)


def test_adam_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=3)}
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    ours = Adam(params, lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    reference = torch.optim.Adam(theirs.values(), lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    for _ in range(20):
        grads = {name: rng.normal(size=p.shape) for name, p in params.items()}
        for name, grad in grads.items():
            theirs[name].grad = torch.tensor(grad)
        ours.step(grads)
        reference.step()
    for name, p in params.items():
        np.testing.assert_allclose(p, theirs[name].detach().numpy(), rtol=1e-12)


def test_clipping_by_global_norm() -> None:
    grads = [np.array([3.0, 0.0]), np.array([[4.0]])]
    assert clip_global_norm(grads, 10.0) == 5
    assert grads[0].tolist() == [3, 0]
    assert clip_global_norm(grads, 1.0) == 5
    np.testing.assert_allclose(grads[0], [0.6, 0])
    np.testing.assert_allclose(grads[1], [[0.8]])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_reports_what_is_not_finite(bad: float) -> None:
    grads = [np.array([bad, 1.0])]
    assert not math.isfinite(clip_global_norm(grads, 1.0))
    assert grads[0][1] == 1


# --- what an optimiser steps is what the layer uses

MAKE: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda params: SGD(params, 0.5, momentum=0.9),
    "Adam": lambda params: Adam(params, 0.1),
    "AdamW": lambda params: Adam(params, 0.1, weight_decay=0.1),
}
each_optimiser = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def net_of_two() -> tuple[fastrnn.Modules, Callable[[], None]]:
    """A net, and what fills its gradients."""
    rnn, decoder = fastrnn.GRU(3, 4, seed=0), fastrnn.Linear(4, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)

    def learn() -> None:
        z = decoder(rnn(x)[0])
        rnn.backward(decoder.backward(z - 1))

    return fastrnn.Modules(rnn=rnn, decoder=decoder), learn


def assert_untouched(arrays: dict[str, Array], before: dict[str, Array], optimiser: Any) -> None:
    for name, p in arrays.items():
        assert np.array_equal(p, before[name]), name
    states = [optimiser.v] + ([optimiser.m] if isinstance(optimiser, Adam) else [])
    assert not any(a.any() for state in states for a in state.values())
    assert getattr(optimiser, "steps", 0) == 0


def exchanged(net: fastrnn.Modules) -> None:
    for name, p in net.params.items():
        net.params[name] = p + 1


def frozen_and_back(net: fastrnn.Modules) -> None:
    rnn = net._modules["rnn"]
    assert isinstance(rnn, fastrnn.GRU)
    rnn.freeze().unfreeze()


@pytest.mark.parametrize("change", [lambda net: None, exchanged, frozen_and_back], ids=["none", "exchange", "freeze"])
@pytest.mark.parametrize("of", ["net", "layers"])
@each_optimiser
def test_it_follows(make: Callable[[Any], Any], of: str, change: Callable[[Any], None]) -> None:
    """Made with params, of a net or of each module, it steps the arrays of the time."""
    net, learn = net_of_two()
    modules = [net] if of == "net" else list(net._modules.values())
    optimisers = [make(module.params) for module in modules]
    for _ in range(3):
        change(net)
        learn()
        before = net.state_dict()
        for optimiser, module in zip(optimisers, modules, strict=True):
            optimiser.step(module.grads)
        for name, p in net.params.items():
            assert not np.array_equal(p, before[name]), name


@each_optimiser
def test_arrays_that_nobody_uses_any_more_are_refused(make: Callable[[Any], Any]) -> None:
    """Of an optimiser that was made with a dict of its own: it cannot follow, and says so."""
    for change, name in ((exchanged, "rnn.weight_ih_l0"), (frozen_and_back, "rnn.weight_ih_l0")):
        net, learn = net_of_two()
        own = dict(net.params)
        optimiser = make(own)
        change(net)
        learn()
        before = {n: p.copy() for n, p in own.items()}
        with pytest.raises(ValueError, match=f"{name} is an array that no module uses any more"):
            optimiser.step(net.grads)
        assert_untouched(own, before, optimiser)
        net.params["rnn.weight_ih_l0"] = own["rnn.weight_ih_l0"]  # back again
        with pytest.raises(ValueError, match=r"no module uses any more|is frozen"):
            optimiser.step(net.grads)


@each_optimiser
def test_other_views_of_what_a_module_uses_are_that(make: Callable[[Any], Any]) -> None:
    layer = Linear(3, 2, seed=0)
    memory = np.concatenate([p.ravel() for p in layer.params.values()])
    views = {"weight": memory[:6].reshape(2, 3), "bias": memory[6:]}
    for name, view in views.items():
        layer.params[name] = view
    optimiser = make({"weight": memory[:6].reshape(2, 3), "bias": memory[6:]})
    layer.backward(np.ones_like(layer(np.ones((4, 3), np.float32))))
    optimiser.step(layer.grads)
    assert layer.params["weight"] is views["weight"]


@each_optimiser
def test_columns_side_by_side_share_no_memory(make: Callable[[Any], Any]) -> None:
    both, grads = np.zeros((4, 6)), np.ones((4, 6))
    make({"a": both[:, :3], "b": both[:, 3:]}).step({"a": grads[:, :3], "b": grads[:, 3:]})
    assert (both != 0).all()
    assert clip_global_norm([grads[:, :3], grads[:, 3:]], 1.0) == pytest.approx(24**0.5)
    with pytest.raises(ValueError, match="a shares memory with b"):
        make({"a": both[:, :3], "b": both[:, 2:]}).step({"a": grads[:, :3], "b": grads[:, 2:]})
    with pytest.raises(ValueError, match="a shares memory with the gradient of b"):
        make({"a": both[:, :3], "b": both[:, 3:].copy()}).step({"a": grads[:, :3], "b": both[:, 1:4]})


@each_optimiser
def test_gradients_of_several_threads_in_any_order(make: Callable[[Any], Any]) -> None:
    """What counts is whether a parameter's gradient was taken before, not when another's was made."""
    net, _ = net_of_two()
    optimiser = make(net.params)

    def grads_of(order: str) -> Grads:
        found: dict[str, Grads] = {}
        for name in order:
            module = net.rnn if name == "r" else net.decoder
            call = module.record(np.ones((2, 1, module._params[next(iter(module._params))].shape[1]), np.float32))
            found[name] = call.backward(np.ones_like(call.y)).grads
        both = Grads()
        for name, prefix in (("r", "rnn."), ("d", "decoder.")):
            both |= {prefix + key: g for key, g in found[name].items()}
            both.of |= {prefix + key: number for key, number in found[name].of.items()}
        return both

    first, second = grads_of("dr"), grads_of("dr")
    mixed = Grads({**first, **{k: g for k, g in second.items() if k.startswith("d")}})
    mixed.of = {**first.of, **{k: n for k, n in second.of.items() if k.startswith("d")}}
    optimiser.step(second)
    optimiser.step(first)  # of before, and never taken
    with pytest.raises(ValueError, match=r"the gradient of rnn\.weight_ih_l0 is that of the last step"):
        optimiser.step(mixed)
    pickle.loads(pickle.dumps((net, optimiser)))[1].step(first)  # numbers of backward mean nothing elsewhere


def test_a_tied_parameter_without_one_of_its_gradients() -> None:
    embedding, decoder = Embedding(5, 3, seed=0), Linear(3, 5, bias=False, seed=0)
    decoder.params["weight"] = embedding.params["weight"]
    net = Modules(e=embedding, d=decoder)
    optimiser = SGD(net.params, 1.0)
    embedding(np.array([1]))
    decoder.backward(np.ones_like(decoder(np.ones((2, 3), np.float32))))
    with pytest.raises(ValueError, match=r"there is no gradient of e\.weight"):
        optimiser.step(net.grads)
    optimiser.step(dict(net.grads))  # whoever wants that


def test_gradients_of_ties_are_fresh_by_name() -> None:
    embedding, decoder = Embedding(3, 3, seed=0), Linear(3, 3, bias=False, seed=0)
    decoder.params["weight"] = embedding.params["weight"]
    net = Modules(e=embedding, d=decoder)
    optimiser = SGD(net.params, 1.0)

    def back(module: Any) -> None:
        module.backward(np.ones((1, 3), np.float32))

    embedding(np.array([0]))
    decoder(np.ones((1, 3), np.float32))
    back(decoder)
    back(embedding)
    optimiser.step(net.grads)
    optimiser.step(net.grads)  # the same once more, all of them: as asked
    embedding(np.array([0]))
    back(embedding)
    with pytest.raises(ValueError, match=r"the gradient of d\.weight is that of the last step"):
        optimiser.step(net.grads)


@each_optimiser
def test_an_array_and_a_view_of_all_of_it_are_one_parameter(make: Callable[[Any], Any]) -> None:
    p, q = np.zeros(4), np.zeros(4)
    make({"a": p, "b": p[:]}).step({"a": np.full(4, 1.0), "b": np.full(4, 2.0)})
    make({"a": q}).step({"a": np.full(4, 3.0)})
    assert np.array_equal(p, q)


@each_optimiser
def test_states_that_cannot_be_written_to_move_nothing(make: Callable[[Any], Any]) -> None:
    for spoil in (
        lambda o: o.v["b"].setflags(write=False),
        lambda o: o.v.update(b=[0.0, 0.0]),
        lambda o: o.v.update(b=o.v["a"]),
        lambda o: o.v.update(b=o.params["a"]),
    ):
        params = {"a": np.ones(2), "b": np.ones(2)}
        optimiser = make(params)
        spoil(optimiser)
        with pytest.raises((TypeError, ValueError), match=r"v\['b'\] is .*, expected a writable array|shares memory"):
            optimiser.step({"a": np.ones(2), "b": np.ones(2)})
        assert all((p == 1).all() for p in params.values())


def test_an_optimiser_may_be_given_other_parameters() -> None:
    for dtype in (np.float32, np.float64):
        adam, twin = Adam({"x": np.ones(3, np.float32)}), Adam({"p": np.ones((2, 2), dtype)})
        adam.params = {"p": np.ones((2, 2), dtype)}
        with pytest.raises(ValueError, match="p was not there when the optimiser was made"):
            adam.step({"p": np.ones((2, 2), dtype)})
        adam.m, adam.v = twin.m, twin.v
        for optimiser in (adam, twin):
            optimiser.step({"p": np.full((2, 2), 0.3, dtype)})
        assert np.array_equal(adam.params["p"], twin.params["p"])


def test_parameters_of_modules_that_are_gone() -> None:
    def parameters() -> dict[str, Any]:
        return dict(GRU(2, 3, seed=0).params)

    params, other = parameters(), GRU(2, 3, seed=1)
    y, _ = other(np.ones((3, 1, 2), np.float32))
    other.backward(np.ones_like(y))
    with pytest.raises(ValueError, match="is an array that no module uses"):
        SGD(params, 0.1).step(other.grads)
    SGD(params, 0.1).step(dict(other.grads))  # initial weights for functions, say
    tied = GRU(2, 3, seed=2)
    tied.params["weight_hh_l0"] = other.params["weight_hh_l0"]
    del tied
    other.freeze()


def test_optimisers_of_ones_own_are_shown() -> None:
    class Warm(Adam):
        def __init__(self, params: Any, warmup: int, **options: Any) -> None:
            super().__init__(params, **options)
            self._warmup = warmup

    assert repr(Warm({"p": np.ones(3)}, 5)) == "Warm(params)  # 3 parameters in 1 arrays"


def test_what_is_assigned_to_a_state_is_copied() -> None:
    params = {"p": np.ones(3)}
    adam, sgd = Adam(params), SGD(params, 0.1, momentum=0.5)
    adam.m = adam.v
    sgd.v = params
    grads = {"p": np.full(3, 2.0)}
    twin = Adam({"p": np.ones(3)})
    twin.step(grads)
    adam.step(grads)
    assert np.array_equal(params["p"], twin.params["p"])
    sgd.step(grads)
    assert sgd.v["p"] is not params["p"]
    for bad in (None, [1], {"p": [1.0]}, {"p": None}):
        with pytest.raises(TypeError, match=r"^Adam: m is .*, expected arrays by name"):
            adam.m = bad
    with pytest.raises(TypeError, match=r"^Adam: params is None"):
        adam.params = None


@each_optimiser
def test_copies_that_nobody_uses_are_refused(make: Callable[[Any], Any]) -> None:
    """An optimiser of copies would train what no call sees, by the gradients of what every call sees."""
    for copied in (lambda net: net.state_dict(), lambda net: net.params.copy() | net.state_dict()):
        net, learn = net_of_two()
        optimiser = make(copied(net))
        learn()
        with pytest.raises(ValueError, match="is an array that no module uses, and its gradient is that of a module"):
            optimiser.step(net.grads)
        optimiser.step(dict(net.grads))  # whoever wants that
    net, learn = net_of_two()
    apart = copy.deepcopy(make(net.params.copy()))
    learn()
    with pytest.raises(ValueError, match="is an array that no module uses"):
        apart.step(net.grads)


@each_optimiser
def test_averages_may_take_the_place_of_parameters_for_a_while(make: Callable[[Any], Any]) -> None:
    net, learn = net_of_two()
    optimiser = make(dict(net.params))
    live = dict(net.params)
    for name, p in live.items():
        net.params[name] = p * 0.5
    for name, p in live.items():
        net.params[name] = p
    learn()
    optimiser.step(net.grads)
    assert all(net.params[name] is p for name, p in live.items())


@each_optimiser
def test_frozen_layers_are_refused(make: Callable[[Any], Any]) -> None:
    net, learn = net_of_two()
    optimiser = make(net.params)
    learn()
    grads = net.grads
    rnn = net._modules["rnn"]
    assert isinstance(rnn, fastrnn.GRU)
    rnn.freeze()
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"rnn\.weight_ih_l0 is frozen or read-only"):
        optimiser.step(grads)
    assert_untouched(dict(net.params), before, optimiser)


@pytest.mark.parametrize("order", [("embedding", "decoder"), ("decoder", "embedding")])
@each_optimiser
def test_tied_weights_take_one_step_along_the_sum(make: Callable[[Any], Any], order: tuple[str, str]) -> None:
    embedding, decoder = fastrnn.Embedding(5, 4, seed=0), fastrnn.Linear(4, 5, bias=False, seed=1)
    decoder.params["weight"] = embedding.params["weight"]
    modules: dict[str, fastrnn.Module] = {"embedding": embedding, "decoder": decoder}
    net = fastrnn.Modules(**{name: modules[name] for name in order})
    alone = {"weight": embedding.params["weight"].copy()}
    optimiser, reference = make(net.params), make(alone)
    for k in range(4):
        vectors = embedding(np.array([1, 2, k]))
        decoder(vectors)
        embedding.backward(decoder.backward(np.full((3, 5), 0.1 * k, np.float32)))
        grads = net.grads
        optimiser.step(grads)
        first, second = (grads[f"{name}.weight"] for name in order)
        reference.step({"weight": first + second})
        assert np.array_equal(embedding.params["weight"], alone["weight"])
        assert decoder.params["weight"] is embedding.params["weight"]


def test_a_gradient_under_one_of_two_names_is_all() -> None:
    p = np.ones(3)
    for grads in ({"a": np.ones(3)}, {"b": np.ones(3)}):
        before = p.copy()
        SGD({"a": p, "b": p}, 1.0).step(grads)
        assert np.array_equal(p, before - 1)
    with pytest.raises(ValueError, match="there is no gradient of a"):
        SGD({"a": p, "b": p}, 1.0).step({})


@each_optimiser
def test_a_head_without_a_gradient(make: Callable[[Any], Any]) -> None:
    """Whether it was called and nobody went back, or it was not called at all: the old gradient is not taken again."""
    net, learn = net_of_two()
    rnn, decoder = net._modules.values()
    assert isinstance(rnn, fastrnn.GRU)
    assert isinstance(decoder, fastrnn.Linear)
    x = np.ones((5, 2, 3), np.float32)
    for called in (False, True):
        optimiser = make(net.params)
        learn()
        optimiser.step(net.grads)
        optimiser.step(net.grads)  # all of them once more is a choice
        before = net.state_dict()
        y, _ = rnn(x)
        if called:
            decoder(y)
        rnn.backward(np.ones_like(y))
        with pytest.raises(ValueError, match=r"gradient of decoder\.weight"):
            optimiser.step(net.grads)
        for name, p in net.params.items():
            assert np.array_equal(p, before[name])
        make({n: p for n, p in net.params.items() if n.startswith("rnn")}).step(net.grads)  # some may stay as they are


BAD_GRADIENTS: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "the gradient of p is None, expected an array of shape"),
    (1.0, TypeError, "the gradient of p is 1.0, expected an array of float64"),
    ([1.0, 1.0, 1.0], TypeError, r"the gradient of p is \[1.0, 1.0, 1.0\], expected"),
    (np.ones(1), ValueError, r"the gradient of p has shape \(1,\), expected \(3,\)"),
    (np.ones((1, 3)), ValueError, r"the gradient of p has shape \(1, 3\), expected \(3,\)"),
    (np.ones(()), ValueError, r"the gradient of p has shape \(\), expected \(3,\)"),
    (np.ones(3, np.float32), TypeError, "array of float32 of shape .*, expected an array of float64"),
    (np.ones(3, int), TypeError, "array of int64 of shape .*, expected an array of float64"),
]


@pytest.mark.parametrize(("g", "error", "message"), BAD_GRADIENTS)
@each_optimiser
def test_bad_gradients_move_nothing(make: Callable[[Any], Any], g: Any, error: type[Exception], message: str) -> None:
    params = {"first": np.ones(2), "p": np.ones(3), "last": np.ones(1)}
    optimiser, before = make(params), {name: p.copy() for name, p in params.items()}
    grads = {"first": np.ones(2), "p": g, "last": np.ones(1)}
    with pytest.raises(error, match=message):
        optimiser.step(grads)
    assert_untouched(params, before, optimiser)
    del grads["p"]
    with pytest.raises(ValueError, match="there is no gradient of p"):
        optimiser.step(grads)
    assert_untouched(params, before, optimiser)
    with pytest.raises(TypeError, match=r"grads is .*, expected gradients by name"):
        optimiser.step(list(grads.values()))


@each_optimiser
def test_parameters_that_have_become_others(make: Callable[[Any], Any]) -> None:
    params: dict[str, Any] = {"a": np.ones(2), "p": np.ones(3)}
    grads = {"a": np.ones(2), "p": np.ones(3), "q": np.ones(1)}
    for changed, error, message in (
        ({"p": np.ones(4)}, ValueError, r"p is float64 of shape \(4,\), and \w\['p'\] float64 of shape \(3,\)"),
        ({"p": np.ones(3, np.float32)}, ValueError, "p is float32 of shape"),
        ({"p": [1.0, 1.0, 1.0]}, TypeError, "p is .*, expected an array"),
        ({"q": np.ones(1)}, ValueError, "q was not there when the optimiser was made"),
    ):
        mine = dict(params)
        optimiser = make(mine)
        mine.update(changed)
        with pytest.raises(error, match=message):
            optimiser.step(grads)
        assert (params["a"] == 1).all()


BAD_OPTIONS: list[tuple[type, str, Any, type[Exception]]] = [
    (SGD, "lr", -1, ValueError),
    (SGD, "lr", math.nan, ValueError),
    (SGD, "lr", math.inf, ValueError),
    (SGD, "lr", "0.1", TypeError),
    (SGD, "lr", None, TypeError),
    (SGD, "lr", True, TypeError),
    (SGD, "momentum", -0.1, ValueError),
    (Adam, "lr", -1e-3, ValueError),
    (Adam, "eps", -1.0, ValueError),
    (Adam, "betas", (1.0, 0.999), ValueError),
    (Adam, "betas", (0.9, 1.5), ValueError),
    (Adam, "betas", (0.9,), TypeError),
    (Adam, "betas", 0.9, TypeError),
    (Adam, "weight_decay", math.nan, ValueError),
    (Adam, "lr", 10**400, ValueError),
]


@pytest.mark.parametrize(("kind", "name", "value", "error"), BAD_OPTIONS, ids=str)
def test_options_are_checked_when_given_and_when_set(kind: Any, name: str, value: Any, error: type[Exception]) -> None:
    good = {"lr": 0.1}
    with pytest.raises(error, match=rf"^{kind.__name__}: {name} is "):
        kind({"p": np.ones(2)}, **(good | {name: value}))
    optimiser = kind({"p": np.ones(2)}, **good)
    before = getattr(optimiser, name)
    with pytest.raises(error, match=rf"^{kind.__name__}: {name} is "):
        setattr(optimiser, name, value)
    assert getattr(optimiser, name) == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Adam([np.ones(2)]), TypeError, "Adam: params is .*, expected arrays by name"),
        (lambda: Adam({"p": [1.0]}), TypeError, "Adam: p is .*, expected an array of float32 or float64"),
        (lambda: Adam({"p": np.ones(2, int)}), TypeError, "Adam: p is an array of int64"),
        (lambda: Adam({}, learning_rate=1), TypeError, "Adam: there is no option learning_rate: there are params, lr"),
        (lambda: SGD({}, 0.1, momentun=0.9), TypeError, r"SGD: there is no option momentun: did you mean momentum\?"),
        (lambda: clip_global_norm({"p": np.ones(2)}, 1.0), TypeError, r"grads\.values\(\)"),
        (lambda: clip_global_norm([[1.0]], 1.0), TypeError, "clip_global_norm: a gradient is "),
        (lambda: clip_global_norm([np.ones(2)], -1.0), ValueError, "clip_global_norm: max_norm is -1.0"),
        (lambda: clip_global_norm([np.ones(2)], math.nan), ValueError, "clip_global_norm: max_norm is nan"),
        (
            lambda: clip_value([np.broadcast_to(1.0, 3)], 1.0),
            ValueError,
            "a gradient of shape .* read-only",
        ),
        (lambda: clip_value(np.ones(3), 1.0), TypeError, r"clip_value: grads is .*grads\.values\(\)"),
    ],
)
def test_bad_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@each_optimiser
def test_copies(make: Callable[[Any], Any]) -> None:
    """copy: the same parameters, a state of its own; deepcopy and pickle: of a net and its optimiser together."""
    net, learn = net_of_two()
    optimiser = make(net.params)
    learn()
    optimiser.step(net.grads)
    twin = copy.copy(optimiser)
    states = {name: a.copy() for name, a in twin.v.items()}
    learn()
    optimiser.step(net.grads)
    assert all(np.array_equal(a, states[name]) for name, a in twin.v.items())
    assert twin.params["decoder.bias"] is net.params["decoder.bias"]
    for net_2, optimiser_2 in (copy.deepcopy((net, optimiser)), pickle.loads(pickle.dumps((net, optimiser)))):
        assert optimiser_2.params["decoder.bias"] is net_2.params["decoder.bias"] is not net.params["decoder.bias"]
        grads = {name: np.ones_like(p) for name, p in net.params.items()}
        before = net.state_dict()
        optimiser_2.step(grads)
        assert all(np.array_equal(p, before[name]) for name, p in net.params.items())
        reference = copy.copy(optimiser)
        reference.params = net.params
        reference.step(grads)
        assert all(np.array_equal(p, net_2.params[name]) for name, p in net.params.items())
        net.load_state_dict(before)


def test_repr() -> None:
    net, _ = net_of_two()
    assert repr(SGD(net.params, 0.1, momentum=0.9)) == "SGD(params, lr=0.1, momentum=0.9)  # 118 parameters in 6 arrays"
    assert repr(Adam(net.params)).startswith(
        "Adam(params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)  #"
    )
