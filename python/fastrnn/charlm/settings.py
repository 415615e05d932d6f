"""What a training run is asked to do."""

import math
from dataclasses import dataclass

from .errors import SettingsError

CELLS = ("rnn", "lstm", "gru")
LARGEST_SIZE = 1 << 20
LARGEST_SEED = (1 << 63) - 1
LARGEST_RATE = 10.0
MOST_LAYERS = 64


@dataclass(frozen=True)
class Settings:
    """Everything, beside the text, that decides what a run computes.

    The defaults are those of ``fastrnn train``. Raises :class:`SettingsError` for values that make no sense.
    """

    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.0  # share of each layer's outputs that is zeroed in training
    batch: int = 32  # streams that the text is cut into and read side by side
    steps: int = 64  # characters that gradients reach back
    lr: float = 0.004
    clip: float = 1.0  # largest norm of all gradients together
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise SettingsError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        for name in ("hidden", "batch", "steps"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
                raise SettingsError(f"{name} must be a whole number from 1 to {LARGEST_SIZE}, got {value!r}")
        if type(self.layers) is not int or not 1 <= self.layers <= MOST_LAYERS:
            raise SettingsError(f"layers must be a whole number from 1 to {MOST_LAYERS}, got {self.layers!r}")
        if type(self.dropout) is not float or not 0.0 <= self.dropout < 1.0:
            raise SettingsError(f"dropout must be a number from 0 to below 1, got {self.dropout!r}")
        if type(self.lr) is not float or not 0.0 < self.lr <= LARGEST_RATE:
            raise SettingsError(f"lr must be a number above 0 and at most {LARGEST_RATE:g}, got {self.lr!r}")
        if type(self.clip) is not float or not (self.clip > 0.0 and math.isfinite(self.clip)):
            raise SettingsError(f"clip must be a finite number above 0, got {self.clip!r}")
        if type(self.seed) is not int or not 0 <= self.seed <= LARGEST_SEED:
            raise SettingsError(f"seed must be a whole number from 0 to {LARGEST_SEED}, got {self.seed!r}")
