"""Run the tests on the fastrnn that is installed for this Python: with the newest NumPy, as it is, and with the oldest.

    python .ci/test_installed.py [ARGUMENT_OF_PYTEST ...]

Needs uv, and fastrnn with its extra "test", or what of it the platform has wheels of; changes what is installed.
"""

import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> None:
    print("==", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", *arguments], check=True, cwd=ROOT)


def test() -> None:
    print(f"== fastrnn {version('fastrnn')}, NumPy {version('numpy')}, Python {sys.version}", flush=True)
    run("pytest", *sys.argv[1:])


test()
# The lowest that this Python has a wheel of, with whatever goes with it.
extra = "[test]" if importlib.util.find_spec("sklearn") else ""
lowest = ("--upgrade-package=numpy", "--resolution=lowest-direct", "--only-binary=:all:", "numpy>=1.0")
run("uv", "pip", "install", f"--python={sys.executable}", *lowest, f"fastrnn{extra}=={version('fastrnn')}")
test()
