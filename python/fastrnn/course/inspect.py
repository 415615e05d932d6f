"""Which units of a model follow what, and what one of them does along a text."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.charlm import session
from fastrnn.charlm.checkpoint import Checkpoint
from fastrnn.charlm.errors import SaveError
from fastrnn.charlm.model import Array, CharModel
from fastrnn.charlm.text import SHORTEST_TEXT, builtin_text, encode_text, make_corpus, read_files
from fastrnn.files import write_atomically

from .columns import aligned
from .page import Band, Picture, html, number, png
from .probes import Feature, Finding, features, fit, search

# The states and gates of each cell, the states first; and those whose curves are drawn.
SERIES = {"lstm": "chifgo", "gru": "hrzn", "rnn": "h"}
STATES = {"lstm": "ch", "gru": "h", "rnn": "h"}
CURVES = {"lstm": "coh", "gru": "h", "rnn": "h"}
SIGMOID = "iforz"  # between 0 and 1; all others but c are between -1 and 1
LIMIT = 50_000  # characters read at most: enough to know a score to within 0.02
WINDOW = 4096  # characters read in one call
TOO_RARE = "too rare in this text"


@dataclass(frozen=True)
class Reading:
    """A text that a model has read, and what was found in its units."""

    model: str
    cell: str  # lstm, gru or rnn
    net: str  # such as "LSTM, 128 units" or "GRU, 2 layers of 64 units, int8 weights"
    source: str  # what the text is
    text: str  # N characters
    traces: Mapping[str, Array]  # (N, H) each, by names as in a layer's trace
    features: Mapping[str, Feature]
    findings: Mapping[str, Finding]


def check_out(path: str) -> None:
    """Raise an error now that :func:`save` would raise at the end."""
    if path.lower().endswith(".png"):
        session.check_plot(path)
    elif not path.lower().endswith(".html"):
        raise SaveError(f"cannot save {path}: its name must end in .html or .png")
    session.check_place(path)


def save(path: str, shown: Picture) -> None:
    """Write the picture; the name of the file decides the format. Raises :class:`SaveError`."""
    data = png(shown) if path.lower().endswith(".png") else html(shown).encode()
    try:
        write_atomically(path, data)
    except OSError as error:
        raise SaveError(f"cannot save {path}: {error.strerror}") from None


def text_to_read(loaded: Checkpoint, files: list[str]) -> tuple[str, str]:
    """Return what the text is, and the text: what was held out where it is the model's own, or the one by default."""
    source, text = (" and ".join(files), read_files(files)) if files else builtin_text()
    if len(text) >= SHORTEST_TEXT:
        corpus = make_corpus(text)
        if not files or corpus.fingerprint == loaded.training.fingerprint:
            gap = "\n\n" if "\n" in corpus.vocabulary else ""
            text = gap.join("".join(corpus.vocabulary[n] for n in column) for column in corpus.held_out.T.tolist())
            source = f"the held-out part of {source}"
    return source, text[:LIMIT]


def activations(model: CharModel, tokens: Array, names: Collection[str]) -> dict[str, Array]:
    """Return states and gates after every one of the tokens (N,), by their names in a layer's trace: (N, H) each."""
    model.eval()
    state = None
    windows: list[dict[str, Array]] = []
    for t in range(0, len(tokens), WINDOW):
        _, state = model.rnn(tokens[t : t + WINDOW], state, trace=True)
        windows.append({name: model.rnn.trace[name] for name in names})
    return {name: np.concatenate([window[name] for window in windows]) for name in names}


def read(
    loaded: Checkpoint,
    model: CharModel,
    path: str,
    source: str,
    text: str,
    names: list[str],
    units: range,
    seed: int,
) -> Reading:
    """Run the model in a file over a text, and search these units of the states and gates in ``names``."""
    settings = loaded.settings
    tokens = encode_text(text, loaded.vocabulary)
    curves = {f"{name}_l{k}" for name in CURVES[settings.cell] for k in range(settings.layers)}
    traces = activations(model, tokens, {*names, *curves})
    known = features(text)
    looked_at = {name: traces[name][:, units.start : units.stop] for name in names}
    found = search(looked_at, tokens, known, np.random.default_rng(seed))
    layers = f"{settings.layers} layers of " if settings.layers > 1 else ""
    kept = "" if model.rnn.weights == "float32" else f", {model.rnn.weights} weights"
    return Reading(
        model=path,
        cell=settings.cell,
        net=f"{settings.cell.upper()}, {layers}{settings.hidden} units{kept}",
        source=source,
        text=text,
        traces=traces,
        features={feature.name: feature for feature in known},
        findings={name: f._replace(unit=f.unit + units.start) for name, f in found.items()},
    )


