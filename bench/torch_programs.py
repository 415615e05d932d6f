"""PyTorch programs, plain and after fastrnn.torch.accelerate(model), which is the only line that is not theirs.

    python bench/torch_programs.py [NAME ...] [--threads 1] [--folder DIR]

Both make the same model from the same seed. A row has the largest difference of what they give before anything is
timed, steps of training included, and how many times as long the plain one takes, in turns. RecurrentPPO is that of
sb3-contrib, and the voice encoder has the weights of Resemblyzer, which wild.py downloads; what is missing is left out,
and says so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
import fastrnn.torch
import wild
from charlm_torch import Training
from fastrnn.charlm.text import builtin_text, make_corpus
from fastrnn.data import side_by_side
from limits import in_turns
from wild_models import PACKAGES
from wild_originals import Unavailable, library


class Program:
    """A model, what it gives that can be compared, and what can be timed, by name."""

    name: ClassVar[str]
    model: nn.Module
    works: dict[str, Callable[[], Any]]

    def __init__(self, folder: Path) -> None:
        raise NotImplementedError

    def outputs(self) -> list[Tensor]:
        raise NotImplementedError


class CharacterModel(Program):
    """The script that bench/charlm.py compares with, for a cell of its own."""

    cell: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        corpus = make_corpus(builtin_text()[1])
        streams = torch.from_numpy(side_by_side(corpus.train, 32)).long()
        self.training = Training(self.cell, len(corpus.vocabulary), 256, streams, 64, 0.004, 0)
        self.model = self.training.model
        self.tokens = streams[:200, :4]
        self.works = {"training": self.training.advance, "sampling": lambda: self.training.sample(0, 200, 0.7)}

    def outputs(self) -> list[Tensor]:
        losses = [self.training.advance() for _ in range(5)]
        with torch.inference_mode():
            return [torch.tensor(losses), self.model(self.tokens)[0]]


class CharacterLstm(CharacterModel):
    name = "character model, LSTM"
    cell = "lstm"


class CharacterGru(CharacterModel):
    name = "character model, GRU"
    cell = "gru"


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5000, 100)
        self.gru = nn.GRU(100, 128, num_layers=2, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(256, 17)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, T, 17) of the tags of words (B, T)."""
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        return self.linear(y)


class PackedTagger(Program):
    name = "tagger, BiGRU of packed sentences"

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.model = Tagger()
        self.optimiser = torch.optim.Adam(self.model.parameters())
        self.lengths = torch.randint(3, 41, (32,))
        self.lengths[0] = 40
        self.words, self.tags = torch.randint(5000, (32, 40)), torch.randint(17, (32, 40))
        self.works = {"training": self.train, "tagging": self.scores}

    def train(self) -> float:
        scores = self.model(self.words, self.lengths)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), self.tags.flatten())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    @torch.no_grad()
    def scores(self) -> Tensor:
        scores: Tensor = self.model(self.words, self.lengths)
        return scores

    def outputs(self) -> list[Tensor]:
        return [self.scores(), torch.tensor([self.train() for _ in range(5)]), self.scores()]


