"""What :func:`fastrnn.to_torch` makes of a net: PyTorch's modules, and what PyTorch has not between them.

Shapes: T steps, B batch, H features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["Last", "Max", "Mean", "Sequential"]


class _OverTime(nn.Module):
    """What Last, Mean and Max have in common: from (T, B, H) to (B, H), zeros where there are no steps.

    From (B, T, H) if ``batch_first``; of one sequence from (T, H) to (H,).
    """

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return one vector for each sequence; ``lengths`` (B,) are the steps that each has, T by default."""
        by_steps = y[:, None] if y.dim() == 2 else y.transpose(0, 1) if self.batch_first else y
        T, B = by_steps.shape[:2]
        if lengths is None:
            lengths = torch.full((B,), T, device=y.device)
        lengths = lengths.to(y.device)
        if T == 0:
            result = by_steps.new_zeros(by_steps.shape[1:])
        else:
            result = torch.where((lengths > 0)[:, None], self._over(by_steps, lengths), 0)
        return result[0] if y.dim() == 2 else result

    def extra_repr(self) -> str:
        """Return what a module shows of its options."""
        return "batch_first=True" if self.batch_first else ""

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


def _counted(y: Tensor, lengths: Tensor) -> Tensor:
    """Return whether each step counts, (T, B, 1)."""
    return (torch.arange(len(y), device=y.device)[:, None] < lengths)[..., None]


class Last(_OverTime):
    """The last step of each sequence; of features that were read from the end the first one.

    Args:
        batch_first: whether y is (B, T, H).
        from_end: how many of the features, the last ones, a recurrent layer before has read from the end.

    """

    def __init__(self, batch_first: bool = False, from_end: int = 0) -> None:
        super().__init__(batch_first)
        self.from_end = from_end

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        sequences = torch.arange(y.shape[1], device=y.device)
        last = y[(lengths - 1).clamp(min=0), sequences]
        split = y.shape[2] - self.from_end
        return torch.cat([last[:, :split], y[0, :, split:]], 1) if self.from_end else last


class Mean(_OverTime):
    """The mean of all steps of each sequence."""

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        return torch.where(_counted(y, lengths), y, 0).sum(0) / lengths.clamp(min=1)[:, None].to(y.dtype)


class Max(_OverTime):
    """The largest of each feature over all steps of each sequence."""

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        return torch.where(_counted(y, lengths), y, -torch.inf).amax(0)


class Sequential(nn.Sequential):
    """PyTorch's, in which recurrent layers hand on y, and sequences may have lengths."""

    def forward(self, input: Any, lengths: Tensor | None = None) -> Tensor:  # noqa: A002  as it is called there
        """Return what the last module makes of ``input``; ``lengths`` (B,) are the steps that each sequence has."""
        y = input
        for module in self:
            if isinstance(module, nn.RNNBase):
                y = module(y)[0] if lengths is None else _of_lengths(module, y, lengths)
            elif isinstance(module, _OverTime | Sequential):
                y = module(y, lengths)
            else:
                y = module(y)
        return y


def _of_lengths(module: nn.RNNBase, x: Tensor, lengths: Tensor) -> Tensor:
    """Return y of sequences of different lengths, zero past their ends."""
    order, T = module.batch_first, x.shape[1 if module.batch_first else 0]
    # PyTorch takes no sequences without steps: theirs is computed, and does not count.
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=order, enforce_sorted=False)
    y, _ = pad_packed_sequence(module(packed)[0], batch_first=order, total_length=T)
    counted = _counted(y.transpose(0, 1) if order else y, lengths.to(y.device))
    return torch.where(counted.transpose(0, 1) if order else counted, y, 0)