def states_compared(reading: Reading, name: str) -> dict[str, float]:
    """Return the scores of c and of h, each with its own threshold, of the unit that was found; {} without a c."""
    finding, labels = reading.findings[name], reading.features[name].labels
    layer = finding.series[1:]
    return {
        state: float(fit(reading.traces[state + layer][:, [finding.unit]], labels[:, None]).score[0, 0])
        for state in "ch"
        if "c" + layer in reading.traces
    }


def as_json(reading: Reading) -> dict[str, Any]:
    """Return the findings; a feature that is too rare has only its share."""
    found: dict[str, dict[str, Any]] = {}
    for name, feature in reading.features.items():
        found[name] = {"meaning": feature.meaning, "share": float(feature.labels.mean())}
        if name in reading.findings:
            finding = reading.findings[name]
            found[name] |= {**finding._asdict(), "found": finding.found, "same_unit": states_compared(reading, name)}
    return {"model": reading.model, "text": reading.source, "characters": len(reading.text), "features": found}


def table(reading: Reading) -> list[list[str]]:
    """Return the findings for people, the header first."""
    rows = [["feature", "share", "best unit", "score", "shuffled", "character", "found"]]
    compared = {name: states_compared(reading, name) for name in reading.findings}
    states = sorted({state for scores in compared.values() for state in scores})
    rows[0] += [f"its {state}" for state in states]
    for name, feature in reading.features.items():
        cells = [feature.meaning, f"{feature.labels.mean():.2f}"]
        finding = reading.findings.get(name)
        if finding is None:
            cells += [TOO_RARE, *[""] * (len(rows[0]) - 3)]
        else:
            scores = (finding.score, finding.shuffled, finding.character)
            cells += [rule(finding), *(f"{score:.2f}" for score in scores), "yes" if finding.found else "no"]
            cells += [f"{compared[name][state]:.2f}" for state in states]
        rows.append(cells)
    return rows


def rule(finding: Finding) -> str:
    """Return what the unit's guess is, such as ``c_l0[37] > 1.2``."""
    return f"{finding.series}[{finding.unit}] {'>' if finding.above else '<'} {number(finding.threshold)}"


def print_table(reading: Reading, searched: str) -> None:
    """Print the findings."""
    print(f"{reading.model} ({reading.net}) reads {len(reading.text):,} characters: {reading.source}")
    print(f"searched {searched}\n")
    print(aligned(table(reading), words=(0, 2)))


def picture(reading: Reading, find: str, series: str, unit: int, *, start: int | None, length: int) -> Picture:
    """Return the passage with the unit that was found for a feature, or else the unit and the series given."""
    feature, finding = reading.features[find], reading.findings.get(find)
    if finding:
        series, unit = finding.series, finding.unit
    if start is None:
        start = busiest(reading.text, feature.labels, length)
    passage = slice(start, min(start + length, len(reading.text)))
    layer = series[1:]

    def band(kind: str) -> Band:
        values = reading.traces[kind + layer][passage, unit]
        low, high = (0.0 if kind in SIGMOID else -1.0), 1.0
        if kind == "c":  # has no bounds
            low, high = min(0.0, float(values.min())), max(0.1, float(values.max()))
        return Band(kind, values, low, high, finding.threshold if finding and kind == series[0] else None)

    colours = band(series[0])
    if series[0] not in SIGMOID:  # the shades are for what is usual
        usual = float(np.quantile(np.abs(reading.traces[series][:, unit]), 0.98)) or 1.0
        colours = colours._replace(low=-usual, high=usual)

    size = f"{len(reading.text):,} characters"
    about = [f"{reading.model} ({reading.net}) reads {reading.source}, {size}; shown from {start:,}."]
    if finding:
        about.append(
            f"“{feature.meaning}” is {'' if finding.found else 'not '}found: {rule(finding)} scores "
            f"{finding.score:.2f} on the half of the text that its threshold was not fitted on. Chance is 0.50; the "
            f"best unit with the labels at the wrong places has {finding.shuffled:.2f}; the character just read tells "
            f"{finding.character:.2f} by itself."
        )
    return Picture(
        title=f"{series[0]} of unit {unit} in layer {layer[2:]}",
        about=about,
        text=reading.text[passage],
        band=colours,
        bands=[band(kind) for kind in dict.fromkeys(CURVES[reading.cell] + series[0])],
        feature=feature.meaning,
        labels=feature.labels[passage],
        table=table(reading),
    )


def busiest(text: str, labels: Array, length: int) -> int:
    """Return where the passage starts, at the start of a line in the second half, in which labels (N,) change most."""
    changes = np.cumsum(np.diff(labels, prepend=labels[:1]))
    starts = [k for k in range(len(text) // 2, len(text) - length) if text[k - 1] == "\n"]
    return max(starts, key=lambda k: int(changes[k + length] - changes[k]), default=max(0, len(text) - length))
