"""Published formats: what is read as what, both ways, and what is wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_world import check_cells, check_tally

from evalkit.errors import UserError
from evalkit.store import Ledger, frames
from evalkit.store.formats import generic, hub
from evalkit.store.formats.alpaca_eval import export_alpaca_eval, import_alpaca_eval
from evalkit.store.formats.arena_hard import import_arena_hard
from evalkit.store.formats.fastchat import export_fastchat, import_fastchat
from evalkit.store.formats.foreign import Imported
from evalkit.store.formats.llmfao import import_llmfao
from evalkit.store.formats.mt_bench import import_mt_bench
from evalkit.store.formats.mt_bench_out import export_mt_bench
from evalkit.store.formats.preferences import export_preferences, import_preferences
from evalkit.store.formats.tables import read_table

Read = Callable[[Ledger, list[Path]], Imported]
Write = Callable[[Ledger, Path], tuple[int, Any]]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def listed(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "fresh.db")) as opened:
        yield opened


def sizes(ledger: Ledger) -> dict[str, int]:
    names = ("item", "model", "response", "battle", "verdict", "grade", "annotator", "dataset", "run")
    with ledger.engine.connect() as connection:
        return {name: int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() or 0) for name in names}


def content(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Everything but the ids and times of making, by names."""
    queries = {
        "items": "SELECT hash FROM item",
        "annotators": "SELECT kind, name FROM annotator",
        "responses": "SELECT i.hash, m.name, r.sample, r.turn, r.text, r.error_kind, r.seconds FROM response r "
        "JOIN item i ON i.id = r.item_id JOIN model m ON m.id = r.model_id",
        "verdicts": "SELECT i.hash, a.name, b.name, b1.turn, v.order_shown, v.replicate, v.winner, v.probability, "
        "v.rationale, v.error, v.seconds, v.created_at, w.name, v.criterion, x.text, y.text FROM verdict v "
        "JOIN battle b1 ON b1.id = v.battle_id JOIN item i ON i.id = b1.item_id JOIN model a ON a.id = b1.model_a_id "
        "JOIN model b ON b.id = b1.model_b_id JOIN annotator w ON w.id = v.annotator_id "
        "LEFT JOIN response x ON x.id = b1.response_a_id LEFT JOIN response y ON y.id = b1.response_b_id",
        "grades": "SELECT i.hash, m.name, r.turn, w.name, g.criterion, g.value, g.error, g.detail FROM grade g "
        "JOIN response r ON r.id = g.response_id JOIN item i ON i.id = r.item_id JOIN model m ON m.id = r.model_id "
        "JOIN annotator w ON w.id = g.annotator_id",
    }
    with ledger.engine.connect() as connection:
        return {
            name: sorted((tuple(row) for row in connection.exec_driver_sql(query)), key=repr)
            for name, query in queries.items()
        }


# -- MT-bench ------------------------------------------------------------------------------------------------------

QUESTIONS = (
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Make it shorter."]},
    {
        "question_id": 121,
        "category": "coding",
        "turns": ["Sort a list.", "Now in place."],
        "reference": ["sorted", "sort"],
    },
)
TIME = {"tstamp": 1686286924.845}


def answer(question: int, model: str, *choices: list[str]) -> dict[str, Any]:
    turns = [{"index": index, "turns": texts} for index, texts in enumerate(choices)]
    return {"question_id": question, "answer_id": "x", "model_id": model, "choices": turns, **TIME}


