"""Any number of threads gives the same bits; several Python threads may call at once; calls can be interrupted.

What can hang or crash runs in a process of its own with a hard time limit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from isolated import SLOWNESS, TESTS, press_ctrl_c, run_code, run_function
from layer_problems import LAYERS, draw, each_variant, solve_layer, state_like
from problems import CELLS, Cell, Problem, forward, make_problem, solve, step
from tolerances import assert_same_bits

LSTM = CELLS[2]

REPEATS = 20
# So many operations are worth waking other threads for; of a product of w_hh, which every kind of input has.
WORTH_THREADS = 2.1e7
# B, I, H with rows to share out, with too few, and with one.
SHAPES = ((33, 64, 100), (64, 33, 65), (7, 100, 129), (1, 100, 256))
each_input = pytest.mark.parametrize(
    ("dtype", "tokens"), [(np.float64, False), (np.float32, True)], ids=["float64", "float32 tokens"]
)


def parallel(gates: int, B: int, H: int) -> int:
    """So many steps that several threads share them."""
    return int(WORTH_THREADS / (2 * gates * B * H * H)) + 1


def assert_threads_change_no_bit(
    solve: Callable[[], dict[str, Any]], set_threads: Callable[[int], None], isa: str
) -> None:
    set_threads(1)
    expected = solve()
    for threads in (2, 3, 4, 7):
        set_threads(threads)
        assert fastrnn.get_num_threads() == threads
        for repeat in range(REPEATS):
            assert_same_bits(solve(), expected, f"{isa}, {threads} threads, repeat {repeat}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_input
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_number_of_threads_changes_no_bit(
    cell: Cell, dtype: Any, tokens: bool, shape: tuple[int, int, int], isa: str, set_threads: Callable[[int], None]
) -> None:
    B, I, H = shape
    problem = make_problem(cell, parallel(cell.gates, B, H), B, I, H, dtype=dtype, tokens=tokens)
    assert_threads_change_no_bit(lambda: solve(fastrnn, problem), set_threads, isa)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[-1]], ids=str)
@each_variant
def test_number_of_threads_changes_no_bit_of_a_layer(
    family: str, options: dict[str, Any], shape: tuple[int, int, int], isa: str, set_threads: Callable[[int], None]
) -> None:
    B, I, H = shape
    layer = LAYERS[family](I, H, seed=0, **options)
    gates = len(layer.params["weight_ih_l0"]) // H
    x = draw(parallel(gates, B, int((I * H) ** 0.5)), B, I, dtype=np.float32)  # some cells have no other product
    state, dstate = state_like(layer, B), state_like(layer, B, seed=2)
    dy = draw(*x.shape[:2], layer._spec.state_sizes[0], dtype=np.float32)
    assert_threads_change_no_bit(lambda: solve_layer(layer, x, state, dy, dstate), set_threads, isa)


@pytest.mark.parametrize("B", [1, 6])
@each_input
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_number_of_threads_changes_no_bit_of_a_step(
    cell: Cell, dtype: Any, tokens: bool, B: int, isa: str, set_threads: Callable[[int], None]
) -> None:
    H = int((WORTH_THREADS / (2 * cell.gates * B)) ** 0.5) + 1
    problem = make_problem(cell, 1, B, 99, H, dtype=dtype, tokens=tokens)
    assert_threads_change_no_bit(lambda: step(fastrnn, problem), set_threads, isa)


def _use_many_threads_and_count() -> None:
    fastrnn.set_num_threads(4)
    before = len(os.listdir("/proc/self/task"))
    solve(fastrnn, make_problem(LSTM, 1, 1, 1, 1))
    assert len(os.listdir("/proc/self/task")) == before, "a tiny call started threads"
    for B, I, H in SHAPES:
        solve(fastrnn, make_problem(LSTM, parallel(LSTM.gates, B, H), B, I, H))
    assert len(os.listdir("/proc/self/task")) == before + 3, "large calls did not use 4 threads"


@pytest.mark.usefixtures("needs_proc")
def test_threads_are_used_for_large_calls_only() -> None:
    run_function(_use_many_threads_and_count)


# --- how many


def _count(env: dict[str, str], cpus: int | None = None) -> int:
    clean = {"FASTRNN_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    command = "import fastrnn; print(fastrnn.get_num_threads())"
    if cpus is not None:
        command = f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cpus}]); {command}"
    for name in clean.keys() - env.keys():
        command = f"import os; os.environ.pop({name!r}, None); {command}"
    return int(run_code(command, env=env))


@pytest.mark.usefixtures("needs_affinity")
def test_affinity_is_respected() -> None:
    assert _count({}, cpus=1) == 1
    assert 1 <= _count({}, cpus=4096) <= len(os.sched_getaffinity(0))


def test_environment_is_respected() -> None:
    assert _count({"OMP_NUM_THREADS": "3"}) == 3
    assert _count({"FASTRNN_NUM_THREADS": "5"}) == 5
    assert _count({"FASTRNN_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}) == 5


# The files in which the kernel would show a quota: of the second version of control groups, and of the first.
QUOTA = """
mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/cpu && cd /sys/fs/cgroup
echo {} > cpu.max
echo {} > cpu/cpu.cfs_quota_us
echo 100000 > cpu/cpu.cfs_period_us
"""


@pytest.mark.usefixtures("needs_mounts")
@pytest.mark.parametrize(
    ("quota_v2", "quota_v1", "expected"),
    [
        ("100000 100000", "-1", 1),
        ("max 100000", "100000", 1),
        ("50000 100000", "-1", 1),
        ("max 100000", "150000", 2),
        ("max 100000", "-1", 0),
    ],
)
def test_quota_of_a_control_group_is_respected(quota_v2: str, quota_v1: str, expected: int) -> None:
    everything = len(os.sched_getaffinity(0))
    shell = f'{QUOTA.format(quota_v2, quota_v1)} cd {TESTS} && exec {sys.executable} "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-e", "-c", shell, "sh"]
    env = {"FASTRNN_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    found = run_code("import fastrnn; print(fastrnn.get_num_threads())", command=command, env=env)
    assert int(found) == (min(expected, everything) if expected else everything)


def test_threadpoolctl_sees_and_sets_them(set_threads: Callable[[int], None]) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    set_threads(3)

    def seen() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "fastrnn"]

    assert seen() == [3]
    with threadpoolctl.threadpool_limits(1):
        assert seen() == [fastrnn.get_num_threads()] == [1]
    assert seen() == [fastrnn.get_num_threads()] == [3]
    with threadpoolctl.threadpool_limits(2, user_api="fastrnn"):
        assert fastrnn.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert fastrnn.get_num_threads() == 3


def test_threadpoolctl_takes_no_other_library_for_fastrnn(tmp_path: Path) -> None:
    """As one of SciPy's that has the same name."""
    pytest.importorskip("threadpoolctl")
    other = shutil.copy(_core.__file__, tmp_path)
    run_code(
        f"import ctypes, fastrnn, threadpoolctl; other = ctypes.CDLL({other!r}); other.PyInit__core\n"
        "for _ in range(2):\n"
        "    pools = [pool['filepath'] for pool in threadpoolctl.threadpool_info() if pool['user_api'] == 'fastrnn']\n"
        f"    assert len(pools) == 1 and pools != [{other!r}], pools"
    )


