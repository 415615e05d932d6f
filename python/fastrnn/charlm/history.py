"""What a model wrote as it learned."""

from typing import Any

from .checkpoint import Checkpoint, Sample
from .sample import excerpt
from .train import SAMPLE_LENGTH


def with_present(checkpoint: Checkpoint) -> list[Sample]:
    """Return the kept samples, and one of the weights in the file, which are those of the best evaluation."""
    kept, evaluations = checkpoint.training.samples, checkpoint.training.history
    if not len(evaluations):
        return list(kept)
    step, _, held_out = evaluations[evaluations[:, 2].argmin()].tolist()
    if any(sample.step == step for sample in kept):
        return list(kept)
    text = excerpt(checkpoint.model(), checkpoint.vocabulary, SAMPLE_LENGTH, checkpoint.settings.seed)
    return sorted([*kept, Sample(int(step), held_out, text)], key=lambda sample: sample.step)


def characters_a_step(checkpoint: Checkpoint) -> int:
    """Return how many characters a step of training reads."""
    return checkpoint.settings.batch * checkpoint.settings.steps


def as_json(checkpoint: Checkpoint, samples: list[Sample]) -> dict[str, Any]:
    """Return the history for programs; bits are per character."""
    each = characters_a_step(checkpoint)
    return {
        "step": checkpoint.training.step,
        "characters_read": checkpoint.training.step * each,
        "evaluations": [
            {
                "step": int(step),
                "characters_read": int(step) * each,
                "training_bits": training,
                "held_out_bits": held_out,
            }
            for step, training, held_out in checkpoint.training.history.tolist()
        ],
        "samples": [
            {
                "step": sample.step,
                "characters_read": sample.step * each,
                "held_out_bits": sample.held_out,
                "text": sample.text,
            }
            for sample in samples
        ],
    }
