"""Lets threadpoolctl see and limit fastrnn's threads, without importing it.

``threadpoolctl.threadpool_limits(1)`` then holds for fastrnn as it does for BLAS and OpenMP.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fastrnn import _core

NAME = "threadpoolctl"


def tell_threadpoolctl() -> None:
    """Register fastrnn's controller with threadpoolctl now, or as soon as someone imports it."""
    module = sys.modules.get(NAME)
    if module is None:
        sys.meta_path.insert(0, _OnImport())
    else:
        register(module)


def register(threadpoolctl: Any) -> None:
    """Register the controller with the module ``threadpoolctl``; versions before 3.4 cannot be told."""
    if not hasattr(threadpoolctl, "register"):
        return

    class FastrnnController(threadpoolctl.LibController):  # type: ignore[misc]
        """Controls the threads of fastrnn."""

        user_api = "fastrnn"
        internal_api = "fastrnn"
        # Other packages have a library of this name, too: SciPy, for one.
        filename_prefixes = (os.path.basename(_core.__file__).lower(),)
        check_symbols = ("PyInit__core",)

        def set_additional_attributes(self) -> None:
            if not _same_path(self.filepath, _core.__file__):
                self.dynlib = None  # which has no such symbol

        def get_num_threads(self) -> int:
            return _core.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            _core.set_num_threads(num_threads)

        def get_version(self) -> str:
            return _core.__version__

    threadpoolctl.register(FastrnnController)


def _same_path(one: str, other: str) -> bool:
    a, b = (os.path.normcase(os.path.realpath(path)) for path in (one, other))
    return a == b


class _OnImport:
    """Finds nothing by itself: waits for threadpoolctl to be imported, and adds the registration to its loading."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Another loader, and the registration after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        register(module)
