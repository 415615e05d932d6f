"""What has parameters, and the modules that a small net needs beside its recurrent layers.

``record`` makes a call and returns it as an object: ``call.y`` is the result, and ``call.backward(dy)`` goes back: it
takes the gradient by the result, and returns those by what the call was given and by the parameters. Any number of
calls may be alive, from any number of threads. To call a module is shorter: then ``backward`` of the module goes back
through the last call that this thread made in training mode, and ``grads`` are its gradients. Names, shapes and initial
values of parameters are those of PyTorch.

>>> import numpy as np
>>> from fastrnn import GRU, Linear, Modules, cross_entropy
>>> from fastrnn.optim import SGD
>>> rnn, decoder = GRU(8, 16, seed=0), Linear(16, 3, seed=0)
>>> net = Modules(rnn=rnn, decoder=decoder)
>>> list(net.params)[-2:]
['decoder.weight', 'decoder.bias']
>>> y, _ = rnn(np.ones((5, 4, 8), np.float32))
>>> loss, dlogits = cross_entropy(decoder(y[-1]), np.array([0, 2, 1, 1]))
>>> dy = np.zeros_like(y)
>>> dy[-1] = decoder.backward(dlogits)
>>> dx, _ = rnn.backward(dy)
>>> SGD(net.params, lr=0.1).step(net.grads)
"""

from __future__ import annotations

import abc
import collections
import copy
import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.described import Description, formats_in
from ._base.described import parts as parts_of
from ._base.options import Options, option
from ._base.parts import BYTES, dropout_mask, filled, outer_product, parts, product, quiet, scale, uniform
from ._base.uses import USES
from .files import load_with_description, refuse_unread, save_arrays

# A Linear of so few rows takes less time than to enter NumPy's product; with a larger weight NumPy's threads count.
FEW_ROWS = 8
SMALL_WEIGHT = 2**18

__all__ = ["Dropout", "Embedding", "Gradients", "Grads", "Linear", "Module", "ModuleCall", "Modules", "Parameters"]


class Gradients(NamedTuple):
    """What ``backward`` of a call returns."""

    dx: Array | None  #: by what the call was given, of its shape; None where that was tokens
    dstate: Any  #: by the initial state, of the shape of the state; None where there is none
    grads: Grads  #: by the parameters, by their names


class Grads(dict[str, Array]):
    """Gradients by the names of the parameters, and for each the number of the ``backward`` that it is of."""

    _count = itertools.count(1)

    def __init__(self, grads: Mapping[str, Array] | Iterable[tuple[str, Array]] = ()) -> None:
        super().__init__(grads)
        self.of = dict.fromkeys(self, next(self._count)) if self else {}

    def _under(self, prefix: str, names: Iterable[str]) -> Grads:
        """Return those of a module whose names have this before them."""
        found = Grads()
        for name in names:
            if prefix + name in self:
                found[name], found.of[name] = self[prefix + name], self.of[prefix + name]
        return found


NO_GRADS = Grads()