def mt_bench(folder: Path) -> Path:
    """A folder as FastChat lays it out, with something of everything."""
    lines(folder / "question.jsonl", *QUESTIONS)
    for model in ("a-7b", "b-7b"):
        rows = [answer(number, model, [f"{model} {number}.1", f"{model} {number}.2"]) for number in (81, 121)]
        lines(folder / "model_answer" / f"{model}.jsonl", *rows)
    lines(folder / "reference_answer" / "gpt-4.jsonl", answer(121, "gpt-4", ["sorted(x)", "x.sort()"]))
    pair = {"model_1": "b-7b", "model_2": "a-7b", "judge": ["gpt-4", "pair-v2"], **TIME}
    said = {"g1_judgment": "[[A]]", "g2_judgment": "[[B]]", "g1_user_prompt": "?", "g2_user_prompt": "?"}
    lines(
        folder / "model_judgment" / "gpt-4_pair.jsonl",
        {"question_id": 81, "turn": 1, "g1_winner": "model_1", "g2_winner": "model_1", **pair, **said},
        {"question_id": 81, "turn": 2, "g1_winner": "model_1", "g2_winner": "model_2", **pair, **said},
        {"question_id": 121, "turn": 1, "g1_winner": "tie", "g2_winner": "error", **pair, **said},
    )
    single = {"judge": ["gpt-4", "single-v1"], "user_prompt": "?", "judgment": "Rating: [[7]]", **TIME}
    lines(
        folder / "model_judgment" / "gpt-4_single.jsonl",
        {"question_id": 81, "model": "a-7b", "score": 7, "turn": 1, **single},
        {"question_id": 81, "model": "a-7b", "score": 6.5, "turn": 2, **single},
        {"question_id": 121, "model": "b-7b", "score": -1, "turn": 1, **single},
    )
    vote = {"model_a": "a-7b", "model_b": "b-7b", "question_id": 81, "turn": 1, **TIME}
    lines(
        folder / "human.jsonl",
        {"judge": "expert_1", "winner": "model_a", **vote},
        {"judge": "expert_1", "winner": "tie", **vote, "model_a": "b-7b", "model_b": "a-7b"},
        {"judge": "author_2", "winner": "both_bad", **vote},
    )
    lines(
        folder / "gpt3_pair.jsonl",
        {"judge": "gpt3_pair", "winner": "model_b", **vote},
        {"judge": "gpt3_pair", "winner": "tie (inconsistent)", **vote, "turn": 2},
    )
    return folder


