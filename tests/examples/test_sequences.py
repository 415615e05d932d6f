"""The examples on text: their data is right and disjoint, they learn it, and step by step they say the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastrnn import GRU, Linear

pytest.importorskip("matplotlib")

Example = Callable[[str], ModuleType]


@pytest.mark.parametrize("name", ["dates", "python_spans"])
def test_length(name: str, example: Example) -> None:
    source = Path(str(example(name).__file__)).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 120


def is_figure(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and 5_000 < path.stat().st_size < 60_000


# --- dates


def test_spellings_are_unambiguous(example: Example) -> None:
    dates = example("dates")
    spelled: dict[str, date] = {}
    numbers = range(1, 13)  # 01/02/03 might be three dates
    for day in (date(2000 + y, m, d) for y in numbers for m in numbers for d in numbers):
        for way in range(len(dates.WAYS)):
            chosen = iter((way, 1))  # in small letters
            text = dates.spell(day, SimpleNamespace(integers=lambda n, chosen=chosen: next(chosen)))
            assert spelled.setdefault(text, day) == day
    third_of_march = """3 march 2004|march 3rd, 2004|the 3rd of march 2004|wed 3 mar 2004|wednesday, march 3, 2004
03-mar-04|3/3/2004|03/03/04|2004.03.03|2004/3/3|20040303|3. märz 2004|den 3. märz 2004|3.3.2004|03.03.04
3 mars 2004|le 3 mars 2004""".replace("\n", "|")
    assert {text for text, day in spelled.items() if day == date(2004, 3, 3)} == {*third_of_march.split("|")}
    assert spelled["01/02/03"] == date(2003, 1, 2)
    assert spelled["01.02.03"] == date(2003, 2, 1)
    assert spelled["le 1er mai 2011"] == date(2011, 5, 1)


def test_codes_of_dates(example: Example) -> None:
    dates = example("dates")
    days = np.array(["1969-01-01", "2068-12-31"], "datetime64[D]")
    texts, iso = dates.examples(days, np.random.default_rng(0))
    assert len(texts) == 2
    assert ["".join(dates.OUTPUT[n] for n in column) for column in iso.T] == ["1969-01-01", "2068-12-31"]
    assert len(dates.OUTPUT) == dates.START


def test_writing_feeds_on_itself(example: Example) -> None:
    dates = example("dates")
    net, texts = dates.Translator(seed=0), ["3 March 2021", "le 1er mai 2011", "20040303"]
    for p in net.params.values():
        p *= 4  # else it writes the same all the time
    written = net.write(texts)
    assert written.shape == (10, 3)
    assert len({*written.ravel()}) > 3
    assert all(np.array_equal(net.write([text]), written[:, [n]]) for n, text in enumerate(texts))
    # The whole sequence at once, of what was written, says that each was the most probable.
    y, _ = net.decoder(np.concatenate([np.full((1, 3), dates.START), written[:-1]]), net.read(texts))
    assert np.array_equal(net.output(y).argmax(axis=-1), written)


def test_dates(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dates = example("dates")
    asked, make = [], dates.examples

    def examples(days: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        asked.append({*days.tolist()})
        return make(days, rng)

    monkeypatch.setattr(dates, "examples", examples)
    figures = dates.main(["--steps", "500", "--plot", str(tmp_path / "dates.png")])
    test, *train = asked
    assert len(test) == dates.TEST
    assert len(train) == 500
    assert test.isdisjoint(set.union(*train))
    assert figures["whole date"] > 0.5  # at random it would be one of 36,525
    assert "  500 steps" in capsys.readouterr().out
    assert is_figure(tmp_path / "dates.png")


# --- Python


CODE, STRING, COMMENT = range(3)
SPANS = [
    ("x = r", CODE),
    (r'"a\"b"', STRING),
    (" + ", CODE),
    ("''", STRING),
    (" ", CODE),
    ("# it's é\t#", COMMENT),
    ("\ndef f(): ", CODE),
    ('"""it\'s "so"\n# \\""" """', STRING),
    ("\ny = rb", CODE),
    (r"'\\'", STRING),
    (" + f", CODE),
    (""""{d['a']}: {z!r:>{w}} # {{}}\"""", STRING),
    (" \\\n", CODE),
    ("'a\\\n# c'", STRING),
    ("; bu = rf", CODE),
    ("# no'", COMMENT),
    ("\n", CODE),
]