class ModuleCall:
    """One call of a module that is no layer: of a :class:`Linear`, say, or of a net of several modules.

    Attributes:
        y: what it returned.

    """

    def __init__(self, y: Array, back: Callable[[Array], tuple[Array | None, dict[str, Array]]]) -> None:
        self.y = y
        self._back = back

    def backward(self, dy: Array) -> Gradients:
        """Go back through the call, from the gradient by y; may be called again."""
        found = self._back(dy)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
            raise TypeError(f"ModuleCall.backward: the way back returned {checks.shown(found)}, expected (dx, grads)")
        dx, grads = found
        return Gradients(dx, None, Grads(grads))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise TypeError: a call belongs to its module."""
        raise TypeError("a call cannot be copied or pickled: its y and gradients can")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: y {self.y.dtype} of shape {self.y.shape}>"


class _Last(threading.local):
    """What the last call in training mode, and the last way back, have left with the thread that made them."""

    def __init__(self) -> None:
        self.call: Any = None
        self.grads = NO_GRADS
        self.trace: dict[str, Array] = {}
        self.went_back = False  # through the call
        self.looked = False  # there was a call in evaluation mode since the way back

    def keep(self, call: Any) -> None:
        """Note a call in training mode."""
        self.call, self.grads, self.went_back = call, NO_GRADS, False

    def look(self) -> None:
        """Note a call in evaluation mode."""
        self.looked = self.went_back

    def back(self, owner: str, *gradients: Any, **options: Any) -> Any:
        """Go back through the call."""
        if self.call is None:
            raise RuntimeError(
                f"{owner}.backward: there was no call in training mode before, in this thread: train(), or record()"
            )
        if self.went_back and self.looked:
            raise RuntimeError(
                f"{owner}.backward: the last call was in evaluation mode, and keeps nothing: train(), or record()"
            )
        found = self.call.backward(*gradients, **options)
        self.grads, self.went_back, self.looked = found.grads, True, False
        return found


class Module(Options):
    """What all modules have in common.

    Attributes:
        training: whether dropout and zoneout are at work, and calls are kept for ``backward``; see :meth:`train`.

    """

    _changeable: ClassVar = {"training": option(checks.boolean)}
    _format: Any = "float32"  # of weights: see _layer/formats.py

    def __init__(self) -> None:
        self._params: Mapping[str, Array] = {}
        self.training = True
        self._forget()

    def _forget(self) -> None:
        """Start without what calls have left."""
        self._last = _Last()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        USES.begin(self._arrays())
        self._forget()

    def __del__(self) -> None:
        USES.forget(self._arrays())

    def _arrays(self) -> Iterable[Array]:
        """Return the parameters, as far as they are arrays that others may have, too."""
        params: Mapping[str, Array] = self.__dict__.get("_params", {})
        return params.values()

    def __copy__(self) -> Module:
        """Return a copy with parameters of its own, as ``copy.deepcopy`` does."""
        return copy.deepcopy(self)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _leaves(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that have parameters themselves, with what comes before the names of these."""
        yield "", self

    def _instead_of(self, name: str, known: Collection[str]) -> str:
        if name in self._params:
            return f"it is a parameter: params[{name!r}] = ..., or params[{name!r}][...] = ..."
        return super()._instead_of(name, known)

    @property
    def params(self) -> Parameters:
        """The parameters by name, as in PyTorch.

        The arrays may be changed in place. Assigning one puts it in the place of the one before: the module uses that
        very array from then on, and optimisers made with ``params`` step it.
        """
        return Parameters(self)

    @property
    def grads(self) -> Grads:
        """The gradients by the parameters, by the same names, of this thread's last ``backward``: a dict of its own.

        They are gone with the next call in training mode.
        """
        found = Grads()
        for prefix, module in self._leaves():
            for name, g in module._last.grads.items():
                found[prefix + name] = g
                found.of[prefix + name] = module._last.grads.of[name]
        return found

    def _exchange(self, name: str, value: Any) -> None:
        """Put an array in the place of a parameter."""
        before = self._params[name]
        a = checks.array(self._name, name, value, before.dtype, "the module is")
        if a.shape != before.shape:
            raise ValueError(f"{self._name}: {name} has shape {a.shape}, expected {before.shape}")
        self._take({name: a})

    def _take(self, arrays: Mapping[str, Array]) -> None:
        """Use these arrays as parameters from now on, in the place of those before."""
        USES.end(self._params[name] for name in arrays if name in self._params)
        USES.begin(arrays.values())
        assert isinstance(self._params, dict)  # in other formats no parameter is exchanged
        self._params.update(arrays)

    def train(self, mode: bool = True) -> Module:
        """Have dropout and zoneout at work in the calls that follow, or not; return the module."""
        self.training = mode
        return self

    def eval(self) -> Module:
        """Do as ``train(False)`` does."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters by name."""
        return {name: p.copy() for name, p in self.params.items()}

    def _refuse_format(self, name: str) -> None:
        """Raise ValueError where weights have fewer bits than float32, which only a layer's may have."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Write parameters of the same names and shapes into those of the module, converted to their dtype.

        Raises ValueError, and changes nothing, where names are missing or unexpected, a shape differs or a parameter
        cannot be written to.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{self._name}.load_state_dict: state_dict is {checks.shown(state_dict)}, expected arrays by name"
            )
        for _, module in self._leaves():
            module._refuse_format("load_state_dict")
        params = self.params
        arrays = {name: self._as_array(name, value) for name, value in state_dict.items()}
        problems = [f"missing {name}" for name in params if name not in arrays]
        problems += [f"unexpected {name}" for name in arrays if name not in params]
        problems += [
            f"{name} has shape {a.shape}, expected {params[name].shape}"
            for name, a in arrays.items()
            if name in params and a.shape != params[name].shape
        ]
        problems += [
            f"{name} has dtype {a.dtype}, expected numbers"
            for name, a in arrays.items()
            if name in params and a.dtype.kind not in "fiu" and a.dtype.name != "bfloat16"
        ]
        problems += [f"{name} is frozen" for name, p in params.items() if not p.flags.writeable]
        if problems:
            raise ValueError(f"{self._name}.load_state_dict: {'; '.join(problems)}")
        # What is written to one parameter may be what another is to be, and a number may not fit: all values first.
        own = list(params.values())
        with quiet():
            for name, a in arrays.items():
                if a.dtype != params[name].dtype or any(np.may_share_memory(a, p) for p in own):
                    arrays[name] = converted = a.astype(params[name].dtype)
                    fits = np.can_cast(a.dtype, converted.dtype)
                    if not fits and np.isinf(converted).sum() > np.isinf(a).sum():
                        raise ValueError(
                            f"{self._name}.load_state_dict: {name} has {a.dtype} numbers that {converted.dtype} has not"
                        )
        for name, p in params.items():
            p[...] = arrays[name]

    def _as_array(self, name: Any, value: Any) -> Array:
        try:
            return np.asarray(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._name}.load_state_dict: {name} is {checks.shown(value)}, expected numbers"
            ) from None

    def save(self, path: str) -> None:
        """Write all parameters to a safetensors file, all or nothing, and with them what module they are of.

        :func:`fastrnn.load` makes the module again, unless it is of a class of your own, or has one of those in it.

        Raises OSError, and leaves what was there, where that cannot be done.
        """
        description, names = self._description(), collections.defaultdict(list)
        params = self.params.copy()
        for name, p in params.items():
            names[id(p)].append(name)
        tied = [group for group in names.values() if len(group) > 1]
        save_arrays(path, params, {**description, "tied": tied} if tied else description)

    def load(self, path: str) -> None:
        """Take over the parameters in a file that :meth:`save` wrote, or any other safetensors file that has them.

        Raises OSError where it cannot be read, and ValueError, without changing anything, where it is damaged or holds
        other parameters than the module's, or says that they are of a module that computes something else.
        """
        arrays, description = load_with_description(f"{self._name}.load", path)
        refuse_unread(f"{self._name}.load", path, arrays)
        try:
            if description is not None and arrays.keys() == self.params.keys():
                self._check_description(description)
            self._fill(arrays, {} if description is None else formats_in(description))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}; in {path}") from None

    def _fill(self, arrays: Mapping[str, Array], formats: Mapping[str, str], adopts: bool = False) -> None:
        """Take over parameters of a file, where layers of these prefixes keep their weights in formats; all or none.

        Layers have to have the same formats, unless the module ``adopts`` those of the file.
        """
        leaves = dict(self._leaves())
        for prefix, leaf in leaves.items():
            in_file = formats.get(prefix, "float32")
            if leaf._format != in_file and not adopts:
                where = f"module {prefix[:-1]}: " if prefix else ""
                way = f"freeze(weights={in_file!r}) it before" if leaf._format == "float32" else "make it anew"
                raise ValueError(
                    f"{self._name}.load: {where}weights are kept as {in_file} in the file, and as {leaf._format} here: "
                    f"{way}, or fastrnn.load makes what was saved"
                )
        if not formats:
            return self.load_state_dict(arrays)
        left, plain, kept = dict(arrays), [], []
        for prefix, leaf in leaves.items():
            own = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
            if prefix in formats:
                kept.append((leaf, leaf._as_kept(own, formats[prefix]), formats[prefix]))
            else:
                copy.deepcopy(leaf).load_state_dict(own)  # raises before anything is changed
                plain.append((leaf, own))
        if left:
            raise ValueError(f"{self._name}.load: unexpected {', '.join(left)}")
        for leaf, own in plain:
            leaf.load_state_dict(own)
        for leaf, own, weights in kept:
            leaf._keep(own, weights)
        return None

    def _as_kept(self, arrays: Mapping[str, Array], weights: Any) -> dict[str, Array]:
        """Return arrays of a file as a format keeps such parameters; ValueError where they are others."""
        raise NotImplementedError

    def _keep(self, arrays: dict[str, Array], weights: Any) -> None:
        """Have arrays, as a format keeps them, in the place of the parameters."""
        raise NotImplementedError

    @property
    def _kind(self) -> type[Module]:
        """The class of fastrnn's that it is of, or derived from."""
        return next(kind for kind in type(self).__mro__ if kind.__module__.startswith("fastrnn."))

    def _description(self) -> Description:
        """Return what makes such a module, as JSON has it."""
        own = {} if type(self) is self._kind else {"own": self._name}
        return {"kind": self._kind.__name__, **own, **self._inside()}

    def _inside(self) -> Description:
        """Return its options, or its modules."""
        options = {} if self._kind is Module else self._made_with(self._kind)
        return {"options": {name: str(value) if name == "dtype" else value for name, value in options.items()}}

    def _check_description(self, of_file: Description) -> None:
        """Raise ValueError where parameters are those of a module that computes something else with them."""
        modules = dict(self._leaves())
        for prefix, part in parts_of(of_file).items():
            module = modules.get(prefix)
            if module is not None:
                other = module._unlike(part)
                if other:
                    where = f"module {prefix[:-1]}: " if prefix else ""
                    raise ValueError(f"{self._name}.load: {where}{other}: fastrnn.load makes the module that was saved")

    def _unlike(self, part: Description) -> str:
        """Return what a module of this description computes otherwise, if it does."""
        kind = self._kind.__name__
        return "" if part["kind"] == kind else f"it is of kind {kind}, and {part['kind']} in the file"

    def __repr__(self) -> str:
        count = self._numbers()
        return self._made() + (f"  # {count:,} parameters" if count else "")

    def _made(self) -> str:
        """Return how it is made, in one line."""
        return f"{self._name}({self._arguments()})"

    def _numbers(self) -> int:
        """Return how many numbers all parameters are, those under several names counted once, in any format."""
        sizes: dict[int, int] = {}
        for _, leaf in self._leaves():
            sizes |= leaf._sizes()
        return sum(sizes.values())

    def _sizes(self) -> dict[int, int]:
        """Return how many numbers its own parameters are, by what is the same where they are."""
        return {id(p): p.size for p in self._params.values()}


