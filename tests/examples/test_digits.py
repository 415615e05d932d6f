"""Handwritten digits, read and written: the two examples, run for real, and shortened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).parents[2] / "examples"
Example = Callable[[str], ModuleType]


@pytest.mark.parametrize("name", ["digits_classify", "digits_write"])
def test_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 120


def test_reads(example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "read.png"
    accuracy = example("digits_classify").main(["--seeds", "1", "--epochs", "20", "--plot", str(figure)])
    assert accuracy.keys() == {1}
    assert 0.96 <= accuracy[1] < 1
    assert f"seed 1: test accuracy {accuracy[1]:.3f}" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_test_is_held_out(example: Example) -> None:
    learn, test = example("digits_classify").load()
    assert learn.x.shape == (8, 1297, 8)
    assert test.x.shape == (8, 500, 8)
    learned = {rows.tobytes() for rows in learn.x.swapaxes(0, 1)}
    assert not any(rows.tobytes() in learned for rows in test.x.swapaxes(0, 1))


def test_covers_the_rows_below(example: Example) -> None:
    module = example("digits_classify")
    reader, x = module.Reader(seed=0), np.random.default_rng(0).random((8, 5, 8), np.float32)
    beliefs = module.covered(reader, x)
    np.testing.assert_allclose(beliefs.sum(axis=-1), 1, rtol=1e-5)
    assert np.array_equal(beliefs[-1].argmax(axis=-1), reader(x).argmax(axis=-1))
    changed = x.copy()
    changed[3:] = 0.5
    assert np.array_equal(module.covered(reader, changed)[:3], beliefs[:3])
    assert not np.isclose(module.covered(reader, changed)[3:], beliefs[3:]).all(axis=(1, 2)).any()


def test_writes(example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "written.png"
    figures = example("digits_write").main(["--epochs", "20", "--plot", str(figure)])
    recognised, deviation = figures["written"]
    assert recognised >= 0.9  # chance is 0.1
    assert 0.1 < deviation < figures["real"][1]  # digits of a class are not all the same
    assert f"1,000 written digits: {recognised:.3f} recognised" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_learns_styles(example: Example) -> None:
    """The gradient by the styles, through the first input and all rows, is that of finite differences."""
    module = example("digits_write")
    writer, labels, target = module.Writer(3, seed=0), np.array([1, 7, 7]), np.zeros((8, 3, 8), np.float32)
    styles = writer.style.params["weight"]

    def loss() -> float:
        rows = writer(labels, writer.style(np.arange(3)))
        value, drows = module.mean_squared_error(rows, target)
        writer.backward(drows)
        return value

    loss()
    grad = writer.grads["style.weight"].copy()
    direction = np.random.default_rng(1).standard_normal(styles.shape).astype(np.float32)
    before, values = styles.copy(), []
    for sign in (1, -1):
        styles[...] = before + np.float32(sign * 0.01) * direction
        values.append(loss())
    assert (values[0] - values[1]) / 0.02 == pytest.approx(float(np.vdot(grad, direction)), rel=0.01)
