"""Sessions for developers: `nox -s lint tests bench docs asan`. CI is .ci/run."""

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
    """Run the C++ tests under AddressSanitizer and UBSan, then under ThreadSanitizer."""
    session.install("cmake", "ninja")
    for name, flags in {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}.items():
        build = f"{session.create_tmp()}/{name}"
        session.run(
            *("cmake", "-G", "Ninja", "-S", ".", "-B", build, "-DCMAKE_BUILD_TYPE=RelWithDebInfo"),
            *("-DFASTRNN_BUILD_TESTS=ON", f"-DCMAKE_CXX_FLAGS={flags}"),
        )
        session.run("cmake", "--build", build)
        session.run("ctest", "--test-dir", build, "--output-on-failure")