class Parameters(MutableMapping[str, Array]):
    """The parameters of a module by name, always those that it uses at the time.

    An array may be assigned, of the same shape and dtype as the one before; none can be added or removed.
    """

    def __init__(self, module: Module) -> None:
        self._module = module

    def _find(self, name: object) -> tuple[Module, str]:
        for prefix, module in self._module._leaves():
            if isinstance(name, str) and name.startswith(prefix) and name[len(prefix) :] in module._params:
                return module, name[len(prefix) :]
        raise KeyError(name)

    def __getitem__(self, name: str) -> Array:
        module, own = self._find(name)
        return module._params[own]

    def __contains__(self, name: object) -> bool:
        try:
            self._find(name)
        except KeyError:
            return False
        return True

    def __setitem__(self, name: str, value: Array) -> None:
        try:
            module, own = self._find(name)
        except KeyError:
            known = ", ".join(self)
            raise KeyError(f"{self._module._name} has no parameter {name!r}; there are {known}") from None
        module._exchange(own, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{self._module._name}: parameters cannot be removed")

    def __iter__(self) -> Iterator[str]:
        for prefix, module in self._module._leaves():
            for name in module._params:
                yield prefix + name

    def __len__(self) -> int:
        return sum(len(module._params) for _, module in self._module._leaves())

    def __or__(self, other: Mapping[str, Array]) -> dict[str, Array]:
        return self.copy() | dict(other)

    def __ror__(self, other: Mapping[str, Array]) -> dict[str, Array]:
        return dict(other) | self.copy()

    def copy(self) -> dict[str, Array]:
        """Return the arrays of now in a dict."""
        leaves = self._module._leaves()
        return {prefix + name: p for prefix, module in leaves for name, p in module._params.items()}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {p.dtype} {p.shape}" for name, p in self.items())
        return f"<parameters of {self._module._name}: {shapes}>"


def numbers_in(params: Mapping[str, Array]) -> int:
    """Return how many numbers parameters are, those under several names counted once."""
    return sum(p.size for p in {id(p): p for p in params.values()}.values())


def _of_all(owner: Any, name: str, value: Any) -> bool:
    """Have all modules in this mode, and return it."""
    mode = checks.boolean(type(owner).__name__, name, value)
    modules = owner.__dict__.get("_modules", {}).values()
    for module in modules if mode else ():  # all or none
        for _, leaf in module._leaves():
            leaf._refuse_format("train")
    for module in modules:
        module.train(mode)
    return mode


class Several(Module, abc.ABC):
    """What modules that are made of several have in common: parameters, modes, names."""

    _changeable: ClassVar = {"training": _of_all}
    _one_name = "give it one name"  # what to do with a module that would have two

    def __init__(self, modules: dict[str, Module]) -> None:
        super().__init__()
        names: dict[int, str] = {}
        for name, module in modules.items():
            self._check_module(name, module)
            if not hasattr(module, "_last"):
                raise TypeError(f"{self._name}: {name} is of {module._name}, whose __init__ has not called super()'s")
            for prefix, leaf in module._leaves():
                before = names.setdefault(id(leaf), name + "." + prefix)
                if before != name + "." + prefix:
                    both = f"{before[:-1]} and {(name + '.' + prefix)[:-1]}"
                    raise ValueError(f"{self._name}: {both} are the same module: {self._one_name}")
        self._modules = modules

    @abc.abstractmethod
    def _check_module(self, name: str, module: Any) -> None:
        """Raise what is wrong with a module under this name."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a module that would be none of these, in a class of the user's own too."""
        modules = self.__dict__.get("_modules")
        is_new = modules is not None and all(value is not module for module in modules.values())
        if is_new and isinstance(value, Module) and not name.startswith("_"):
            raise AttributeError(
                f"{self._name}: {name} would be none of its modules: pass it when it is made, or call it _{name}"
            )
        super().__setattr__(name, value)

    def _leaves(self) -> Iterator[tuple[str, Module]]:
        for name, module in self._modules.items():
            for prefix, leaf in module._leaves():
                yield f"{name}.{prefix}", leaf

    def _inside(self) -> Description:
        return {"modules": {name: module._description() for name, module in self._modules.items()}}

    def _before(self, name: str) -> str:
        """Return what is before a module where it is shown as an argument."""
        return ""

    def __repr__(self) -> str:
        lines = "".join(_as_argument(self._before(name) + repr(module)) for name, module in self._modules.items())
        return f"{self._name}(\n{lines})  # {self._numbers():,} parameters"


def _as_argument(made: str) -> str:
    """Return the lines of an argument in a call that has one on each line: the comma comes before a comment."""
    *others, last = made.splitlines() or [""]
    code, gap, comment = last.partition("  # ")
    return "".join(f"    {line}\n" for line in [*others, f"{code},{gap}{comment}"])


class Modules(Several):
    """Several modules as one: their parameters together, each under the module's name and a dot.

    It holds them for optimisers, :meth:`save` and :meth:`train`; what is called in which order is up to you. Each is
    also an attribute of its name: ``net.rnn``. For modules that are called one after the other there is
    :class:`fastrnn.Sequential`.
    """

    def __init__(self, **modules: Module) -> None:
        super().__init__(modules)

    def _check_module(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{self._name}: {name} is {checks.shown(module)}, expected a module")
        if "." in name:
            raise ValueError(f"{self._name}: {name!r} has a dot, which stands between names: leave it out")
        if name.startswith("_") or hasattr(type(self), name) or self.__dict__.get(name, module) is not module:
            raise ValueError(f"{self._name}: a module cannot be called {name}, which is something else's name here")

    def __getattr__(self, name: str) -> Any:
        """Return a module."""
        if hasattr(type(self), name):  # a property, which says itself what it is missing
            return object.__getattribute__(self, name)
        modules = self.__dict__.get("_modules", {})
        if name not in modules:
            there_are = f"; there are {', '.join(modules)}" if modules else ""
            raise AttributeError(f"{self._name}: there is no module or attribute {name}{there_are}")
        return modules[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__dict__.get("_modules", {})]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to put something in the place of a module."""
        modules = self.__dict__.get("_modules", {})
        if name in modules and modules[name] is not value:
            raise AttributeError(f"{self._name}: {name} cannot be set: make another of the modules there are then")
        super().__setattr__(name, value)

    def _before(self, name: str) -> str:
        return f"{name}="


class Linear(Module):
    """``y = x W^T + b`` along the last axis.

    Args:
        in_features: size of x's last axis.
        out_features: size of y's.
        bias: whether there is a b.
        dtype: float32 or float64.
        seed: of the initial parameters, uniform between -1/sqrt(in_features) and 1/sqrt(in_features).

    """

    _fixed = frozenset({"in_features", "out_features", "bias", "dtype"})

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.in_features = checks.integer(self._name, "in_features", in_features, 0)
        self.out_features = checks.integer(self._name, "out_features", out_features, 0)
        self.bias = checks.boolean(self._name, "bias", bias)
        self.dtype = checks.float_dtype(self._name, dtype)
        rng = checks.seed(self._name, seed)
        bound = max(1, self.in_features) ** -0.5
        shapes = {"weight": (self.out_features, self.in_features)} | ({"bias": (self.out_features,)} if bias else {})
        checks.held(self._name, sum(map(math.prod, shapes.values())), self.dtype, "in_features and out_features")
        self._take({name: uniform(shape, self.dtype, rng, bound) for name, shape in shapes.items()})

    def __call__(self, x: Array) -> Array:
        """Return y (..., out_features) of x (..., in_features), which has the dtype of the parameters."""
        if not self.training:
            self._last.look()
            return self._run(self._checked(x))
        call = self.record(x)
        self._last.keep(call)
        return call.y

    def record(self, x: Array) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``. x must not change until then."""
        x, weight = self._checked(x), self._params["weight"]
        y = self._run(x)
        of_x, of_weight = _core.fingerprint(x), _core.fingerprint(weight)

        def back(dy: Array) -> tuple[Array, dict[str, Array]]:
            dy = check_gradient("Linear.backward", dy, (*x.shape[:-1], len(weight)), x.dtype)
            if _core.fingerprint(x) != of_x or _core.fingerprint(weight) != of_weight:
                changed = "weight" if _core.fingerprint(x) == of_x else "x"
                raise RuntimeError(f"Linear.backward: {changed} has changed since the call: pass a copy")
            rows = _rows(dy)
            with quiet():
                grads = {"weight": outer_product(rows, _rows(x))}
                dx = product(rows, weight)
            if self.bias:
                grads["bias"] = _core.column_sums(rows)
            return dx if x.ndim == 2 else dx.reshape(x.shape), grads

        return ModuleCall(y, back)

    def backward(self, dy: Array) -> Array:
        """Go back through this thread's last call in training mode; fill ``grads``, return dx."""
        dx: Array = self._last.back("Linear", dy).dx
        return dx

    def _checked(self, x: Array) -> Array:
        if type(x) is not np.ndarray or x.dtype != self.dtype:
            x = checks.array("Linear", "x", x, self.dtype, "the module is")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            hint = ": a missing last axis? x[..., None]" if self.in_features == 1 else ""
            raise ValueError(f"Linear: x has shape {x.shape}, expected (..., {self.in_features}){hint}")
        return x

    def _run(self, x: Array) -> Array:
        weight, bias = self._params["weight"], self._params.get("bias")
        rows = _rows(x)
        if len(rows) <= FEW_ROWS and weight.size <= SMALL_WEIGHT:
            y: Array = _core.linear(rows, weight, bias)
        else:
            with quiet():
                y = product(rows, weight.T)
                if bias is not None:
                    y += bias
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))


