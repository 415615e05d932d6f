"""What earlier releases have saved is loaded and gives the same, and what was public in them still is.

What was deprecated and is taken away leaves the lists of earlier releases, released/*/interface.txt, in that change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn.charlm import checkpoint
from fastrnn.charlm.text import make_corpus
from fastrnn.charlm.train import Trainer
from fastrnn.files import load_with_description
from formats import FOLDER, NETS, TEXT, H, I, answer, interface
from tolerances import output_tolerance

RELEASES = sorted(path for path in FOLDER.iterdir() if path.is_dir())
MODELS = [path for release in RELEASES for path in sorted(release.glob("model-*.safetensors"))]
SAVED = [
    path
    for release in RELEASES
    for path in sorted(release.glob("*.safetensors"))
    if path not in MODELS and path.stem != "expected"
]


def of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def test_this_version_has_left_its_files() -> None:
    assert {path.stem for path in SAVED if path.parent.name == fastrnn.__version__}, "run python tests/formats.py"


@pytest.mark.parametrize("path", SAVED, ids=of)
def test_saved_nets_give_the_same(path: Path) -> None:
    expected, _ = load_with_description("test", str(path.with_name("expected.safetensors")))
    net = NETS[path.stem]()
    fresh = answer(net, expected[f"{path.stem} x"])
    for array in net.params.values():
        array[...] = 0
    net.load(str(path))
    y, right = answer(net, expected[f"{path.stem} x"]), expected[f"{path.stem} y"]
    assert y.dtype == right.dtype == fresh.dtype
    # Two layers, each within the tolerance of one, and the second's inputs are the first's outputs.
    assert np.abs(y - right).max() <= 4 * output_tolerance(y.dtype, terms=I + H) * max(1.0, np.abs(right).max())
    if type(net).__module__.startswith("fastrnn."):
        loaded = fastrnn.load(str(path))
        assert repr(loaded) == repr(net)
        np.testing.assert_array_equal(
            answer(loaded, expected[f"{path.stem} x"]), answer(net.eval(), expected[f"{path.stem} x"])
        )


@pytest.mark.parametrize("path", MODELS, ids=of)
def test_saved_models_predict_the_same_and_learn_on(path: Path) -> None:
    loaded = checkpoint.load(str(path))
    assert loaded.settings.cell == path.stem.partition("-")[2]
    trainer = Trainer.resume(loaded, make_corpus(TEXT))
    bits = loaded.training.history[-1, 2]
    assert trainer.held_out_bits(loaded.weights) == pytest.approx(bits, rel=1e-5)
    for _ in range(20):
        trainer.advance()
    assert trainer.held_out_bits(trainer.average) < bits + 0.1


def _accepts(old: list[str], new: list[str]) -> bool:
    """Whether what could be called with the old parameters can be called the same way with the new."""
    places = [name.rstrip("?") for name in old if not name.startswith("*")]
    now = [name.rstrip("?") for name in new if not name.startswith("*")]
    by_name = {name.lstrip("*").rstrip("?") for name in new}
    needed = {name.lstrip("*") for name in new if not name.endswith("?") and not name.startswith("**")}
    needed_before = {name.lstrip("*") for name in old if not name.endswith("?")}
    known = all(name.lstrip("*").rstrip("?") in by_name for name in old)
    return now[: len(places)] == places and known and needed <= needed_before


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_what_was_public_still_is(release: Path) -> None:
    now = interface()
    for line in (release / "interface.txt").read_text(encoding="utf-8").splitlines():
        name, _, parameters = line.partition(":")
        assert name in now, f"{name} was public in {release.name}"
        if name.startswith("fastrnn "):  # a command and its options, in whatever order
            assert set(parameters.split()) <= set(now[name].split()), name
        else:
            assert _accepts(parameters.split(), now[name].split()), (
                f"{name}: {now[name]}, in {release.name}{parameters}"
            )


@pytest.mark.parametrize(
    ("old", "new", "accepted"),
    [
        ("x y?", "x y? z?", True),
        ("x y?", "x y? *z?", True),
        ("x y", "x y?", True),
        ("x *y?", "x y?", True),
        ("x y?", "x y? z", False),
        ("x y?", "x y? *z", False),
        ("x y?", "x z? y?", False),
        ("x y?", "x *y?", False),
        ("x y?", "x", False),
        ("x *y?", "x", False),
        ("x y?", "x y", False),
    ],
)
def test_changes_that_break_calls_are_seen(old: str, new: str, accepted: bool) -> None:
    assert _accepts(old.split(), new.split()) == accepted
