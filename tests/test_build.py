"""What was built: no foreign floating-point mode, no leaking symbols, no surprising imports, a stub that is true."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn import _core
from isolated import run_code
from problems import CELLS, make_problem, solve

LIBRARY = Path(_core.__file__)
SOURCES = Path(__file__).parents[1]


def run_tool(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("needs_elf", "needs_no_sanitizer")
def test_only_the_entry_point_is_exported() -> None:
    exported = {line.split()[-1] for line in run_tool("nm", "-D", "--defined-only", str(LIBRARY)).splitlines()}
    assert exported == {"PyInit__core"}


@pytest.mark.usefixtures("needs_elf", "needs_no_sanitizer")
def test_links_little() -> None:
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)\]", run_tool("readelf", "-d", str(LIBRARY))))
    # libpthread and libdl are libc's own, apart from it where glibc is older than 2.34.
    allowed = r"(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|ld-linux[-\w]*)\.so\.\d+|libc\.musl-\w+\.so\.1"
    assert all(re.fullmatch(allowed, name) for name in needed), needed


@pytest.mark.usefixtures("needs_elf")
def test_library_does_not_set_fast_math() -> None:
    # crtfastmath.o, which -ffast-math links in, has a constructor of this name that stops all denormals.
    assert "set_fast_math" not in run_tool("nm", "-a", str(LIBRARY))


def shared_symbols(source: Path, target: Path, *options: str) -> set[str]:
    """Return what the linker may pick from an object for others.

    Compiled without optimisation, which emits every inline function that an optimiser might or might not inline.
    """
    compiler = os.environ.get("CXX", "c++")
    run_tool(compiler, "-std=c++17", "-O0", *options, "-c", str(source), "-o", str(target))
    defined = [line.split(maxsplit=2) for line in run_tool("nm", "-C", "--defined-only", str(target)).splitlines()]
    # Lower case is local to the object file; u, v and w are the exceptions: unique and weak symbols. DW.ref is where
    # the C++ library's own handler of exceptions is.
    return {name for _, kind, name in defined if (kind.isupper() or kind in "uvw") and not name.startswith("DW.ref.")}


def compiler_takes(flag: str) -> bool:
    command = (os.environ.get("CXX", "c++"), flag, "-fsyntax-only", "-x", "c++", os.devnull)
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.usefixtures("needs_elf")
@pytest.mark.parametrize("isa", fastrnn.available_isas())
def test_kernels_share_no_symbol(isa: str, tmp_path: Path) -> None:
    """What the kernels of one instruction set define has its name, and the linker can pick nothing of it for others."""
    lists = (SOURCES / "cmake" / "isa.cmake").read_text(encoding="utf-8")
    flags = dict(re.findall(r'fastrnn_isa\((\w+) "([^"]*)"', lists))[isa].split(";")
    options = [f"-DFASTRNN_ISA={isa}", *filter(None, flags)]
    rooms = (SOURCES / "csrc" / "kernels", SOURCES / "csrc" / "product")
    compiled = [(path, options) for room in rooms for path in room.glob("*.cpp")]
    assert len(compiled) >= 4
    for of, name, more in re.findall(r'fastrnn_dots\((\w+) (\w+) "([^"]*)"', lists):
        if of == isa and compiler_takes(more):
            compiled.append((rooms[1] / f"{name}.cpp", [*options, more, f"-DFASTRNN_DOT_{name.upper()}"]))
    shared = {name for path, flags in compiled for name in shared_symbols(path, tmp_path / "kernels.o", *flags)}
    assert {name for name in shared if not name.startswith(f"fastrnn::{isa}::")} == {f"fastrnn::kernel_table_{isa}"}


@pytest.mark.usefixtures("needs_elf")
@pytest.mark.usefixtures("needs_elf")
@pytest.mark.parametrize(
    "shared",
    [
        "inline long least(long a, long b) { return a < b ? a : b; }",
        "template <class T> T least(const T& a, const T& b) { return a < b ? a : b; }",
        "struct Two { long a = 0, b; }; static long least(long a, long b) { Two t; t.b = b; return a < b ? a : t.b; }",
    ],
)
def test_shared_symbols_are_seen(shared: str, tmp_path: Path) -> None:
    source = tmp_path / "shared.cpp"
    source.write_text(
        f"{shared} static long (*const pick)(long, long) = [](long a, long b) {{ return least(a, b); }};\n"
        "static long picked = pick(1, 2); long *kept() { return &picked; }\n"
    )
    assert shared_symbols(source, tmp_path / "shared.o") > {"kept()"}


def test_nothing_in_the_build_asks_for_fast_math() -> None:
    files = [SOURCES / name for name in ("CMakeLists.txt", "pyproject.toml", "noxfile.py", ".ci/run", ".ci/long")]
    files += [p for folder in ("cmake", "csrc") for p in (SOURCES / folder).rglob("*") if p.is_file()]
    flags = re.compile(r"-ffast-math|-Ofast|-funsafe-math-optimizations|/fp:fast|-mdaz-ftz|pragma\s+GCC\s+optimize")
    for path in files:
        if path.exists():
            text = path.read_text(encoding="utf-8")
            code = re.sub(r"(#|//).*", "", text) if path.suffix in (".txt", ".cmake") else text
            assert not flags.search(code), path


def test_import_brings_little() -> None:
    code = """
