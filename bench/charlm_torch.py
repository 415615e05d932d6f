"""The character model of `fastrnn train` as a plain PyTorch script.

    python bench/charlm_torch.py book.txt [--cell gru] [--hidden 256] [--steps 1000]

The same model, data and optimiser: one-hot characters, one recurrent layer, a linear decoder; streams read side by side
with the state carried from step to step; Adam, with gradients clipped by their norm. bench/charlm.py compares the two.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class CharModel(nn.Module):
    def __init__(self, cell: str, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.rnn = getattr(nn, cell.upper())(vocabulary, hidden)
        self.decoder = nn.Linear(hidden, vocabulary)
        self.register_buffer("one_hot", torch.eye(vocabulary))  # indexing it is faster than functional.one_hot
        if cell == "lstm":
            with torch.no_grad():
                self.rnn.bias_ih_l0[hidden : 2 * hidden] += 1  # forget gates open

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (T, B, V) of the characters after tokens (T, B), and the state after the last."""
        y, state = self.rnn(self.one_hot[tokens], state)
        return self.decoder(y), state


class Training:
    """A model, and the text it learns from: streams (N, B) of int64, T characters a step."""

    def __init__(self, cell: str, vocabulary: int, hidden: int, streams: Tensor, T: int, lr: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = CharModel(cell, vocabulary, hidden)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr)
        self.streams = streams
        self.T = T
        self.epoch_steps = (len(streams) - 1) // T
        self.step = 0
        self.state: Any = None

    def advance(self) -> float:
        """One step; returns its loss in bits per character."""
        start = self.step % self.epoch_steps * self.T
        window = self.streams[start : start + self.T + 1]
        logits, state = self.model(window[:-1], self.state if start else None)
        loss = functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        self.step += 1
        return loss.item() / math.log(2)

    @torch.inference_mode()
    def held_out_bits(self, tokens: Tensor) -> float:
        """Bits per character on text that is not learned from, (L, K): columns side by side."""
        logits, _ = self.model(tokens[:-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten()).item() / math.log(2)

    @torch.inference_mode()
    def sample(self, first: int, length: int, temperature: float) -> list[int]:
        """So many tokens after the first one, each drawn and fed back."""
        tokens, state = [first], None
        while len(tokens) <= length:
            logits, state = self.model(torch.tensor([[tokens[-1]]]), state)
            probabilities = torch.softmax(logits[0, 0] / temperature, 0)
            tokens.append(int(torch.multinomial(probabilities, 1)))
        return tokens[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cell", choices=("rnn", "lstm", "gru"), default="lstm")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    text = options.file.read_text(encoding="utf-8")
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(character) for character in text])
    length = len(tokens) // options.batch
    streams = tokens[: length * options.batch].reshape(options.batch, length).T.contiguous()
    training = Training(options.cell, len(characters), options.hidden, streams, 64, 0.004, options.seed)
    began = time.perf_counter()
    for step in range(1, options.steps + 1):
        bits = training.advance()
        if step % 100 == 0:
            rate = step * 64 * options.batch / (time.perf_counter() - began)
            print(f"step {step}  {bits:.3f} bits/char  {rate:,.0f} char/s", flush=True)
    print("".join(characters[token] for token in training.sample(0, 500, 0.7)))


if __name__ == "__main__":
    main()
