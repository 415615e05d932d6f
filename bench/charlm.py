"""Training and sampling of the character model, end to end, beside the plain PyTorch script in charlm_torch.py.

    python bench/charlm.py [--threads 1 2] [--cells lstm gru] [--steps 300] [--seeds 3]

Both learn from the text that comes with Python, with the settings of `fastrnn train`: H = 256, B = 32, 64 characters
a step. Each works in a process of its own, in turns, and a rate is the median over all turns and seeds. Bits per
character are those of the weights after the last step, on the same held-out text. fastrnn's time includes the running
average of the weights that `fastrnn train` keeps, which the script does not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, Protocol

from fastrnn.charlm.settings import Settings
from measure import Worker

TURN = 20  # steps
SAMPLE_TURNS, SAMPLE_LENGTH, TEMPERATURE = 5, 1000, 0.7
CONTENDERS = ("fastrnn", "torch")
SETTINGS = Settings()


class Run(Protocol):
    """A model being trained, in the worker's process."""

    def advance(self) -> object: ...

    def bits(self) -> float: ...

    def sample(self) -> object: ...


class Fastrnn:
    def __init__(self, cell: str, seed: int) -> None:
        from fastrnn.charlm import session
        from fastrnn.charlm.text import builtin_text, make_corpus
        from fastrnn.charlm.train import Trainer

        session.one_blas_thread().__enter__()  # for good, as in `fastrnn train`
        self.trainer = Trainer(Settings(cell=cell, seed=seed), make_corpus(builtin_text()[1]))
        self.advance = self.trainer.advance

    def bits(self) -> float:
        return self.trainer.held_out_bits(self.trainer.model.params)

    def sample(self) -> str:
        from fastrnn.charlm.sample import generate

        model, vocabulary = self.trainer.model, self.trainer.corpus.vocabulary
        text = generate(model, vocabulary, length=SAMPLE_LENGTH, temperature=TEMPERATURE)
        return "".join(text)


class Torch:
    def __init__(self, cell: str, seed: int) -> None:
        import torch

        from charlm_torch import Training
        from fastrnn.charlm.text import builtin_text, make_corpus
        from fastrnn.data import side_by_side

        corpus = make_corpus(builtin_text()[1])
        streams = torch.from_numpy(side_by_side(corpus.train, SETTINGS.batch)).long()
        self.held_out = torch.from_numpy(corpus.held_out).long()
        self.training = Training(
            cell, len(corpus.vocabulary), SETTINGS.hidden, streams, SETTINGS.steps, SETTINGS.lr, seed
        )
        self.advance = self.training.advance

    def bits(self) -> float:
        return self.training.held_out_bits(self.held_out)

    def sample(self) -> list[int]:
        return self.training.sample(0, SAMPLE_LENGTH, TEMPERATURE)


KINDS: dict[str, Any] = {"fastrnn": Fastrnn, "torch": Torch}
run: Run  # of the worker


# What workers are asked to do.


def begin(contender: str, cell: str, seed: int) -> None:
    global run  # a worker has one
    run = KINDS[contender](cell, seed)


def train(steps: int) -> float:
    """Seconds of so many steps."""
    start = time.perf_counter()
    for _ in range(steps):
        run.advance()
    return time.perf_counter() - start


def sample() -> float:
    """Seconds of a sample."""
    start = time.perf_counter()
    run.sample()
    return time.perf_counter() - start


def bits() -> float:
    return run.bits()


def contest(cell: str, threads: int, steps: int, seeds: int) -> str:
    """One row of the table."""
    workers = {name: Worker(name, threads) for name in CONTENDERS}
    training: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    sampling: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    held_out: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for seed in range(seeds):
        for name, worker in workers.items():
            worker.ask("probe", begin, name, cell, seed)
        for _ in range(steps // TURN):
            for name, worker in workers.items():
                training[name].append(TURN * SETTINGS.batch * SETTINGS.steps / worker.ask("probe", train, TURN))
        for name, worker in workers.items():
            held_out[name].append(worker.ask("probe", bits))
        for _ in range(SAMPLE_TURNS):
            for name, worker in workers.items():
                sampling[name].append(SAMPLE_LENGTH / worker.ask("probe", sample))
    for worker in workers.values():
        worker.close()

    def rates(samples: dict[str, list[float]]) -> str:
        ours, theirs = (statistics.median(samples[name]) for name in CONTENDERS)
        return f"{ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f}"

    found = " | ".join(" ".join(f"{b:.3f}" for b in held_out[name]) for name in CONTENDERS)
    return f"| {cell} | {threads} | {rates(training)} | {found} | {rates(sampling)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--cells", nargs="+", choices=("rnn", "lstm", "gru"), default=["lstm", "gru"], metavar="CELL")
    parser.add_argument("--steps", type=int, default=300, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    columns = "training char/s, fastrnn | PyTorch | times | bits held out, fastrnn | PyTorch"
    print(f"| cell | threads | {columns} | sampling char/s, fastrnn | PyTorch | times |")
    print("|---|---:|" + "---:|" * 8)
    for threads in options.threads:
        for cell in options.cells:
            print(contest(cell, threads, options.steps, options.seeds), flush=True)


if __name__ == "__main__":
    main()
