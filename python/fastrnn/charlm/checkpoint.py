"""The model file: safetensors, written atomically, and checked when read.

Tensors (float32):
  <weight>                    the model: the weights to predict with, under PyTorch's names
  training.<weight>           the weights that training goes on with
  average.<weight>            their running average
  adam_m.<weight>, adam_v.<weight>
  carried.h, carried.c        (L, B, H): the state after the last step
  history (float64)           (n, 3): step, bits per character in training and held-out, of every evaluation

Metadata, under the one key ``fastrnn.charlm``, as JSON: version, settings, vocabulary, step, loss_sum, fingerprint of
the text, samples (step, held_out, text; absent in older files), and a checksum of all of these and the tensors.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from fastrnn.files import write_atomically

from .errors import ModelFileError, SaveError, SettingsError, TextError
from .model import Array, CharModel, state_shapes, weight_shapes
from .settings import Settings
from .text import code_points

KEY = "fastrnn.charlm"
VERSION = 2
# Parsing JSON can take twenty times its size in memory. The largest vocabulary fits in this twice.
LARGEST_HEADER = 1 << 20
GROUPS = ("", "training.", "average.", "adam_m.", "adam_v.")
STATES = ("carried.h", "carried.c")


@dataclass(frozen=True)
class Sample:
    """What the model wrote on the way."""

    step: int
    held_out: float  # bits per character
    text: str


@dataclass(frozen=True)
class TrainingState:
    """What training needs to go on as if it had never stopped."""

    step: int
    loss_sum: float
    fingerprint: str
    carried: tuple[Array, ...]  # (L, B, H) of h, and of c where there is one
    history: Array  # (n, 3)
    samples: tuple[Sample, ...]  # in the order of their steps
    weights: dict[str, Array]
    average: dict[str, Array]
    adam_m: dict[str, Array]
    adam_v: dict[str, Array]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a model file."""

    settings: Settings
    vocabulary: str
    weights: dict[str, Array]
    training: TrainingState

    def model(self, dtype: npt.DTypeLike = np.float32) -> CharModel:
        """Return the model to predict with."""
        model = CharModel(self.settings, len(self.vocabulary), dtype)
        model.load_state_dict(self.weights)
        return model


def save(path: str, checkpoint: Checkpoint) -> None:
    """Write the model file: whenever the process ends, ``path`` holds either what it held before or all of the new.

    Raises :class:`SaveError`, after which ``path`` is as it was.
    """
    training = checkpoint.training
    groups = (checkpoint.weights, training.weights, training.average, training.adam_m, training.adam_v)
    tensors = {prefix + name: w for prefix, group in zip(GROUPS, groups, strict=True) for name, w in group.items()}
    tensors |= dict(zip(STATES, training.carried, strict=False))
    tensors["history"] = training.history
    from safetensors.numpy import save as tensor_bytes

    about: dict[str, Any] = {
        "version": VERSION,
        "settings": dataclasses.asdict(checkpoint.settings),
        "vocabulary": checkpoint.vocabulary,
        "step": training.step,
        "loss_sum": training.loss_sum,
        "fingerprint": training.fingerprint,
        "samples": [dataclasses.asdict(sample) for sample in training.samples],
    }
    about["checksum"] = checksum(about, tensors)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        write_atomically(path, tensor_bytes(contiguous, {KEY: json.dumps(about, ensure_ascii=False)}))
    except OSError as error:
        raise SaveError(f"cannot save {path}: {error.strerror}") from None


def check_writable(path: str) -> None:
    """Raise :class:`SaveError` if saving at ``path`` is bound to fail, or would replace a file that is not a model."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise SaveError(f"cannot save {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise SaveError(f"cannot save {path}: the folder {folder} is not writable")
    if os.path.lexists(path):
        try:
            with open_model(path):
                pass
        except ModelFileError as error:
            raise SaveError(f"will not replace {path}, which is not a model: {error}") from None


def is_one(path: str) -> bool:
    """Return whether a file says that it is a character model; it may be damaged all the same."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):  # such as a pipe, which would wait for whoever writes to it
        return False
    try:
        with safe_open(path, "np") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):  # the last of a name that no file can have
        return False


