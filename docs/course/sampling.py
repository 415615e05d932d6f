"""The figure of 04-sampling.md: how likely a model finds the next character, at several temperatures.

python docs/course/sampling.py MODEL docs/course/sampling.png [--prime TEXT]
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from fastrnn.charlm.checkpoint import load
from fastrnn.charlm.sample import Chooser
from fastrnn.charlm.text import encode_text

TEMPERATURES = (0.5, 1.0, 2.0)
TOP_P = 0.9
SHOWN = 16  # of the likeliest characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--prime", default="\n\nimport s")
    options = parser.parse_args()
    loaded = load(options.model)
    read = loaded.model().reader()
    for token in encode_text(options.prime, loaded.vocabulary).reshape(-1, 1):
        (logits,) = read(token)
    likeliest = np.argsort(-logits)[:SHOWN]
    names = [repr(loaded.vocabulary[token]) for token in likeliest]

    figure = Figure(figsize=(8, 3), layout="constrained")
    panels = figure.subplots(1, len(TEMPERATURES), sharex=True, sharey=True)
    for panel, temperature in zip(panels, TEMPERATURES, strict=True):
        chooser = Chooser(len(logits), temperature=temperature)
        kept = Chooser(len(logits), temperature=temperature, top_p=TOP_P)
        p, inside = chooser.probabilities(logits)[likeliest], kept.probabilities(logits) > 0
        count, inside = np.count_nonzero(inside), inside[likeliest]
        places = np.arange(SHOWN)
        panel.barh(places[inside], p[inside], color="0.3")
        panel.barh(places[~inside], p[~inside], color="white", edgecolor="0.3", hatch="////")
        panel.set_yticks(places, names, family="monospace")
        panel.set_title(f"temperature {temperature:g}: {count} kept")
        panel.set_xlabel("probability")
    panels[0].invert_yaxis()
    panels[0].set_ylabel(f"character after {options.prime.strip()!r}")
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
