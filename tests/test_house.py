"""Who may know whom: applications know the library, the library its base, and nothing knows what stands on it."""

from __future__ import annotations

import ast
import graphlib
import shutil
import sys
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
LIBRARY = {"calls", "data", "files", "functional", "layers", "losses", "modules", "nets", "optim", "saved", "streams"}
# Whom each part, a package or a module of its own, may know besides itself; "fastrnn" is what `import fastrnn` runs.
MAY_KNOW: dict[str, set[str]] = {
    "_base": {"_core"},
    "_layer": {"_core", "_base"},
    **{name: {"_core", "_base", "_layer", *LIBRARY} for name in ("fastrnn", *LIBRARY)},
    "fastrnn": {"_core", "_base", "_layer", *LIBRARY, "convert"},
    "convert": {"_base", "torch", *LIBRARY},
    "torch": {"_core", "_base", "_layer", *LIBRARY},
    "charlm": {"fastrnn", *LIBRARY},
    "course": {"fastrnn", *LIBRARY, "charlm"},
    "command": {"fastrnn", *LIBRARY, "convert", "charlm", "course", "_base.startup"},
    "__main__": {"command"},
    "reference": set(),
}
# And which other packages: applications whatever they need. What tells the command's errors is there before NumPy is.
STANDARD = set(sys.stdlib_module_names)
MAY_IMPORT = {part: {*STANDARD, "numpy"} for part in ("_base", "_layer", "fastrnn", *LIBRARY)} | {
    "files": {*STANDARD, "numpy", "safetensors"},
    "reference": {"numpy", "typing", "collections"},
    "torch": {*STANDARD, "numpy", "torch"},
}
FIRST = "_base.startup"

Imports = dict[str, set[str]]  # by module: "layers", "_base.checks"; those of other packages have their dots in front


def imports_of(package: Path) -> Imports:
    """Return what every module imports, wherever in it and whatever for: types too, and what is imported late."""
    paths = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    paths = {name.removesuffix("__init__").removesuffix(".") or "fastrnn": path for name, path in paths.items()}
    known = {*paths, "_core"}

    def own(name: str) -> str:
        """Return the module that a name under fastrnn is of: it may be something in a module."""
        while name not in known and name:
            name = name.rpartition(".")[0]
        return name or "fastrnn"

    def found(path: Path) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = ("fastrnn", *path.parent.relative_to(package).parts)
                start = ".".join(above[: len(above) + 1 - node.level]) if node.level else ""
                source = ".".join(filter(None, (start, node.module)))
                names |= {f"{source}.{alias.name}" for alias in node.names}
        return {
            own(name.removeprefix("fastrnn").removeprefix(".")) if name.split(".")[0] == "fastrnn" else f".{name}"
            for name in names
        }

    return {name: found(path) - {name} for name, path in paths.items()}


def part_of(module: str) -> str:
    return module.partition(".")[0]


def wrong(imports: Imports) -> list[str]:
    """Return every import that should not be there."""

    def may(module: str, name: str) -> bool:
        part = part_of(module)
        if name.startswith("."):
            return name.split(".")[1] in (STANDARD if module == FIRST else MAY_IMPORT.get(part, {name.split(".")[1]}))
        return module != FIRST and bool({name, part_of(name)} & {part, *MAY_KNOW[part]})

    return [f"{module} imports {name}" for module, names in imports.items() for name in names if not may(module, name)]


def circle(imports: Imports) -> list[str]:
    """Return modules or parts of which each imports the next, and the last is the first, if there are any."""
    by_module = {module: {name for name in names if not name.startswith(".")} for module, names in imports.items()}
    by_part: Imports = {part_of(module): set() for module in imports}
    for module, names in by_module.items():
        by_part[part_of(module)] |= {part_of(name) for name in names} - {part_of(module)}
    return circle_in(by_module) or circle_in(by_part)


def circle_in(graph: Imports) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_everything_has_its_place() -> None:
    assert {part_of(module) for module in imports_of(PACKAGE)} == MAY_KNOW.keys()


def test_nobody_knows_what_stands_on_it() -> None:
    assert wrong(imports_of(PACKAGE)) == []


def test_there_is_no_circle() -> None:
    assert circle(imports_of(PACKAGE)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("calls.py", "if TYPE_CHECKING:\n    from .layers import Layer"),
        ("_layer/spec.py", "from fastrnn.layers import Layer"),
        ("_base/parts.py", "def f():\n    from fastrnn import modules"),
        ("_base/startup.py", "import numpy"),
        ("_base/startup.py", "from .checks import Array"),
        ("__init__.py", "from . import charlm"),
        ("losses.py", "import fastrnn.reference"),
        ("losses.py", "import scipy.special"),
        ("optim.py", "from . import charlm"),
        ("charlm/text.py", "from fastrnn.command.arguments import count"),
        ("charlm/model.py", "from fastrnn._layer.spec import Spec"),
        ("course/page.py", "from fastrnn._core import forward"),
        ("torch/calls.py", "from fastrnn.convert import from_torch"),
        ("torch/calls.py", "import onnx"),
        ("reference/lstm.py", "from .. import _core"),
        ("reference/lstm.py", "import scipy.special"),
    ],
)
def test_a_wrong_import_is_seen(module: str, line: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "fastrnn", ignore=shutil.ignore_patterns("*.so", "*.pyd")))
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert wrong(imports_of(copy)) or circle(imports_of(copy))


@pytest.mark.parametrize(("module", "other"), [("_layer/own.py", "spec"), ("charlm/text.py", "train")])
def test_a_circle_is_seen(module: str, other: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "fastrnn", ignore=shutil.ignore_patterns("*.so", "*.pyd")))
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\nfrom .{other} import something\n")
    assert wrong(imports_of(copy)) == []
    assert circle(imports_of(copy))
