"""The demonstration, made short."""

import io
import os
from pathlib import Path

import pytest

from fastrnn.charlm import demo
from fastrnn.charlm.checkpoint import load
from fastrnn.charlm.settings import Settings

pytest.importorskip("pydoc_data.topics")


def test_the_demonstration(tmp_path: Path) -> None:
    out = io.StringIO()
    path = str(tmp_path / "demo")
    trainer, interrupted = demo.run_demo(path, out, seconds=3, settings=Settings(hidden=32))
    assert not interrupted
    assert trainer.step > 0
    shown = out.getvalue()
    for part in (
        "Python language reference",
        "for 3 seconds",
        "what it writes now",
        "uniform",
        "unigram",
        "bigram",
        "LSTM",
    ):
        assert part in shown
    assert shown.count("bits/char") >= 1  # samples, each under a line that says where training stands
    assert os.listdir(tmp_path) == ["demo"]
    assert load(path).training.step == trainer.step