def follow(source: str) -> list[int]:
    """Return the labels of source, one character after the other: what comes later has no part in it."""
    labels: list[int] = []
    comment, string, escaped = False, "", False  # string: what there is of it so far
    for c in source:
        if string in ("''", '""') and c != string[0]:
            string = ""  # was an empty one, and not the beginning of three quotes
        comment = comment and c != "\n"
        if not comment and not string:
            comment = c == "#"
            string = c if c in "'\"" else ""
            labels.append(COMMENT if comment else STRING if string else CODE)
            continue
        labels.append(COMMENT if comment else STRING)
        if string:
            string += "_" if escaped else c
            escaped = c == "\\" and not escaped
            quotes = string[0] * (3 if string.startswith(string[0] * 3) else 1)
            if len(string) >= 2 * len(quotes) and string.endswith(quotes) and string != 2 * quotes[0]:
                string = ""
    return labels


def test_labels(example: Example) -> None:
    spans = example("python_spans")
    source = "".join(text for text, _ in SPANS)
    expected = [label for text, label in SPANS for _ in text]
    assert spans.label(source).tolist() == expected
    assert follow(source) == expected
    assert [spans.LABELS[n] for n in (CODE, STRING, COMMENT)] == ["code", "string", "comment"]


@pytest.mark.parametrize("name", ["json/decoder", "shlex", "textwrap"])
def test_labels_follow_from_the_past(name: str, example: Example) -> None:
    [module] = example("python_spans").read(name)
    tokens, labels = module.T
    assert follow(bytes(tokens).decode("ascii")) == labels.tolist()
    assert {*labels} == {CODE, STRING, COMMENT}


def test_stream_is_one_call(example: Example) -> None:
    spans = example("python_spans")
    tokens = spans.read("textwrap")[0][:2000, 0]
    rnn, decoder = GRU(128, spans.HIDDEN, seed=0), Linear(spans.HIDDEN, 3, seed=0)
    decoder.params["bias"][:] -= decoder(rnn(tokens)[0]).mean(axis=0)  # so that all labels come up
    labels, nanoseconds = spans.stream(rnn, decoder, tokens)
    assert np.array_equal(labels, decoder(rnn(tokens)[0]).argmax(axis=1))
    assert {*labels} == {CODE, STRING, COMMENT}
    assert nanoseconds.min() > 0


def test_windows_go_on(example: Example) -> None:
    spans = example("python_spans")
    module = spans.read("textwrap")[0]
    windows = spans.batches([module], np.random.default_rng(0))
    first, second = next(windows), next(windows)
    text = np.concatenate([first, second], axis=1)[:, :, 0]  # of the first stream
    assert np.array_equal(text, module[: 2 * spans.STEPS].T)


def test_spans(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = example("python_spans")
    assert set(spans.TRAIN.split()).isdisjoint(spans.TEST.split())
    monkeypatch.setattr(spans, "TRAIN", "argparse doctest logging/handlers random")
    monkeypatch.setattr(spans, "TEST", "json/decoder textwrap")
    carried, last = [], None

    class Recorder(GRU):
        def __call__(self, x: np.ndarray, state: Any = None, **options: Any) -> Any:
            nonlocal last
            carried.append(state is not None and state is last)
            y, last = super().__call__(x, state, **options)
            return y, last

    monkeypatch.setattr(spans, "GRU", Recorder)
    figures = spans.main(["--steps", "400", "--plot", str(tmp_path / "spans.png")])
    assert carried == [False, *[True] * 399, False, False]  # the last two are of the test and of the figure
    assert figures["right"] > figures["majority"] + 0.2
    assert min(figures[f"right of {name}"] for name in spans.LABELS) > 0.7
    assert figures["as one call"] == 1
    assert "  400 steps" in capsys.readouterr().out
    assert is_figure(tmp_path / "spans.png")
