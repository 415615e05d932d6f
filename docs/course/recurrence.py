"""Draws what the state of an untrained RNN makes of a single push, for several scales of W_hh.

    python docs/course/recurrence.py FILE.png

Needs matplotlib.
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

import fastrnn

T, H, SHOWN = 40, 64, 2
SCALES = {0.8: "it fades", 1.0: "it lingers", 1.5: "no rest"}


def main() -> None:
    rng = np.random.default_rng(0)
    w_ih = rng.standard_normal((H, 1))
    w_hh = rng.standard_normal((H, H))
    w_hh /= np.abs(np.linalg.eigvals(w_hh)).max()
    x = np.zeros((T, 1, 1))
    x[0] = 1

    figure = Figure(figsize=(7.6, 4), layout="constrained")
    plots = figure.subplots(2, len(SCALES), sharex=True, sharey="row", height_ratios=(3, 2))
    for (scale, what), (units, length) in zip(SCALES.items(), plots.T, strict=True):
        h = fastrnn.rnn_forward(x, w_ih, scale * w_hh).y[:, 0]  # (T, H)
        for unit, grey in enumerate(np.linspace(0, 0.6, SHOWN)):
            units.plot(h[:, unit], color=str(grey), linewidth=1.2)
        units.set_title(f"largest eigenvalue {scale:g}: {what}", fontsize=9)
        length.plot(np.linalg.norm(h, axis=1), color="black")
        length.set(xlabel="steps after the push", yscale="log")
    plots[0, 0].set_ylabel(f"{SHOWN} of the units of h")
    plots[1, 0].set_ylabel("length of h")
    figure.savefig(sys.argv[1], dpi=80)


if __name__ == "__main__":
    main()