def test_mt_bench_of_fastchats_layout(sqlite: Ledger, tmp_path: Path) -> None:
    found = import_mt_bench(sqlite, [mt_bench(tmp_path / "mt")])
    assert {(line.what, line.read, line.new, line.errors) for line in found.lines} == {
        ("items", 2, 2, 0),
        ("models", 2, 2, 0),
        ("responses", 8, 8, 0),
        ("battles", 3, 3, 0),
        ("verdicts of gpt-4_pair", 6, 6, 1),
        ("verdicts of 2 humans", 3, 3, 0),
        ("verdicts of gpt3_pair", 4, 4, 0),
        ("grades of gpt-4_single", 3, 3, 1),
    }
    assert any("1 pairs of verdicts were published as 'tie (inconsistent)'" in note for note in found.notes)
    votes = frames.verdicts(sqlite)
    gpt4 = votes[votes.annotator == "gpt-4_pair"].set_index(["item", "turn", "order"])
    # a-7b stands first in the ledger; in the first game b-7b was shown first.
    assert (gpt4.loc[("81", 1, "ba"), "winner"], gpt4.loc[("81", 1, "ab"), "winner"]) == ("model_b", "model_b")
    assert (gpt4.loc[("81", 2, "ba"), "winner"], gpt4.loc[("81", 2, "ab"), "winner"]) == ("model_b", "model_a")
    assert gpt4.loc[("121", 1, "ab"), "error"]
    gpt3 = frames.tally(sqlite, annotators=["gpt3_pair"]).set_index("turn")
    assert (gpt3.loc[1, "wins_b"], gpt3.loc[2, "ties"]) == (1, 1)
    assert set(votes[votes.annotator == "expert_1"].replicate) == {0, 1}
    with sqlite.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT turn, body, text FROM response WHERE turn = 2 ORDER BY id").all()
        references = connection.exec_driver_sql("SELECT reference FROM item ORDER BY id").all()
        loose = connection.exec_driver_sql("SELECT count(*) FROM battle WHERE response_a_id IS NULL").scalar()
    told = json.loads(rows[0].body)["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "user"]
    assert [message["content"] for message in told] == ["Write a line.", "a-7b 81.1", "Make it shorter."]
    assert [json.loads(row[0]) if row[0] else None for row in references] == [
        None,
        {"turns": ["sorted(x)", "x.sort()"]},
    ]
    assert not loose
    check_cells(sqlite)
    check_tally(sqlite)


def test_mt_bench_round_trip_and_again(sqlite: Ledger, fresh: Ledger, tmp_path: Path) -> None:
    import_mt_bench(sqlite, [mt_bench(tmp_path / "mt")])
    before = sizes(sqlite)
    again = import_mt_bench(sqlite, [tmp_path / "mt"])
    assert sizes(sqlite) == before
    assert not any(line.new for line in again.lines)
    n, left = export_mt_bench(sqlite, tmp_path / "out")
    assert (n, dict(left)) == (2 + 4 + 3 + 3 + 3 + 2, {})
    import_mt_bench(fresh, [tmp_path / "out"])
    assert content(fresh) == content(sqlite)
    assert import_mt_bench(sqlite, [tmp_path / "out"]).lines
    assert {name: n for name, n in sizes(sqlite).items() if name != "run"} == {
        name: n for name, n in before.items() if name != "run"
    }


def test_mt_bench_in_parts_is_mt_bench_at_once(sqlite: Ledger, fresh: Ledger, tmp_path: Path) -> None:
    folder = mt_bench(tmp_path / "mt")
    import_mt_bench(fresh, [folder])
    parts = [
        ["human.jsonl"],
        ["gpt3_pair.jsonl"],
        ["model_judgment"],
        ["question.jsonl", "reference_answer"],
        ["model_answer"],
    ]
    for part in parts:
        import_mt_bench(sqlite, [folder / name for name in part])
    import_mt_bench(sqlite, [folder])
    one, other = content(sqlite), content(fresh)
    for name in ("items", "annotators", "responses", "verdicts", "grades"):
        assert one[name] == other[name], name
    check_cells(sqlite)
    check_tally(sqlite)


def test_mt_bench_with_the_texts_of_the_public_set(sqlite: Ledger, tmp_path: Path) -> None:
    def talk(model: str) -> list[dict[str, str]]:
        words = ["Write a line.", f"{model} says", "Make it shorter.", f"{model} says less"]
        return [{"role": ("user", "assistant")[n % 2], "content": word} for n, word in enumerate(words)]

    row = {"question_id": 81, "model_a": "a", "model_b": "b", "winner": "model_a", "judge": "expert_0", "turn": 2}
    path = lines(tmp_path / "votes.jsonl", row | {"conversation_a": talk("a"), "conversation_b": talk("b")})
    import_mt_bench(sqlite, [path])
    assert generic.ledger_lengths(sqlite).set_index(["model", "turn"])["length"].to_dict() == {
        **{("a", 1): 6, ("a", 2): 11},
        **{("b", 1): 6, ("b", 2): 11},
    }
    with sqlite.engine.connect() as connection:
        query = "SELECT x.text, y.text FROM battle b JOIN response x ON x.id = b.response_a_id "
        pair = connection.exec_driver_sql(query + "JOIN response y ON y.id = b.response_b_id").one()
    assert tuple(pair) == ("a says less", "b says less")


# -- LLMFAO --------------------------------------------------------------------------------------------------------


def llmfao(folder: Path) -> Path:
    lines(folder / "prompts.jsonl", {"id": 8, "text": "A haiku.", "type": "creativity", "slug": "haiku", "note": None})
    lines(
        folder / "results.jsonl",
        {"name": "A 7B", "prompt": 8, "result": " a poem", "duration": 1500.0},
        {"name": "B 7B", "prompt": 8, "result": "\n", "duration": 10},
    )
    crowd = "id,prompt,model_x,model_y,worker,winner,left,right\n0,8,1,2,5,left,A 7B,B 7B\n0,8,1,2,6,tie,A 7B,B 7B\n"
    (folder / "crowd-comparisons.csv").write_text(crowd)
    (folder / "gpt4-comparisons.csv").write_text(
        "id,prompt,model_x,model_y,winner,left,right\n0,8,2,1,right,B 7B,A 7B\n"
    )
    return folder


def test_llmfao(sqlite: Ledger, tmp_path: Path) -> None:
    folder = llmfao(tmp_path / "fao")
    found = import_llmfao(sqlite, [folder])
    assert [(line.what, line.read, line.errors) for line in found.lines] == [
        ("items", 1, 0),
        ("models", 2, 0),
        ("responses", 2, 1),
        ("battles", 1, 0),
        ("verdicts of 2 humans", 2, 0),
        ("verdicts of gpt-4_llmfao", 1, 0),
    ]
    votes = frames.verdicts(sqlite).set_index("annotator")
    assert list(votes.loc[["worker_5", "gpt-4_llmfao"], "winner"]) == ["model_a", "model_a"]
    assert list(votes.loc[["worker_5", "gpt-4_llmfao"], "order"]) == ["ab", "ba"]
    assert generic.ledger_lengths(sqlite)["length"].to_list() == [7]
    assert not any(line.new for line in import_llmfao(sqlite, [folder]).lines)
    (folder / "crowd-comparisons.csv").write_text("prompt,worker,winner,left,right\n9,5,left,A 7B,B 7B\n")
    with pytest.raises(UserError, match=r"crowd-comparisons.csv, line 2, column 'prompt': '9' is no id"):
        import_llmfao(sqlite, [folder])
    with pytest.raises(UserError, match="llmfao is one folder"):
        import_llmfao(sqlite, [folder / "prompts.jsonl"])


# -- AlpacaEval ----------------------------------------------------------------------------------------------------


def alpaca(folder: Path) -> list[Path]:
    folder.mkdir()
    outputs = [
        {"dataset": "koala", "instruction": f"Do {n}.", "output": f"{model} does {n}", "generator": model}
        for n in (1, 2)
        for model in ("base", "new")
    ]
    judged = {"annotator": "weighted_gpt4", "generator_1": "new", "generator_2": "base"}
    annotations = [
        {
            **judged,
            "instruction": f"Do {n}.",
            "dataset": "koala",
            "output_1": f"new does {n}",
            "output_2": f"base does {n}",
        }
        for n in (1, 2)
    ]
    annotations[0] |= {"preference": 1.9999871, "is_switched_outputs": True, "time_per_example": 0.5}
    annotations[1] |= {"preference": None, "raw_completion": "I cannot say"}
    annotations.append(annotations[0] | {"preference": 1.5, "annotator": "gpt4", "is_switched_outputs": None})
    return [listed(folder / "outputs.json", *outputs), listed(folder / "annotations.json", *annotations)]


def test_alpaca_eval_round_trip(sqlite: Ledger, fresh: Ledger, tmp_path: Path) -> None:
    files = alpaca(tmp_path / "alpaca")
    found = import_alpaca_eval(sqlite, files)
    assert [(line.what, line.read, line.errors) for line in found.lines] == [
        ("items", 2, 0),
        ("models", 2, 0),
        ("responses", 4, 0),
        ("battles", 2, 0),
        ("verdicts of weighted_gpt4", 2, 1),
        ("verdicts of gpt4", 1, 0),
    ]
    votes = frames.verdicts(sqlite).set_index("annotator")
    first = votes[votes.winner.notna()].loc["weighted_gpt4"]
    assert (first.model_a, first.winner, first.order, first.probability) == ("base", "model_a", "ab", 1.9999871 - 1)
    assert votes.loc["gpt4", "winner"] == "tie"
    assert import_alpaca_eval(sqlite, files).lines[0].new == 0
    n, left = export_alpaca_eval(sqlite, tmp_path / "out")
    assert (n, dict(left)) == (7, {})
    import_alpaca_eval(fresh, [tmp_path / "out"])
    assert content(fresh) == content(sqlite)


# -- FastChat ------------------------------------------------------------------------------------------------------


def test_fastchat_round_trip(sqlite: Ledger, fresh: Ledger, tmp_path: Path) -> None:
    def talk(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]

    row = {"judge": "arena_user_9", "turn": 3, "anony": True, "language": "English", "tstamp": 1682351591.13}
    path = listed(
        tmp_path / "clean_battle.json",
        {"model_a": "zephyr", "model_b": "alpaca", "winner": "model_a", **row},
        {"model_a": "zephyr", "model_b": "alpaca", "winner": "model_a", **row},
        {"model_a": "alpaca", "model_b": "zephyr", "winner": "tie (bothbad)", **row},
        {"model_a": "alpaca", "model_b": "alpaca", "winner": "tie", **row},
        {"question_id": "q1", "model_a": "zephyr", "model_b": "alpaca", "winner": "tie", **row}
        | {"conversation_a": talk("z"), "conversation_b": talk("a")},
    )
    found = import_fastchat(sqlite, [path])
    assert dict(found.skipped) == {"a model against itself": 1}
    assert [(line.what, line.read) for line in found.lines if "verdict" in line.what or line.what == "items"] == [
        ("items", 4),
        ("verdicts of arena_user_9", 4),
    ]
    votes = frames.verdicts(sqlite)
    assert votes[["winner", "order", "turn"]].values.tolist() == [
        ["model_b", "ba", 3],
        ["model_b", "ba", 3],
        ["both_bad", "ab", 3],
        ["tie", "ba", 1],
    ]
    assert not any(line.new for line in import_fastchat(sqlite, [path]).lines)
    n, left = export_fastchat(sqlite, tmp_path / "out.json")
    assert (n, dict(left)) == (4, {})
    import_fastchat(fresh, [tmp_path / "out.json"])
    assert content(fresh) == content(sqlite)


# -- Arena-Hard ----------------------------------------------------------------------------------------------------


def test_arena_hard_old_and_new(sqlite: Ledger, tmp_path: Path) -> None:
    def games(*scores: str | None) -> list[dict[str, Any]]:
        return [{"score": score, "judgment": f"[[{score}]]", "user_prompt": "?"} for score in scores]

    old = lines(
        tmp_path / "old.jsonl",
        {"question_id": "q1", "model": "mine", "judge": "gpt-4-1106-preview", "games": games("A>>B", "B>A")},
        {"question_id": "q2", "model": "mine", "judge": "gpt-4-1106-preview", "games": games("A=B", None)},
        {"question_id": "q2", "model": "gpt-4-0314", "judge": "gpt-4-1106-preview", "games": games("A=B", "A=B")},
    )
    found = import_arena_hard(sqlite, [old])
    assert dict(found.skipped) == {"the baseline against itself": 1}
    assert "gpt-4-0314" in found.notes[0]
    votes = frames.verdicts(sqlite)  # the baseline, gpt-4-0314, is model_a
    assert votes[["winner", "order"]].fillna("").values.tolist() == [
        ["model_a", "ab"],
        ["model_a", "ba"],
        ["tie", "ab"],
        ["", "ba"],
    ]
    assert votes.probability[:3].to_list() == [1.0, 0.75, 0.5]
    assert frames.tally(sqlite).loc[0, ["wins_a", "ties", "errors"]].to_numpy().tolist() == [1, 1, 1]
    new = lines(
        tmp_path / "new.jsonl",
        {"uid": "u1", "category": "hard_prompt", "model": "mine", "judge": "gpt-4.1", "baseline": "o3-mini",
         "games": [{"score": "A<<B", "judgment": {"answer": "my answer"}}, {"score": "A>>B", "judgment": "x"}]},
    )  # fmt: skip
    assert import_arena_hard(sqlite, [new]).notes == ()
    votes = frames.verdicts(sqlite, annotators=["gpt-4.1_arena-hard"])
    assert (
        votes[["model_a", "model_b", "winner", "probability"]].values.tolist()
        == [["mine", "o3-mini", "model_a", 1.0]] * 2
    )
    wrong = lines(tmp_path / "wrong.jsonl", {"question_id": "q", "model": "m", "judge": "j", "games": games("A>C")})
    with pytest.raises(UserError, match=r"wrong.jsonl, line 1, column 'games': game 1 has the score 'A>C'"):
        import_arena_hard(sqlite, [wrong])


# -- preferences ---------------------------------------------------------------------------------------------------


def chat(*words: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": word} for n, word in enumerate(words)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_preferences_round_trip(sqlite: Ledger, fresh: Ledger, tmp_path: Path, ending: str) -> None:
    ultra = lines(
        tmp_path / "ultrafeedback_binarized.jsonl",
        {"prompt": "Hi", "prompt_id": "p1", "chosen": chat("Hi", "Hello!"), "rejected": chat("Hi", "No."),
         "messages": [], "score_chosen": 8.5, "score_rejected": 3.0},
        {"prompt": "Bye", "prompt_id": "p2", "chosen": chat("Bye", "See you"), "rejected": chat("Bye", "Hello!")},
    )  # fmt: skip
    found = import_preferences(sqlite, [ultra])
    assert [line.what for line in found.lines][-2:] == [
        "verdicts of gpt-4_ultrafeedback",
        "grades of gpt-4_ultrafeedback",
    ]
    assert not any(line.new for line in import_preferences(sqlite, [ultra]).lines)
    dialogue = "\n\nHuman: One?\n\nAssistant: Two.\n\nHuman: Three?\n\nAssistant: {}"
    hh = lines(
        tmp_path / "hh-rlhf.jsonl",
        {"chosen": dialogue.format("Four."), "rejected": dialogue.format("Five.\n\nIndeed.")},
        {"chosen": dialogue.format("Four."), "rejected": "\n\nHuman: Other\n\nAssistant: Well."},
    )
    assert dict(import_preferences(sqlite, [hh]).skipped) == {"two conversations that part before the last answer": 1}
    path = tmp_path / f"out.{ending}"
    n, left = export_preferences(sqlite, path)
    assert (n, dict(left)) == (3, {})
    rows = read_table(path, ("prompt", "chosen", "rejected"))
    first = rows[0].values
    prompt = json.loads(first["prompt"]) if ending == "csv" else first["prompt"]
    assert (prompt, first["chosen_model"], first["annotator"]) == (chat("Hi"), "chosen", "gpt-4_ultrafeedback")
    import_preferences(fresh, [path])
    one, other = content(sqlite), content(fresh)
    for name in ("items", "annotators", "responses", "verdicts"):
        assert one[name] == other[name], name


def test_preferences_of_the_arena_and_of_nobody(sqlite: Ledger, tmp_path: Path) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    row = {"model_a": "x", "model_b": "y", "winner": "both_bad", "judge": "u1", "language": "en", "timestamp": 1.5}
    arena = lines(
        tmp_path / "arena.jsonl",
        row | {"conversation_a": [*parts, *chat("", "x1")[1:]], "conversation_b": chat("Hi", "y1")},
        row | {"conversation_a": chat("Hi", "x2"), "conversation_b": chat("Hi", "y1"), "winner": "model_b"},
        row | {"conversation_a": chat("Hi", "x2"), "conversation_b": chat("Ho", "y1")},
    )
    found = import_preferences(sqlite, [arena])
    assert dict(found.skipped) == {"two conversations with different words of the user": 1}
    # The same prompt twice, and another answer of x: two samples, two battles.
    assert {line.what: line.read for line in found.lines}["battles"] == 2
    assert sizes(sqlite)["response"] == 3
    assert not any(line.new for line in import_preferences(sqlite, [arena]).lines)
    n, left = export_preferences(sqlite, tmp_path / "out.jsonl", "u*")
    assert (n, dict(left)) == (1, {"ties, and what the two orders disagree about": 1})
    bare = lines(tmp_path / "bare.jsonl", {"prompt": "p", "chosen": "c", "rejected": "r"})
    with pytest.raises(UserError, match="nothing says who preferred; add --annotator-kind human, or judge"):
        import_preferences(sqlite, [bare])
    import_preferences(sqlite, [bare], "human")
    assert "bare_humans" in set(frames.annotators(sqlite)["annotator"])
    with pytest.raises(UserError, match="no annotator of battles fits 'nobody'"):
        export_preferences(sqlite, tmp_path / "out.jsonl", "nobody")


def test_the_hub_needs_a_pinned_revision_and_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Anthropic/hh-rlhf", "Anthropic/hh-rlhf@main"):
        with pytest.raises(UserError, match=r"needs a pinned revision.*: Anthropic/hh-rlhf@REVISION"):
            hub.fetch(name, "train", tmp_path)
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, and the set is not in the cache") as error:
        hub.fetch("evalkit-tests/no-such-set@" + "01234567" * 5, "train", tmp_path)
    assert "\n" not in str(error.value)


# -- what is wrong -------------------------------------------------------------------------------------------------

FAULTS: list[tuple[Read, str, str, str]] = [
    (import_mt_bench, "x.jsonl", '{"question_id": 1}\n', "line 1: a row of MT-bench has one of the fields"),
    (
        import_mt_bench,
        "x.jsonl",
        '{"question_id": 1, "turns": "hi"}\n',
        "line 1, column 'turns': it must be a list of texts",
    ),
    (
        import_mt_bench,
        "x.jsonl",
        '{"question_id": 1, "model_a": "a", "model_b": "b", "judge": "expert_1", "winner": "a"}\n',
        "line 1, column 'winner': 'a' is not allowed",
    ),
    (
        import_mt_bench,
        "x.jsonl",
        '{"question_id": 1, "model": "a", "judge": [], "score": 3}\n',
        "line 1, column 'judge': it must be a name",
    ),
    (import_mt_bench, "x.jsonl", '{"prompt_template": "t"}\n', "nothing of MT-bench is in x.jsonl"),
    (
        import_alpaca_eval,
        "x.json",
        '[\n{"instruction": "i", "output": "o", "generator": "g"},\n\n{"instruction": "i", "output": "o"}]',
        "line 4, column 'generator': it is empty",
    ),
    (import_alpaca_eval, "x.json", '[{"instruction": "i"},\n {"instruction": }]', "line 2, column 18: not JSON"),
    (import_alpaca_eval, "x.json", "[1]", "line 1: not an object"),
    (
        import_alpaca_eval,
        "x.json",
        '[{"instruction": "i", "output_1": "o", "output_2": "p", "generator_1": "g", "generator_2": "h",'
        ' "annotator": "j", "preference": 0.7}]',
        "line 1, column 'preference': 0.7 is not between 1",
    ),
    (import_fastchat, "x.json", '[{"model_a": "a", "model_b": "b"}]', "line 1: the column 'winner' is missing"),
    (import_arena_hard, "x.jsonl", '{"model": "m", "judge": "j", "games": 3}\n', "line 1, column 'question_id'"),
    (import_preferences, "x.jsonl", '{"prompt": "p"}\n', "line 1: a preference needs the columns"),
    (
        import_preferences,
        "x.jsonl",
        '{"model_a": "a", "model_b": "b", "winner": "tie", "conversation_a": [{"role": "user"}]}\n',
        "line 1, column 'conversation_a': message 1 needs a role",
    ),
]


@pytest.mark.parametrize(("read", "name", "text", "sentence"), FAULTS, ids=[fault[3][:40] for fault in FAULTS])
def test_a_bad_row_is_named_and_nothing_is_written(
    sqlite: Ledger, tmp_path: Path, read: Read, name: str, text: str, sentence: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    before = sizes(sqlite)
    with pytest.raises(UserError) as error:
        read(sqlite, [path])
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert sizes(sqlite) == before


def test_an_interrupted_import_goes_on(
    sqlite: Ledger, fresh: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mt_bench(tmp_path / "mt")
    import_mt_bench(fresh, [folder])
    for broken in ("add_models", "add_dataset", "add_responses", "add_battles", "add_verdicts", "add_grades"):

        def stop(*_: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, broken, stop)
            with pytest.raises(KeyboardInterrupt):
                import_mt_bench(sqlite, [folder])
    import_mt_bench(sqlite, [folder])
    assert content(sqlite) == content(fresh)
    assert frames.runs(sqlite)["status"].to_list() == ["done"]


def test_two_arenas_with_the_same_ids_stay_apart(sqlite: Ledger, tmp_path: Path) -> None:
    import_mt_bench(sqlite, [mt_bench(tmp_path / "mt")])
    row = {"question_id": "81", "model_a": "a-7b", "model_b": "b-7b", "winner": "model_b", "judge": "u", "turn": 1}
    import_fastchat(sqlite, [listed(tmp_path / "battles.json", row)])
    assert sizes(sqlite)["item"] == 3
    votes = frames.verdicts(sqlite, annotators=["u"])
    assert sizes(sqlite)["battle"] == 4
    assert len(votes) == 1
