"""A folder with plans that judge, a ledger, and a `JudgeServer`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from judge_server import JudgeServer

from evalkit.store import Ledger


class JudgeWorld:
    """What tests of judging begin with."""

    def __init__(self, folder: Path, url: str, server: JudgeServer) -> None:
        self.folder, self.url, self.server = folder, url, server
        self.store = str(folder / "e.db")

    def model(self, name: str, **more: Any) -> dict[str, Any]:
        return {"model": f"openai/{name}", "name": name, "base_url": self.url, **more}

    def rows(self, query: str) -> list[Any]:
        with Ledger.open(self.store) as ledger, ledger.engine.connect() as connection:
            return [row[0] if len(row) == 1 else tuple(row) for row in connection.exec_driver_sql(query)]

    def verdicts(self, judge: str) -> Counter[Any]:
        """Returns how often a judge or jury said what: by model, for the models' order is the ledger's."""
        return Counter(
            self.rows(
                "SELECT v.criterion, CASE v.winner WHEN 'model_a' THEN a.label WHEN 'model_b' THEN b.label "
                "ELSE v.winner END FROM verdict v JOIN battle t ON t.id = v.battle_id JOIN annotator j ON "
                "j.id = v.annotator_id JOIN model a ON a.id = t.model_a_id JOIN model b ON b.id = t.model_b_id "
                f"WHERE j.name = '{judge}'"
            )
        )