def load(path: str) -> Checkpoint:
    """Read a model file, checking everything in it.

    Raises :class:`ModelFileError`, and nothing else, for a file that is missing, damaged, or not a character model.
    Takes memory of about twice the size of the file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as tensors_in

    with open_model(path) as (file, about):
        settings, vocabulary = settings_of(path, about), vocabulary_of(path, about)
        file.seek(0)
        data = file.read()
    try:
        tensors: dict[str, Array] = tensors_in(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        damaged(path, str(error))
    del data
    check_tensors(path, tensors, settings, len(vocabulary))
    if about.pop("checksum", None) != checksum(about, tensors):
        damaged(path, "the checksum does not match")
    step, loss_sum, fingerprint = (about.get(key) for key in ("step", "loss_sum", "fingerprint"))
    if type(step) is not int or not 0 <= step < 1 << 53:
        damaged(path, "step is not a count")
    if type(loss_sum) is not float or not math.isfinite(loss_sum):
        damaged(path, "loss_sum is not a finite number")
    if type(fingerprint) is not str:
        damaged(path, "fingerprint is not a string")
    samples = samples_of(path, about, step)
    names = weight_shapes(settings, len(vocabulary))
    weights, *training = ({name: tensors[prefix + name] for name in names} for prefix in GROUPS)
    carried = tuple(tensors[name] for name in STATES if name in tensors)
    state = TrainingState(step, loss_sum, fingerprint, carried, tensors["history"], samples, *training)
    return Checkpoint(settings, vocabulary, weights, state)


@contextlib.contextmanager
def open_model(path: str) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    """Open a model file; yields it with its metadata, of which only the version has been checked."""
    try:
        # Not to be opened before: a pipe would wait for whoever writes to it.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ModelFileError(f"{path} is {'a directory' if stat.S_ISDIR(mode) else 'not a regular file'}")
        with open(path, "rb") as file:
            yield file, metadata(path, file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a NUL byte in the path
        raise ModelFileError(f"{path!r} is not the name of a file") from None


def metadata(path: str, file: BinaryIO, size: int) -> dict[str, Any]:
    """Read what a model file says about itself."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= size - 8:
        raise ModelFileError(f"{path} is not a model: it is not a safetensors file, or cut short")
    if length > LARGEST_HEADER:
        raise ModelFileError(f"{path} is not a model: its header is too large")
    header = parse(path, file.read(length))
    about = header.get("__metadata__")
    if not isinstance(about, dict) or not isinstance(about.get(KEY), str):
        raise ModelFileError(f"{path} is a safetensors file, but not a model that fastrnn train or demo wrote")
    content = parse(path, about[KEY])
    if content.get("version") != VERSION:
        raise ModelFileError(f"{path} has format version {content.get('version')!r}; this fastrnn reads {VERSION}")
    return content


def parse(path: str, document: str | bytes) -> dict[str, Any]:
    """Return a JSON object; NaN and infinities are refused."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        content = json.loads(document, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path} is not a model: it is not a safetensors file, or damaged") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} is not a model: it is not a safetensors file, or damaged")
    return content


def settings_of(path: str, about: Mapping[str, Any]) -> Settings:
    """Return the settings in the metadata."""
    fields = about.get("settings")
    if not isinstance(fields, dict) or fields.keys() != {field.name for field in dataclasses.fields(Settings)}:
        damaged(path, "the settings are not complete")
    try:
        return Settings(**fields)
    except SettingsError as error:
        damaged(path, str(error))


def vocabulary_of(path: str, about: Mapping[str, Any]) -> str:
    """Return the vocabulary in the metadata."""
    vocabulary = about.get("vocabulary")
    if not isinstance(vocabulary, str) or not vocabulary:
        damaged(path, "the vocabulary is missing")
    try:
        codes = code_points(vocabulary)
    except TextError as error:
        damaged(path, str(error))
    if (codes[1:] <= codes[:-1]).any():
        damaged(path, "the vocabulary is not in order")
    return vocabulary


def samples_of(path: str, about: Mapping[str, Any], steps: int) -> tuple[Sample, ...]:
    """Return the samples in the metadata: none in files from before there were any."""
    entries = about.get("samples", [])
    if not isinstance(entries, list):
        damaged(path, "the samples are not a list")
    samples: list[Sample] = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != {field.name for field in dataclasses.fields(Sample)}:
            damaged(path, "a sample is not complete")
        sample = Sample(**entry)
        if type(sample.step) is not int or not (samples[-1].step if samples else 0) < sample.step <= steps:
            damaged(path, "the steps of the samples are not in order")
        if type(sample.held_out) is not float or not math.isfinite(sample.held_out):
            damaged(path, "the bits of a sample are not a finite number")
        if type(sample.text) is not str:
            damaged(path, "a sample is not text")
        try:
            code_points(sample.text)
        except TextError as error:
            damaged(path, str(error))
        samples.append(sample)
    return tuple(samples)


def check_tensors(path: str, tensors: Mapping[str, Array], settings: Settings, vocabulary: int) -> None:
    """Raise :class:`ModelFileError` unless there is every tensor, of the right shape and dtype, with sound values."""
    weights = weight_shapes(settings, vocabulary)
    expected = {prefix + name: shape for prefix in GROUPS for name, shape in weights.items()}
    expected |= dict(zip(STATES, state_shapes(settings), strict=False))
    expected["history"] = (*(tensors["history"].shape[:1] if "history" in tensors else ()), 3)
    if tensors.keys() != expected.keys():
        damaged(path, f"tensors are missing or unknown: {', '.join(sorted(tensors.keys() ^ expected.keys()))}"[:200])
    for name, shape in expected.items():
        tensor, dtype = tensors[name], np.dtype(np.float64 if name == "history" else np.float32)
        if tensor.shape != shape or tensor.dtype != dtype:
            damaged(path, f"{name} has shape {tensor.shape}, dtype {tensor.dtype}; expected {shape}, {dtype}")
        if not np.isfinite(tensor).all():
            damaged(path, f"{name} is not finite")
        if name.startswith("adam_v.") and (tensor < 0).any():
            damaged(path, f"{name} is negative")


def checksum(about: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of the metadata and the tensors."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def damaged(path: str, reason: str) -> NoReturn:
    """Raise :class:`ModelFileError`."""
    raise ModelFileError(f"{path} is damaged: {reason}")
