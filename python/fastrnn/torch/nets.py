"""What :func:`fastrnn.to_torch` makes of a net: PyTorch's modules, and what PyTorch has not between them.

Shapes: T steps, B batch, H features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastrnn._base import checks
from fastrnn._layer.arguments import checked_lengths

__all__ = ["Last", "Max", "Mean", "Sequential"]


class _OverTime(nn.Module):
    """What Last, Mean and Max have in common: from (T, B, H) to (B, H), zeros where there are no steps.

    From (B, T, H) if ``batch_first``; of one sequence from (T, H) to (H,).
    """

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return one vector for each sequence.

        Args:
            y: floating-point numbers.
            lengths: (B,), integers from 0 to T: how many steps each sequence has; None is T.

        """
        name = type(self).__name__
        _check_tensor(name, "y", y)
        if not y.is_floating_point():
            raise TypeError(f"{name}: y is {str(y.dtype).removeprefix('torch.')}, expected floating-point numbers")
        if y.dim() not in (2, 3):
            axes = "(B, T, H)" if self.batch_first else "(T, B, H)"
            raise ValueError(f"{name}: y has shape {tuple(y.shape)}, expected {axes}, or (T, H) for one sequence")
        by_steps = _by_steps(y, self.batch_first)
        steps = _checked(name, lengths, by_steps, self.batch_first)
        # Without steps their sum is zeros, and there is a way back through it.
        result = self._over(by_steps, steps) if by_steps.shape[0] else by_steps.sum(0)
        result = torch.where((steps > 0)[:, None], result, 0)
        return result[0] if y.dim() == 2 else result

    def extra_repr(self) -> str:
        """Return what a module shows of its options."""
        return "batch_first=True" if self.batch_first else ""

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


def _check_tensor(owner: str, name: str, value: Any) -> None:
    if isinstance(value, PackedSequence):
        raise TypeError(
            f"{owner}: {name} is a PackedSequence, expected a tensor: pad_packed_sequence makes one of it, and lengths"
        )
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner}: {name} is {checks.kind(value)}, expected a tensor: torch.as_tensor({name})")


def _by_steps(x: Tensor, batch_first: bool) -> Tensor:
    """Return (T, B, ...) of what has two or three axes; two are those of one sequence."""
    return x[:, None] if x.dim() == 2 else x.transpose(0, 1) if batch_first else x


def _checked(owner: str, lengths: Any, by_steps: Tensor, batch_first: bool) -> Tensor:
    """Return the lengths (B,), where x is, of what has the axes (T, B, ...)."""
    T, B = by_steps.shape[:2]
    if lengths is None:
        return torch.full((B,), T, device=by_steps.device)
    if not isinstance(lengths, Tensor):
        lengths = torch.from_numpy(checked_lengths(owner, lengths, T, B, batch_first))
    elif lengths.layout != torch.strided or lengths.is_quantized:
        raise TypeError(f"{owner}: lengths is a tensor that is sparse or quantised, expected integers (B,)")
    else:
        checked_lengths(owner, lengths.tolist(), T, B, batch_first)
    return lengths.to(by_steps.device, torch.int64)


def _counted(y: Tensor, lengths: Tensor) -> Tensor:
    """Return whether each step counts, (T, B, 1)."""
    return (torch.arange(y.shape[0], device=y.device)[:, None] < lengths)[..., None]


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
        wide = torch.promote_types(y.dtype, torch.float32)  # in which a sum has room
        total = torch.where(_counted(y, lengths), y, 0).sum(0, dtype=wide)
        return (total / lengths.clamp(min=1)[:, None]).to(y.dtype)


class Max(_OverTime):
    """The largest of each feature over all steps of each sequence. The gradient goes to the first step that has it."""

    def _over(self, y: Tensor, lengths: Tensor) -> Tensor:
        return torch.where(_counted(y, lengths), y, -torch.inf).max(0).values


class Sequential(nn.Sequential):
    """PyTorch's, in which recurrent layers hand on y, and sequences may have lengths."""

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: A002  as it is called there
        """Return what the last module makes of ``input``.

        Args:
            input: what the first module takes.
            lengths: (B,), integers from 0 to T: how many steps each sequence has; None is T.

        Raises:
            TypeError: one of them is of another kind.
            ValueError: lengths are not as many, or not from 0 to T; or no module takes them.

        """
        _check_tensor("Sequential", "input", input)
        if lengths is not None and not _takes_lengths(self):
            raise ValueError("Sequential: no module of this net takes lengths: recurrent layers, Last, Mean, Max do")
        y = input
        for module in self:
            if isinstance(module, nn.RNNBase):
                y = _all_steps(module, y, lengths)
            elif isinstance(module, _OverTime | Sequential) and _takes_lengths(module):
                y = module(y, lengths)
            else:
                y = module(y)
        return y


def _takes_lengths(module: nn.Module) -> bool:
    return any(isinstance(part, nn.RNNBase | _OverTime) for part in module.modules())


def _all_steps(module: nn.RNNBase, x: Tensor, lengths: Any) -> Tensor:
    """Return y of a recurrent layer, zero past the ends of sequences."""
    if x.dim() not in (2, 3) or (lengths is None and x.numel()):
        y: Tensor = module(x)[0]
        return y
    by_steps = _by_steps(x, module.batch_first)
    T, B = by_steps.shape[:2]
    steps = _checked(type(module).__name__, lengths, by_steps, module.batch_first)
    counted = _counted(by_steps, steps)
    # PyTorch takes no sequences without steps, and no batch without sequences: one is computed, and does not count.
    padded = pad(torch.where(counted, by_steps, 0), (0, 0, 0, int(B == 0), 0, int(T == 0)))
    packed = pack_padded_sequence(padded, pad(steps, (0, int(B == 0))).clamp(min=1).cpu(), enforce_sorted=False)
    y, _ = pad_packed_sequence(module(packed)[0], total_length=padded.shape[0])
    y = torch.where(counted, y[:T, :B], 0)
    return y[:, 0] if x.dim() == 2 else y.transpose(0, 1) if module.batch_first else y
