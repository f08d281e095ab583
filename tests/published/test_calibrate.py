"""`judge calibrate` on the published arenas: their figures in the scorecard, in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CPU_SECONDS = 15.0
# turn: (agree, n) with ties, (agree, n) without, of GPT-4 with experts and of experts with each other
TABLE_5 = {
    ("gpt4_pair", "1"): ((886, 1343), (727, 859)),
    ("gpt4_pair", "2"): ((871, 1325), (731, 864)),
    ("", "1"): ((454, 721), (388, 479)),
    ("", "2"): ((471, 707), (388, 474)),
}
CATEGORIES = ("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing")


def counted(figure: dict[str, Any]) -> tuple[int, int]:
    return round(figure["value"] * figure["n"]), figure["n"]


def test_mt_bench(
    shared_file: Callable[[str], Path],
    in_process: Callable[..., Any],
    tmp_path: Path,
) -> None:
    store = tmp_path / "mt.db"
    done = in_process("import", "mt-bench", shared_file("mt_bench"), "--store", store)
    assert done.code == 0, done.err
    arguments = ("judge", "calibrate", "--store", store, "--humans", "expert_*", "--report", tmp_path / "mt.html")
    found = in_process(*arguments, "--json").json
    assert {
        (row["judge"], row["turn"]): (counted(row["agreement"]), counted(row["agreement_no_ties"]))
        for row in found["by_turn"]
    } == TABLE_5
    (row,) = found["rows"]
    figures = row["figures"]
    assert (row["judge"], row["verdicts"]) == ("gpt4_pair", 4800)
    # Both turns of table 5 together; 380 of 2,400 pairs of verdicts contradict each other.
    assert counted(figures["agreement"]) == (886 + 871, 1343 + 1325)
    assert counted(figures["agreement_no_ties"]) == (727 + 731, 859 + 864)
    assert counted(figures["human_ceiling"]) == (454 + 471, 721 + 707)
    assert counted(figures["human_ceiling_no_ties"]) == (388 + 388, 479 + 474)
    assert counted(figures["swap_consistency"]) == (2400 - 380, 2400)
    assert figures["spearman"]["value"] == 1.0 and figures["parse_failures"]["value"] == 0.0
    # Who won which order of an inconsistent pair was not published.
    assert figures["first_slot"]["value"] is None and figures["first_slot"]["note"]
    # The paper: GPT-4 favours its own answers by some 10 % of the win rate.
    assert 0.05 < figures["self_preference"]["lower"] < 0.1 < figures["self_preference"]["upper"] < 0.2
    answers = {one["category"]: one["answer"] for one in found["stand_in"]}
    assert answers.keys() == {"all", *CATEGORIES}
    assert answers["all"] == "yes" and answers["math"] == "too few votes" and "no" not in answers.values()
    assert found["recommendation"]["advice"][0]["decision"] == "keep"
    assert found["juries"] is None and found["board"]["n_labelled"] == 1633
    page = (tmp_path / "mt.html").read_text(encoding="utf-8")
    for text in ("66%", "85%", "1,343", "859", "63%", "81%", "2,400"):
        assert text in page, text


def test_llmfao(
    shared_file: Callable[[str], Path],
    in_process: Callable[..., Any],
    tmp_path: Path,
) -> None:
    store = tmp_path / "llmfao.db"
    done = in_process("import", "llmfao", shared_file("llmfao"), "--store", store)
    assert done.code == 0, done.err
    page = tmp_path / "llmfao.html"
    started = time.process_time()
    found = in_process("judge", "calibrate", "--store", store, "--epsilon", "0.1", "--report", page, "--json").json
    assert time.process_time() - started < CPU_SECONDS
    rows = {row["judge"]: row["figures"] for row in found["rows"]}
    assert rows.keys() == {"gpt-3.5_llmfao", "gpt-4_llmfao", "majority jury", "weighted jury"}
    facts = found["facts"]
    assert (facts["votes"], facts["people"], facts["models"], facts["items"]) == (8931, 124, 70, 19)
    for figures in rows.values():
        assert figures["agreement"]["n"] == 8931 and figures["spearman"]["n"] == 59
        assert figures["length_preference"]["value"] is not None and figures["requests"]["value"] is None
    good, poor = rows["gpt-4_llmfao"], rows["gpt-3.5_llmfao"]
    assert good["agreement"]["value"] > poor["agreement"]["value"]
    # GPT-3.5 chooses the answer shown first; GPT-4 does not.
    assert poor["first_slot"]["lower"] > 0.6 > 0.5 > good["first_slot"]["upper"]
    # A weighted jury is never worse than its best member beyond doubt.
    pair = next(one for one in found["paired"] if one["first"] == "weighted jury")
    assert pair["second"] == "gpt-4_llmfao" and pair["upper"] >= 0
    # 19 prompts are too few to say of any kind of prompt that these judges may stand in for people.
    assert {one["answer"] for one in found["stand_in"] if one["category"] != "all"} == {"too few votes"}
    assert all(one["decision"] == "unsettled" for one in found["recommendation"]["advice"])
    assert any("13 of the 19 items" in warning for warning in found["warnings"])
    text = page.read_text(encoding="utf-8")
    assert "Explain in a short paragraph quantum field theory" in text and "<script" not in text
    assert len(found["disagreements"]) == 6


def test_the_halves_are_drawn_by_the_seed(
    shared_file: Callable[[str], Path], in_process: Callable[..., Any], tmp_path: Path
) -> None:
    store = tmp_path / "llmfao.db"
    assert in_process("import", "llmfao", shared_file("llmfao"), "--store", store).code == 0
    first, again = (in_process("judge", "calibrate", "--store", store, "--seed", "1", "--json").json for _ in range(2))
    assert first == again
    accuracy = {row["jury"]: row for row in first["juries"]["rows"]}
    assert accuracy["weighted"]["upper"] >= accuracy["best judge"]["accuracy"]
