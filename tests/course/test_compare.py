"""``fastrnn compare``: equal budgets, equal time by turns, and what it says of given results."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fastrnn.charlm.model import CharModel
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.charlm.text import make_corpus
from fastrnn.charlm.train import Trainer
from fastrnn.command.main import main
from fastrnn.course import compare
from fastrnn.course.compare import Point, Result, advice, equal_budgets
from isolated import NO_SUCH_FILE

TEXT = "The quick brown fox jumps over the lazy dog; der Hund schläft. " * 50
COSTS = {"rnn": 1.0, "lstm": 4.0, "gru": 3.0}  # seconds a step


def numbers(settings: Settings, vocabulary: int) -> int:
    return sum(p.size for p in CharModel(settings, vocabulary).params.values())


@pytest.mark.parametrize(("hidden", "vocabulary"), [(1, 2), (7, 30), (48, 103)])
def test_budgets_are_as_equal_as_they_can_be(hidden: int, vocabulary: int) -> None:
    models = equal_budgets(hidden, vocabulary)
    assert [model.cell for model in models] == list(CELLS)
    target = numbers(Settings(cell="lstm", hidden=hidden), vocabulary)
    for model in models:
        misses = [
            abs(numbers(Settings(cell=model.cell, hidden=h), vocabulary) - target)
            for h in range(max(1, model.hidden - 1), model.hidden + 2)
        ]
        assert abs(numbers(model, vocabulary) - target) == min(misses)
        assert compare.parameters(model, vocabulary) == numbers(model, vocabulary)
    assert models[1].hidden == hidden


def test_bigger_nets_learn_at_smaller_rates() -> None:
    rates = {hidden: [model.lr for model in equal_budgets(hidden, 50)] for hidden in (8, 128, 512)}
    assert rates[8] == rates[128] == list(compare.RATES.values())
    assert rates[512] == [rate / 4 for rate in rates[128]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a step moves on by what it costs in COSTS, and a second more for each measurement."""
    now = 0.0
    advance, evaluate = Trainer.advance, Trainer.evaluate

    def timed_advance(trainer: Trainer) -> float:
        nonlocal now
        now += COSTS[trainer.settings.cell]
        return advance(trainer)

    def timed_evaluate(trainer: Trainer) -> float:
        nonlocal now
        now += 1
        return evaluate(trainer)

    monkeypatch.setattr(Trainer, "advance", timed_advance)
    monkeypatch.setattr(Trainer, "evaluate", timed_evaluate)
    return lambda: now


def test_every_run_gets_the_same_time_of_training(clock: Any) -> None:
    results = compare.compare(make_corpus(TEXT), hidden=4, seconds=120.0, seeds=2, clock=clock)
    for result in results:
        cost = COSTS[result.settings.cell]
        assert result.speed == 16 * 64 / cost
        assert len(result.curves) == 2
        for curve in result.curves:
            assert 120 <= curve[-1].seconds < 120 + cost
            assert [point.characters for point in curve] == [point.seconds / cost * 16 * 64 for point in curve]
            assert curve[-1].bits < curve[0].bits  # it learns
            assert sorted(curve, key=lambda point: -point.bits) == curve
        assert result.curves[0] != result.curves[1]  # the seeds differ
    assert compare.read_by_all(results) == 30 * 16 * 64  # the LSTM's


def test_runs_take_turns(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[str, int, float]] = []
    train = compare.Run.train

    def noted(run: compare.Run, until: float) -> None:
        turns.append((run.trainer.settings.cell, run.trainer.settings.seed, until))
        train(run, until)

    monkeypatch.setattr(compare.Run, "train", noted)
    compare.compare(make_corpus(TEXT), hidden=2, seconds=16.0, seeds=2, clock=clock)
    ends = [16.0 * (k / 16) ** 2 for k in range(1, 17)]
    assert turns == [(cell, seed, until) for until in ends for seed in (0, 1) for cell in CELLS]


