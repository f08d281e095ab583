"""The Jobs page: what is shown of each job, what its buttons do, what its form refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
import streamlit as st
from pages import said
from streamlit.testing.v1 import AppTest

from evalkit.jobs import queue
from evalkit.jobs.place import Place
from evalkit.store.ledger_app import Jobs

GOOD = "models: [embedded/smollm2-135m-instruct]\nbenchmarks: [starter_arithmetic]\n"


@pytest.fixture(autouse=True)
def _here(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_STORE", store)
    monkeypatch.delenv("EVALKIT_TEAM", raising=False)
    monkeypatch.chdir(tmp_path)
    st.cache_resource.clear()
    st.cache_data.clear()


def opened(view: str = "Queue", **query: str) -> AppTest:
    return pages.opened("jobs", view=view, **query)


def ran(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def read(page: AppTest) -> str:
    """What a reader sees of it: without what keeps Markdown from being Markdown."""
    return re.sub(r"\\(.)", r"\1", said(page))


def test_an_empty_ledger_says_what_to_type() -> None:
    page = opened()
    assert "evalkit jobs submit plan plan.yaml" in page.info[0].value and not page.dataframe


def test_the_queue_shows_how_far_each_job_is(store: str, jobs: Jobs) -> None:
    queue.submit(store, "calibrate", {}, "first *one*")
    queue.submit(store, "calibrate", {}, "second")
    claimed = jobs.claim(1)
    assert claimed is not None
    jobs.heartbeat(1, 1, progress=5, total=20, message="judge")
    page = opened()
    assert "No worker runs" in page.warning[0].proto.title or "evalkit worker --store" in page.warning[0].value
    (bar,) = page.get("progress")
    assert "judge, 5 of 20 requests, about" in bar.proto.text and bar.proto.value == 25
    assert r"first \*one\*" in said(page) and "Waits for a worker, next." in said(page)
    page.button(key="cancel-2").click().run()
    assert jobs.job(2).status == "cancelled" and jobs.job(1).status == "running"
    assert len(page.dataframe[0].value) == 1


def test_with_a_worker_there_is_no_warning(store: str) -> None:
    queue.submit(store, "calibrate", {})
    place = Place.of(store)
    place.make()
    with place.at_work():
        assert not opened().warning


def test_a_link_opens_a_log_and_retry_queues_again(store: str, jobs: Jobs, tmp_path: Path) -> None:
    queue.submit(store, "calibrate", {}, "c")
    assert jobs.claim(1) is not None
    (tmp_path / "1.log").write_text("--- attempt 1\n<b>line</b>\n")
    jobs.set_job(1, log=str(tmp_path / "1.log"))
    jobs.finish(1, 1, "failed", "nobody has *voted*")
    page = opened(job="1")
    assert page.code[0].value == "--- attempt 1\n<b>line</b>"
    assert r"nobody has \*voted\*" in said(page)
    ran(page.button(key="retry").click().run())
    assert jobs.job(1).status == "queued"
    (tmp_path / "1.log").unlink()
    assert "its log is not here any more" in said(opened(job="1"))
    assert not opened(job="77").code


def test_the_form_queues_a_plan_and_says_what_is_wrong_with_one(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(GOOD)
    page = opened("New job")
    page.text_input(key="path").set_value("missing.yaml").run()
    ran(page.button(key="add").click().run())
    assert "missing.yaml: the plan cannot be read" in read(page)
    page.text_input(key="path").set_value("plan.yaml").run()
    page.text_input(key="name").set_value("mine").run()
    ran(page.button(key="add").click().run())
    assert "Job 1 is queued" in page.success[0].value
    assert jobs.job(1).name == "mine" and jobs.job(1).spec["path"] == str(tmp_path / "plan.yaml")


def test_a_pasted_plan_and_a_schedule(store: str, jobs: Jobs) -> None:
    page = opened("New job")
    page.segmented_control(key="work").set_value("text").run()
    page.text_area(key="text").set_value("modells: [x]").run()
    ran(page.button(key="add").click().run())
    assert "plan line 1: modells: unknown key. Did you mean 'models'?" in read(page)
    page.text_area(key="text").set_value(GOOD).run()
    page.text_input(key="name").set_value("nightly").run()
    page.segmented_control(key="when").set_value("On a schedule").run()
    assert said(page).count("02:00 UTC, in") == 3 and "Next: " in said(page)
    page.selectbox(key="often").set_value("").run()
    page.text_input(key="cron").set_value("0 25 * * *").run()
    assert "is not minute, hour, day, month and weekday" in said(page) and page.button(key="add").disabled
    page.text_input(key="cron").set_value("15 3 * * 1-5").run()
    ran(page.button(key="add").click().run())
    page = opened("Schedules")
    assert said(page).count("03:15 UTC, in") == 3 and "Not queued yet." in said(page)
    ran(page.toggle(key="on-1").set_value(False).run())
    assert not jobs.due("2100-01-01T00:00:00.000Z") and "03:15 UTC, in" not in said(page)


def test_options_of_a_judge_are_checked(jobs: Jobs) -> None:
    page = opened("New job")
    page.segmented_control(key="work").set_value("judge").run()
    page.text_input(key="options-judge").set_value("--model 'openai/x").run()
    assert "No closing quotation" in said(page)
    page.text_input(key="options-judge").set_value("--modle openai/x").run()
    ran(page.button(key="add").click().run())
    assert "No such option: --modle" in read(page)
    page.text_input(key="options-judge").set_value("--model openai/x --voted").run()
    ran(page.button(key="add").click().run())
    assert jobs.job(1).spec["arguments"] == ["--model", "openai/x", "--voted"]


def test_no_schedule_yet_says_how_to_make_one() -> None:
    assert "--cron '0 2 * * *'" in said(opened("Schedules"))
