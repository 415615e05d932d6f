"""What made a file is told by what is in it; files of others, and folders, are refused with the way out."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from fastrnn.convert.makers import maker_of, maker_of_file

h5py = pytest.importorskip("h5py")
pytest.importorskip("onnx")

SAVED_MODEL = "is TensorFlow's SavedModel, which is not read: save the model as .keras or .h5"


def zipped(path: Path, *names: str, cut: bool = False) -> Path:
    """A zip file; ``cut`` leaves out its end, where its directory is."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}" * 200)
    if cut:
        path.write_bytes(path.read_bytes()[:300])
    return path


def saved_model(path: Path, graph: int = 300) -> Path:
    """A SavedModel of version 1 with a graph of so many bytes, which begins with what it says of itself."""
    length = bytes([graph & 0x7F | 0x80, graph >> 7]) if graph > 127 else bytes([graph])
    path.write_bytes(b"\x08\x01\x12" + length + b"\x0a\x05train" + bytes(graph - 7))
    return path


def hdf5(path: Path) -> Path:
    h5py.File(path, "w").close()
    return path


def message_of(call: Callable[[], Any], error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


KERAS, TORCH = ("metadata.json", "config.json", "model.weights.h5"), ("archive/data.pkl", "archive/data/0")


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", ["m.keras", "m.pt", "m"])
@pytest.mark.parametrize(("names", "maker"), [(KERAS, "keras"), (TORCH, "torch")])
def test_zip_files(names: tuple[str, ...], maker: str, name: str, cut: bool, tmp_path: Path) -> None:
    path = zipped(tmp_path / name, *names, cut=cut)
    expected = "keras" if cut and name.endswith(".keras") else maker
    assert maker_of_file(str(path)) == expected
    assert maker_of("it", path.read_bytes()) == maker


def test_a_damaged_file_of_keras(tmp_path: Path) -> None:
    for names in (KERAS, ("other.txt",)):
        path = zipped(tmp_path / "m.keras", *names, cut=True)
        assert re.match(
            re.escape(f"find_nets: {path} is damaged: "), message_of(lambda path=path: fastrnn.find_nets(path))
        )


def test_a_damaged_zip_file_of_nobody(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pt", "other.txt", cut=True)
    assert message_of(lambda: fastrnn.find_nets(path)) == f"find_nets: {path} is a zip file that is damaged"


def test_a_folder(tmp_path: Path) -> None:
    for importer in (fastrnn.find_nets, fastrnn.from_onnx):
        message = message_of(lambda importer=importer: importer(tmp_path), IsADirectoryError)
        assert "it is a folder, such as TensorFlow's SavedModel, which is not read: save the model as" in message
        assert str(tmp_path) in message


@pytest.mark.parametrize("graph", [20, 300, 16_000])
def test_a_saved_model(graph: int, tmp_path: Path) -> None:
    path = saved_model(tmp_path / "saved_model.pb", graph)
    for importer in (fastrnn.find_nets, fastrnn.from_onnx):
        name = importer.__name__
        assert message_of(lambda importer=importer: importer(path)) == f"{name}: {path} {SAVED_MODEL}"
        data = path.read_bytes()
        assert message_of(lambda importer=importer, data=data: importer(data)) == f"{name}: source {SAVED_MODEL}"


@pytest.mark.parametrize("source", ["the path", "the bytes"])
@pytest.mark.parametrize(
    ("of_whom", "make"),
    [
        ("Keras': from_keras", lambda path: zipped(path, *KERAS)),
        ("Keras': from_keras", lambda path: zipped(path, *KERAS, cut=True)),
        ("Keras': from_keras", hdf5),
        ("PyTorch's: from_torch", lambda path: zipped(path, *TORCH)),
        ("PyTorch's: from_torch", lambda path: path.write_bytes(b"\x80\x02}q\x00.") and path),
    ],
)
def test_files_at_the_wrong_door(of_whom: str, make: Callable[[Path], Path], source: str, tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx")
    way = f"is no ONNX model, but {of_whom} takes the path of its file"
    if source == "the path":
        assert message_of(lambda: fastrnn.from_onnx(path)) == f"from_onnx: {path} {way}"
        return
    for importer in (fastrnn.from_onnx, fastrnn.find_nets):
        message = message_of(lambda importer=importer: importer(path.read_bytes()))
        assert message == f"{importer.__name__}: source {way}"