def test_bits_between_two_points() -> None:
    curves = [[Point(1, 100, 5.0), Point(2, 300, 3.0)], [Point(1, 150, 4.0), Point(2, 250, 2.0)]]
    result = Result(Settings(cell="gru"), 500, curves)
    assert result.after_time() == [3.0, 2.0]
    assert result.after_characters(200) == [4.0, 3.0]
    assert result.speed == 550 / 4
    assert compare.read_by_all([result]) == 250


WIDE, LOW, LOWER, HIGH = [2.0, 2.5], [2.10, 2.14], [2.00, 2.04], [2.60, 2.64]


SAID = {
    "Take the LSTM: after the same time it is ahead of the GRU by 0.100 bits per character, and its worst seed is "
    "better than the best of the others. After the same number of characters it is the same.": (
        (HIGH, LOWER, LOW),
        (HIGH, LOWER, LOW),
    ),
    "Take the RNN: after the same time it is ahead of the LSTM by 0.100 bits per character, and its worst seed is "
    "better than the best of the others. After the same number of characters the LSTM is ahead.": (
        (LOWER, LOW, HIGH),
        (HIGH, LOWER, LOW),
    ),
    "Take the GRU or the LSTM: after the same time there is no clear difference between them, for their ranges over "
    "seeds overlap; the RNN is 0.540 bits per character behind the GRU. After the same number of characters there is "
    "no clear difference among them.": (
        (HIGH, LOW, [2.05, 2.11]),
        (WIDE, WIDE, LOW),
    ),
    "No clear difference: after the same time the ranges over seeds overlap. Take any, or look again with more "
    "--seconds or --seeds. After the same number of characters there is no clear difference between the RNN and the "
    "LSTM.": (
        (WIDE, LOW, LOW),
        (LOW, LOW, HIGH),
    ),
    "After the same time the GRU is ahead of the LSTM by 0.100 bits per character, but one seed cannot tell what of it "
    "is luck: compare with --seeds 3 or more.": (
        ([2.5], [2.4], [2.3]),
        ([2.5], [2.4], [2.3]),
    ),
}


@pytest.mark.parametrize(("words", "results"), SAID.items())
def test_the_figures_decide_what_it_says(words: str, results: Any) -> None:
    assert advice(*(dict(zip(CELLS, bits, strict=True)) for bits in results)) == words


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


SMALL = ("--hidden", "4", "--seconds", "0.05", "--seeds", "2")


def test_the_command_prints_a_table_and_draws_a_plot(text: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.svg"
    assert main(["compare", text, *SMALL, "--plot", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    for part in ("different ones", "seeds: 2", "bits after 0.05 s", "LSTM", "GRU", "RNN", "the same time"):
        assert part in out
    assert "<svg" in path.read_text(encoding="utf-8")


def test_the_figures_are_there_as_json(text: str, capsys: Any) -> None:
    assert main(["compare", text, *SMALL, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["seconds"] == 0.05
    assert list(results["cells"]) == list(CELLS)
    for cell in results["cells"].values():
        assert len(cell["bits_after_time"]) == len(cell["bits_after_characters"]) == len(cell["curves"]) == 2
        assert cell["bits_after_time"] == [curve[-1]["bits"] for curve in cell["curves"]]
    assert results["advice"]


def test_a_busy_machine_is_told(text: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for share, told in ((0.3, True), (1.0, False)):
        begin = time.perf_counter()
        monkeypatch.setattr(time, "process_time", lambda s=share, b=begin: s * (time.perf_counter() - b))
        assert main(["compare", text, "--hidden", "1", "--seconds", "0.02", "--seeds", "1"]) == 0
        assert ("a processor for 30% of the time" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--hidden", "0"], "--hidden"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "inf"], "--seconds"),
        (["--seeds", "none"], "--seeds"),
        (["--hidden", "99999999"], "hidden must be"),
        (["--plot", "curves.docx"], ".png"),
        (["missing.txt"], NO_SUCH_FILE),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], part: str, capsys: Any) -> None:
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    try:
        status = main(["compare", *arguments])
    except SystemExit as leave:  # of argparse
        status = int(leave.code or 0)
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert part in err