class Embedding(Module):
    """A vector for each of ``num_embeddings`` tokens.

    Right before a recurrent layer it is rarely needed: layers take tokens themselves. Initial values are normal.

    Args:
        num_embeddings: how many tokens there are.
        embedding_dim: the size of a vector.
        dtype: float32 or float64.
        seed: of the initial vectors.

    """

    _fixed = frozenset({"num_embeddings", "embedding_dim", "dtype"})

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = checks.integer(self._name, "num_embeddings", num_embeddings, 0)
        self.embedding_dim = checks.integer(self._name, "embedding_dim", embedding_dim, 0)
        self.dtype = checks.float_dtype(self._name, dtype)
        shape = (self.num_embeddings, self.embedding_dim)
        checks.held(self._name, math.prod(shape), self.dtype, "num_embeddings and embedding_dim")
        self._take({"weight": filled(shape, self.dtype, checks.seed(self._name, seed).standard_normal)})

    def __call__(self, tokens: Array) -> Array:
        """Return the vectors (..., embedding_dim) of tokens (...), integers from 0 to num_embeddings - 1."""
        if not self.training:
            self._last.look()
            return self._run(checks.integers("Embedding", "tokens", tokens))
        call = self.record(tokens)
        self._last.keep(call)
        return call.y

    def record(self, tokens: Array) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``, whose ``dx`` is None."""
        given = checks.integers("Embedding", "tokens", tokens)
        y, tokens = self._run(given), given.copy()

        def back(dy: Array) -> tuple[None, dict[str, Array]]:
            dy = check_gradient("Embedding.backward", dy, (*tokens.shape, self.embedding_dim), self.dtype)
            dweight = np.zeros((self.num_embeddings, self.embedding_dim), self.dtype)
            if dy.size:
                rows, flat = _rows(dy), tokens.ravel()
                several = rows.nbytes > BYTES
                total = dweight.astype(np.float64) if several else dweight
                for part in parts(rows):
                    order = np.argsort(flat[part], kind="stable")
                    distinct, first = np.unique(flat[part][order], return_index=True)
                    with quiet():
                        total[distinct] += np.add.reduceat(rows[part][order], first, dtype=np.float64)
                if several:
                    with quiet():
                        dweight[...] = total
            return None, {"weight": dweight}

        return ModuleCall(y, back)

    def backward(self, dy: Array) -> None:
        """Go back through this thread's last call in training mode; fill ``grads``. Tokens have no gradient."""
        self._last.back("Embedding", dy)

    def _run(self, tokens: Array) -> Array:
        vectors = np.empty((tokens.size, self.embedding_dim), self.dtype)  # first: there may be no room for it
        flat = tokens.ravel()
        for part in parts(vectors):
            least, most = flat[part].min(), flat[part].max()
            if not (least >= 0 and most < self.num_embeddings):
                raise ValueError(f"Embedding: tokens has {least} to {most}, expected 0 to {self.num_embeddings - 1}")
            vectors[part] = self._params["weight"][flat[part]]
        return vectors.reshape(*tokens.shape, self.embedding_dim)


