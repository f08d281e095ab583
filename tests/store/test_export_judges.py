"""What judges answered stays out of an export of responses."""

from pathlib import Path

from evalkit.models.base import ModelSettings, Reply, request_key
from evalkit.store import BattleRow, Item, Ledger, ResponseRow, VerdictRow
from evalkit.store.formats.generic import export_responses, import_responses


def test_an_export_holds_the_contestants_answers_and_can_be_read_again(tmp_path: Path) -> None:
    with Ledger.open(str(tmp_path / "one.db")) as ledger:
        a, b, judge = ledger.add_models([ModelSettings("recorded", n, label=n) for n in ("a", "b", "judge")])
        item = Item(({"role": "user", "content": "Say something."},))
        dataset, (item_id,) = ledger.add_dataset("set", [item])
        run = ledger.start_run("r", {}, seed=0, environment={})
        rows = [
            ResponseRow(model, item_id, dataset, request_key(body), body, Reply(body))
            for model, body in ((a, "one"), (b, "two"), (judge, "A"), (judge, "B"))
        ]
        of_a, of_b, first, second = ledger.add_responses(run, rows)
        (battle,) = ledger.add_battles([BattleRow(item_id, a, b, of_a, of_b)])
        annotator = ledger.add_annotator("judge", "j", {"kind": "llm"})
        verdicts = [
            VerdictRow(battle, annotator, "ab", "model_a", response_id=first),
            VerdictRow(battle, annotator, "ba", "model_b", response_id=second),
        ]
        ledger.add_verdicts(run, verdicts)
        assert export_responses(ledger, tmp_path / "r.csv") == 2
    with Ledger.open(str(tmp_path / "two.db")) as other:
        assert import_responses(other, tmp_path / "r.csv") == 2
