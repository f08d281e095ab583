"""From a failing slice on the dashboard to a new model that a person has approved: the real commands, a small model."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("playwright", reason="no Playwright: pip install playwright")

import retrain_world
from app_browser import App, check, go, picture, settle
from playwright.sync_api import expect

from evalkit.models.base import ModelSettings
from evalkit.store import Ledger, frames_training
from evalkit.store.ledger_app import Jobs
from evalkit.store.write_training import add_gate, add_parents
from trainers.gate import Measure, decide

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
JOB_SECONDS = 900
"""How long to wait for the job: half a minute of work, on a machine that may do much else."""
METRIC = """label => [...document.querySelectorAll('[data-testid=stMetric]')]
    .filter(one => one.querySelector('[data-testid=stMetricLabel]')?.innerText.trim() === label)
    .map(one => one.querySelector('[data-testid=stMetricValue]').innerText.trim())[0] ?? ''"""
LAPTOP: Any = {"width": 1280, "height": 800}


@dataclass
class Place:
    """A running app over the ledger, and the worker, once it is started."""

    app: App
    ledger: Ledger
    worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        log = self.app.ledger.with_suffix(".worker.txt")
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "evalkit.cli", "worker", "--store", str(self.app.ledger)]
        with log.open("wb") as said:
            self.worker = subprocess.Popen(line, cwd=log.parent, env=variables, stdout=said, stderr=said)

    def until(self, job_id: int, status: str) -> None:
        """Waits until a job has this state."""
        end = time.monotonic() + JOB_SECONDS
        while (job := Jobs(self.ledger).job(job_id)).status != status:
            assert time.monotonic() < end and job.status in ("queued", "running"), job
            time.sleep(0.2)


@pytest.fixture(scope="module")
def evaluated(make_tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes the ledger: before the browser starts, beside which no other event loop can run."""
    return retrain_world.make_ledger(tmp_path_factory.mktemp("retrain"), make_tiny)


@pytest.fixture(scope="module")
def place(evaluated: Path, serve: Callable[..., App]) -> Iterator[Place]:
    with Ledger.open(str(evaluated)) as ledger:
        found = Place(serve(evaluated), ledger)
        yield found
        if found.worker is not None:
            found.worker.send_signal(signal.SIGINT)
            found.worker.wait(60)


def fill(page: Page, label: str, value: str) -> None:
    """Writes into a field, as people do."""
    field = page.get_by_label(label, exact=True).first
    field.fill(value)
    field.press("Enter")
    settle(page)


def choose(page: Page, label: str, option: str) -> None:
    """Opens a select box and takes an option."""
    page.get_by_role("combobox", name=re.compile(re.escape(label))).first.click()
    page.get_by_role("option", name=option).click()
    settle(page)


def number(page: Page, label: str) -> str:
    """Reads a figure of the page; "" where it is not there."""
    # In one go: what is drawn anew is not there for a moment.
    return str(page.evaluate(METRIC, label))


def watch(page: Page, place: Place) -> set[tuple[str, ...]]:
    """Reads step, loss, validation loss and gradient norm off the page, as often as it draws them, while it trains."""
    seen: set[tuple[str, ...]] = set()
    end = time.monotonic() + JOB_SECONDS
    while (status := number(page, "Status")) in ("", "running"):
        job = Jobs(place.ledger).job(1)
        assert time.monotonic() < end and job.status in ("running", "done"), job
        if status:
            seen.add(tuple(number(page, name) for name in ("Step", "Loss", "Validation loss", "Gradient norm")))
        page.wait_for_timeout(200)
    return seen


