"""Training: it learns, it repeats itself exactly, it goes on exactly where it stopped."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import small

from fastrnn.charlm.checkpoint import load, save
from fastrnn.charlm.errors import SettingsError, TextError, TrainingError
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.charlm.text import make_corpus
from fastrnn.charlm.train import Interruption, Trainer
from isolated import press_ctrl_c


@pytest.mark.parametrize("cell", CELLS)
def test_learns_a_repeating_text_by_heart(cell: str) -> None:
    corpus = make_corpus("to be, or not to be: " * 60)
    run = Trainer(Settings(cell=cell, hidden=32, batch=4, steps=21, lr=0.01), corpus)
    first = run.advance()
    small.advance(run, 400)
    assert first > 3
    assert run.best_bits < 0.05
    assert run.advance() < 0.05


def test_the_average_is_the_one_it_should_be() -> None:
    run = small.trainer()
    seen = []
    for _ in range(30):
        run.advance()
        seen.append(run.model.params["decoder.weight"].astype(np.float64))
    # Weight of step s in the average after n: share(s) * product of (1 - share) of the steps after it.
    expected = seen[0]
    for step, weights in enumerate(seen[1:], start=2):
        expected = expected + 10 / (step + 9) * (weights - expected)
    np.testing.assert_allclose(run.average["decoder.weight"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("cell", CELLS)
def test_runs_with_the_same_seed_are_bit_identical(cell: str) -> None:
    one, again, other = (
        small.advance(small.trainer(cell=cell, seed=seed, layers=2, dropout=0.1), 70) for seed in (1, 1, 2)
    )
    small.assert_same(one.checkpoint(), again.checkpoint())
    assert one.best_bits != other.best_bits


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "stop", [0, 1, 17, 33, 34]
)  # an epoch is 33 steps or so: before, in, at the end of and after one
def test_resumed_equals_uninterrupted(cell: str, stop: int, tmp_path: Path) -> None:
    deep = {"layers": 2, "dropout": 0.1} if stop == 17 else {}
    straight = small.advance(small.trainer(cell=cell, **deep), 80)
    assert 17 < straight.epoch_steps < 40
    path = str(tmp_path / "model")
    save(path, small.advance(small.trainer(cell=cell, **deep), stop).checkpoint())
    resumed = small.advance(Trainer.resume(load(path), small.corpus()), 80 - stop)
    small.assert_same(resumed.checkpoint(), straight.checkpoint())


def test_the_best_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small.trainer()
    results = iter([3.0, 2.0, 2.5, 2.0])
    monkeypatch.setattr(run, "held_out_bits", lambda weights: next(results))
    averages = []
    for _ in range(4):
        run.advance()
        run.evaluate()
        averages.append({name: weight.copy() for name, weight in run.average.items()})
    assert run.best_bits == 2.0
    for name, weight in run.checkpoint().weights.items():
        assert (weight == averages[1][name]).all()


def test_state_is_carried_within_an_epoch_and_zero_at_its_start() -> None:
    run = small.trainer(lr=1e-9)  # the weights as good as stand still
    T, epoch = run.settings.steps, run.epoch_steps
    window = run.streams[: epoch * T + 1]
    expected, state = run.model.loss(window[:-1], window[1:])
    total = sum(run.advance() for _ in range(epoch))
    assert total / epoch * math.log(2) == pytest.approx(expected, rel=1e-5)
    assert isinstance(state, tuple)
    for carried, right in zip(run.carried, state, strict=True):
        np.testing.assert_allclose(carried, right, atol=1e-5)
    first = run.model.loss(window[:T], window[1 : T + 1])[0]
    assert run.advance() * math.log(2) == pytest.approx(first, rel=1e-5)


def test_evaluations_come_after_each_epoch_and_within_long_ones() -> None:
    run = small.trainer()
    run.evaluation_steps = 10
    small.advance(run, 2 * run.epoch_steps)
    within = list(range(10, run.epoch_steps, 10))
    due = {*within, run.epoch_steps, *(run.epoch_steps + step for step in within), 2 * run.epoch_steps}
    assert [row[0] for row in run.history] == sorted(due | {16, 32})  # and where samples are kept


def test_samples_are_kept_at_growing_intervals() -> None:
    run = small.advance(small.trainer(), 130)
    assert [sample.step for sample in run.samples] == [16, 32, 64, 128]
    bits = {step: held_out for step, _, held_out in run.history}
    assert all(sample.held_out == bits[sample.step] for sample in run.samples)
    assert len({sample.text for sample in run.samples}) == 4
    assert all(set(sample.text) <= set(run.corpus.vocabulary) for sample in run.samples)


def test_diverging_changes_nothing() -> None:
    run = small.advance(small.trainer(), 3)
    run.model.params["decoder.bias"][0] = np.nan
    before = {name: array.copy() for name, array in small.arrays(run.checkpoint()).items()}
    with pytest.raises(TrainingError, match="diverged at step 4: try a lower learning rate"):
        run.advance()
    for name, array in small.arrays(run.checkpoint()).items():
        assert array.tobytes() == before[name].tobytes(), name


def test_a_text_too_short_for_a_step_is_an_error() -> None:
    with pytest.raises(TextError, match=r"too short: 513 characters .* one step takes 2080 with batch 32 and steps 64"):
        Trainer(Settings(), make_corpus("x" * 540))


def test_resuming_with_another_text_is_an_error() -> None:
    with pytest.raises(TextError, match="not the one the model was trained on"):
        Trainer.resume(small.trainer().checkpoint(), make_corpus(small.TEXT + "!"))


@pytest.mark.parametrize(
    "values",
    [
        {"cell": "transformer"},
        {"hidden": 0},
        {"hidden": 1 << 30},
        {"hidden": True},
        {"hidden": 2.0},
        {"layers": 0},
        {"layers": 65},
        {"dropout": 1.0},
        {"dropout": 0},
        {"batch": -1},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"lr": 1},
        {"clip": -1.0},
        {"clip": math.inf},
        {"seed": -1},
        {"seed": 1 << 63},
    ],
)
def test_settings_out_of_range(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        Settings(**values)  # type: ignore[arg-type]


def test_the_first_interrupt_asks_and_the_second_breaks() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert not interruption.requested
        press_ctrl_c()
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before