@pytest.mark.parametrize("first", ["fastrnn", "threadpoolctl"])
def test_threadpoolctl_may_be_imported_before_or_after(first: str) -> None:
    second = {"fastrnn": "threadpoolctl", "threadpoolctl": "fastrnn"}[first]
    pytest.importorskip("threadpoolctl")
    run_code(
        f"import {first}, {second}\n"
        "fastrnn.set_num_threads(2)\n"
        "with threadpoolctl.threadpool_limits(1): assert fastrnn.get_num_threads() == 1\n"
        "assert fastrnn.get_num_threads() == 2"
    )


# --- calls from several Python threads


def _call_concurrently(threads: int, calls: int) -> None:
    sys.setswitchinterval(1e-6)
    fastrnn.set_num_threads(2)
    rng = np.random.default_rng(0)

    def draw(k: int) -> Problem:
        cell = CELLS[k % len(CELLS)]
        if k % 20 == 0:
            return make_problem(cell, 10, 33, 64, 100, dtype=np.float32, seed=k)  # above the parallel threshold
        T, B, I, H = (int(n) for n in rng.integers(1, (6, 9, 20, 40)))
        return make_problem(cell, T, B, I, H, dtype=np.float32, seed=k, tokens=k % 3 == 0)

    problems = [[draw(t * calls + k) for k in range(calls)] for t in range(threads)]
    expected = [[solve(fastrnn, p) for p in row] for row in problems]
    barrier = threading.Barrier(threads)

    def work(t: int) -> None:
        barrier.wait()
        for k in range(calls):
            assert_same_bits(solve(fastrnn, problems[t][k]), expected[t][k], f"thread {t}, call {k}")

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, t) for t in range(threads)]:
            future.result()


