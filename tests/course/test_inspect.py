"""``fastrnn inspect``: features of texts, the search for units that follow them, and the page."""

import io
import itertools
import json
import os
import random
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn.charlm.checkpoint import Checkpoint, save
from fastrnn.charlm.model import CharModel
from fastrnn.charlm.settings import Settings
from fastrnn.charlm.text import encode_text, make_corpus
from fastrnn.charlm.train import Trainer
from fastrnn.command.main import main
from fastrnn.course import inspect, page
from fastrnn.course.page import Band, Picture
from fastrnn.course.probes import FEATURES, Feature, balanced_accuracy, character_alone, features, fit, search
from fastrnn.layers import FORMATS
from isolated import NO_SUCH_FILE

Array = np.ndarray[Any, Any]


def marks(text: str, name: str) -> str:
    """Where the feature is there, as carets under the text."""
    (feature,) = (f for f in features(text) if f.name == name)
    assert feature.labels.dtype == bool
    return "".join("^" if on else " " for on in feature.labels)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("quotation", 'a "b" c', "  ^^   "),
        ("quotation", "a “b “c” d” e", "  ^^^^^^^^   "),
        ("quotation", 'a """b""" c', "  ^ ^^ ^   "),
        ("quotation", r'"a \" b" c', "^^^^^^^   "),
        ("quotation", 'a "b\nc" d', "  ^^^^   "),  # a line end is no end
        ("quotation", '"a\n \n"b" c', "^^^^ ^^   "),  # but a blank line is
        ("quotation", "don't 'a'", "         "),
        ("brackets", "a (b [c] d) e", "  ^^^^^^^^   "),
        ("brackets", ":) 1) (a)", "      ^^ "),  # what closes nothing counts nothing
        ("brackets", "((a) b\n\nc (d)", "^^^^^^^   ^^ "),
        ("word", "ab, a b2c", " ^     ^^"),
        ("position", "ab\nabcd", " ^  ^^^"),
        ("indentation", "a\n  b c\n", "  ^^^^^ "),
    ],
)
def test_features(name: str, text: str, expected: str) -> None:
    assert marks(text, name) == expected


def test_features_of_numbers_are_halved_by_the_median_of_the_first_half() -> None:
    lines = "abcdefghij\n" * 4
    (position,) = (f for f in features(lines) if f.name == "position")
    assert position.meaning == "position in the line > 5"
    assert position.labels[:11].tolist() == [False] * 5 + [True] * 5 + [False]


def test_features_know_nothing_of_what_comes_after() -> None:
    text = 'The (old) "cat\n\n  sat [on the "mat" "x'
    whole = {f.name: f.labels for f in features(text)}
    assert tuple(whole) == FEATURES
    for n in range(1, len(text) + 1):
        for feature in features(text[:n]):
            if ">" not in feature.meaning:  # a median is one of the whole text
                assert feature.labels.tolist() == whole[feature.name][:n].tolist()


def test_balanced_accuracy_is_the_mean_of_both_shares(rng: np.random.Generator) -> None:
    values, thresholds = rng.standard_normal((50, 3)), rng.standard_normal((4, 3))
    labels = rng.random((50, 5)) < 0.3
    labels[:, 4] = False
    result = balanced_accuracy(values, thresholds, labels)
    for k in range(4):
        for m in range(5):
            for u in range(3):
                guess, true = values[:, u] > thresholds[k, u], labels[:, m]
                expected = (guess[true].mean() + (~guess[~true]).mean()) / 2 if true.any() else 0.5
                assert result[k, m, u] == pytest.approx(expected, abs=1e-12)


def test_a_fit_finds_threshold_and_side_in_the_first_half() -> None:
    labels = np.arange(400) % 10 < 3
    values = np.where(labels, -2.0, 2.0)[:, None]
    again = fit(values, labels[:, None])
    assert (again.fitted[0, 0], again.score[0, 0], again.above[0, 0]) == (1, 1, False)
    assert -2 <= again.threshold[0, 0] < 2
    values[200:] += 4  # a threshold of 2 would do here, but not in the first half
    moved = fit(values, labels[:, None])
    assert (moved.fitted[0, 0], moved.score[0, 0], moved.threshold[0, 0]) == (1, 0.5, again.threshold[0, 0])
    values[200:] = -np.where(labels[200:], -2.0, 2.0)[:, None]  # the other side
    assert fit(values, labels[:, None]).score[0, 0] == 0


