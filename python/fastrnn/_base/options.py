"""The options of whatever is made with some: named in the user's words, and checked also when they are set later."""

import inspect
import sys
import warnings
from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeVar

# Where the classes are to which nobody adds attributes: those of their own are derived from them.
_CLOSED = ("fastrnn.layers", "fastrnn.modules", "fastrnn.nets", "fastrnn.optim")
Made = TypeVar("Made", bound="Options")


def warn(message: str) -> None:
    """Warn whoever has called fastrnn from outside."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fastrnn."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, level)


def option(check: Callable[[str, str, Any], Any]) -> Callable[[Any, str, Any], Any]:
    """Return a check of :class:`Options` from one that is told the owner's name."""
    return lambda owner, name, value: check(type(owner).__name__, name, value)


def nearest(name: str, names: list[str]) -> list[str]:
    """Return the name that may have been meant, if one is near."""
    import difflib  # here: to import it takes a tenth of what the whole library takes

    return difflib.get_close_matches(name, names, 1, 0.5)


class Options:
    """The options of whatever is made with some: named in the user's words, and checked also when they are set later.

    Attributes:
        _changeable: those that may be set later, each with its check, which gets the owner, the name and the value.
        _fixed: those that may not.

    """

    _changeable: ClassVar[dict[str, Callable[[Any, str, Any], Any]]] = {}
    _fixed: ClassVar[frozenset[str]] = frozenset()
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        """Show the arguments of ``__init__``: Python 3.10 would show those of ``__new__``."""
        super().__init_subclass__()
        signature = inspect.signature(cls.__init__)
        cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])

    def __new__(cls: type[Made], *args: object, **options: object) -> Made:
        """Refuse an option that there is not, and name the nearest."""
        if options:
            known = cls.__signature__.parameters
            if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                for name in options.keys() - known.keys():
                    near = nearest(name, list(known))
                    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                    raise TypeError(f"{cls.__name__}: there is no option {name}: {hint}")
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Check an option; refuse what would be without effect, but for the attributes of a class of the user's own."""
        check = self._changeable.get(name)
        if check is not None:
            value = check(self, name, value)
        elif name in self._fixed and name in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: {name} is fixed once it is made: make another")
        elif not name.startswith("_") and type(self).__module__ in _CLOSED:
            known = self._changeable.keys() | self._fixed
            if name not in known and name not in dir(type(self)):
                raise AttributeError(f"{type(self).__name__}: {name} cannot be set: {self._instead_of(name, known)}")
        super().__setattr__(name, value)

    def _instead_of(self, name: str, known: Collection[str]) -> str:
        """Return what may have been meant by an attribute that there is not."""
        near = nearest(name, list(known))
        return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self._changeable))}"

    def _made_with(self, kind: type | None = None) -> dict[str, Any]:
        """Return the arguments that would make such an object, or one of the class that it is derived from.

        Those that are as they are by default are left out.
        """
        made: dict[str, Any] = {}
        for p in inspect.signature(kind or type(self)).parameters.values():
            if p.name in self.__dict__:
                value = self.__dict__[p.name]
                if p.default is p.empty or not (value == p.default or value is p.default):
                    made[p.name] = value
        return made

    def _arguments(self) -> str:
        """Return these arguments as they are written in a call."""
        signature = inspect.signature(type(self).__init__).parameters
        made: list[str] = []
        for name, value in self._made_with().items():
            text = f"np.{value}" if name == "dtype" else repr(value)
            made.append(text if signature[name].default is inspect.Parameter.empty else f"{name}={text}")
        return ", ".join(made)
