"""What test_processes.py has processes of their own do. Each raises where a number is not what it should be."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from twins import TOLERANCE, H, I, random

import fastrnn
import fastrnn.torch


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = torch.nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
        self.last = torch.nn.GRU(2 * H, H, dtype=torch.float64)

    def forward(self, x: Any) -> Any:
        return self.last(self.rnn(x)[0])[0]


def models() -> tuple[Model, Model]:
    """Return PyTorch's, and fastrnn's."""
    ours = Model()
    fastrnn.torch.accelerate(ours)
    return Model(), ours


def close(got: Any, right: Any) -> None:
    torch.testing.assert_close(got, right, **TOLERANCE[torch.float64])


def joined(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)


# --- two processes that train one model


def train_as_one(rank: int, folder: str) -> None:
    joined(rank, folder)
    train_copies(rank)  # which are freed before the group is gone: after it, gloo's threads may wait for ever
    dist.destroy_process_group()


def train_copies(rank: int) -> None:
    models_of_two = [DistributedDataParallel(m) for m in models()]
    steps = [torch.optim.SGD(m.parameters(), lr=0.1) for m in models_of_two]
    for turn in range(3):
        x = random(5, 2, I, dtype=torch.float64, seed=10 * turn + rank)
        for m, step in zip(models_of_two, steps, strict=True):
            step.zero_grad()
            m(x).pow(2).sum().backward()
            step.step()
    theirs, ours = ([*m.parameters()] for m in models_of_two)
    for p, q in zip(theirs, ours, strict=True):
        close(q.grad, p.grad)
        close(q, p)
        both = [torch.empty_like(q) for _ in range(2)]
        dist.all_gather(both, q.detach())
        assert torch.equal(*both)


def train_in_shards(rank: int, folder: str) -> None:
    """Each has half of every parameter, and gets the other half when it is needed."""
    joined(rank, folder)
    mesh = dist.init_device_mesh("cpu", (2,))
    found = []
    for m in models():
        for part in (m.rnn, m.last, m):
            fully_shard(part, mesh=mesh)
        step = torch.optim.SGD(m.parameters(), lr=0.1)
        for turn in range(3):
            step.zero_grad()
            y = m(random(5, 2, I, dtype=torch.float64, seed=10 * turn + rank))
            y.pow(2).sum().backward()
            step.step()
        found.append([y, *(p.full_tensor() for p in m.parameters())])
    for got, right in zip(*reversed(found), strict=True):
        close(got, right)
    dist.destroy_process_group()


def start_two(work: str) -> None:
    folder = str(Path.cwd())
    torch.multiprocessing.spawn(globals()[work], args=(folder,), nprocs=2)


# --- modules in other processes


def change_weights(model: Any, results: Any) -> None:
    """Work with a module that another process has made, and on its very parameters."""
    with torch.no_grad():
        results.put(model(random(5, 2, I, dtype=torch.float64)).numpy())
        for p in model.parameters():
            p.mul_(0.5)
        results.put(model(random(5, 2, I, dtype=torch.float64)).numpy())


def hand_on(method: str) -> None:
    theirs, ours = models()
    ours.share_memory()
    x = random(5, 2, I, dtype=torch.float64)
    with torch.no_grad():
        ours(x)
        context = torch.multiprocessing.get_context(method)
        results = context.Queue()
        process = context.Process(target=change_weights, args=(ours, results))
        process.start()
        first, second = (torch.from_numpy(results.get(timeout=60)) for _ in range(2))
        process.join()
        close(first, theirs(x))
        for p in theirs.parameters():
            p.mul_(0.5)
        close(second, theirs(x))
        close(ours(x), theirs(x))  # what the other one has changed


class Data(torch.utils.data.Dataset):
    """Features that a module has made of numbers."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        with torch.no_grad():
            return self.model(random(5, 1, I, dtype=torch.float64, seed=index)), torch.get_num_threads()


def load_data(method: str) -> None:
    theirs, ours = models()
    ours(random(200, 64, I, dtype=torch.float64)).sum().backward()  # there are threads before
    loader = torch.utils.data.DataLoader(Data(ours), batch_size=3, num_workers=2, multiprocessing_context=method)
    rows = torch.cat([rows for rows, _ in loader])
    close(rows, torch.stack([Data(theirs)[i][0] for i in range(12)]))
    ours(random(200, 64, I, dtype=torch.float64))


# --- threads


def share_cores() -> None:
    """PyTorch's threads, which wait without sleeping, beside the kernels': any number of them, same numbers."""
    module = fastrnn.torch.LSTM(100, 128)
    x, matrix = random(40, 64, 100), random(500, 500)
    found = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        for _ in range(3):
            module.zero_grad()
            (matrix @ matrix).sum()
            y, _ = module(x)
            (y * y.detach().softmax(-1)).sum().backward()
            assert fastrnn.get_num_threads() == min(threads, most)
            found.append([y.detach(), *(p.grad.clone() for p in module.parameters())])
    for other in found[1:]:
        for a, b in zip(other[:1], found[0][:1], strict=True):
            assert torch.equal(a, b)


most = fastrnn.get_num_threads()


def at_once(works: list[Callable[[], None]]) -> None:
    """Run each in a thread, and raise the first error of one."""
    problems: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  for the main thread to raise
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def work_at_once() -> None:
    """Several threads of Python, with one module."""
    torch.set_num_threads(2)
    theirs, ours = models()

    def work_on(seed: int) -> Callable[[], None]:
        x = random(30, 4, I, dtype=torch.float64, seed=seed)
        y = theirs(x)
        right = [y, *torch.autograd.grad(y.pow(2).sum(), list(theirs.parameters()))]

        def work() -> None:
            for _ in range(10):
                y = ours(x)
                found = torch.autograd.grad(y.pow(2).sum(), list(ours.parameters()))
                with torch.no_grad():
                    for got, expected in zip([ours(x), *found], right, strict=True):
                        close(got, expected)

        return work

    at_once([work_on(seed) for seed in range(6)])


def copies_at_once() -> None:
    """Each thread with a copy of its own."""
    _, ours = models()
    x = random(5, 2, I, dtype=torch.float64)
    right = ours(x)
    at_once([lambda: close(copy.deepcopy(ours)(x), right)] * 4)