class Dropout(Module):
    """In training mode zeroes a share ``p`` of what passes, at random, and scales up the rest by 1 / (1 - p).

    Args:
        p: the share, from 0 to 1.
        seed: of what is drawn.

    Attributes:
        rng: what the choice is drawn from.

    """

    _changeable: ClassVar = {
        **Module._changeable,
        "p": option(checks.probability),
        "rng": option(checks.generator),
    }

    def __init__(self, p: float, *, seed: int | None = None) -> None:
        super().__init__()
        self.p = p
        self.rng = checks.seed(self._name, seed)

    def __call__(self, x: Array) -> Array:
        """Return x, an array of float32 or float64, with some of it zeroed in training mode, else x itself."""
        call = self.record(x)
        if self.training:
            self._last.keep(call)
        else:
            self._last.look()
        return call.y

    def record(self, x: Array) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``."""
        x = checks.floats("Dropout", "x", x)
        mask = dropout_mask(self.rng, self.p, x.shape, x.dtype) if self.training and self.p > 0 else None

        def back(dy: Array) -> tuple[Array, dict[str, Array]]:
            dy = check_gradient("Dropout.backward", dy, x.shape, x.dtype)
            return dy if mask is None else scale(dy, mask), {}

        return ModuleCall(x if mask is None else scale(x, mask), back)

    def backward(self, dy: Array) -> Array:
        """Go back through this thread's last call in training mode; return dx."""
        dx: Array = self._last.back("Dropout", dy).dx
        return dx


def _rows(a: Array) -> Array:
    """Return (..., n) as (rows, n)."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def check_gradient(owner: str, dy: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the gradient by y as a plain array."""
    if type(dy) is not np.ndarray or dy.dtype != dtype or dy.shape != shape:
        dy = checks.array(owner, "dy", dy, dtype, "the call was")
        checks.shape(owner, "dy", dy, shape, "that of y")
    return dy