def the_gate(place: Place, candidate: str) -> dict[str, Any]:
    """Reads a model's gate from the ledger."""
    gates = frames_training.gates(place.ledger)
    [found] = gates[gates["candidate"] == candidate].to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_from_a_slice_to_an_approved_model(place: Place, screenshots: Path) -> None:
    app = place.app
    first = app.context(viewport=LAPTOP)
    page = app.open("slices", first)
    expect(page.get_by_text("topic = lowercase").first).to_be_visible()
    picture(page, screenshots, "loop-1-slice", "light")
    page.get_by_role("button", name="Retrain on this slice").click()
    page.wait_for_url("**/retrain**")
    settle(page)
    choose(page, "Recipe", "New prompts, checked answers")
    choose(page, "Method", "Supervised fine-tuning (SFT)")
    choose(page, "Base model", "small")
    fill(page, "Rows, at most", "80")
    fill(page, "Passes over the rows", "30")
    fill(page, "Minutes, at most", "10")
    page.get_by_text("More settings").click()
    fill(page, "Learning rate", "0.005")
    material = page.locator('[data-testid="stTable"]').inner_text()
    assert "templates for 24 of 24 prompts" in material
    assert re.search(r"New prompts like those that failed, with checked answers\s+40\b", material)
    picture(page, screenshots, "loop-2-plan", "light")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("No worker runs").wait_for()
    assert "view=Training" in page.url
    picture(page, screenshots, "loop-3-queued", "light")
    check(page, app)
    place.start_worker()
    first.close()  # nobody looks: the job starts all the same
    place.until(1, "running")

    page = app.open("retrain?view=Training", app.context(viewport=LAPTOP))
    seen = watch(page, place)
    whole = [figures for figures in seen if all(figures)]
    assert len({figures[0] for figures in seen}) > 1, "the steps went on while the page was open"
    assert whole, f"loss, validation loss and gradient norm while it trained: {seen}"
    assert re.fullmatch(r"\d+ of 270", whole[0][0])
    expect(page.get_by_text("done", exact=True).first).to_be_visible()
    picture(page, screenshots, "loop-4-trained", "light")
    page.context.close()  # in the middle once more: the gate is measured all the same
    place.until(1, "done")

    page = app.open("retrain?view=Gate", app.context(viewport=LAPTOP))
    gate = the_gate(place, "topic-lowercase")
    assert gate["decision"] == "waiting"
    [target, *rest] = gate["evidence"]["tests"]
    assert target["kind"] == "improvement" and target["n"] == 24
    assert target["parent"] == 0 and target["passed"], "the held-out half got better, and clearly"
    assert {test["kind"] for test in rest} == {"non_inferiority", "leak", "length", "speed"}
    expect(page.get_by_text("The gate by itself would")).to_be_visible()
    expect(page.get_by_text("Time of an answer")).to_be_visible()
    picture(page, screenshots, "loop-5-gate", "light")
    page.emulate_media(color_scheme="dark")
    settle(page)
    picture(page, screenshots, "loop-5-gate", "dark")
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("write why").wait_for()  # nothing is decided without a reason
    page.get_by_label("Why").fill("Lowercase is right now, and nothing else fell.")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Decided by local").wait_for()
    check(page, app)
    gate = the_gate(place, "topic-lowercase")
    assert (gate["decision"], gate["parent"]) == ("accepted", "small")
    assert gate["evidence"]["decided"]["by"] == "local"
    assert gate["evidence"]["decided"]["why"] == "Lowercase is right now, and nothing else fell."
    go(page, "models")
    tree = page.locator('[data-testid="stMermaidChart"] img')
    expect(tree).to_have_attribute("alt", "topic-lowercase trained from small, gate accepted")
    assert tree.evaluate("image => image.naturalWidth") > 0
    picture(page, screenshots, "loop-6-models", "light")
    check(page, app)
    page.context.close()
    family = frames_training.family(place.ledger).to_dict("records")
    assert [(one["parent"], one["model"]) for one in family] == [("small", "topic-lowercase")]


def test_a_person_refuses_a_model(place: Place, screenshots: Path) -> None:
    """A second model of the slice, whose gate is stored as the first one's was, but which changed nothing."""
    app, ledger = place.app, place.ledger
    page = app.open("retrain", app.context(viewport=LAPTOP))
    name = page.get_by_role("textbox", name="Name of the new model").input_value()
    assert name == "topic-lowercase-2", "no two models have one name"
    first = the_gate(place, "topic-lowercase")
    same = np.zeros(24)
    verdict = decide([Measure("topic = lowercase, held out", "improvement", "passed", same, same)])
    [model_id] = ledger.add_models([ModelSettings("hf", "second", "0" * 64, label=name)])
    add_parents(ledger, model_id, [first["parent_id"]], "trained_from")
    add_gate(
        ledger, candidate_id=model_id, parent_id=first["parent_id"], run_id=first["run_id"], decision="waiting",
        evidence=verdict.evidence(),
    )  # fmt: skip
    page.get_by_role("tab", name="Gate").click()
    settle(page)
    expect(page.get_by_text(f"Your decision on {name}")).to_be_visible()  # what waits stands first
    expect(page.get_by_text("The gate by itself would refuse it.")).to_be_visible()
    page.get_by_label("Why").fill("It still writes capitals.")
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("Decided by local").wait_for()
    picture(page, screenshots, "loop-7-refused", "light")
    check(page, app)
    gate = the_gate(place, name)
    assert gate["decision"] == "refused"
    assert gate["evidence"]["decided"]["why"] == "It still writes capitals."
    assert the_gate(place, "topic-lowercase")["decision"] == "accepted", "a decision stands"
    go(page, "jobs")
    picture(page, screenshots, "loop-8-jobs", "light")
    check(page, app)
    page.context.close()
