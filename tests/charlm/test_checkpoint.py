"""The model file: what is saved is loaded, nothing else is, and nothing saved before is ever lost."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import small

from fastrnn.charlm.checkpoint import (
    KEY,
    LARGEST_HEADER,
    Checkpoint,
    check_writable,
    checksum,
    load,
    save,
)
from fastrnn.charlm.errors import ModelFileError, SaveError
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.charlm.text import LARGEST_VOCABULARY, make_corpus
from fastrnn.charlm.train import Trainer
from fastrnn.files import write_atomically
from isolated import run_code


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model file."""
    path = tmp_path / "model.safetensors"
    save(str(path), small.advance(small.trainer(), 40).checkpoint())
    return path


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [0, 40])
def test_what_is_saved_is_loaded(cell: str, steps: int, tmp_path: Path) -> None:
    saved = small.advance(small.trainer(cell=cell), steps).checkpoint()
    path = str(tmp_path / "model")
    save(path, saved)
    small.assert_same(load(path), saved)


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(str(tmp_path / name), small.advance(small.trainer(), 40).checkpoint())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_from_before_there_were_samples_are_loaded(model: Path) -> None:
    rewrite(model, lambda about, _: about.pop("samples"))
    assert load(str(model)).training.samples == ()


def test_the_largest_vocabulary_can_be_loaded_again(tmp_path: Path) -> None:
    content = "".join(chr(code) for code in range(0x10000, 0x10000 + LARGEST_VOCABULARY))
    run = Trainer(Settings(hidden=1, batch=1, steps=1, cell="rnn"), make_corpus(content))
    save(str(tmp_path / "model"), run.checkpoint())
    assert load(str(tmp_path / "model")).vocabulary == content


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_links_stay_links_and_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "model")
    before = os.umask(0o027)
    try:
        write_atomically(str(tmp_path / "link"), b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "model").read_bytes() == b"content"
    assert (tmp_path / "folder" / "model").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(name: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, full)
    with pytest.raises(SaveError, match="No space left on device"):
        save(str(model), small.trainer().checkpoint())
    assert model.read_bytes() == before
    assert os.listdir(model.parent) == [model.name]


def test_an_interrupt_while_saving_loses_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.read_bytes()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(str(model), small.trainer().checkpoint())
    assert model.read_bytes() == before
    assert os.listdir(model.parent) == [model.name]


def test_what_is_not_a_model_is_not_replaced(model: Path, tmp_path: Path) -> None:
    check_writable(str(model))
    check_writable(str(tmp_path / "new"))
    (tmp_path / "novel.txt").write_text("Call me Ishmael.")
    with pytest.raises(SaveError, match="will not replace"):
        check_writable(str(tmp_path / "novel.txt"))
    with pytest.raises(SaveError, match="there is no folder"):
        check_writable(str(tmp_path / "nowhere" / "model"))
    with pytest.raises(SaveError):
        check_writable(str(tmp_path))


def kill_while_saving(path: str) -> None:
    """Kill a child that saves again and again, 100 times, and load what it leaves."""
    checkpoints = [small.advance(small.trainer(hidden=64), steps).checkpoint() for steps in (1, 2)]
    save(path, checkpoints[0])
    rng, folder, killed = np.random.default_rng(0), os.path.dirname(path), 0
    for _ in range(100):
        ready, begin = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(begin, b"!")
            while True:
                for checkpoint in checkpoints:
                    save(path, checkpoint)
        os.read(ready, 1)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(begin)
        found = load(path)
        small.assert_same(found, checkpoints[found.training.step - 1])
        # A child killed in the middle of writing leaves its temporary file; the next one removes it.
        left = len(os.listdir(folder)) - 1
        assert left <= 1
        killed += left
    assert killed > 0
    save(path, checkpoints[0])
    assert os.listdir(folder) == [os.path.basename(path)]


def test_killed_while_saving_it_always_loads(tmp_path: Path, needs_fork: None) -> None:
    here, path = str(Path(__file__).parent), str(tmp_path / "model")
    code = (
        f"import sys; sys.path.insert(0, {here!r}); import test_checkpoint; test_checkpoint.kill_while_saving({path!r})"
    )
    run_code(code, timeout=120)


