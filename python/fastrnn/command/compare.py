"""``fastrnn compare``: which of RNN, LSTM and GRU to take."""

import argparse
import json
import sys
import time
from contextlib import nullcontext

import fastrnn
from fastrnn.charlm import session
from fastrnn.charlm.errors import require
from fastrnn.charlm.report import report_on
from fastrnn.charlm.text import corpus_of
from fastrnn.course.compare import HIDDEN, SECONDS, SEEDS, advice, compare, figures, plot, read_by_all, table

from .arguments import Parser, add, count, positive

LEAST_SHARE = 0.9  # of the time with a processor: below, what is learnt in that time says less than it seems


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``compare`` to the commands."""
    command = add(
        commands,
        "compare",
        run,
        "train an RNN, an LSTM and a GRU for the same time, and say which to take",
        "Train an RNN, an LSTM and a GRU with equally many parameters on the same text, each for the same time, from\n"
        "several first weights. Then tell how well each predicts text that it has not seen, how fast it reads, and\n"
        "which to take. Without options it takes about two minutes.",
    )
    command.add_argument(
        "files", nargs="*", metavar="FILE", help="UTF-8 text; without any, text that comes with Python"
    )
    command.add_argument(
        "--hidden",
        type=count,
        default=HIDDEN,
        metavar="N",
        help="hidden units of the LSTM; the others get as many as make equally many parameters (default: %(default)s)",
    )
    command.add_argument(
        "--seconds",
        type=positive,
        default=SECONDS,
        metavar="X",
        help="training time of each run; there are three for each seed (default: %(default)g)",
    )
    command.add_argument(
        "--seeds",
        type=count,
        default=SEEDS,
        metavar="N",
        help="runs of each cell: how far they differ is luck (default: %(default)s)",
    )
    command.add_argument("--plot", metavar="FILE", help="draw the curves to this .png, .svg or .pdf file")
    command.add_argument("--json", action="store_true", help="print all figures as JSON, the curves too")


def run(options: argparse.Namespace) -> int:
    """``fastrnn compare``."""
    watched = sys.stdout.isatty() and not options.json
    require("threadpoolctl", *(("rich",) if watched else ()))
    if options.plot:
        session.check_plot(options.plot)
    corpus = corpus_of(options.files)
    began = time.perf_counter(), time.process_time()
    with report_on(sys.stdout) if watched else nullcontext() as report, session.one_blas_thread():
        results = compare(corpus, hidden=options.hidden, seconds=options.seconds, seeds=options.seeds, report=report)
    processor = (time.process_time() - began[1]) / (time.perf_counter() - began[0])
    if options.plot:
        plot(results, options.plot)
    characters = read_by_all(results)
    words = advice(
        {result.settings.cell: result.after_time() for result in results},
        {result.settings.cell: result.after_characters(characters) for result in results},
    )
    threads = fastrnn.get_num_threads()
    if options.json:
        run_as = {
            "seconds": options.seconds,
            "seeds": options.seeds,
            "threads": threads,
            "processor_share": processor,
        }
        print(json.dumps(run_as | figures(results) | {"advice": words}))
        return 0
    print(
        f"{len(corpus.train):,} characters to learn from, {corpus.held_out.size:,} held out, "
        f"{len(corpus.vocabulary):,} different ones; seeds: {options.seeds}, threads: {threads}.\n\n"
        f"{table(results, options.seconds)}\n\n{words}"
    )
    if processor < LEAST_SHARE:
        print(
            f"The machine was busy: this had a processor for {processor:.0%} of the time, and would get further alone."
        )
    return 0
