"""Why gradients vanish or explode in a plain RNN, and what an LSTM and a GRU do about it.

A loss that sees only the last step is sent back through time, in one backward call. The norm of dL/dh_t against the
distance from t to the end tells how much a net can learn from so long ago. With an orthogonal matrix times r for W_hh,
of spectral radius r, and small states, a step back multiplies dL/dh by

- r in the RNN with tanh, or less: the slope of tanh is at most 1;
- r / sqrt(2) in the RNN with relu, whose slope is 0 for half of the units;
- s + (1 - s) r / 2 in LSTM and GRU, where s = sigmoid(b), and b is the bias of the gate that keeps, f or z: what the
  gate keeps, and what comes back through W_hh and a gate that is half open, o or r.

The LSTM's gate i has the bias -b, so that its c is a mean over time as the GRU's h is, and b = log(T - 1) keeps a
memory for about T steps (Tallec and Ollivier, 2018).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fastrnn.charlm.errors import SettingsError
from fastrnn.charlm.session import save_figure
from fastrnn.layers import GRU, LSTM, RNN, Layer
from fastrnn.losses import mean_squared_error
from fastrnn.modules import Linear, Modules
from fastrnn.optim import SGD, Adam, clip_global_norm

Array = npt.NDArray[Any]

HIDDEN = 32
NETS: dict[str, Callable[..., Layer]] = {
    "RNN tanh": RNN,
    "RNN relu": partial(RNN, nonlinearity="relu"),
    "LSTM": LSTM,
    "GRU": GRU,
}
GATED = ("LSTM", "GRU")
LARGEST = 1e100  # state, so that squares of all that follows from it are numbers
CLIP, CLIP_RATE, CLIP_UPDATES = 1.0, 0.1, 30


def make(net: str, *, keep: float | Array = 0.0, **options: Any) -> Layer:
    """Return a net of two inputs and HIDDEN units with orthogonal W_hh; ``keep`` () or (H,) is b of LSTM and GRU."""
    layer = NETS[net](2, HIDDEN, init="orthogonal", **options)
    if net in GATED:
        bias = layer.params["bias_ih_l0"]
        bias[HIDDEN : 2 * HIDDEN] = keep  # f in i, f, g, o; z in r, z, n
        if net == "LSTM":
            bias[:HIDDEN] = -keep
    return layer


def adding_problem(rng: np.random.Generator, steps: int, batch: int) -> tuple[Array, Array]:
    """Return sequences (T, B, 2) and what is to be told at their end (B, 1): the sum of the two numbers with a mark.

    x[..., 0] are numbers between 0 and 1, x[..., 1] the marks, one in each half (Hochreiter and Schmidhuber, 1997).
    """
    x = np.zeros((steps, batch, 2))
    x[..., 0] = rng.random((steps, batch))
    rows = np.arange(batch)
    first, second = rng.integers(0, steps // 2, batch), rng.integers(steps // 2, steps, batch)
    x[first, rows, 1] = x[second, rows, 1] = 1
    return x, x[first, rows, :1] + x[second, rows, :1]


def there_and_back(layer: Layer, decoder: Linear, x: Array, target: Array, *, trace: bool = False) -> float:
    """Return the loss of the last step of x (T, B, 2) against the target (B, 1); leave its gradients in both."""
    last, _ = layer(x, return_sequence=False, trace=trace)
    loss, derror = mean_squared_error(decoder(last), target)
    layer.backward(decoder.backward(derror), trace=trace)
    return loss


# --- the curves


@dataclass(frozen=True)
class Curve:
    """The gradient by h on its way back through a net."""

    net: str
    radius: float  # the spectral radius of W_hh
    keep: float | None  # the bias of the gate that keeps, f or z
    norms: Array  # (T,): the norm of dL/dh_t over that of the last step, by distance to the end

    @property
    def theory(self) -> float:
        """What a step back multiplies the norm by where states are small."""
        if self.keep is None:
            return self.radius / math.sqrt(2) if self.net == "RNN relu" else self.radius
        kept = 1 / (1 + math.exp(-self.keep))
        return kept + (1 - kept) * self.radius / 2

    @property
    def total(self) -> float:
        """What all steps back multiply the norm by.

        But for the first: there the loss leaves h, and from then on the LSTM's c carries most of it.
        """
        return float(self.norms[-1] / self.norms[1]) if self.norms[-1] > 0 else 0.0

    @property
    def measured(self) -> float:
        """What one of them multiplies it by, in the geometric mean."""
        return math.pow(self.total, 1 / (len(self.norms) - 2))


def by_radius(steps: int, radii: Iterable[float], seed: int = 0) -> list[Curve]:
    """Return a curve for every net and spectral radius; LSTM and GRU keep for as many steps as there are."""
    keep = math.log(steps - 1)
    return [curve(net, radius, keep, steps, seed) for net in NETS for radius in radii]


def by_bias(steps: int, biases: Iterable[float], seed: int = 0) -> list[Curve]:
    """Return a curve for LSTM and GRU and every bias of the gate that keeps, at spectral radius 1."""
    return [curve(net, 1.0, keep, steps, seed) for net in GATED for keep in biases]


def curve(net: str, radius: float, keep: float, steps: int, seed: int) -> Curve:
    """Return one curve, from one backward call."""
    layer, decoder, x, target = start(net, radius, keep, steps, seed)
    there_and_back(layer, decoder, x, target, trace=True)
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(layer.trace["dh_l0"], axis=(1, 2))[::-1]
    if not norms.max() < math.inf:
        raise overflow(net, radius, steps)
    return Curve(net, radius, keep if net in GATED else None, norms / norms[0])


def start(net: str, radius: float, keep: float, steps: int, seed: int) -> tuple[Layer, Linear, Array, Array]:
    """Return a net with what reads its last step, sequences (T, B, 2) and targets (B, 1), at a loss of 1.

    The input weights are small, so that it is W_hh and the gates that are seen; the readout is scaled and shifted so
    that the loss is the same for all nets, however large their states grow.
    """
    layer = make(net, keep=keep, dtype=np.float64, seed=seed)
    decoder = Linear(HIDDEN, 1, dtype=np.float64, seed=seed)
    layer.params["weight_ih_l0"][:] *= 0.1
    layer.params["weight_hh_l0"][:] *= radius
    x, target = adding_problem(np.random.default_rng(seed), steps, batch=16)
    last, _ = layer(x, return_sequence=False)
    weight, bias = decoder.params["weight"], decoder.params["bias"]
    size = float(np.abs(last @ weight.T).max())
    if not size < LARGEST:
        raise overflow(net, radius, steps)
    if size > 0.1:
        weight *= 0.1 / size
    error = last @ weight.T - target
    bias[:] = math.sqrt(1 - error.var()) - error.mean()
    return layer, decoder, x, target


def overflow(net: str, radius: float, steps: int) -> SettingsError:
    """Return the error of a net that grows beyond all numbers."""
    return SettingsError(f"{net}: with spectral radius {radius:g}, numbers overflow within {steps} steps")


# --- clipping


@dataclass(frozen=True)
class Clipping:
    """What updates with and without clipping make of a loss of 1; None is a loss beyond all numbers."""

    net: str
    radius: float
    norm: float  # of all gradients together, before the first update
    clipped_norm: float
    losses: tuple[float | None, float | None]  # after the first update and after all, without clipping
    clipped_losses: tuple[float | None, float | None]


def clipping(net: str, radius: float, steps: int, seed: int = 0) -> Clipping:
    """Take the same updates of plain gradient descent with and without clipping, from the same weights."""
    norms, losses = [], []
    for limit in (math.inf, CLIP):
        layer, decoder, x, target = start(net, radius, math.log(steps - 1), steps, seed)
        model = Modules(rnn=layer, decoder=decoder)
        sgd = SGD(model.params, CLIP_RATE)
        found: list[float] = []
        with np.errstate(all="ignore"):  # gradients that explode
            for update in range(CLIP_UPDATES + 1):
                found.append(there_and_back(layer, decoder, x, target))
                grads = model.grads
                norm = clip_global_norm(grads.values(), limit)
                if update == 0:
                    norms.append(min(norm, limit))
                sgd.step(grads)
        first, last = ((loss if math.isfinite(loss) else None) for loss in (found[1], found[-1]))
        losses.append((first, last))
    return Clipping(net, radius, norms[0], norms[1], losses[0], losses[1])


# --- the proof by a task

# Of a net that always answers with the mean: the variance of the sum of two numbers between 0 and 1.
CHANCE = 1 / 6
LEARNT = 0.05
# Of 3e-4, 1e-3, 3e-3 and 1e-2, those with which the nets learn longest sequences, and soonest.
RATES = {"RNN tanh": 1e-3, "RNN relu": 1e-3, "LSTM": 1e-2, "GRU": 1e-2}


@dataclass(frozen=True)
class Lesson:
    """Whether a net learns the adding problem."""

    net: str
    steps: int  # T
    seed: int
    learnt_after: int | None  # updates; None: not learnt
    error: float  # mean squared, on sequences that it has not seen, at the end


def learn(net: str, steps: int, seed: int, *, updates: int, lr: float | None = None) -> Lesson:
    """Train a net with Adam until its mean squared error on new sequences is below LEARNT, or for all updates.

    None as the learning rate is that of RATES.
    """
    rng = np.random.default_rng(seed)
    layer = make(net, keep=np.log(rng.uniform(1, steps - 1, HIDDEN)), seed=seed)
    decoder = Linear(HIDDEN, 1, seed=seed)
    model = Modules(rnn=layer, decoder=decoder)
    adam = Adam(model.params, lr or RATES[net])
    unseen, answers = single(*adding_problem(np.random.default_rng(2026), steps, 512))
    error = math.inf
    for update in range(1, updates + 1):
        there_and_back(layer, decoder, *single(*adding_problem(rng, steps, batch=32)))
        grads = model.grads
        if math.isfinite(clip_global_norm(grads.values(), 1.0)):
            adam.step(grads)
        if update % 50 == 0 or update == updates:
            model.eval()
            last, _ = layer(unseen, return_sequence=False)
            error = mean_squared_error(decoder(last), answers)[0]
            model.train()
            if error < LEARNT:
                return Lesson(net, steps, seed, update, error)
    return Lesson(net, steps, seed, None, error)


def lessons(lengths: Iterable[int], seeds: int, updates: int, lr: float | None) -> Iterator[Lesson]:
    """Yield the lessons of every net at every length and seed."""
    for steps in lengths:
        for seed in range(seeds):
            for net in NETS:
                yield learn(net, steps, seed, updates=updates, lr=lr)


def single(*arrays: Array) -> Iterator[Array]:
    """Yield the arrays in float32."""
    return (a.astype(np.float32) for a in arrays)


# --- what is shown


def show_curves(curves: Iterable[Curve], out: TextIO) -> None:
    """Print a table of the curves."""
    print(f"{'':10}{'spectral':>9}{'gate':>7}{'a step back multiplies by':>28}{'in all':>10}", file=out)
    print(f"{'net':10}{'radius':>9}{'bias':>7}{'in theory':>16}{'measured':>12}", file=out)
    for c in curves:
        keep = "" if c.keep is None else f"{c.keep:.1f}"
        verdict = "vanishes" if c.total < 1e-3 else "explodes" if c.total > 1e3 else "holds"
        rates = f"{c.theory:16.3f}{c.measured:12.3f}{c.total:10.0e}"
        print(f"{c.net:10}{c.radius:9g}{keep:>7}{rates}  {verdict}", file=out)


def show_clipping(found: Iterable[Clipping], out: TextIO) -> None:
    """Print a table of what clipping does."""
    after = f"loss after {CLIP_UPDATES} updates"
    print(f"{'':10}{'spectral':>9}{'norm of gradients':>20}{'loss after 1 update':>22}{after:>25}", file=out)
    print(f"{'net':10}{'radius':>9}" + f"{'':>11}{'clipped':>10}" * 3, file=out)
    for c in found:
        pairs = zip((c.norm, *c.losses), (c.clipped_norm, *c.clipped_losses), strict=True)
        cells = ("overflow" if number is None else f"{number:.3g}" for pair in pairs for number in pair)
        print(f"{c.net:10}{c.radius:9g}" + "".join(f"{cell:>{11 - k % 2}}" for k, cell in enumerate(cells)), file=out)


def plot(radii: list[Curve], biases: list[Curve], path: str) -> None:
    """Draw the curves of :func:`by_radius` and :func:`by_bias`; the name of the file decides the format."""
    from matplotlib.figure import Figure

    panels = {}
    for net in NETS:
        found = [c for c in radii if c.net == net]
        gate = "" if found[0].keep is None else f", bias {found[0].keep:.1f}"
        panels[net + gate] = [(f"radius {c.radius:g}", c) for c in found]
    panels |= {f"{net}, radius 1": [(f"bias {c.keep:g}", c) for c in biases if c.net == net] for net in GATED}
    figure = Figure(figsize=(9, 6), layout="constrained")
    lines: dict[str, Any] = {"antialiased": False}  # half the bytes in a PNG
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, (title, named) in zip(grid.T.flat, panels.items(), strict=True):
        for k, (label, c) in enumerate(named):
            shade = str(0.6 * k / max(1, len(named) - 1))
            distance = np.arange(len(c.norms))
            axes.plot(distance, c.norms, ("-", "--", "-.", ":")[k % 4], color=shade, label=label, **lines)
            # A straight line on this axis: two points will do, the second where it leaves the panel or the curve ends.
            away = min(distance[-1] - 1.0, 35 / abs(math.log(c.theory)) if c.theory != 1 else math.inf)
            ends = c.norms[1] * c.theory ** np.array([0.0, away])
            axes.plot([1, 1 + away], ends, color=shade, linewidth=0.5, label="theory" if k == 0 else None, **lines)
        axes.set_title(title)
        axes.set_yscale("log")
        axes.set_ylim(1e-12, 1e12)
    for axes in grid[1]:
        axes.set_xlabel("steps back from the end")
    for axes in grid[:, 0]:
        axes.set_ylabel("norm of dL/dh, 1 at the end")
    legend: dict[str, Any] = {"ncols": 3, "fontsize": "small", "frameon": False}
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", **legend)
    figure.legend(*grid[0, 2].get_legend_handles_labels(), loc="outside lower right", **legend)
    figure.set_dpi(80)
    save_figure(figure, path)


def show_lessons(lessons: Iterable[Lesson], out: TextIO) -> None:
    """Print a table of the lessons, each as it is done."""
    print("".join(f"{name:>12}" for name in ("T", "seed", *NETS)), end="", file=out)
    for lesson in lessons:
        if lesson.net == next(iter(NETS)):
            print(f"\n{lesson.steps:12}{lesson.seed:12}", end="", file=out)
        cell = f"- ({lesson.error:.3f})" if lesson.learnt_after is None else str(lesson.learnt_after)
        print(f"{cell:>12}", end="", file=out, flush=True)
    print(file=out)