def test_mutated_files_are_refused(tmp_path: Path) -> None:
    """20,000 damaged files: each gives ModelFileError, or, if the damage changes nothing, the same model."""
    path = tmp_path / "model"
    checkpoint = small.advance(small.trainer(hidden=2, batch=1, cell="gru"), 3).checkpoint()
    save(str(path), checkpoint)
    sound = path.read_bytes()
    header = 8 + struct.unpack("<Q", sound[:8])[0]
    rng = np.random.default_rng(0)
    harmless = 0
    messages = []
    for round_ in range(20_000):
        data = bytearray(sound)
        kind = round_ % 5
        if kind == 0:  # a bit of the header
            data[rng.integers(header)] ^= 1 << rng.integers(8)
        elif kind == 1:  # a bit anywhere
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif kind == 2:  # bytes replaced, more of them in the header
            for _ in range(rng.integers(1, 6)):
                data[rng.integers(header if rng.random() < 0.7 else len(data))] = rng.choice(
                    list(b'"{}[],:0-9eE\\\0\xff')
                )
        elif kind == 3:  # cut short, or longer
            cut = rng.integers(len(data))
            data = data[:cut] if rng.random() < 0.7 else data + bytes(rng.bytes(1 + cut % 40))
        else:  # a part moved over another
            size = rng.integers(1, 40)
            at, to = rng.integers(0, header, 2)
            data[to : to + size] = data[at : at + size]
        path.write_bytes(data)
        try:
            loaded = load(str(path))
        except ModelFileError as error:
            messages.append(str(error))
        else:
            harmless += 1
            small.assert_same(loaded, checkpoint)
    assert not any("\n" in message for message in messages)
    assert harmless < 400  # bytes replaced by themselves, and parts moved over their like


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def setting(name: str, value: Any) -> Change:
    return lambda about, _: about["settings"].update({name: value})


def field(name: str, value: Any) -> Change:
    return lambda about, _: about.update({name: value})


def sample(name: str, value: Any) -> Change:
    return lambda about, _: about["samples"][1].update({name: value})  # of steps 16 and 32


def tensor(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda _, tensors: tensors.update({name: change(tensors[name])})


def poke(name: str, value: float) -> Change:
    def change(array: Any) -> Any:
        array = array.copy()
        array.flat[0] = value
        return array

    return tensor(name, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("hidden", 6), "shape"),
        (setting("hidden", 10**30), "hidden"),
        (setting("hidden", "5"), "hidden"),
        (setting("batch", 3), "carried.h has shape"),
        (setting("layers", 65), "layers"),
        (setting("cell", "gru"), "shape|missing"),
        (setting("lr", math_nan := float("nan")), "damaged"),
        (setting("lr", 10**400), "lr"),
        (setting("clip", None), "clip"),
        (setting("colour", 1), "settings are not complete"),
        (field("settings", []), "settings are not complete"),
        (field("version", 3), "version 3"),
        (field("vocabulary", "abc"), "shape"),
        (field("vocabulary", "ba"), "not in order"),
        (field("vocabulary", "aa"), "not in order"),
        (field("vocabulary", "\ud800"), "damaged"),
        (field("vocabulary", ""), "missing"),
        (field("vocabulary", None), "missing"),
        (field("step", -1), "step"),
        (field("step", 1.5), "step"),
        (field("step", True), "step"),
        (field("step", 1 << 60), "step"),
        (field("loss_sum", math_nan), "damaged"),
        (field("loss_sum", "0"), "loss_sum"),
        (field("fingerprint", 5), "fingerprint"),
        (field("samples", {}), "samples are not a list"),
        (sample("step", 41), "steps of the samples"),
        (sample("step", 16), "steps of the samples"),
        (sample("step", True), "steps of the samples"),
        (sample("held_out", "4"), "bits of a sample"),
        (sample("held_out", math_nan), "damaged"),
        (sample("text", None), "not text"),
        (sample("text", "\ud800"), "damaged"),
        (lambda about, _: about["samples"][0].pop("text"), "sample is not complete"),
        (poke("rnn.weight_hh_l0", np.nan), "weight_hh_l0 is not finite"),
        (poke("training.decoder.bias", np.inf), "not finite"),
        (poke("adam_v.decoder.bias", -1.0), "negative"),
        (poke("history", np.nan), "not finite"),
        (tensor("history", lambda a: a.reshape(-1, 1)), "history has shape"),
        (tensor("history", lambda a: np.zeros(())), "history has shape"),
        (tensor("history", lambda a: a.astype(np.float32)), "history has .*float32"),
        (tensor("decoder.bias", lambda a: a.astype(np.float64)), "float64"),
        (tensor("decoder.bias", lambda a: a.view(np.int32)), "int32"),
        (tensor("decoder.weight", lambda a: a.T), "shape"),
        (lambda _, tensors: tensors.pop("average.rnn.bias_ih_l0"), "missing"),
        (lambda _, tensors: tensors.update(extra=np.zeros(3)), "unknown: extra"),
    ],
)
def test_whole_files_with_wrong_content_are_refused(change: Change, message: str, model: Path) -> None:
    """As above, but with a checksum that fits, as if someone had meant it."""
    rewrite(model, change)
    with pytest.raises(ModelFileError, match=message):
        load(str(model))