class VoiceEncoder(nn.Module):
    """The modules of Resemblyzer's, and its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.relu = nn.ReLU()

    def forward(self, mels: Tensor) -> Tensor:
        """Embeddings (B, 256) of spectrograms (B, T, 40)."""
        _, (hidden, _) = self.lstm(mels)
        embeds_raw = self.relu(self.linear(hidden[-1]))
        return embeds_raw / torch.norm(embeds_raw, dim=1, keepdim=True)


class Speakers(Program):
    name = "voice encoder of Resemblyzer"

    def __init__(self, folder: Path) -> None:
        (package,) = (each for each in PACKAGES if each.archive.startswith("Resemblyzer"))
        with tempfile.TemporaryDirectory() as unpacked:
            archive = wild.downloaded(package, folder)
            file = wild.unpacked(archive, package.rows[0].file, Path(unpacked) / "files")
            state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
        self.model = VoiceEncoder()
        self.model.load_state_dict(state, strict=False)  # as Resemblyzer does: the file has the weights of its loss too
        # Mel frames of harmonics that wander, three utterances of 1.6 s.
        t = torch.arange(160)[:, None] / 100
        pitch = torch.tensor([3.0, 5.0, 8.0])[:, None, None] + torch.sin(2 * np.pi * t)
        self.mels = torch.exp(-((torch.arange(40) % pitch) ** 2)) / (1 + torch.arange(40))
        self.works = {"embedding": lambda: self.outputs()}

    def outputs(self) -> list[Tensor]:
        with torch.no_grad():
            return [self.model(self.mels)]


class Recurrent(Program):
    name = "RecurrentPPO of sb3-contrib"
    STEPS = 128

    def __init__(self, folder: Path) -> None:
        gymnasium, contrib = library("gymnasium"), library("sb3_contrib")

        class WithoutVelocity(gymnasium.ObservationWrapper):  # type: ignore[misc, name-defined]
            """A pole that has to remember where it has been."""

            def __init__(self) -> None:
                super().__init__(gymnasium.make("CartPole-v1"))
                box = self.env.observation_space
                self.observation_space = gymnasium.spaces.Box(box.low[::2], box.high[::2])

            def observation(self, observation: Any) -> Any:
                return observation[::2]

        self.learner = contrib.RecurrentPPO(
            "MlpLstmPolicy", WithoutVelocity(), n_steps=self.STEPS, batch_size=self.STEPS, seed=0, device="cpu"
        )
        self.model = self.learner.policy
        self.works = {"learning": self.learn, "acting": self.act}

    def learn(self) -> None:
        self.learner.learn(self.STEPS, reset_num_timesteps=False)

    def act(self) -> list[Any]:
        """Actions of an episode."""
        observation, state, first = np.zeros((1, 2), np.float32), None, np.ones(1, bool)
        actions = []
        for _ in range(100):
            action, state = self.model.predict(observation, state, first, deterministic=True)
            observation, first = observation + 0.01 * (2 * action[:, None] - 1).astype(np.float32), np.zeros(1, bool)
            actions.append(action)
        return actions

    def outputs(self) -> list[Tensor]:
        """Values and chances of actions in a rollout of four episodes, by the policy before it has learned."""
        rng = np.random.default_rng(0)
        observations = torch.from_numpy(rng.normal(0, 0.1, (self.STEPS, 2)).astype(np.float32))
        actions = torch.from_numpy(rng.integers(0, 2, self.STEPS))
        starts = torch.from_numpy((np.arange(self.STEPS) % 32 == 0).astype(np.float32))
        zeros = tuple(torch.zeros(1, 1, 256) for _ in range(2))
        states = library("sb3_contrib.common.recurrent.type_aliases").RNNStates(zeros, zeros)
        with torch.no_grad():
            return list(self.model.evaluate_actions(observations, actions, states, starts))


PROGRAMS: tuple[type[Program], ...] = (CharacterLstm, CharacterGru, PackedTagger, Speakers, Recurrent)


def report(kind: type[Program], threads: int, folder: Path) -> None:
    try:
        plain, fast = kind(folder), kind(folder)
    except Unavailable as missing:
        print(f"| {kind.name} | not tried: {missing} | | | |", flush=True)
        return
    fastrnn.torch.accelerate(fast.model)
    pairs = zip(plain.outputs(), fast.outputs(), strict=True)
    difference = max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)
    for what, work in plain.works.items():
        rounds = in_turns(work, fast.works[what])
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"| {kind.name} | {what} | {threads} | {difference:.1e} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of classes of programs; all, where there is none")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    parser.add_argument("--folder", type=Path, default=wild.CACHE, help="of what wild.py downloads (%(default)s)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| program | what | threads | difference | times as fast |\n|---|---|---:|---:|---:|")
    for threads in options.threads:
        fastrnn.set_num_threads(threads)
        torch.set_num_threads(threads)
        for kind in PROGRAMS:
            if not options.names or kind.__name__ in options.names:
                report(kind, threads, options.folder)


if __name__ == "__main__":
    main()
