"""Where the text comes from, and how it becomes tokens.

A token is the index of a character in the vocabulary; the vocabulary is every character of the text once, in code point
order. "Character" means Unicode code point: combining marks are characters of their own.
"""

import contextlib
import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import TextError

Tokens = npt.NDArray[Any]  # of an unsigned integer dtype, the smallest that holds the vocabulary

HELD_OUT_SHARE = 0.05
HELD_OUT_LIMIT = 100_000  # characters: enough to know bits per character to within 0.01
STRETCHES = 16
SHORTEST_TEXT = 100
LARGEST_VOCABULARY = 1 << 17
BUILTIN_LIMIT = 1_000_000  # characters of the standard library's sources, where they stand in


@dataclass(frozen=True)
class Corpus:
    """A text as tokens, with a part of it held out.

    The text is cut into ``K`` stretches of equal length, and the end of each is held out, so that what is measured on
    comes from all over the text: files often end in an index or a licence.
    """

    vocabulary: str
    train: Tokens  # (N,)
    held_out: Tokens  # (L, K): a column is the end of one stretch
    fingerprint: str  # SHA-256 of the whole text


def read_files(paths: Sequence[str]) -> str:
    """Return the text of all files, one after the other.

    Raises :class:`TextError` for a file that is missing, unreadable, empty, or not UTF-8 text.
    """
    return "\n".join(map(read_file, paths))


def read_file(path: str) -> str:
    r"""Return the text of one UTF-8 file, without byte order mark and with line ends as ``\\n``."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise TextError(f"{path} is a directory, not a text file")
        if stat.S_ISCHR(mode) and not os.path.samefile(path, os.devnull):
            raise TextError(f"{path} is a device, not a text file")
        if stat.S_ISFIFO(mode):
            print(f"fastrnn: reading {path}, a pipe, to its end", file=sys.stderr, flush=True)
        data = Path(path).read_bytes()
    except ValueError:  # a NUL byte in the path
        raise TextError(f"{path!r} is not the name of a file") from None
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise TextError(f"{path} is empty")
    nul = data.find(0)
    if nul >= 0:
        raise TextError(f"{path} is not text: it has a NUL byte at offset {nul}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} is not UTF-8 text: bad byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def builtin_text() -> tuple[str, str]:
    """Return a text that every Python carries, and what it is: ``(name, text)``."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return "the sources of Python's standard library", library_sources()[:BUILTIN_LIMIT]
    text = "\n\n".join(topics[name] for name in sorted(topics))
    return "the Python language reference", without_repeats(text)


def without_repeats(text: str) -> str:
    """Return the text without paragraphs that came before.

    A fifth of ``pydoc_data.topics`` is repeated from topic to topic; what is held out must not be there for learning.
    """
    first: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        first.setdefault(paragraph.strip(), paragraph)
    return "\n\n".join(first.values())


def library_sources() -> str:
    """Return the sources of the standard library: its modules of one file, in the order of their names.

    Raises :class:`TextError` where there are none.
    """
    parts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        with contextlib.suppress(TextError):  # an empty file, or one in another encoding
            parts.append(read_file(str(path)))
    if not parts:
        raise TextError("this Python carries no text to train on: name a text file")
    return "\n\n".join(parts)


def make_corpus(text: str) -> Corpus:
    """Return the text as tokens. Raises :class:`TextError` if there is too little of it."""
    if len(text) < SHORTEST_TEXT:
        raise TextError(f"{len(text)} characters are too few to learn from; at least {SHORTEST_TEXT} are needed")
    codes = code_points(text)
    present = np.flatnonzero(np.bincount(codes))
    if len(present) > LARGEST_VOCABULARY:
        raise TextError(f"{len(present)} different characters are too many; at most {LARGEST_VOCABULARY} are possible")
    tokens = encode(codes, present)
    held_out_total = min(round(len(tokens) * HELD_OUT_SHARE), HELD_OUT_LIMIT)
    stretches = max(1, min(STRETCHES, held_out_total // STRETCHES))
    length = len(tokens) // stretches
    keep = length - held_out_total // stretches
    rows = tokens[: stretches * length].reshape(stretches, length)
    return Corpus(
        vocabulary="".join(map(chr, present)),
        train=np.concatenate([rows[:, :keep].ravel(), tokens[stretches * length :]]),
        held_out=np.ascontiguousarray(rows[:, keep:].T),
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
    )


def corpus_of(files: Sequence[str]) -> Corpus:
    """Return the text of the files, or without any the built-in one, ready for training. Raises :class:`TextError`."""
    return make_corpus(read_files(files) if files else builtin_text()[1])


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """Return the Unicode code points of the text, (N,). Raises :class:`TextError` for lone surrogates."""
    try:
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint32, copy=False)
    except UnicodeEncodeError as error:
        raise TextError(f"the text is not valid Unicode: lone surrogate at character {error.start}") from None


def encode(codes: npt.NDArray[np.uint32], vocabulary: npt.NDArray[Any]) -> Tokens:
    """Return the tokens of code points that are all in the vocabulary (V,), which is sorted."""
    token_of = np.zeros(int(vocabulary[-1]) + 1, dtype=np.min_scalar_type(len(vocabulary) - 1))
    token_of[vocabulary] = np.arange(len(vocabulary))
    return token_of[codes]


def encode_text(text: str, vocabulary: str) -> Tokens:
    """Return the tokens of a text, (N,). Raises :class:`TextError` that names characters the vocabulary lacks."""
    codes = code_points(text)
    unknown = sorted(set(text) - set(vocabulary))
    if unknown:
        shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise TextError(f"the model has never seen {shown}{more}")
    return encode(codes, code_points(vocabulary))