def test_concurrent_calls() -> None:
    run_function(_call_concurrently, 8, 200, timeout=120)


def _change_threads_while_calling() -> None:
    problem = make_problem(LSTM, 10, 33, 64, 100, dtype=np.float32)
    expected = solve(fastrnn, problem)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for n in (1, 2, 3, 7):
                fastrnn.set_num_threads(n)

    changer = threading.Thread(target=change)
    changer.start()
    for _ in range(200):
        assert_same_bits(solve(fastrnn, problem), expected, "while the number of threads changes")
    stop.set()
    changer.join()


def _first_call_from_all_threads() -> None:
    problem = make_problem(LSTM, 5, 3, 7, 9)
    barrier = threading.Barrier(8)

    def call(_: int) -> dict[str, Any]:
        barrier.wait()
        return solve(fastrnn, problem)

    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(call, range(8))
    for other in others:
        assert_same_bits(other, first, "first call")


def test_first_call_from_many_threads() -> None:
    """Whatever the first call sets up, the threads that make it at once must not wait for each other."""
    for _ in range(10):
        run_function(_first_call_from_all_threads, timeout=20)


def test_number_of_threads_may_change_during_calls() -> None:
    run_function(_change_threads_while_calling, timeout=120)


def _long_problem(seconds: float, threads: int, kind: str = "forward") -> Callable[[], Any]:
    """A call that takes about so long: H is large, so that neither the input nor the output is."""
    fastrnn.set_num_threads(threads)

    def problem(T: int) -> Problem:
        return make_problem(LSTM, T, 1, 8, 768)

    def call(T: int) -> Callable[[], Any]:
        if kind == "linear":
            x, weight = np.ones((T, 4096), np.float32), np.ones((4096, 4096), np.float32)
            return lambda: fastrnn.linear(x, weight)
        p = problem(T)
        if kind == "forward":
            return lambda: forward(fastrnn, p, training=False)
        tape = forward(fastrnn, p).tape
        return lambda: fastrnn.lstm_backward(tape, **p.upstream)

    def timed(f: Callable[[], Any]) -> float:
        start = time.perf_counter()
        f()
        return time.perf_counter() - start

    trial = call(100)
    trial()
    return call(int(100 * seconds / min(timed(trial) for _ in range(3))))


def _beat_while_calling(threads: int) -> None:
    call = _long_problem(1.5, threads)
    gaps = []
    for _ in range(3):  # another process may take the cores from a heartbeat now and then, but not every time
        beats = [time.perf_counter()]
        worker = threading.Thread(target=call)
        worker.start()
        while worker.is_alive():
            time.sleep(0.001)
            beats.append(time.perf_counter())
        assert beats[-1] - beats[0] > 0.5, "the call was over too soon to show anything"
        gaps.append(max(np.diff(beats)))
        if gaps[-1] < 0.05 * SLOWNESS:
            return
    raise AssertionError(f"a Python thread stood still for {min(gaps) * 1e3:.0f} ms")


