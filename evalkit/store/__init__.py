"""The ledger: tables, writes, reads and file formats."""

from evalkit.store.ledger import Ledger
from evalkit.store.rows import (
    WINNERS,
    AnnotatorKind,
    BattleRow,
    GradeRow,
    Item,
    ResponseRow,
    ScoreRow,
    StoredResponse,
    VerdictRow,
    Winner,
)

__all__ = [
    "WINNERS",
    "AnnotatorKind",
    "BattleRow",
    "GradeRow",
    "Item",
    "Ledger",
    "ResponseRow",
    "ScoreRow",
    "StoredResponse",
    "VerdictRow",
    "Winner",
]
