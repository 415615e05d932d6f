"""Which units of a net follow a feature of the text, by how much, and whether that could be luck.

N characters, U units, K thresholds, M labellings of the text. A unit's guess is that a feature is there where its value
is above a threshold, or where it is below. Threshold and side are fitted on the first half of the text. The guess is
scored on the second half by balanced accuracy, the mean of the shares that are right where the feature is and where it
is not: 0.5 is chance, however rare the feature.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn.charlm.text import code_points

Array = npt.NDArray[Any]

FEATURES = ("quotation", "brackets", "word", "position", "indentation")

# How much of a unit's values lies below each threshold: equal steps of log odds, close together at the ends, where the
# threshold for a rare feature must be.
QUANTILES = 1 / (1 + np.exp(-np.linspace(-5, 5, 31)))
# A feature is looked for if each half of the text has it at so many characters, and is without it at so many.
LEAST = 10
SHUFFLES = 20


class Feature(NamedTuple):
    """Something that is so at some characters of a text and not at others."""

    name: str
    meaning: str
    labels: Array  # (N,) bool


def features(text: str) -> list[Feature]:
    """Return the features of a text, as who has read up to and including each character knows them.

    A quotation stands between double quotes, straight or curly, and includes the first of them; it ends at the latest
    at a blank line, as do brackets, so that one missing does no more harm. A word goes on at a letter or digit after
    another. The two features that are numbers, the position in the line and its indentation so far, become a yes or no
    by their median in the first half of the text.
    """
    codes = code_points("\n" + text)  # every line has a line end in front of it; [1:] is the text
    at = np.arange(len(codes))
    newline = codes == ord("\n")
    line = np.maximum.accumulate(np.where(newline, at, 0))  # where the line of each character starts
    position = at - line
    space = (codes == ord(" ")) | (codes == ord("\t"))
    leading = _since(line, space) == position  # nothing but spaces in the line so far
    paragraph = newline.copy()
    paragraph[1:] &= leading[:-1]  # the line that ends here is blank
    straight = codes == ord('"')
    straight[1:] &= codes[:-1] != ord("\\")
    start = np.maximum.accumulate(np.where(paragraph, at, 0))
    letter = np.array([c.isalnum() for c in "\n" + text])
    word = letter.copy()
    word[1:] &= letter[:-1]

    def above_median(name: str, meaning: str, numbers: Array) -> Feature:
        median = int(np.median(numbers[: (len(numbers) + 1) // 2]))
        return Feature(name, f"{meaning} > {median}", numbers > median)

    quotation = (_since(start, straight) % 2 == 1) | (_depth(codes, "“", "”", paragraph) > 0)
    return [
        Feature("quotation", "inside a quotation", quotation[1:]),
        Feature("brackets", "inside brackets", (_depth(codes, "([{", ")]}", paragraph) > 0)[1:]),
        Feature("word", "inside a word", word[1:]),
        above_median("position", "position in the line", position[1:]),
        above_median("indentation", "indentation", _since(line, leading)[1:]),
    ]


def _since(start: Array, what: Array) -> Array:
    """(N,): how many characters after the one at ``start`` (N,), up to this one, are ``what`` (N,)."""
    count = np.cumsum(what)
    since: Array = count - count[start]
    return since


def _depth(codes: Array, opening: str, closing: str, paragraph: Array) -> Array:
    """(N,): how many brackets are open; those that close nothing count nothing, and a paragraph starts at 0."""
    opens, closes = (np.isin(codes, code_points(marks)) for marks in (opening, closing))
    # Each paragraph starts below whatever was before: the lowest level so far is the one where none is open.
    level = np.cumsum(opens.astype(np.int64) - closes) - len(codes) * np.cumsum(paragraph)
    depth: Array = level - np.minimum.accumulate(level)
    return depth


class Fit(NamedTuple):
    """The best guess of each unit, (M, U) each."""

    fitted: Array  # balanced accuracy on the first half
    score: Array  # balanced accuracy on the second half
    threshold: Array
    above: Array  # bool: whether the feature is there above the threshold, and not below


def fit(values: Array, labels: Array) -> Fit:
    """Fit every unit, ``values`` (N, U), to every labelling, ``labels`` (N, M) bool."""
    half = len(values) // 2
    thresholds = np.quantile(values[:half], QUANTILES, axis=0).astype(values.dtype)  # (K, U)
    first = balanced_accuracy(values[:half], thresholds, labels[:half])
    second = balanced_accuracy(values[half:], thresholds, labels[half:])
    best = np.abs(first - 0.5).argmax(axis=0)[None]  # (1, M, U)
    fitted, score = (np.take_along_axis(a, best, axis=0)[0] for a in (first, second))
    above = fitted >= 0.5
    threshold = thresholds[best[0], np.arange(values.shape[1])]
    return Fit(np.where(above, fitted, 1 - fitted), np.where(above, score, 1 - score), threshold, above)


def balanced_accuracy(values: Array, thresholds: Array, labels: Array) -> Array:
    """Return (K, M, U): that of the guess that labels (N, M) are true where values (N, U) exceed thresholds (K, U).

    It is 0.5 for labels that are all true or all false.
    """
    there, absent = (a.sum(axis=0)[:, None] for a in (labels, ~labels))  # (M, 1)
    # One product counts the labels above each threshold; its last row counts all. Exact in float32 up to 2**24.
    rows = np.vstack([labels.T, np.ones(len(labels), bool)]).astype(np.float32)
    counts = np.stack([rows @ (values > threshold).astype(np.float32) for threshold in thresholds])  # (K, M + 1, U)
    right, wrong = counts[:, :-1], counts[:, -1:] - counts[:, :-1]
    accuracy = 0.5 + (right / np.maximum(there, 1) - wrong / np.maximum(absent, 1)) / 2
    return np.where((there > 0) & (absent > 0), accuracy, 0.5)


class Finding(NamedTuple):
    """The unit that follows a feature best: best in the first half, scored in the second."""

    series: str  # the state or gate and its layer, as in a layer's trace: c_l0
    unit: int
    threshold: float
    above: bool
    score: float
    shuffled: float  # the best score of any unit with the labels in the wrong place
    character: float  # what the character alone tells

    @property
    def found(self) -> bool:
        """Whether the unit is further above what the character tells than luck gets above chance."""
        return self.score - max(0.5, self.character) > self.shuffled - 0.5


def search(
    series: Mapping[str, Array], tokens: Array, wanted: list[Feature], rng: np.random.Generator
) -> dict[str, Finding]:
    """Return by name, for every feature that the text has enough of, the unit of ``series`` that follows it best.

    ``series`` are (N, U) each, tokens (N,). For ``shuffled``, all units are fitted again to labels that are moved along
    the text, in a circle, by a tenth of it or more: as regular as the true ones, but at the wrong places. It is the
    highest score of any unit in any of 20 such moves: luck reaches it less than once in 20 times.
    """
    N = len(tokens)
    half = N // 2
    enough = [f for f in wanted if all(LEAST <= p.sum() <= len(p) - LEAST for p in (f.labels[:half], f.labels[half:]))]
    if not enough:
        return {}
    moves = [0, *rng.integers(N // 10, N - N // 10, SHUFFLES)]
    labels = np.stack([np.roll(f.labels, move) for move in moves for f in enough], axis=1)  # (N, M)
    fits = [fit(values, labels) for values in series.values()]
    fitted, score, threshold, above = (np.concatenate(parts, axis=1) for parts in zip(*fits, strict=True))
    names = [(name, unit) for name, values in series.items() for unit in range(values.shape[1])]
    shuffled = score.reshape(len(moves), len(enough), -1)[1:].max(axis=(0, 2))
    findings: dict[str, Finding] = {}
    for k, (feature, best) in enumerate(zip(enough, fitted[: len(enough)].argmax(axis=1), strict=True)):
        findings[feature.name] = Finding(
            series=names[best][0],
            unit=names[best][1],
            threshold=float(threshold[k, best]),
            above=bool(above[k, best]),
            score=float(score[k, best]),
            shuffled=float(shuffled[k]),
            character=character_alone(tokens, feature.labels),
        )
    return findings


def character_alone(tokens: Array, labels: Array) -> float:
    """Return the balanced accuracy, on the second half, of a guess from each token (N,) alone, learned on the first."""
    half = len(tokens) // 2
    size = int(tokens.max()) + 1
    first, second = labels[:half], labels[half:]
    there, absent = (np.bincount(tokens[:half][a], minlength=size) / a.sum() for a in (first, ~first))
    guess = (there > absent)[tokens[half:]]
    return float(guess[second].mean() + (~guess[~second]).mean()) / 2
