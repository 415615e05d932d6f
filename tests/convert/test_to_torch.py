"""Layers and nets become PyTorch's modules, which compute the same, go the same way back and refuse the same."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import Array
from tolerances import gradient_tolerance, output_tolerance

torch = pytest.importorskip("torch")
nn = torch.nn

T, B, I, H = 6, 4, 3, 5
# PyTorch says of a projection that it has no fast way.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


def nets() -> list[fastrnn.Sequential]:
    """Nets of all that PyTorch has a module for."""
    made = []
    pools: list[tuple[Any, ...]] = [(), (fastrnn.Last,), (fastrnn.Mean,), (fastrnn.Max,)]
    for kind, pool, both, order, dtype in itertools.product(
        (fastrnn.RNN, fastrnn.GRU, fastrnn.LSTM), pools, (False, True), (False, True), (np.float32, np.float64)
    ):
        layer = kind(I, H, 2, bidirectional=both, batch_first=order, dtype=dtype, seed=1)
        inner = fastrnn.Sequential(layer, fastrnn.Tanh())
        modules = [fastrnn.Embedding(9, I, dtype=dtype, seed=0), inner, *(each() for each in pool)]
        head = fastrnn.Linear(H * (1 + both), 2, dtype=dtype, seed=3)
        made.append(fastrnn.Sequential(*modules, head, fastrnn.Relu(), fastrnn.Dropout(0.5)).eval())
    return made


def test_nets_become_modules() -> None:
    tokens = np.random.default_rng(0).integers(0, 9, (T, T))
    for net in nets():
        module = fastrnn.to_torch(net)
        assert isinstance(module, nn.Sequential)
        for name, p in net.params.items():
            assert module.state_dict()[name].numpy().tobytes() == p.tobytes()
        for lengths in (None, np.array([6, 0, 1, 3, 5, 6])):
            right = net(tokens, lengths)
            with torch.no_grad():
                y = module(torch.from_numpy(tokens), None if lengths is None else torch.from_numpy(lengths)).numpy()
            assert (y.dtype, y.shape) == (right.dtype, right.shape)
            np.testing.assert_allclose(y, right, rtol=0, atol=4 * output_tolerance(y.dtype, terms=I + H))


def test_modules_learn_and_keep_what_is_tied() -> None:
    embedding, decoder = fastrnn.Embedding(9, I, seed=0), fastrnn.Linear(I, 9, seed=0)
    decoder.params["weight"] = embedding.params["weight"]
    net = fastrnn.Sequential(embedding, fastrnn.GRU(I, I, seed=0), decoder)
    module = fastrnn.to_torch(net)
    assert module.training
    assert module[0].weight is module[2].weight
    before = embedding.params["weight"].copy()
    module(torch.zeros((T, B), dtype=torch.int64)).sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert not np.array_equal(module[0].weight.detach().numpy(), before)
    np.testing.assert_array_equal(embedding.params["weight"], before)


def of_two_orders() -> fastrnn.Sequential:
    net = fastrnn.Sequential(fastrnn.GRU(I, H), fastrnn.GRU(H, H))
    net[0].batch_first = True
    return net


class Twice(fastrnn.Module):
    """A module of one's own."""

    def record(self, x: Array) -> Any:
        return fastrnn.ModuleCall(2 * x, lambda dy: (2 * dy, {}))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (fastrnn.GRU(I, H, reset_after=False), "no layer that computes what GRU"),
        (fastrnn.LSTM(I, H, peepholes=True), "peepholes"),
        (fastrnn.LSTM(I, H, layer_norm=True), "layer_norm"),
        (fastrnn.LSTM(I, H, cell_clip=1.0), "cell_clip"),
        (fastrnn.RNN(I, H, activations=("softsign",)), "softsign"),
        (fastrnn.IndRNN(I, H), "IndRNN"),
        (fastrnn.MinGRU(I, H), "MinGRU"),
        (fastrnn.RNN(I, H, zoneout=0.1), "zoneout is 0.1"),
        (fastrnn.RNN(I, H, recurrent_dropout=0.1), "recurrent_dropout is 0.1"),
        (fastrnn.GRU(I, H, reverse=True), "reverse is True"),
        (fastrnn.GRU(I, H, learn_state=True), "learn_state is True"),
        (fastrnn.Sequential(fastrnn.Linear(I, I), fastrnn.Sequential(fastrnn.MinGRU(I, H))), "module 1.0: "),
        (fastrnn.Sequential(Twice()), "module 0: Twice"),
        (Twice(), "Twice is a class of its own"),
        (fastrnn.Modules(a=fastrnn.Linear(I, I)), "Modules does not say in which order.*pass a Sequential"),
        (fastrnn.Sequential(fastrnn.Relu(), fastrnn.LSTM(0, H)), "module 1: input_size is 0"),
        (of_two_orders(), "Sequential: batch_first=True of module 0"),
    ],
    ids=str,
)
def test_what_pytorch_has_not(net: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^to_torch: .*{words}"):
        fastrnn.to_torch(net)


def test_what_is_no_net() -> None:
    with pytest.raises(TypeError, match=r"^to_torch: layer_or_net is a LSTM"):
        fastrnn.to_torch(nn.LSTM(I, H))


# --- what a net does with sequences


def sequence_nets() -> Iterator[fastrnn.Sequential]:
    """Nets of all kinds that take sequences, each in both orders of axes."""
    kinds = list(itertools.product((fastrnn.RNN, fastrnn.GRU, fastrnn.LSTM), (False, True)))
    some = itertools.cycle(kinds)
    for order, pool in itertools.product((False, True), (None, fastrnn.Last, fastrnn.Mean, fastrnn.Max)):
        last = [] if pool is None else [pool(order)]
        for kind, both in kinds if pool is None else (next(some), next(some)):
            layer = kind(I, H, 2, bidirectional=both, batch_first=order, dtype=np.float64, seed=1)
            yield fastrnn.Sequential(layer, *last)
            inner = fastrnn.Sequential(fastrnn.Linear(I, I, dtype=np.float64, seed=0), fastrnn.Relu())
            yield fastrnn.Sequential(inner, fastrnn.Sequential(layer, fastrnn.Relu()), *last)
        layer = fastrnn.LSTM(I, H, proj_size=2, batch_first=order, dtype=np.float64, seed=1)
        yield fastrnn.Sequential(layer, *last)
        if last:
            yield fastrnn.Sequential(fastrnn.Relu(), *last)


def draw(net: fastrnn.Sequential, steps: int, batch: int | None) -> Array:
    """Return x; of a batch of None one sequence."""
    shape: tuple[int, ...] = (steps, I)
    if batch is not None:
        shape = (batch, steps, I) if net._batch_first() else (steps, batch, I)
    return np.random.default_rng(shape).standard_normal(shape)


def assert_same(net: fastrnn.Sequential, module: Any, x: Array, lengths: Any, given: Any) -> None:
    """The same y, and the same gradients of x and all parameters."""
    call = net.record(x, lengths)
    dy = np.random.default_rng(1).standard_normal(call.y.shape)
    dx, _, grads = call.backward(dy)
    source = torch.tensor(x, requires_grad=True)
    module.zero_grad()
    y = module(source, given)
    y.backward(torch.from_numpy(dy))
    right = {"y": call.y, "dx": dx, **grads}
    got = {"y": y.detach(), "dx": source.grad, **{name: p.grad for name, p in module.named_parameters()}}
    assert got.keys() == right.keys()
    for name, a in got.items():
        tolerance = 4 * gradient_tolerance(np.float64, terms=I + 4 * H, rows=T * B)
        scale = np.nanmax(np.abs(right[name]), initial=1)
        np.testing.assert_allclose(a.numpy(), right[name], rtol=0, atol=tolerance * scale, err_msg=f"{name} of {net}")


FORMS = (
    lambda lengths: np.asarray(lengths, np.int64),
    list,
    torch.tensor,
    lambda lengths: torch.tensor(lengths, dtype=torch.uint8),
    lambda lengths: torch.tensor(lengths, dtype=torch.int32),
)


@pytest.mark.parametrize(
    ("steps", "batch", "lengths"),
    [
        (T, B, None),
        (T, B, [6, 6, 6, 6]),
        (T, B, [1, 6, 3, 2]),
        (T, B, [0, 5, 0, 1]),
        (T, B, [0, 0, 0, 0]),
        (T, 1, [3]),
        (T, None, None),
        (T, None, [3]),
        (T, None, [0]),
        (0, B, None),
        (0, B, [0, 0, 0, 0]),
        (T, 0, None),
        (T, 0, []),
        (0, 0, None),
        (0, 0, []),
        (0, None, None),
        (0, None, [0]),
    ],
)
def test_sequences_of_any_lengths(steps: int, batch: int | None, lengths: list[int] | None) -> None:
    for net, form in zip(sequence_nets(), itertools.cycle(FORMS), strict=False):
        module = fastrnn.to_torch(net)
        x = draw(net, steps, batch)
        assert_same(net, module, x, lengths, None if lengths is None else form(lengths))


def test_what_is_past_the_ends_does_not_matter() -> None:
    """Not numbers that are none, either, which no factor makes zero."""
    lengths = [0, 6, 1, 3]
    for net in sequence_nets():
        x = draw(net, T, B)
        by_steps = x.swapaxes(0, 1) if net._batch_first() else x
        by_steps[np.arange(T)[:, None] >= lengths] = np.nan
        assert_same(net, fastrnn.to_torch(net), x, lengths, torch.tensor(lengths))


WRONG: list[Any] = [
    [6, 6, 6],
    [3],
    3,
    [[1], [2], [3], [4]],
    [6, 6, 6, 12],
    [6, 6, 6, -1],
    [1.0, 2.0, 3.0, 4.0],
    [True, True, True, True],
    [None] * 4,
    [[1], [2, 3]],
    "long",
]


def test_lengths_are_refused_in_the_same_words() -> None:
    def told(call: Any, *arguments: Any) -> tuple[type, str]:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(*arguments)
        return caught.type, str(caught.value).partition("; in module")[0]

    for net in sequence_nets():
        module = fastrnn.to_torch(net)
        for batch, wrong in [*((B, wrong) for wrong in WRONG), (None, [3, 3]), (None, 3), (0, [3]), (B, [])]:
            x = draw(net, T, batch)
            right = told(net, x, wrong)
            assert told(module, torch.from_numpy(x), wrong) == right
            if not isinstance(wrong, str) and wrong not in ([None] * 4, [[1], [2, 3]], []):
                assert told(module, torch.from_numpy(x), torch.tensor(wrong)) == right


def test_no_module_takes_lengths() -> None:
    inner = fastrnn.Sequential(fastrnn.Linear(I, I), fastrnn.Relu())
    x, lengths = torch.zeros(T, B, I), torch.tensor([1, 2, 3, 4])
    for net in (inner, fastrnn.Sequential(inner, fastrnn.Tanh())):
        with pytest.raises(ValueError, match=r"^Sequential: no module of this net takes lengths"):
            fastrnn.to_torch(net)(x, lengths)


def test_what_is_no_tensor_of_a_net() -> None:
    net = fastrnn.to_torch(fastrnn.Sequential(fastrnn.GRU(I, H), fastrnn.Mean()))
    x, lengths = torch.zeros(T, B, I), torch.tensor([1, 2, 3, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    for module, argument in ((net, "input"), (net[1], "y")):
        with pytest.raises(TypeError, match=f": {argument} is a PackedSequence, expected a tensor: pad_packed"):
            module(packed)
        with pytest.raises(TypeError, match=f": {argument} is a ndarray, expected a tensor: torch.as_tensor"):
            module(x.numpy())
    with pytest.raises(TypeError, match=r"lengths is a tensor that is sparse"):
        net(x, lengths.to_sparse())
    with pytest.raises(TypeError, match=r"^Mean: y is int64, expected floating"):
        net[1](lengths[:, None])
    for axes in (1, 4):
        with pytest.raises(ValueError, match=r"^Mean: y has shape .*expected \(T, B, H\), or \(T, H\)"):
            net[1](torch.zeros((2,) * axes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_means_in_half_precision_have_room(dtype: Any) -> None:
    mean = fastrnn.to_torch(fastrnn.Mean())
    y = torch.full((1000, 2, H), 100.0, dtype=dtype)
    assert torch.equal(mean(y, [1000, 900]), y[0])


def test_the_first_of_several_largest_has_the_gradient() -> None:
    y = torch.tensor([[0.0], [1.0], [1.0], [2.0]], requires_grad=True)
    fastrnn.to_torch(fastrnn.Max())(y, [3]).sum().backward()
    assert y.grad.tolist() == [[0], [1], [0], [0]]


# --- what PyTorch does with modules


def test_copies_and_programs() -> None:
    net = fastrnn.Sequential(fastrnn.GRU(I, H, seed=0), fastrnn.Mean(), fastrnn.Linear(H, 2, seed=0)).eval()
    module = fastrnn.to_torch(net)
    x, lengths = torch.from_numpy(draw(net, T, B)).float(), torch.tensor([1, 0, 3, 6])
    right, of_lengths = module(x), module(x, lengths)
    saved = io.BytesIO()
    torch.save(module, saved)
    saved.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(saved, weights_only=False)):
        assert torch.equal(other(x, lengths), of_lengths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch has to say of its own layers
        program = torch.export.export(module, (x,), dynamic_shapes=({1: torch.export.Dim("batch")},))
    assert torch.allclose(program.module()(x), right)
    assert program.module()(x[:, :3]).shape == (3, 2)
    assert torch.equal(module[2](module[:2](x, lengths)), of_lengths)
    for dtype in (torch.float16, torch.bfloat16):
        y = copy.deepcopy(module).to(dtype)(x.to(dtype), lengths)
        assert y.dtype == dtype
        assert torch.allclose(y.float(), of_lengths, atol=0.03)


def test_random_numbers_and_the_default_device_are_left_alone() -> None:
    """None is drawn, no warning is given, also not of what is empty, and the numbers are there, whatever the device."""
    made: list[Any] = [*itertools.islice(sequence_nets(), 6), fastrnn.Linear(0, 3), fastrnn.Linear(3, 0)]
    made += [fastrnn.Embedding(0, 3), fastrnn.Embedding(3, 2), fastrnn.Sequential(*nets()[-1])]
    for net in made:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        with torch.device("meta"):
            module = fastrnn.to_torch(net)
        assert torch.equal(torch.get_rng_state(), before)
        assert module.state_dict().keys() == net.params.keys()
        for name, p in module.state_dict().items():
            assert p.device.type == "cpu"
            assert p.numpy().tobytes() == net.params[name].tobytes()
