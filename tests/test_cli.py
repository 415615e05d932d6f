"""The command, as a user meets it: run in a process of its own, judged by its output, exit status and files."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.charlm.checkpoint import load
from fastrnn.command.main import main
from fastrnn.command.output import quoted
from fastrnn.files import save_arrays
from isolated import NO_SUCH_FILE, Interruptible

TEXT = "Was it a rat I saw? Ünïcode, too: 漢字.\n" * 60
# The installed command. It prints an empty line once it minds Ctrl-C: before that, as long as Python starts and finds
# fastrnn, it is in nobody's hands.
COMMAND = """
import signal, sys
def mind(number, handler, signal_=signal.signal):
    signal.signal = signal_
    signal.signal(number, handler)
    print(flush=True)
signal.signal, sys.argv[0] = mind, "fastrnn"
from fastrnn.command.main import command
command()
"""
SMALL = ("--hidden", "8", "--batch", "4", "--steps", "16")


def run(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``fastrnn`` with these arguments in ``cwd``."""
    return subprocess.run(
        [sys.executable, "-m", "fastrnn", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=120,
        **options,
    )


def assert_fails(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit status 2, and one line on the standard error output that has all the parts."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a text to train on."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a model trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    result = run("train", "text.txt", *SMALL, "--epochs", "2", "--out", "model", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return folder


def test_train_then_sample(trained: Path) -> None:
    one, again, other = (run("sample", "model", "--prime", "Ünï", "--seed", s, cwd=trained) for s in ("1", "1", "2"))
    assert one.returncode == 0
    assert one.stdout == again.stdout != other.stdout
    assert one.stdout.startswith("Ünï")
    assert len(one.stdout) == 3 + 500 + 1
    short = run("sample", "model", "--length", "7", "--temperature", "0.1", cwd=trained)
    assert len(short.stdout) == 8
    likeliest = {
        run("sample", "model", *choice, "--seed", seed, cwd=trained).stdout
        for choice, seed in ((("--temperature", "0"), "1"), (("--top-k", "1"), "2"), (("--top-p", "1e-9"), "3"))
    }
    assert len(likeliest) == 1


def test_training_reports_the_baselines(folder: Path) -> None:
    result = run("train", "text.txt", *SMALL, "--epochs", "1", "--cell", "gru", cwd=folder)
    assert result.returncode == 0
    for part in ("uniform", "unigram", "bigram", "GRU", "saved model.safetensors"):
        assert part in result.stdout
    assert "\x1b" not in result.stdout
    assert sorted(os.listdir(folder)) == ["model.safetensors", "text.txt"]


def test_same_seed_same_file_and_resumed_equals_straight(folder: Path) -> None:
    def train(*arguments: str) -> None:
        result = run("train", "text.txt", *arguments, cwd=folder)
        assert result.returncode == 0, result.stderr

    train(*SMALL, "--epochs", "2", "--out", "straight")
    train(*SMALL, "--epochs", "2", "--out", "again")
    train(*SMALL, "--epochs", "1", "--out", "resumed")
    train("--resume", "resumed", "--epochs", "2")
    straight = (folder / "straight").read_bytes()
    assert (folder / "again").read_bytes() == straight
    assert (folder / "resumed").read_bytes() == straight


def test_ctrl_c_saves_and_stops_and_resuming_loses_nothing(folder: Path) -> None:
    # Steps of a good part of a second, so that the signal arrives in a kernel.
    big = ("--hidden", "512", "--batch", "8", "--steps", "128")
    (folder / "text.txt").write_text(TEXT * 8, encoding="utf-8")
    command = ("train", "text.txt", *big, "--minutes", "5", "--out", "model")
    with Interruptible(COMMAND, *command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()  # training begins
        time.sleep(1)
        process.press_ctrl_c()
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b""
    assert b"stopped by Ctrl-C; saved model" in stdout
    stopped = load(str(folder / "model")).training.step
    assert stopped > 0

    per_epoch = 8 * len(TEXT) * 95 // 100 // 8 // 128
    epochs = str(stopped // per_epoch + 1)
    assert run("train", "text.txt", "--resume", "model", "--epochs", epochs, cwd=folder).returncode == 0
    assert run("train", "text.txt", *big, "--epochs", epochs, "--out", "straight", cwd=folder).returncode == 0
    assert (folder / "model").read_bytes() == (folder / "straight").read_bytes()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b"short", "too few"),
        (b"x" * 500, "too short"),
        (b"\x7fELF\0\0" * 100, "NUL"),
        (b"caf\xe9 " * 100, "not UTF-8"),
        (None, NO_SUCH_FILE),
    ],
)
def test_texts_that_cannot_be_trained_on(content: bytes | None, part: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert_fails(run("train", "file", cwd=tmp_path), part)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "."], ["directory"]),
        (["train", "text.txt", "--out", "no/such/model"], ["no folder"]),
        (["train", "text.txt", "--stdlib"], ["--stdlib", "one or the other"]),
        (["train", "text.txt", "--out", "text.txt"], ["will not replace text.txt"]),
        (["train", "text.txt", "--out", "."], ["will not replace", "directory"]),
        (["train", "text.txt", "--out", ""], ["--out", "empty"]),
        (["train", "text.txt", "--out", "new/"], ["new/", "folder"]),
        (["train", "text.txt", "--out", "model/"], ["model/", "folder"]),
        (["demo", "--out", "new/"], ["new/", "folder"]),
        (["train", "text.txt", "--out", "new.png", "--plot", "new.png"], ["will not replace new.png"]),
        (["train", "text.txt", "--plot", "./text.txt"], ["will not replace ./text.txt"]),
        (["train", "--resume", "model", "text.txt", "--plot", "model"], ["will not replace model"]),
        (["demo", "--out", "new.png", "--plot", "new.png"], ["will not replace new.png"]),
        (["inspect", "model", "text.txt", "--out", "model"], ["will not replace model"]),
        (["inspect", "model", "text.txt", "--out", "new.html", "--out", "new.html"], ["will not replace new.html"]),
        (["train", "text.txt", "--layers", "65"], ["layers must be"]),
        (["train", "text.txt", "--dropout", "1"], ["--dropout", "from 0 to below 1"]),
        (["train", "text.txt", "--cell", "cnn"], ["--cell", "cnn"]),
        (["train", "text.txt", "--hidden", "0"], ["--hidden", "'0'"]),
        (["train", "text.txt", "--hidden", "many"], ["--hidden", "'many'"]),
        (["train", "text.txt", "--hidden", "99999999"], ["hidden"]),
        (["train", "text.txt", "--batch", "1.5"], ["--batch"]),
        (["train", "text.txt", "--batch", "1000000"], ["the text is too short"]),
        (["train", "text.txt", "--batch", str(2**63)], ["--batch", "from 1 to 2147483647"]),
        (["train", "text.txt", "--steps", "-1"], ["--steps"]),
        (["gradients", "--steps", "1" + 30 * "0"], ["--steps", "from 1 to 2147483647"]),
        (["gradients", "--learn", str(2**63)], ["--learn", "from 1 to 2147483647"]),
        (["train", "text.txt", "--lr", "nan"], ["--lr", "'nan'"]),
        (["train", "text.txt", "--lr", "-1"], ["--lr"]),
        (["train", "text.txt", "--lr", "1e9"], ["lr"]),
        (["train", "text.txt", "--clip", "0"], ["--clip"]),
        (["train", "text.txt", "--minutes", "inf"], ["--minutes"]),
        (["train", "text.txt", "--minutes", "1", "--epochs", "1"], ["--epochs", "--minutes"]),
        (["train", "text.txt", "--seed", "-1"], ["--seed"]),
        (["train", "text.txt", "--seed", "1e3"], ["--seed"]),
        (["train", "text.txt", "--plot", "curve.docx"], [".png"]),
        (["train", "text.txt", "--plot", "no/such/curve.png"], ["no folder"]),
        (["train", "text.txt", "--resume", "missing"], ["missing", NO_SUCH_FILE]),
        (["train", "text.txt", "--resume", "model", "--hidden", "9"], ["hidden 8, not 9"]),
        (["train", "--resume", "model"], ["not the one"]),
        (["demo", "--out", "no/such/model"], ["no folder"]),
        (["demo", "extra"], ["extra"]),
        (["sample", "missing"], ["missing", NO_SUCH_FILE]),
        (["sample", "."], ["directory"]),
        (["sample", "text.txt"], ["not a model"]),
        (["sample", "model", "--prime", "Ж"], ["never seen 'Ж' (U+0416)"]),
        (["sample", "model", "--prime", "\udcff"], ["surrogate"]),
        (["sample", "model", "--temperature", "nan"], ["--temperature"]),
        (["sample", "model", "--temperature", "inf"], ["--temperature"]),
        (["sample", "model", "--temperature", "-1"], ["--temperature"]),
        (["sample", "model", "--top-k", "0"], ["--top-k", "'0'"]),
        (["sample", "model", "--top-p", "0"], ["--top-p", "above 0"]),
        (["sample", "model", "--top-p", "1.1"], ["--top-p", "at most 1"]),
        (["sample", "model", "--top-p", "nan"], ["--top-p"]),
        (["sample", "model", "--length", "-5"], ["--length"]),
        (["sample"], ["MODEL"]),
        (["history", "missing"], ["missing", NO_SUCH_FILE]),
        (["history", "text.txt"], ["not a model"]),
        (["history"], ["MODEL"]),
        (["fly"], ["fly", "demo, train"]),
        (["trian"], ["'trian'", "did you mean train?"]),
        (["train", "--hiden", "9"], ["--hiden", "did you mean --hidden?"]),
        (["train", "--cell", "lstn"], ["--cell", "'lstn'", "did you mean lstm?"]),
        (["--versoin"], ["did you mean --version?"]),
        (["inspect", "model"], ["never seen some characters", "name a FILE"]),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], parts: list[str], trained: Path, capfd: Any) -> None:
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    cwd = os.getcwd()
    os.chdir(trained)
    try:
        status = main(arguments)
    except SystemExit as leave:  # of argparse
        status = int(leave.code or 0)
    finally:
        os.chdir(cwd)
    out, err = capfd.readouterr()
    assert_fails(subprocess.CompletedProcess(arguments, status, out, err), *parts)
    assert out == ""
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_alone_it_lists_its_commands() -> None:
    result = run(cwd=Path.cwd())
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("FASTRNN_ISA", "foo", "FASTRNN_ISA: 'foo' is no instruction set"),
        ("FASTRNN_NUM_THREADS", "many", "FASTRNN_NUM_THREADS is 'many', expected a whole number"),
    ],
)
def test_a_wrong_environment_is_told_in_one_line(variable: str, value: str, part: str) -> None:
    assert_fails(run("info", cwd=Path.cwd(), env={variable: value}), part)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_refused_or_read_to_their_end(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pipe, text = tmp_path / "pipe", tmp_path / "text.txt"
    os.mkfifo(pipe)
    text.write_text(TEXT, encoding="utf-8")
    for arguments in (
        ["sample", "pipe"],
        ["history", "pipe"],
        ["inspect", "pipe"],
        ["train", "text.txt", "--resume", "pipe"],
        ["train", "text.txt", "--out", "pipe"],
        ["train", "text.txt", "--plot", "pipe.png"],
    ):
        if arguments[-1] == "pipe.png":
            os.rename(pipe, tmp_path / "pipe.png")
        assert_fails(run(*arguments, cwd=tmp_path), "not a regular file")
    os.rename(tmp_path / "pipe.png", pipe)
    with subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(1); open('pipe', 'w').write({TEXT!r})"], cwd=tmp_path
    ):
        result = run("train", "pipe", *SMALL, "--epochs", "1", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == "fastrnn: reading pipe, a pipe, to its end\n"


def test_too_little_memory_is_told_in_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("fastrnn.charlm.checkpoint.load", exhausted)
    assert main(["sample", str(trained / "model")]) == 2
    assert capfd.readouterr().err == "fastrnn: there is not enough memory for this\n"


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_models_are_told_in_one_line(damage: str, trained: Path, tmp_path: Path) -> None:
    data = bytearray((trained / "model").read_bytes())
    if damage == "cut":
        del data[-100:]
    else:
        data[-1000] ^= 1
    (tmp_path / "model").write_bytes(data)
    assert_fails(run("sample", "model", cwd=tmp_path), "model is damaged")
    assert_fails(run("train", "--resume", "model", cwd=tmp_path), "model")
    assert (tmp_path / "model").read_bytes() == data


def test_a_full_disk_is_told_in_one_line_and_loses_nothing(trained: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = (trained / "model").read_bytes()
    (tmp_path / "model").write_bytes(before)
    (tmp_path / "text.txt").write_bytes((trained / "text.txt").read_bytes())
    result = run(
        *("train", "text.txt", "--resume", "model", "--epochs", "3"),
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert_fails(result, "cannot save model")
    assert (tmp_path / "model").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model", "text.txt"]


def test_a_full_disk_below_the_output_is_told_in_one_line(trained: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this platform has no /dev/full")
    with open("/dev/full", "w") as full:
        assert_fails(run("sample", "model", cwd=trained, stdout=full), "No space left on device")


BIG = ("--hidden", "128", "--batch", "8", "--steps", "64")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_that_end_processes_save_too(name: str, folder: Path) -> None:
    number = getattr(signal, name, None)
    if number is None or os.name != "posix":  # Windows has the name SIGTERM, but ends processes without one
        pytest.skip(f"this system sends no {name}")
    command = [sys.executable, "-m", "fastrnn", "train", "text.txt", *BIG, "--minutes", "5", "--out", "model"]

    def alone() -> None:
        signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does

    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=alone
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # training begins
        time.sleep(0.5)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr == b""
    assert f"stopped by {name}; saved model".encode() in stdout
    assert load(str(folder / "model")).training.step > 0


@pytest.mark.parametrize("lines", [0, 1])
def test_training_goes_on_when_nobody_reads_what_it_says(lines: int, folder: Path) -> None:
    command = [sys.executable, "-m", "fastrnn", "train", "text.txt", *SMALL, "--epochs", "3", "--out", "model"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 0
    assert stderr == b""
    assert load(str(folder / "model")).training.step == 3 * (len(TEXT) * 95 // 100 // 4 // 16)


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["history", "model"],
        ["sample", "model"],
        ["gradients"],
        ["inspect", "model", "text.txt", "--out", "page.png", "--unit", "0"],
    ],
    ids=lambda command: command[0],
)
def test_ctrl_c_at_any_time_is_one_line(command: list[str], trained: Path, tmp_path: Path) -> None:
    """From the first import on, in Python's own imports and those of other libraries, which make other errors of it."""
    for name in ("model", "text.txt"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    rng, statuses = random.Random(command[0]), set()
    for k in range(12):
        with Interruptible(COMMAND, *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.4) * k / 11)
            process.press_ctrl_c()
            told = process.communicate(timeout=60)[1]
        stderr = told.decode().replace(os.linesep, "\n")
        statuses.add(process.returncode)
        assert process.returncode in (0, 130), stderr
        assert stderr in ("", "fastrnn: stopped by Ctrl-C\n")
        assert stderr or process.returncode == 0 or command[0] == "sample"  # whose text just ends
    assert 130 in statuses


@pytest.mark.parametrize("length", ["0", "100000"])
def test_a_reader_that_leaves_is_no_error(length: str, trained: Path) -> None:
    command = [sys.executable, "-m", "fastrnn", "sample", "model", "--length", length]
    with subprocess.Popen(command, cwd=trained, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 0
    assert stderr == b""


TRAINING = (sys.executable, "-m", "fastrnn", "train", "text.txt", *SMALL, "--epochs", "1", "--out", "new")


def test_training_goes_on_when_its_output_cannot_be_written(folder: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this platform has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(TRAINING, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert done.stderr == "fastrnn: goes on without its output: No space left on device\n"
    load(str(folder / "new"))


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes files")
def test_training_goes_on_without_any_standard_stream(folder: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *TRAINING]
    assert subprocess.run(command, cwd=folder).returncode == 0
    load(str(folder / "new"))
    for closed in (">&-", ">&- 2>&-", "2>&-"):  # nothing is told where it was not asked for
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "fastrnn", "info", "--surprise"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_training_goes_on_when_its_terminal_is_gone(folder: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()

    def alone() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with subprocess.Popen(
        TRAINING, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=alone
    ) as process:
        os.close(theirs)
        assert os.read(ours, 10)  # it has begun to speak
        os.close(ours)
    assert process.returncode == 0
    load(str(folder / "new"))


def test_files_may_come_after_options(trained: Path) -> None:
    before, after = (
        run("inspect", "model", *arguments, cwd=trained)
        for arguments in (("text.txt", "--json"), ("--json", "text.txt"))
    )
    assert before.returncode == after.returncode == 0, after.stderr
    assert before.stdout == after.stdout


def test_ctrl_c_ends_a_text_without_end(trained: Path) -> None:
    code = (
        "import sys; from fastrnn.command.main import main; "
        "sys.exit(main(['sample', 'model', '--length', '0', '--seed', '1']))"
    )
    with (
        (trained / "endless").open("wb") as out,
        Interruptible(code, cwd=trained, stdout=out, stderr=subprocess.PIPE) as process,
    ):
        try:
            while (trained / "endless").stat().st_size < 1000:  # it arrives as it is written
                time.sleep(0.05)
                assert process.poll() is None
            process.press_ctrl_c()
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stderr == b""
    text = (trained / "endless").read_text(encoding="utf-8")
    (trained / "endless").unlink()
    assert text.endswith("\n")
    assert text.startswith(run("sample", "model", "--length", "400", "--seed", "1", cwd=trained).stdout[:-1])


def test_history(trained: Path) -> None:
    result = run("history", "model", cwd=trained)
    assert result.returncode == 0, result.stderr
    for step in (16, 32, 64):
        assert f"--- step {step}, {step * 4 * 16:,} characters read, " in result.stdout
    told = json.loads(run("history", "model", "--json", cwd=trained).stdout)
    loaded = load(str(trained / "model"))
    assert told["step"] == loaded.training.step
    rows = [[row["step"], row["training_bits"], row["held_out_bits"]] for row in told["evaluations"]]
    assert rows == loaded.training.history.tolist()
    kept = {sample.step: (sample.held_out, sample.text) for sample in loaded.training.samples}
    shown = {sample["step"]: (sample["held_out_bits"], sample["text"]) for sample in told["samples"]}
    assert kept.items() <= shown.items()
    best = min(told["evaluations"], key=lambda row: row["held_out_bits"])
    assert shown[best["step"]][0] == best["held_out_bits"]  # of the weights in the file
    for _, text in shown.values():
        assert text in result.stdout


def test_a_terminal_without_unicode_is_no_error(trained: Path) -> None:
    result = run("sample", "model", "--prime", "漢", cwd=trained, env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert result.stdout.startswith("\\u6f22")


@pytest.mark.parametrize("library", ["threadpoolctl", "matplotlib", "rich"])
def test_a_missing_extra_is_told_in_one_line(library: str, trained: Path) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None; "
        "from fastrnn.command.main import main; sys.exit(main(sys.argv[1:]))"
    )
    if library == "rich":
        code = "import sys; sys.stdout.isatty = lambda: True; " + code
    arguments = ["train", "text.txt", "--out", "other", "--epochs", "1", *SMALL, "--plot", "curve.png"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=trained, capture_output=True, encoding="utf-8", timeout=60
    )
    assert_fails(result, f'this needs {library}, which is not installed: pip install "fastrnn[cli]"')


def test_on_a_terminal_there_is_a_bar(folder: Path) -> None:
    pytest.importorskip("rich")
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "fastrnn", "train", "text.txt", *SMALL, "--epochs", "20"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=folder, stdout=child, stderr=child, env=env) as process:
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(parent, 4096):
                shown += chunk
        except OSError:  # Linux: the other side is closed
            pass
    os.close(parent)
    assert process.returncode == 0
    assert b"\x1b[" in shown
    assert b"bits/char" in shown
    assert b"char/s" in shown
    assert b"left" in shown


def test_the_learning_curve_is_drawn(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ("train", "text.txt", *SMALL, "--epochs", "2", "--plot", "curve.svg")
    assert run(*arguments, cwd=folder).returncode == 0
    assert b"<svg" in (folder / "curve.svg").read_bytes()


def test_info() -> None:
    result = run("info", cwd=Path.cwd())
    assert result.returncode == 0
    for part in (fastrnn.__version__, fastrnn.isa(), str(fastrnn.get_num_threads()), "NumPy"):
        assert part in result.stdout


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with models of others, and a text that is none."""
    one, two = fastrnn.GRU(3, 4, 2, seed=0), fastrnn.RNN(3, 4, seed=1)
    save_arrays(str(tmp_path / "one.safetensors"), {f"net.gru.{name}": p for name, p in one.params.items()})
    both = {f"{prefix}.{name}": p for prefix, net in (("a", one), ("b", two)) for name, p in net.params.items()}
    save_arrays(str(tmp_path / "two.safetensors"), both)
    save_arrays(str(tmp_path / "none.safetensors"), {"weight": np.zeros(3)})
    save_arrays(str(tmp_path / "odd.safetensors"), {"weight_hh_l0_g": np.zeros(3)})
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    return tmp_path


def test_info_of_a_model(models: Path) -> None:
    for model, right in {
        "one.safetensors": ["net.gru  GRU(3, 4, 2)  # 228 parameters"],
        "two.safetensors": ["a  GRU(3, 4, 2)  # 228 parameters", "b  RNN(3, 4)  # 36 parameters", "tanh or relu"],
        "none.safetensors": ["There is no recurrent net in none.safetensors."],
        "odd.safetensors": ["a recurrent net, which cannot be imported: its weights are made anew"],
    }.items():
        result = run("info", model, cwd=models)
        assert (result.returncode, result.stderr) == (0, "")
        lines = result.stdout.splitlines()
        assert len(lines) == len(right)
        for line, part in zip(lines, right, strict=True):
            assert part in line
    terminal = {f"a\x1b[2J.{name}": p for name, p in fastrnn.GRU(3, 4).params.items()}
    save_arrays(str(models / "terminal.safetensors"), terminal)
    assert run("info", "terminal.safetensors", cwd=models).stdout.startswith("a\\x1b[2J  GRU(3, 4)")
    assert_fails(run("info", "missing", cwd=models), "cannot read missing", NO_SUCH_FILE)
    assert_fails(run("info", "text", cwd=models), "text is a file of none of these kinds")


def test_convert(models: Path) -> None:
    result = run("convert", "one.safetensors", "out.safetensors", cwd=models)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "out.safetensors: GRU(3, 4, num_layers=2)  # 228 parameters\n"
    loaded = fastrnn.load(str(models / "out.safetensors"))
    for name, p in fastrnn.GRU(3, 4, 2, seed=0).params.items():
        np.testing.assert_array_equal(loaded.params[name], p)
    options = ("--net", "b", "--batch-first", "--nonlinearity", "relu", "--float64")
    result = run("convert", *options, "two.safetensors", "b.safetensors", cwd=models)
    assert (result.returncode, result.stderr) == (0, "")
    made = "RNN(3, 4, nonlinearity='relu', batch_first=True, dtype=np.float64)"
    assert repr(fastrnn.load(str(models / "b.safetensors"))).startswith(made)
    assert run("info", "b.safetensors", cwd=models).stdout.startswith(
        "RNN(3, 4, nonlinearity='relu', batch_first=True)"
    )
    result = run("convert", "two.safetensors", "c.safetensors", "--net", "b", cwd=models)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("fastrnn: 'b': nothing says whether it is of tanh or relu")
    assert "--nonlinearity tanh" in line


def test_convert_joins_nets_of_onnx(models: Path) -> None:
    pytest.importorskip("onnx")
    layers = fastrnn.LSTM(3, 4, seed=0), fastrnn.LSTM(4, 4, seed=1)
    fastrnn.to_onnx(fastrnn.Sequential(*layers).eval(), str(models / "two.onnx"))
    below, above = (net.name for net in fastrnn.find_nets(str(models / "two.onnx")))
    both = ("--net", below, "--net", above)
    assert_fails(run("convert", "two.onnx", "out.safetensors", cwd=models), " ".join(both))
    result = run("convert", *both, "two.onnx", "out.safetensors", cwd=models)
    assert (result.returncode, result.stderr) == (0, "")
    params = fastrnn.load(str(models / "out.safetensors")).params
    for level, layer in enumerate(layers):
        for name, p in layer.params.items():
            np.testing.assert_array_equal(params[name.replace("_l0", f"_l{level}")], p)


def test_convert_asks_for_what_a_file_of_keras_does_not_say(models: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for kind, G in (("lstm", 4), ("gru", 3)):
        with h5py.File(models / f"{kind}.h5", "w") as file:
            file.attrs["layer_names"] = [kind]
            names = [f"{kind}/kernel:0", f"{kind}/recurrent_kernel:0"]
            file.create_group(kind).attrs["weight_names"] = names
            for name, rows in zip(names, (3, 4), strict=True):
                file[kind][name] = np.ones((rows, G * 4), np.float32)
    one, other = "sigmoid tanh tanh", "hard_sigmoid,0.2,0.5 tanh tanh"
    asked = [f"--activations {quoted(each)}" for each in (one, "hard_sigmoid tanh tanh")]
    assert_fails(run("convert", "lstm.h5", "out.safetensors", cwd=models), *asked)
    assert_fails(run("convert", "gru.h5", "out.safetensors", cwd=models), "--reset-after yes or no")
    for arguments, made in (
        (("--activations", other, "lstm.h5"), "LSTM(3, 4, activations=(('hard_sigmoid', 0.2, 0.5), 'tanh', 'tanh')"),
        (("--activations", "sigmoid tanh", "--reset-after", "no", "gru.h5"), "GRU(3, 4, reset_after=False"),
    ):
        result = run("convert", *arguments, "out.safetensors", cwd=models)
        assert result.returncode == 0
        assert result.stderr.startswith("fastrnn: ")
        assert "there are weights alone" in result.stderr
        assert result.stdout.startswith(f"out.safetensors: {made}")


def test_convert_says_what_takes_python(models: Path) -> None:
    torch = pytest.importorskip("torch")
    lstm = torch.nn.LSTM(3, 4)
    torch.save(lstm, models / "whole.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is to end
        torch.jit.script(lstm).save(models / "script.pt")
        with torch.package.PackageExporter(models / "package.pt") as package:
            package.extern("torch.**")
            package.save_pickle("models", "model.pkl", lstm)
    for file, source in {
        "whole.pt": "torch.load(path, weights_only=False)",
        "script.pt": "torch.jit.load(path)",
        "package.pt": "torch.package.PackageImporter(path).load_pickle(...)",
    }.items():
        for command in (["info", file], ["convert", file, "out.safetensors"]):
            result = run(*command, cwd=models)
            assert_fails(result, f"in Python, fastrnn.from_torch({source}).save(OUT) makes a file for fastrnn")


def test_the_layer_of_a_character_model(trained: Path, tmp_path: Path) -> None:
    model, out = str(trained / "model"), str(tmp_path / "rnn.safetensors")
    shown = run("info", model, cwd=tmp_path).stdout
    saved = load(model)
    right = saved.model().rnn
    for part in ("hidden 8", f"{len(saved.vocabulary)} characters", f"{saved.training.step} steps", repr(right)):
        assert part in shown
    for options, dtype in (((), np.float32), (("--net", "rnn", "--float64"), np.float64)):
        result = run("convert", model, out, *options, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        layer = fastrnn.load(out)
        assert layer.dtype == dtype
        for name, p in right.params.items():
            np.testing.assert_array_equal(layer.params[name], p)
    for options, part in ((("--net", "average.rnn"), "called rnn"), (("--batch-first",), "--batch-first is of no use")):
        assert_fails(run("convert", model, out, *options, cwd=tmp_path), part)
    damaged = bytearray((trained / "model").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    for command in (["info", "damaged"], ["convert", "damaged", out]):
        assert_fails(run(*command, cwd=tmp_path), "damaged is damaged: ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["two.safetensors", "out.safetensors"],
            ["there are 2 recurrent nets", "choose one, --net ", "GRU(3, 4, 2)"],
        ),
        (["two.safetensors", "out.safetensors", "--net", "c"], ["there is no recurrent net 'c'"]),
        (["two.safetensors", "out.safetensors", "--net", "a", "--net", "b"], ["only one --net can be converted"]),
        (["none.safetensors", "out.safetensors"], ["there is no recurrent net in none.safetensors"]),
        (["odd.safetensors", "out.safetensors"], ["weight_norm"]),
        (["missing", "out.safetensors"], ["cannot read missing", NO_SUCH_FILE]),
        (["text", "out.safetensors"], ["text is a file of none of these kinds"]),
        (["one.safetensors", "out.pt"], ["will not save out.pt", ".safetensors"]),
        (["one.safetensors", ""], ["OUT: the name of the file is empty"]),
        (["one.safetensors", "one.safetensors"], ["will not replace one.safetensors"]),
        (["one.safetensors", "no/out.safetensors"], ["cannot save no/out.safetensors"]),
        (["one.safetensors", "out.safetensors", "--activations", "tanh"], ["--activations is of no use"]),
        (["one.safetensors", "out.safetensors", "--activations", "elu,x"], ["expected a name and numbers"]),
        (["one.safetensors", "out.safetensors", "--reset-after", "yes"], ["--reset-after is of no use"]),
        (["one.safetensors", "out.safetensors", "--nonlinearity", "relu"], ["of kind GRU"]),
    ],
)
def test_convert_refuses(arguments: list[str], parts: list[str], models: Path) -> None:
    before = sorted(models.iterdir())
    assert_fails(run("convert", *arguments, cwd=models), *parts)
    assert sorted(models.iterdir()) == before


COMMANDS = ("demo", "train", "sample", "history", "gradients", "inspect", "compare", "convert", "info")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str]) -> None:
    result = run(*command, "--help", cwd=Path.cwd())
    assert result.returncode == 0
    assert "usage: fastrnn" in result.stdout


def test_importing_fastrnn_imports_no_command() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import fastrnn; new = set(sys.modules) - before; "
        "assert not new & {'argparse', 'rich', 'safetensors', 'matplotlib'}, new; "
        "assert not new & {'fastrnn.command', 'fastrnn.charlm', 'fastrnn.course', 'fastrnn.convert'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
