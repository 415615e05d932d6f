"""Sessions for developers: `nox -s lint tests bench docs asan`. CI is .ci/run."""

import platform

import nox

nox.options.sessions = ["lint", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite on a fresh build with warnings as errors."""
    session.install(".[test]", env={"SKBUILD_CMAKE_DEFINE": "FASTRNN_WERROR=ON"})
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types of Python and C++."""
    session.install(".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    sources = session.run("git", "ls-files", "*.h", "*.cpp", external=True, silent=True)
    session.run("clang-format", "--dry-run", "--Werror", *str(sources).split())
    session.run(".ci/check_forms", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the quick benchmarks and print their table. Install torch beside them by hand to have it compared."""
    session.install(".[bench]")
    session.run("python", "-m", "pytest", "bench", "--quick", "--benchmark-json=bench.json", *session.posargs)
    session.run("python", "bench/table.py", "bench.json")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages of docs/ into build/docs; a warning is an error."""
    session.install(".[docs]")
    session.run("sphinx-build", "-W", "-q", "docs", "build/docs", *session.posargs)


@nox.session
def asan(session: nox.Session) -> None:
    """Run the C++ tests under ThreadSanitizer, and then all tests under AddressSanitizer and UBSan. Needs Clang."""
    session.install("cmake", "ninja")
    for sanitizer in ("thread", "address"):
        build = f"{session.create_tmp()}/{sanitizer}"
        options = ("-DFASTRNN_BUILD_TESTS=ON", "-DCMAKE_CXX_COMPILER=clang++", f"-DFASTRNN_SANITIZE={sanitizer}")
        session.run("cmake", "-G", "Ninja", "-S", ".", "-B", build, *options)
        session.run("cmake", "--build", build)
        session.run("ctest", "--test-dir", build, "--output-on-failure")
    session.install(".[test]", env={"CXX": "clang++", "SKBUILD_CMAKE_DEFINE": "FASTRNN_SANITIZE=address"})
    name = f"libclang_rt.asan-{platform.machine()}.so"
    runtime = session.run("clang++", f"-print-file-name={name}", external=True, silent=True)
    # Nobody has asked the interpreter to free everything at its end; too much memory is a MemoryError, not the end.
    asan_options = "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=16384"
    session.run(
        *("python", "-m", "pytest", *session.posargs),
        env={"LD_PRELOAD": str(runtime).strip(), "ASAN_OPTIONS": asan_options, "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
