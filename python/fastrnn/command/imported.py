"""Models of others: what the importers say of them, in the words of the command line."""

import ast
import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from fastrnn.charlm.errors import UserError, printable

from .output import quoted

TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
ARGUMENT = re.compile(rf"\b(prefix|name|node|nonlinearity|activations)=({TEXT}|\[[^\[\]]*\]|\((?:[^()]|\([^()]*\))*\))")
CHOICE = re.compile(r"^(?:prefix|name|node) is ")
OWNER = re.compile(r"^(?:from_torch|from_keras|from_onnx|find_nets): ")
NEEDS = re.compile(r"^(?:from_torch|from_keras|from_onnx|find_nets) needs ")
CODE = re.compile(r"(?:what )?(torch\..+?)(?: returns)? is the source to give$")


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Have errors and warnings of an importer that reads this file told in a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except (TypeError, ValueError, ImportError) as error:
            raise UserError(in_the_shell(str(error))) from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"fastrnn: {printable(in_the_shell(message))}", file=sys.stderr)


def in_the_shell(message: str) -> str:
    """Return a message with options of the command for arguments in Python."""
    message = NEEDS.sub("this needs ", OWNER.sub("", message))
    message = CHOICE.sub("--net is ", message).replace("reset_after=True or False", "--reset-after yes or no")
    message = CODE.sub(r"in Python, fastrnn.from_torch(\1).save(OUT) makes a file for fastrnn", message)
    return ARGUMENT.sub(_option, message)


def _option(match: re.Match[str]) -> str:
    argument = match[1]
    try:
        value: Any = ast.literal_eval(match[2])
    except (ValueError, SyntaxError):  # of a name that has brackets in it
        return match[0]
    if argument == "nonlinearity":
        return f"--nonlinearity {value}"
    if argument == "activations":
        each = (one if isinstance(one, str) else ",".join(map(str, one)) for one in value)
        return f"--activations {quoted(' '.join(each))}"
    return " ".join(f"--net {quoted(name)}" for name in ([value] if isinstance(value, str) else value))