def drifting(rng: np.random.Generator, N: int, U: int) -> Array:
    """Values that stay much the same for some ten characters, as states do, (N, U)."""
    noise = rng.standard_normal((N + 9, U))
    return np.stack([noise[k : k + N] for k in range(10)]).sum(axis=0)


def spans(rng: np.random.Generator, N: int) -> Array:
    """Labels that are true for stretches, (N,)."""
    labels: Array = drifting(rng, N, 1)[:, 0] > 3
    return labels


def test_a_search_finds_the_unit_that_follows(rng: np.random.Generator) -> None:
    N = 6000
    series = {"c_l0": drifting(rng, N, 20), "h_l0": drifting(rng, N, 20)}
    feature = Feature("spans", "", spans(rng, N))
    series["h_l0"][:, 7] -= 10 * feature.labels
    finding = search(series, rng.integers(0, 9, N), [feature], np.random.default_rng(0))["spans"]
    assert (finding.series, finding.unit, finding.above) == ("h_l0", 7, False)
    guess = series["h_l0"][N // 2 :, 7] < finding.threshold
    true = feature.labels[N // 2 :]
    assert finding.score == pytest.approx((guess[true].mean() + (~guess[~true]).mean()) / 2, abs=1e-12)
    assert finding.score > 0.9
    assert 0.5 < finding.shuffled < 0.7
    assert abs(finding.character - 0.5) < 0.1
    assert finding.found


def test_a_search_of_noise_finds_nothing(rng: np.random.Generator) -> None:
    N = 3000
    for _ in range(10):
        feature = Feature("spans", "", spans(rng, N))
        finding = search({"h_l0": drifting(rng, N, 40)}, rng.integers(0, 9, N), [feature], rng)["spans"]
        assert not finding.found


def test_what_a_character_tells_is_no_finding(rng: np.random.Generator) -> None:
    tokens = rng.integers(0, 4, 2000)
    feature = Feature("token 3", "", tokens == 3)
    assert character_alone(tokens, feature.labels) == 1
    values = (tokens == 3)[:, None] + 0.1 * rng.standard_normal((2000, 1))
    finding = search({"h_l0": values}, tokens, [feature], rng)["token 3"]
    assert finding.score > 0.95 > finding.shuffled
    assert not finding.found


def test_features_that_a_half_lacks_are_not_looked_for(rng: np.random.Generator) -> None:
    labels = np.arange(1000) < 300
    assert search({"h_l0": rng.random((1000, 2))}, np.zeros(1000, int), [Feature("x", "", labels)], rng) == {}


# --- a model that has a quote cell because it was given one

# Irregular, so that labels moved along the text are at wrong places.
PIECES = ("“Oh”, she said, ", "“my, oh my” ", "(or so) ", "he went on ", "and on. ", "and on, ", "\n\n  ", "well ")
LATCH_TEXT = "".join(random.Random(0).choices(PIECES, k=400))
LATCH = 3


def latch() -> Checkpoint:
    """A model whose cell 3 counts up where a quotation opens, down where it closes; the output gate opens at spaces."""
    corpus = make_corpus(LATCH_TEXT * 2)
    checkpoint = Trainer(Settings(hidden=6, batch=2, steps=8), corpus).checkpoint()
    V, H = len(corpus.vocabulary), 6
    w_ih = checkpoint.weights["rnn.weight_ih_l0"].reshape(4, H, V)
    w_ih[:, LATCH] = 0
    checkpoint.weights["rnn.weight_hh_l0"].reshape(4, H, H)[:, LATCH] = 0
    for name in ("bias_ih_l0", "bias_hh_l0"):
        checkpoint.weights[f"rnn.{name}"].reshape(4, H)[:, LATCH] = 0
    opening, closing, space = encode_text("“” ", corpus.vocabulary)
    w_ih[0, LATCH] = -30  # i: shut
    w_ih[0, LATCH, [opening, closing]] = 30
    w_ih[1, LATCH] = 30  # f: keep
    w_ih[2, LATCH, [opening, closing]] = 30, -30  # g
    w_ih[3, LATCH] = -200  # o: shut, at exactly 0
    w_ih[3, LATCH, space] = 30
    return checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, its text, and another one."""
    folder = tmp_path_factory.mktemp("inspect")
    save(str(folder / "model"), latch())
    (folder / "own.txt").write_text(LATCH_TEXT * 2, encoding="utf-8")
    (folder / "other.txt").write_text(LATCH_TEXT, encoding="utf-8")
    (folder / "plain.txt").write_text("he went on, and on, and on. " * 9, encoding="utf-8")
    return folder


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What ``--json`` prints."""
    assert main(["inspect", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_activations_are_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ml_dtypes")
    tokens = np.random.default_rng(0).integers(0, 7, 100)
    for cell, weights in itertools.product(("lstm", "gru", "rnn"), FORMATS):
        model = CharModel(Settings(cell=cell, hidden=5, layers=2), 7)
        model.rnn.freeze(weights)
        model.rnn(tokens, trace=True)
        expected = dict(model.rnn.trace)
        assert {name[0] for name in expected} == set(inspect.SERIES[cell])
        monkeypatch.setattr(inspect, "WINDOW", 33)
        result = inspect.activations(model, tokens, expected)
        assert result.keys() == expected.keys()
        for name, values in result.items():
            assert values.shape == (100, 5)
            np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("weights", FORMATS)
def test_a_quote_cell_is_found(weights: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if weights == "bfloat16":
        pytest.importorskip("ml_dtypes")
    result = found(capsys, "model", "other.txt", "--state", "c", "--weights", weights)
    assert result["text"] == "other.txt"
    quotation = result["features"]["quotation"]
    assert (quotation["series"], quotation["unit"], quotation["above"]) == ("c_l0", LATCH, True)
    assert 0 <= quotation["threshold"] < 1
    assert quotation["score"] == 1
    assert quotation["found"] is True
    assert quotation["shuffled"] < 0.9
    assert quotation["same_unit"]["c"] == quotation["score"] > quotation["same_unit"]["h"]
    assert list(result["features"]) == list(FEATURES)


def test_only_what_was_held_out_is_read_of_a_text_learned_from(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = found(capsys, "model", "own.txt")
    assert result["text"] == "the held-out part of own.txt"
    assert 0 < result["characters"] < len(LATCH_TEXT) // 4


def test_options_leave_less_to_search(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def where(*arguments: str) -> set[tuple[str, int]]:
        all_of_them = found(capsys, "model", "other.txt", *arguments)["features"].values()
        return {(f["series"], f["unit"]) for f in all_of_them if "unit" in f}

    assert {name for name, _ in where()} <= {"c_l0", "h_l0"}
    assert {name for name, _ in where("--gate", "f")} == {"f_l0"}
    assert {name for name, _ in where("--state", "h", "--layer", "0")} == {"h_l0"}
    assert {unit for _, unit in where("--unit", "2")} == {2}


def test_the_table_is_for_people(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "model", "other.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model (LSTM, 6 units) reads 3,")
    assert lines[1] == "searched 12 values: c_l0, h_l0"
    assert " ".join(lines[3].split()) == "feature share best unit score shuffled character found its c its h"
    assert len(lines) == 4 + len(FEATURES)
    assert main(["inspect", "model", "plain.txt"]) == 0
    assert "too rare in this text" in capsys.readouterr().out
    assert main(["inspect", "model", "other.txt", "--weights", "int8"]) == 0
    assert capsys.readouterr().out.startswith("model (LSTM, 6 units, int8 weights) reads 3,")


@pytest.mark.parametrize("command", ["inspect", "sample"])
def test_weights_of_bfloat16_take_a_package(
    command: str, inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    text = ["other.txt"] if command == "inspect" else []
    assert main([command, "model", *text, "--weights", "bfloat16"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastrnn: --weights bfloat16: ")
    assert "ml_dtypes" in error
    assert len(error.splitlines()) == 1


class Page(HTMLParser):
    """Reads a page, and asserts that its tags are balanced."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "path", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in {*self.open}:
            self.text[tag] = self.text.get(tag, "") + data


def painted(text: str, **changes: Any) -> Picture:
    """A picture of a text, with values that go up and down."""
    n = len(text)
    values = np.sin(np.arange(n) / 3)
    fields: dict[str, Any] = {
        "title": "c of unit 1 & <b>",
        "about": ["A <script>alert(1)</script> of a sentence."],
        "text": text,
        "band": Band("c", values, -1.0, 1.0),
        "bands": [Band("c", values, -1.0, 1.0, 0.3), Band("h", values / 2, -1.0, 1.0)],
        "feature": "inside <quotation>",
        "labels": values > 0,
        "table": [["feature", "<i>"], ["&", "1"]],
    }
    return Picture(**(fields | changes))


HOSTILE = 'He <script src="http://x/y.js">alert("1")</script> & \'so\' on;\n\tτὸ και\u0301 漢 🐈 \u202e$x$ \x07 ' * 5


def test_the_page_stands_alone_and_shows_the_text() -> None:
    document = page.html(painted(HOSTILE))
    read = Page(document)
    names = {name for name, _ in read.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "i"}
    attributes = {key for _, attributes in read.tags for key in attributes}
    assert not attributes & {"src", "href", "xlink:href", "onload", "onclick"}
    assert "url(" not in document
    assert "@import" not in document
    policy = {a.get("http-equiv"): a.get("content") for tag, a in read.tags if tag == "meta"}
    assert policy["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    # Once coloured as it is, and once in rows above the curves.
    seen = page.shown(HOSTILE)
    assert read.text["pre"] == seen.replace("↵", "↵\n") + seen
    assert len(seen) == len(HOSTILE)
    assert "<script>alert(1)</script>" in read.text["p"]
    assert "inside <quotation>" in read.text["p"]


def test_the_curves_are_drawn_where_the_values_are() -> None:
    n = 230
    picture = painted("x" * n)
    document = page.html(picture)
    drawings = [ET.fromstring(f"<svg{part.partition('</svg>')[0]}</svg>") for part in document.split("<svg")[1:]]
    assert len(drawings) == 3  # rows of 100 characters
    points = [
        np.array([[float(v) for v in p.split(",")] for p in drawing[1 + k].get("points", "").split()])
        for drawing in drawings
        for k in range(len(drawing) - 1)
        if drawing[1 + k].tag == "polyline"
    ]
    assert len(points) == 6  # of c and of h in each row
    c = np.concatenate(points[::2])
    assert len(c) == n
    top, bottom = 3, page.BAND - 3
    np.testing.assert_allclose((bottom - c[:, 1]) / (bottom - top) * 2 - 1, picture.band.values, atol=0.01)
    shaded = np.zeros(n, bool)
    for k, drawing in enumerate(drawings):
        for rect in drawing.findall("rect"):
            begin = 100 * k + int(rect.get("x", ""))
            shaded[begin : begin + int(rect.get("width", ""))] = True
    np.testing.assert_array_equal(shaded, picture.labels)


def test_colours_run_from_blue_to_red_and_can_be_told_apart_in_grey() -> None:
    def contrast(one: float, other: float) -> float:
        return (max(one, other) + 0.05) / (min(one, other) + 0.05)

    def luminance(rgb: tuple[int, int, int]) -> float:  # as WCAG has it
        channels = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))

    colours = [page.colour(k) for k in range(page.LEVELS)]
    assert colours[page.LEVELS // 2] == (255, 255, 255)
    assert colours[0][2] > colours[0][0]
    assert colours[-1][0] > colours[-1][2]
    bright = [luminance(c) for c in colours]
    middle = page.LEVELS // 2
    assert sorted(bright[: middle + 1]) == bright[: middle + 1]
    assert sorted(bright[middle:], reverse=True) == bright[middle:]
    assert contrast(bright[0], bright[-1]) > 2
    for k, b in enumerate(bright):
        assert contrast(b, 1.0 if page.dark(k) else 0.0) > 4.5  # letters can be read
    assert [page.high(k) for k in (0, middle, page.LEVELS - 1)] == [False, False, True]


def test_levels_are_clipped_to_the_scale() -> None:
    band = Band("c", np.array([-9.0, -1.0, 0.0, 0.5, 1.0, 9.0]), -1.0, 1.0)
    last = page.LEVELS - 1
    assert page.levels(band).tolist() == [0, 0, last // 2, round(last * 0.75), last, last]


def test_the_passage_is_where_most_happens() -> None:
    text = "abcd\n" * 100
    labels = np.zeros(500, bool)
    labels[100:140:2] = True  # in the first half
    labels[402:410:2] = True
    start = inspect.busiest(text, labels, 20)
    assert start % 5 == 0
    assert start <= 402
    assert start + 20 >= 410
    assert inspect.busiest("short", np.zeros(5, bool), 20) == 0


def test_page_and_picture_are_saved(inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out, png = tmp_path / "page.html", tmp_path / "page.png"
    arguments = ["inspect", "model", "other.txt", "--length", "300", "--out", str(out), "--out", str(png)]
    assert main(arguments) == 0
    document = out.read_text(encoding="utf-8")
    read = Page(document)
    assert read.text["title"].startswith("c of unit 3 in layer 0")
    assert "“inside a quotation” is found" in read.text["p"]
    assert "too rare" not in read.text["table"] or "inside a quotation" in read.text["table"]
    assert sum(tag == "polyline" for tag, _ in read.tags) == 9  # c, o and h in three rows
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(png.read_bytes()) > 10_000
    capsys.readouterr()


def test_a_picture_of_any_characters_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    line = HOSTILE[: len(HOSTILE) // 5]
    assert page.png(painted(line)) != page.png(painted(line.replace("He", "We")))
    assert page.png(painted("x"))


def test_the_colours_of_the_picture_are_those_of_the_levels() -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    picture = painted(" " * 90)
    drawn = image.open(io.BytesIO(page.png(picture))).convert("RGB").getcolors(1 << 20)
    assert {page.colour(k) for k in set(page.levels(picture.band).tolist())} <= {rgb for _, rgb in drawn}


@pytest.mark.parametrize(("cell", "gate"), [("gru", "z"), ("rnn", None)])
def test_other_cells_and_layers(
    cell: str, gate: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(cell=cell, hidden=5, layers=2, batch=2, steps=8)
    save("model", Trainer(settings, make_corpus(LATCH_TEXT)).checkpoint())
    Path("text").write_text(LATCH_TEXT[:3000], encoding="utf-8")
    quotation = found(capsys, "model", "text")["features"]["quotation"]
    assert quotation["series"] in ("h_l0", "h_l1")
    assert quotation["same_unit"] == {}
    options = ["--layer", "1", *(["--gate", gate] if gate else [])]
    assert main(["inspect", "model", "text", *options, "--out", "page.html"]) == 0
    assert "its c" not in capsys.readouterr().out
    read = Page(Path("page.html").read_text(encoding="utf-8"))
    assert read.text["title"].partition(",")[0].startswith(f"{gate or 'h'} of unit")
    curves = sum(tag == "polyline" for tag, _ in read.tags)
    assert curves == 10 * len({"h", gate or "h"})  # in ten rows


def test_a_named_unit_needs_no_finding(inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["inspect", "model", "plain.txt", "--unit", "2", "--gate", "o", "--out", str(out)]) == 0
    read = Page(out.read_text(encoding="utf-8"))
    assert read.text["h1"] == "o of unit 2 in layer 0"
    assert "found" not in read.text["p"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["missing"], ["missing", NO_SUCH_FILE]),
        (["own.txt"], ["own.txt", "not a model"]),
        (["model", "missing.txt"], ["missing.txt", NO_SUCH_FILE]),
        (["model", "own.txt", "--unit", "6"], ["--unit", "0 to 5", "6"]),
        (["model", "own.txt", "--layer", "1"], ["--layer", "1"]),
        (["model", "own.txt", "--gate", "z"], ["lstm", "c, h, i, f, g, o", "z"]),
        (["model", "own.txt", "--gate", "i", "--state", "c"], ["--state", "--gate"]),
        (["model", "own.txt", "--state", "x"], ["--state", "x"]),
        (["model", "own.txt", "--find", "love"], ["--find", "love"]),
        (["model", "own.txt", "--start", "99999999"], ["--start", "99999999"]),
        (["model", "own.txt", "--length", "0"], ["--length"]),
        (["model", "own.txt", "--out", "page.pdf"], ["page.pdf", ".html or .png"]),
        (["model", "own.txt", "--out", "no/page.html"], ["no folder"]),
        (["model", "own.txt", "--out", "no/page.png"], ["no folder"]),
        (["model", "plain.txt", "--out", "page.html"], ["quotation", "too rare", "--unit"]),
        (["model"], ["never seen"]),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], parts: list[str], inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[-1].endswith(".png"):
        pytest.importorskip("matplotlib")
    before = sorted(os.listdir(inside))
    try:
        status = main(["inspect", *arguments])
    except SystemExit as leave:  # of argparse
        status = int(leave.code or 0)
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in parts:
        assert part in line
    assert sorted(os.listdir(inside)) == before
