"""A passage of text coloured by one unit, and the course of its states below: as an HTML page, or as a picture.

The page is one file without scripts that loads nothing. Blue to red is low to high; since colours may not be seen, or
be printed in grey, blue ends in a darker shade than red, and what is red is underlined.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = tuple[int, int, int]  # a value, and from where to where it holds

LEVELS = 15  # colours, the middle one white
COLOURS = ((35, 88, 168), (255, 255, 255), (240, 130, 105))  # RGB: lowest, middle, highest
UNDERLINE = "#8b1a1a"
ROW = 100  # characters of a row of curves, and of a line of the picture
BAND = 44  # height of a curve in a row

STYLE = """
body { max-width: 110ch; margin: 2em auto; padding: 0 1em; font: 15px/1.5 system-ui, sans-serif; color: #111;
  background: #fff }
pre, .row, .legend { font: 14px/1.6 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; margin: 0 }
pre, .legend span { print-color-adjust: exact; -webkit-print-color-adjust: exact }
pre { overflow-x: auto; white-space: pre }
.row { margin: 0 0 1.2em; overflow-x: auto; display: flex; gap: 1ch; align-items: end }
.row pre { overflow: visible; line-height: 1.3 }
svg { display: block; background: #fff }
svg * { vector-effect: non-scaling-stroke; fill: none; stroke: #111; stroke-width: 1.3 }
svg .on { fill: #e2e2e2; stroke: none }
svg .axis { stroke: #999; stroke-width: 0.6 }
svg .threshold { stroke-dasharray: 5 4; stroke-width: 0.9 }
table { border-collapse: collapse }
td, th { padding: 0.1em 0.7em; text-align: right; border-bottom: 1px solid #ccc }
td:first-child, th:first-child { text-align: left }
"""


class Band(NamedTuple):
    """One curve under the text."""

    name: str
    values: Array  # (N,)
    low: float
    high: float
    threshold: float | None = None


@dataclass(frozen=True)
class Picture:
    """A passage of N characters, and what is shown of it."""

    title: str
    about: list[str]  # sentences below the title
    text: str
    band: Band  # the text's colours
    bands: list[Band]  # the curves
    feature: str  # what is shaded behind the curves
    labels: Array  # (N,) bool
    table: list[list[str]]  # the header first


def levels(band: Band) -> Array:
    """Return the colour of each character (N,), 0 to LEVELS - 1."""
    share = (band.values - band.low) / (band.high - band.low)
    rounded: Array = np.clip(np.rint(share * (LEVELS - 1)), 0, LEVELS - 1).astype(np.int64)
    return rounded


def colour(level: int) -> tuple[int, int, int]:
    """Return the RGB of a level."""
    low, middle, high = (np.array(c) for c in COLOURS)
    share = 2 * level / (LEVELS - 1) - 1
    r, g, b = np.rint(middle + abs(share) * ((low if share < 0 else high) - middle)).astype(int).tolist()
    return r, g, b


def dark(level: int) -> bool:
    """Return whether letters on this level must be white."""
    return level < 2  # where white has more contrast than black


def high(level: int) -> bool:
    """Return whether letters on this level are underlined."""
    return level > LEVELS // 2 + 1


def shown(text: str) -> str:
    """Return a text of the same length in which every character can be seen, line ends included."""
    return "".join("↵" if c == "\n" else c if c.isprintable() else "·" for c in text)


def runs(values: Array) -> Iterator[Run]:
    """Yield every value that is followed by another, with where it begins and ends."""
    end = 0
    for value, group in groupby(values.tolist()):
        begin, end = end, end + len(list(group))
        yield int(value), begin, end


# --- HTML


def html(picture: Picture) -> str:
    """Return the page."""
    styles = [
        f".v{k} {{ background: rgb{colour(k)}{'; color: #fff' if dark(k) else ''}"
        f"{f'; box-shadow: inset 0 -2px {UNDERLINE}' if high(k) else ''} }}"
        for k in range(LEVELS)
    ]
    n = len(picture.text)
    scale = "".join(f'<span class="v{k}">&nbsp;&nbsp;</span>' for k in range(LEVELS))
    band = picture.band
    legend = "; ".join(f"<b>{escape(b.name)}</b> from {number(b.low)} to {number(b.high)}" for b in picture.bands)
    dashed = "; dashed is the fitted threshold" if any(b.threshold is not None for b in picture.bands) else ""
    header, *rows = picture.table
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            # The page says of itself that it loads and runs nothing, and browsers hold it to that.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(picture.title)}</title>",
            f"<style>{STYLE}{chr(10).join(styles)}\n</style>\n</head>\n<body>",
            f"<h1>{escape(picture.title)}</h1>",
            *(f"<p>{escape(sentence)}</p>" for sentence in picture.about),
            f'<p class="legend">{escape(band.name)}: {number(band.low)} {scale} {number(band.high)}</p>',
            f"<pre>{coloured(picture, 0, n, breaks=True)}</pre>",
            "<h2>Its course</h2>",
            f"<p>From top to bottom: {legend}. Grey: {escape(picture.feature)}{dashed}.</p>",
            *(row(picture, begin, min(begin + ROW, n)) for begin in range(0, n, ROW)),
            "<h2>The units that follow a feature best</h2>",
            f"<table>\n<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>",
            *(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in rows),
            "</table>\n</body>\n</html>\n",
        ]
    )


def coloured(picture: Picture, begin: int, end: int, *, breaks: bool) -> str:
    """Return characters as HTML, neighbours of the same level together; with ``breaks`` lines end where they do."""
    level = levels(picture.band)[begin:end]
    text, values = picture.text[begin:end], picture.band.values[begin:end]
    parts = []
    for k, first, last in runs(level):
        inside = escape(shown(text[first:last]))
        if breaks:
            inside = inside.replace("↵", "↵\n")
        parts.append(f'<span class="v{k}" title="{number(values[first:last].mean())}">{inside}</span>')
    return "".join(parts)


def row(picture: Picture, begin: int, end: int) -> str:
    """Return a row of characters with the curves below, a character's width for each."""
    n, height = end - begin, BAND * len(picture.bands)
    lines = [
        f'<rect class="on" x="{first}" y="0" width="{last - first}" height="{height}"/>'
        for on, first, last in runs(picture.labels[begin:end])
        if on
    ]
    for k, band in enumerate(picture.bands):
        for kind, y in (("axis", 0.0), ("threshold", band.threshold)):
            if y is not None and band.low <= y <= band.high:
                lines.append(f'<path class="{kind}" d="M0 {place(band, k, y):.1f}H{n}"/>')
        points = " ".join(f"{x + 0.5:g},{place(band, k, y):.1f}" for x, y in enumerate(band.values[begin:end].tolist()))
        lines.append(f'<polyline points="{points}"/>')
    names = "".join(f'<div style="line-height:{BAND}px">{escape(band.name)}</div>' for band in picture.bands)
    return (
        f'<div class="row"><div>{names}</div><div><pre>{coloured(picture, begin, end, breaks=False)}</pre>'
        f'<svg role="img" viewBox="0 0 {n} {height}" preserveAspectRatio="none" style="width:{n}ch;height:{height}px">'
        f"<title>{escape(', '.join(band.name for band in picture.bands))}</title>{''.join(lines)}</svg></div></div>"
    )


def place(band: Band, k: int, value: float) -> float:
    """Return the height at which a value of the k-th curve is drawn, within the curve's part of the row."""
    share = (min(max(value, band.low), band.high) - band.low) / (band.high - band.low)
    return BAND * (k + 1) - 3 - share * (BAND - 6)


def number(value: float) -> str:
    """Return a number for people."""
    return f"{value:.2g}"


# --- PNG


def png(picture: Picture) -> bytes:
    """Return the picture."""
    import warnings

    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from PIL import Image

    at = layout(picture.text)
    lines = int(at[:, 0].max()) + 1
    level = levels(picture.band)
    cells = np.full((lines, ROW), np.nan)
    cells[at[:, 0], at[:, 1]] = level
    heights = [0.17 * lines, *[0.85] * len(picture.bands)]
    figure = Figure(figsize=(9, sum(heights) + 1.4), layout="constrained")
    axes, *below = figure.subplots(len(heights), height_ratios=heights)
    colours = ListedColormap([[c / 255 for c in colour(k)] for k in range(LEVELS)])
    band = picture.band
    image = axes.imshow(cells, colours, vmin=-0.5, vmax=LEVELS - 0.5, aspect="auto")
    for (y, x), character, k in zip(at.tolist(), shown(picture.text), level.tolist(), strict=True):
        if character != " ":
            style = {"color": "white" if dark(k) else "black", "size": 9, "family": "monospace"}
            letter = axes.text(x, y, character, ha="center", va="center_baseline", parse_math=False, **style)
            letter.set_in_layout(False)  # which would take a third longer
    y, x = at[[high(k) for k in level.tolist()]].T
    axes.hlines(y + 0.45, x - 0.5, x + 0.5, UNDERLINE, linewidth=1)
    axes.set_axis_off()
    figure.suptitle(picture.title, fontsize=11)
    bar = figure.colorbar(image, ax=axes, ticks=[0, LEVELS // 2, LEVELS - 1], location="top", aspect=60, shrink=0.5)
    bar.ax.set_xticklabels([number(v) for v in (band.low, (band.low + band.high) / 2, band.high)])
    bar.ax.tick_params(labelsize=8)
    for curve, part in zip(picture.bands, below, strict=True):
        for on, first, last in runs(picture.labels):
            if on:
                part.axvspan(first - 0.5, last - 0.5, color="0.85", linewidth=0)
        part.plot(curve.values, color="black", linewidth=0.8)
        part.axhline(0, color="0.5", linewidth=0.5)
        if curve.threshold is not None:
            part.axhline(curve.threshold, color="black", linewidth=0.8, linestyle="--")
        part.set(xlim=(-0.5, len(picture.text) - 0.5), ylim=(curve.low, curve.high))
        part.set_ylabel(curve.name, fontsize=8)
        part.tick_params(labelsize=8, labelbottom=part is below[-1])
    below[-1].set_xlabel(f"characters; grey: {picture.feature}", fontsize=8)
    drawn, file = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks: boxes are drawn for them
        figure.savefig(drawn, format="png", dpi=100)
    # With a palette the file is half as large: the colours, mixed with that of the letters on them, and greys.
    share = np.linspace(0, 1, 15)[:, None]
    mixed = [share * colour(k) + (1 - share) * (255 if dark(k) else 0) for k in range(LEVELS)]
    greys = np.tile(np.arange(0, 256, 15)[:, None], 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.rint(np.concatenate([*mixed, greys])).astype(np.uint8).tobytes())
    few = Image.open(drawn).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def layout(text: str) -> Array:
    """Return the line and column of every character, (N, 2): lines break where the text does, and after ROW."""
    at = []
    y = x = 0
    for character in text:
        at.append((y, x))
        x += 1
        if character == "\n" or x == ROW:
            y, x = y + 1, 0
    return np.array(at, np.int64).reshape(-1, 2)