import sys, numpy
before = set(sys.modules)
import fastrnn
print(*sorted(set(sys.modules) - before))
"""
    loaded = {name for name in run_code(code).split() if name.split(".")[0] != "fastrnn"}
    foreign = {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names | {"numpy"}}
    assert not foreign
    assert not loaded & {"argparse", "asyncio", "concurrent.futures", "multiprocessing", "unittest"}
    own = {name for name in run_code(code).split() if name.split(".")[0] == "fastrnn"}
    assert not own & {"fastrnn.command", "fastrnn.reference", "fastrnn.charlm", "fastrnn.course"}


def test_modules_are_imported_when_they_are_used() -> None:
    for name in ("data", "optim", "reference"):
        run_code(f"import fastrnn, sys; assert 'fastrnn.{name}' not in sys.modules; fastrnn.{name}.__name__")
    with pytest.raises(AttributeError, match="has no attribute 'optimiser'"):
        fastrnn.optimiser  # noqa: B018


def test_stub_matches_the_module(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    # A copy without the extension: mypy refuses to search site-packages by that name, and must not import from here.
    stubs = tmp_path / "stubs"
    shutil.copytree(LIBRARY.parent, stubs / "fastrnn", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    command = [sys.executable, "-m", "mypy.stubtest", "fastrnn._core"]
    env = {**os.environ, "MYPYPATH": str(stubs)}
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert process.returncode == 0, process.stdout + process.stderr


def test_one_spelling_of_every_instruction_set() -> None:
    listed = set(
        re.findall(r"\b(baseline|avx2|avx512|neon)\b", (SOURCES / "cmake" / "isa.cmake").read_text(encoding="utf-8"))
    )
    assert listed == {"baseline", "avx2", "avx512", "neon"}
    assert set(fastrnn.available_isas()) <= listed
    assert fastrnn.isa() in fastrnn.available_isas()
    headers = {path.stem.removeprefix("vec_") for path in (SOURCES / "csrc" / "kernels").glob("vec_*.h")}
    assert headers == listed


def _call_every_cell() -> None:
    for cell in CELLS:
        solve(fastrnn, make_problem(cell, 3, 5, 9, 17))
    print(*fastrnn.available_isas())


@pytest.mark.usefixtures("needs_elf", "needs_no_sanitizer")
@pytest.mark.parametrize(("cpu", "isas"), [("Nehalem", "baseline"), ("Haswell", "avx2 baseline")])
def test_older_processors(cpu: str, isas: str) -> None:
    """Nothing that an emulated older processor lacks is run, by a call or on the way to it."""
    if platform.machine() != "x86_64":
        pytest.skip("the processors are x86-64")
    if not shutil.which("qemu-x86_64"):
        pytest.skip("qemu-user is not installed")
    code = "import test_build; test_build._call_every_cell()"
    # NumPy's OpenBLAS would use the instructions of whatever processor this names.
    command = ("env", "-u", "OPENBLAS_CORETYPE", "qemu-x86_64", "-cpu", cpu, sys.executable)
    assert run_code(code, command=command, timeout=300).strip() == isas


@pytest.mark.parametrize("isa", fastrnn.available_isas())
def test_environment_chooses_the_instruction_set(isa: str) -> None:
    assert run_code("import fastrnn; print(fastrnn.isa())", env={"FASTRNN_ISA": isa}).strip() == isa
