"""The demonstration: in under a minute, from random weights to readable text."""

from typing import TextIO

from .checkpoint import check_writable
from .sample import excerpt
from .session import Bounds, check_extras, introduce, run, summarise
from .settings import Settings
from .text import builtin_text, make_corpus
from .train import Trainer

SETTINGS = Settings(batch=16, lr=0.01)  # the most learnt from this text in this time
SECONDS = 45.0  # of training; starting, the last sample and the baselines take a few more
LAST_SAMPLE = 800


def run_demo(
    path: str, out: TextIO, *, seconds: float = SECONDS, settings: Settings = SETTINGS
) -> tuple[Trainer, int | None]:
    """Train on a text that Python carries for ``seconds``, showing samples; save the model at ``path``.

    Returns the trainer, and the signal that ended it early, if one did.
    """
    check_writable(path)
    check_extras(out)
    name, text = builtin_text()
    trainer = Trainer(settings, make_corpus(text))
    print(f"Training on {name} for {seconds:.0f} seconds.", file=out)
    introduce(trainer, out)
    signal = run(trainer, Bounds(seconds=seconds), path, out, show_samples=True)
    model, vocabulary = trainer.checkpoint().model(), trainer.corpus.vocabulary
    print(f"\n--- what it writes now\n{excerpt(model, vocabulary, LAST_SAMPLE, settings.seed)}", file=out)
    summarise(trainer, out)
    return trainer, signal
