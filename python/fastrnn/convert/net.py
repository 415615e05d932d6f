"""A recurrent net that somebody's model holds: what there is to say of it, and how it becomes a layer."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.options import nearest, warn
from fastrnn.layers import GRU, LSTM, RNN, Format, Layer

__all__ = ["Net"]

KINDS: dict[str, type[Layer]] = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}  # blocks of rows in their weights
BY_GATES = {gates: kind for kind, gates in GATES.items()}
# Their activations by default, which are the same everywhere.
DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
SHOWN = 10  # of candidates in a message
SMALL = 2**20  # numbers that a layer may have, whatever there are in a file


class Frozen(NamedTuple):
    """Weights of fewer bits: their format, and what a layer that was frozen so keeps of them; called when wanted."""

    format: Format
    arrays: Callable[[], Mapping[str, Array]]


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """A recurrent net in a model, as :func:`fastrnn.find_nets` tells it.

    Attributes:
        name: by which an importer is told to take it.
        kind: ``"RNN"``, ``"GRU"`` or ``"LSTM"``; "" where that cannot be known.
        options: the arguments that make the same layer in fastrnn: sizes, and whatever is not as by default.
        call: arguments for a call of that layer with which it gives what the model's gives, such as
            ``{"return_sequence": False}``.
        notes: what else a call has to heed, each in a sentence: a mask that the model makes, say.
        problem: what of it fastrnn has not, or cannot know, and the way out; "" if nothing.
        only_last: why no other net can read what it gives: it is the last of those that are joined; "" if not.
        reads: names of the nets whose outputs it reads, with nothing between that changes them; None where that cannot
            be known.
        instead: what it reads if that is the output of no net, in words; "" where that cannot be known.
        frozen: the weights where the model has them in fewer bits, as a frozen layer keeps them, and the name of that
            format; None where it has not.

    """

    name: str
    kind: str
    options: dict[str, Any]
    weights: Callable[[], Mapping[str, Array]] = dataclasses.field(repr=False)  # by fastrnn's names; called when wanted
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""
    only_last: str = ""
    reads: frozenset[str] | None = None
    instead: str = ""
    frozen: Frozen | None = dataclasses.field(default=None, repr=False)

    @property
    def parameters(self) -> int:
        """How many numbers its parameters are; 0 where that cannot be known."""
        return 0 if self.problem else sum(math.prod(np.shape(w)) for w in self.weights().values())

    def __str__(self) -> str:
        if not self.options:
            return self.kind or "a recurrent net"
        sizes = ("input_size", "hidden_size", "num_layers")
        shown = [str(self.options.get(name)) for name in sizes if self.options.get(name, 1) != 1 or name != sizes[2]]
        shown += [f"{name}={value!r}" for name, value in self.options.items() if name not in sizes]
        return f"{self.kind}({', '.join(shown)})"

    def layer(
        self,
        dtype: npt.DTypeLike | None = None,
        *,
        weights: Literal["float32"] | None = None,
        owner: str = "Net.layer",
    ) -> Layer:
        """Return the layer, in evaluation mode, with weights of its own.

        Args:
            dtype: float32 or float64; None is float64 for weights of float64, and float32 for all others.
            weights: None leaves weights of fewer bits as they are, if the layer is of float32: it is frozen; with
                ``"float32"`` it has their values.
            owner: whom messages name.

        Raises:
            ValueError: there is a problem.

        Warns of the notes.

        """
        if self.problem:
            raise ValueError(f"{owner}: {quoted(self.name)}{self.problem}")
        if weights not in (None, "float32"):
            raise ValueError(
                f"{owner}: weights is {checks.shown(weights)}, expected None or 'float32': freeze the layer to keep "
                "them in another format"
            )
        if dtype is not None:
            name = str(dtype)  # PyTorch's own are torch.float64
            dtype = checks.float_dtype(owner, name.removeprefix("torch.") if name.startswith("torch.") else dtype)
        try:
            in_single = dtype is None or dtype == np.float32  # a dtype is equal to None if it is float64
            if self.frozen is not None and weights is None and in_single:
                layer = self._frozen_layer(*self.frozen)
            else:
                layer = self._plain_layer(dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: {quoted(self.name)}{error}") from None
        if self.notes:
            warn(f"{owner}: {quoted(self.name)}{'; '.join(self.notes)}")
        layer.eval()
        return layer

    def _plain_layer(self, dtype: Any) -> Layer:
        weights = self.weights()
        if dtype is None:
            dtype = np.float64 if any(w.dtype == np.float64 for w in weights.values()) else np.float32
        layer = self._made(weights, dtype)
        layer.load_state_dict(weights)
        return layer

    def _frozen_layer(self, kept_as: Format, arrays: Callable[[], Mapping[str, Array]]) -> Layer:
        given = arrays()
        layer = self._made(given, np.float32)
        layer._check_freeze(kept_as)
        layer._keep(layer._as_kept(given, kept_as), kept_as)
        return layer

    def _made(self, weights: Mapping[str, Array], dtype: Any) -> Layer:
        """Return a layer for these weights."""
        with checks.at_most(max(SMALL, sum(w.size for w in weights.values()))):
            return KINDS[self.kind](**self.options, dtype=dtype)


def quoted(name: str) -> str:
    """Return the name of a net as the beginning of a message."""
    return f"{name!r}: " if name else ""


def chosen(
    owner: str, argument: str, nets: Sequence[Net], choice: Any, *, source: str, joins: bool, expected: str = ""
) -> Net:
    """Return the net that a user means.

    ``argument`` is the name of the argument that chooses, ``choice`` its value: None where there is but one, a name,
    or, if ``joins``, a list of the names of single layers that follow each other. ``source`` says in what is looked,
    and ``expected`` what for.
    """
    if not nets:
        raise ValueError(f"{owner}: there is no recurrent net in {source}{expected}")
    if choice is None:
        if len(nets) == 1:
            return nets[0]
        way = f": choose one, {argument}={nets[0].name!r}"
        follow = [net.name for net in nets[:2]] if joins and _join(nets[:2]) else []
        way += f", or several that follow each other, {argument}={follow!r}" if follow else ""
        raise ValueError(f"{owner}: there are {len(nets)} recurrent nets in {source}{way}; {there(nets)}")
    if isinstance(choice, list | tuple) and joins:
        if not choice:
            raise ValueError(f"{owner}: {argument} is empty, expected names; {there(nets)}")
        found = [_named(owner, argument, nets, each) for each in choice]
        return found[0] if len(found) == 1 else joined(owner, found)
    return _named(owner, argument, nets, choice)


def _join(nets: Sequence[Net]) -> bool:
    """Whether these may be joined."""
    try:
        joined("", nets)
    except ValueError:
        return False
    return True


def _named(owner: str, argument: str, nets: Sequence[Net], name: Any) -> Net:
    if not isinstance(name, str):
        raise TypeError(f"{owner}: {argument} is {checks.shown(name)}, expected a name; {there(nets)}")
    wanted = name.strip("./")
    same = [net for net in nets if net.name == wanted]
    if wanted:
        same = same or [net for net in nets if net.name.endswith((f".{wanted}", f"/{wanted}"))]
        same = same or [net for net in nets if net.name.startswith((f"{wanted}.", f"{wanted}/"))]
    if len(same) == 1:
        return same[0]
    if same:
        raise ValueError(f"{owner}: {argument} is {name!r}, which may be {listed(same)}")
    near = nearest(wanted, [net.name for net in nets])
    hint = f": did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{owner}: there is no recurrent net {name!r}{hint}; {there(nets)}")


def there(nets: Sequence[Net]) -> str:
    """Return what nets there are, as a message says it."""
    return f"there {'is' if len(nets) == 1 else 'are'} {listed(nets)}"


def listed(nets: Sequence[Net]) -> str:
    """Return nets as a message names them."""
    shown = [
        f"{net.name!r}, {net}" + (f" (which cannot be imported: {net.problem})" if net.problem else "")
        for net in nets[:SHOWN]
    ]
    more = [f"{len(nets) - SHOWN} more"] if len(nets) > SHOWN else []
    return "; ".join(shown + more)


def joined(owner: str, nets: Sequence[Net]) -> Net:
    """Return several nets of which each reads the output of the one before as one of several layers."""
    first = nets[0]
    for net in nets:
        if net.problem:
            raise ValueError(f"{owner}: {quoted(net.name)}{net.problem}")
    options = {name: value for name, value in first.options.items() if name not in ("input_size", "num_layers")}
    for below, net in itertools.pairwise(nets):
        given = {name: value for name, value in net.options.items() if name not in ("input_size", "num_layers")}
        different = [name for name in {**options, **given} if options.get(name) != given.get(name)]
        if net.kind != first.kind or different:
            what = ", ".join(sorted(different)) if net.kind == first.kind else "kind"
            raise ValueError(
                f"{owner}: {first.name!r} and {net.name!r} differ in {what}, which all levels of a layer share: "
                f"{first} and {net}; import each, and call one after the other"
            )
        width = (options.get("proj_size") or options["hidden_size"]) * (1 + bool(options.get("bidirectional")))
        if net.options["input_size"] != width:
            raise ValueError(
                f"{owner}: {net.name!r} reads {net.options['input_size']} features, and {below.name!r} gives {width}: "
                "they do not follow each other"
            )
        if below.only_last:
            raise ValueError(f"{owner}: {below.name!r} {below.only_last}, which {net.name!r} cannot read")
        if net.reads is not None and below.name not in net.reads:
            instead = net.instead or "it reads what " + " and ".join(map(repr, sorted(net.reads))) + " gives"
            raise ValueError(
                f"{owner}: {net.name!r} does not read what {below.name!r} gives: {instead}; import each by itself"
            )
    counts = [net.options.get("num_layers", 1) for net in nets]

    def whole_of(of_nets: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        first_level = 0
        for arrays, count in zip(of_nets, counts, strict=True):
            for name, w in arrays.items():
                kind, _, suffix = name.rpartition("_l")
                level, *direction = suffix.split("_")
                found["_".join([f"{kind}_l{first_level + int(level)}", *direction])] = w
            first_level += count
        return found

    def weights() -> dict[str, Array]:
        return whole_of(net.weights() for net in nets)

    frozen = None
    each = [net.frozen for net in nets if net.frozen is not None]
    if len(each) == len(nets) and len({of_net.format for of_net in each}) == 1:
        frozen = Frozen(each[0].format, lambda: whole_of(of_net.arrays() for of_net in each))
    notes = tuple(dict.fromkeys(note for net in nets for note in net.notes))
    whole = {"input_size": first.options["input_size"], **options, "num_layers": sum(counts)}
    name, last = " + ".join(net.name for net in nets), nets[-1]
    return Net(name, first.kind, whole, weights, last.call, notes, only_last=last.only_last, frozen=frozen)