@pytest.mark.parametrize("threads", [1, 2])
def test_python_runs_during_a_call(threads: int) -> None:
    run_function(_beat_while_calling, threads)


def _interrupt(threads: int, kind: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    small = make_problem(LSTM, 20, 33, 64, 100)
    expected = solve(fastrnn, small)
    call = _long_problem(6, threads, kind)
    sent = []

    def interrupt() -> None:
        time.sleep(0.5)
        sent.append(time.perf_counter())
        press_ctrl_c()

    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        call()
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
    else:
        raise AssertionError("the call was not interrupted")
    assert took < 0.5 * SLOWNESS, f"KeyboardInterrupt came after {took:.2f} s"
    sender.join()
    assert_same_bits(solve(fastrnn, small), expected, "after the interrupt")


@pytest.mark.parametrize(
    ("threads", "kind"), [(1, "forward"), (2, "forward"), (1, "backward"), (2, "backward"), (1, "linear")]
)
def test_ctrl_c(threads: int, kind: str) -> None:
    run_function(_interrupt, threads, kind)


def _fail_in_workers() -> None:
    problem = make_problem(LSTM, 10, 33, 64, 100, dtype=np.float32)
    fastrnn.set_num_threads(4)
    expected = solve(fastrnn, problem)
    mode = _core._fp_control()
    for k in range(1000):
        with pytest.raises(RuntimeError, match=f"thread {k % 4}$"):
            _core._fail_in_worker(k % 4, 4)
        assert _core._fp_control() == mode
        if k % 20 == 0:
            assert_same_bits(solve(fastrnn, problem), expected, f"after exception {k}")


def test_exceptions_in_workers_arrive() -> None:
    run_function(_fail_in_workers)


def _idle() -> None:
    fastrnn.set_num_threads(2)
    problem = make_problem(LSTM, 20, 33, 64, 100)
    for _ in range(20):
        solve(fastrnn, problem)
    before = time.process_time()
    time.sleep(1)
    used = time.process_time() - before
    assert used < 0.02, f"{used * 1e3:.0f} ms of CPU in an idle second"


def test_nothing_runs_while_idle() -> None:
    run_function(_idle)


# --- exit


EXIT = """
import threading
import numpy as np, fastrnn
fastrnn.set_num_threads(2)
x, w = np.ones((20, 64, 64), np.float32), np.ones((256, 64), np.float32)
fastrnn.lstm_forward(x, w, w)
if {daemon}:
    def work():
        while True:
            fastrnn.lstm_forward(x, w, w)
    threading.Thread(target=work, daemon=True).start()
"""


@pytest.mark.parametrize("daemon", [False, True], ids=["idle", "daemon thread in a call"])
def test_exit(daemon: bool) -> None:
    """100 runs that start, call and exit; 20 with a call still running in a daemon thread. None takes two seconds."""

    def run(_: int) -> None:
        code, took = EXIT.format(daemon=daemon), []
        for _ in range(3):  # another process may have the cores now and then, but not every time
            start = time.perf_counter()
            process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
            took.append(time.perf_counter() - start)
            assert process.returncode == 0, process.stderr
            if took[-1] < 2:
                return
        raise AssertionError(f"to start, call and exit took {min(took):.1f} s")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(20 if daemon else 100)))


def _affinities() -> None:
    fastrnn.set_num_threads(2)
    problem = make_problem(CELLS[2], 20, 16, 64, 64, dtype=np.float32)
    for _ in range(100):
        forward(fastrnn, problem)
    allowed = os.sched_getaffinity(0)
    assert {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")} == {
        frozenset(allowed)
    }


@pytest.mark.usefixtures("needs_proc")
def test_threads_may_run_where_they_might_before() -> None:
    """A thread that leaves the caller's core is not barred from it."""
    run_function(_affinities)