def rewrite(model: Path, change: Change) -> None:
    """Change a model file, and give it a checksum that fits."""
    tensors = safetensors.numpy.load_file(model)
    about = header_of(model)
    del about["checksum"]
    change(about, tensors)
    about["checksum"] = checksum(about, tensors)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, model, {KEY: json.dumps(about)})


def header_of(path: Path) -> dict[str, Any]:
    """What the file says about itself, read without fastrnn."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    about: dict[str, Any] = json.loads(header["__metadata__"][KEY])
    return about


def raw(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345678",
        b"PK\x03\x04" + bytes(100),  # a zip file: torch.save, numpy.savez
        b"\x80\x04\x95" + bytes(100),  # a pickle
        raw(b"{}"),
        raw(b"[]"),
        raw(b"{}", 1 << 63),
        raw(b"{}", (1 << 64) - 1),
        raw(b"[" * 100_000),
        raw(b'{"__metadata__":' * 10_000),
        raw(b'{"__metadata__":{"' + KEY.encode() + b'":"' + b"[" * 100_000 + b'"}}'),
        raw(b"1" * 10_000),
        raw(b" " * (LARGEST_HEADER + 1)),
        raw("{}".encode("utf-16")),
    ],
)
def test_foreign_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelFileError):
        load(str(tmp_path / "file"))


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.zeros(3)}, tmp_path / "file", {"format": "pt"})
    with pytest.raises(ModelFileError, match="not a model that fastrnn train or demo wrote"):
        load(str(tmp_path / "file"))


@pytest.mark.parametrize("path", ["missing", ".", "/dev/null", "no\0name"])
def test_paths_that_are_not_files(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError):
        load(path)


def peak_of(action: Callable[[], object]) -> int:
    """The most memory that Python and NumPy held at a time."""
    tracemalloc.start()
    try:
        with contextlib.suppress(ModelFileError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_loading_takes_twice_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(str(path), small.trainer(hidden=512).checkpoint())
    size = path.stat().st_size
    assert size > 20e6
    assert peak_of(lambda: load(str(path))) < 2 * size + (1 << 19)


def test_a_foreign_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(raw(b'{"__metadata__":{}}'))
    os.truncate(path, 1 << 40)  # of which the disk holds nothing
    assert peak_of(lambda: load(str(path))) < 1 << 20


def test_a_model_can_be_used_without_fastrnn(model: Path) -> None:
    """The names, the dtypes and the metadata are as documented."""
    tensors = safetensors.numpy.load_file(model)
    about = header_of(model)
    assert about["vocabulary"] == small.corpus().vocabulary
    assert about["settings"] == dataclasses.asdict(small.SETTINGS)
    checkpoint: Checkpoint = load(str(model))
    for name in (
        *(f"rnn.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        "decoder.weight",
        "decoder.bias",
    ):
        assert tensors[name].dtype == np.float32
        assert (tensors[name] == checkpoint.weights[name]).all()
