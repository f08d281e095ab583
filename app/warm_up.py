"""What the server does before and beside its first visitors, so that none of them waits for it."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MODULES = (
    *("altair", "pandas", "pyarrow.pandas_compat", "scipy.optimize", "scipy.stats", "sqlalchemy", "pydantic"),
    *("app.access", "app.answers", "app.charts", "app.decisions", "app.evidence", "app.tables", "app.voting"),
    *("app.admin_campaigns", "app.judge_habits", "app.live", "app.reads_judges", "app.reads_samples"),
    *(
        "app.reads_training",
        "app.retrain_gate",
        "app.retrain_plan",
        "evalkit.jobs.queue",
        "evalkit.jobs.tasks",
        "evalkit.report",
    ),
    *("evalkit.report.benchmarks", "evalkit.report.board", "evalkit.report.judges", "evalkit.report.usage"),
    *("evalkit.stats.correlation", "evalkit.stats.ratings", "evalkit.stats.voter_checks", "judges.columns"),
    *("evalkit.store.frames", "evalkit.store.frames_app", "evalkit.store.frames_training", "judges.recommendation"),
)
"""What pages import when they are drawn for the first time: seconds."""
log = logging.getLogger(__name__)
_drawing: set[object] = set()


@contextmanager
def drawing() -> Iterator[None]:
    """Within it a page is drawn, and nothing is read ahead: Python does one thing at a time."""
    page = object()
    _drawing.add(page)
    try:
        yield
    finally:
        _drawing.discard(page)


def imports() -> None:
    """Imports what the pages are made with."""
    # Reads that no page waits for have none of the context that Streamlit would warn of, on every start.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    for name in MODULES:
        importlib.import_module(name)


def read_ahead() -> threading.Thread:
    """Starts a thread that reads what the pages of results begin with, while no page is drawn."""
    thread = threading.Thread(target=_read, name="read ahead", daemon=True)
    thread.start()
    return thread


def _read() -> None:
    from app import access, decisions, evidence, reads, reads_judges, reads_people, reads_training

    def board_of_people() -> None:
        if people := reads.people(criterion):
            reads.board(people, criterion)

    criterion = "overall"
    steps: list[Callable[[], object]] = [reads.counts, reads.scores, board_of_people, reads.usage]
    steps += [lambda: evidence.columns(criterion), lambda: decisions.decisions(criterion), reads_training.model_table]
    steps += [reads_training.slices, reads_people.members, lambda: reads_judges.table(criterion)]
    try:
        access.people()
        criterion = next(iter(reads.criteria()), criterion)
        for step in steps:
            while _drawing:
                time.sleep(0.05)
            step()
    except Exception:
        # Whoever opens the page reads it then, and is told what is wrong.
        log.warning("could not read ahead", exc_info=True)
