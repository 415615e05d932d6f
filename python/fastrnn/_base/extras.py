"""What is imported only when it is asked for, since not everybody has it."""

from __future__ import annotations

import importlib
from typing import Any

INSTALL = {
    "h5py": 'pip install "fastrnn[keras]"',
    "ml_dtypes": 'pip install "fastrnn[bfloat16]"',
    "onnx": 'pip install "fastrnn[onnx]"',
    # Which of its builds is not ours to choose: by default pip takes one of several gigabytes for graphics cards.
    "torch": "pip install torch --index-url https://download.pytorch.org/whl/cpu",
}


def needed(owner: str, module: str) -> Any:
    """Return a module of a package that is no dependency; ``owner`` is the function that needs it.

    Raises ImportError, in a line that says how to install it, where it is missing.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"{owner} needs {package}, which is not installed: {INSTALL[package]}") from None
    return importlib.import_module(module)
