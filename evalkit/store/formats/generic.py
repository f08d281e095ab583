"""Our own file formats: votes, grades, scores and responses as CSV, JSONL or Parquet, chosen by extension.

A file is checked as a whole before anything is written, and importing it twice adds nothing the second time. Names in
files are those on the boards: a model, annotator or item that the ledger has under that name is that one, any other
is made (a model with provider "recorded"). An item goes by the name it had in an imported file, else by its hash.
"""

from evalkit.store.formats.grades import export_grades, import_grades, ledger_grades, read_grades
from evalkit.store.formats.responses import export_responses, import_responses, ledger_lengths, read_responses
from evalkit.store.formats.scores import export_scores, import_scores, read_board, read_scores
from evalkit.store.formats.votes import export_votes, import_votes, ledger_votes, read_votes

__all__ = [
    "export_grades",
    "export_responses",
    "export_scores",
    "export_votes",
    "import_grades",
    "import_responses",
    "import_scores",
    "import_votes",
    "ledger_grades",
    "ledger_lengths",
    "ledger_votes",
    "read_board",
    "read_grades",
    "read_responses",
    "read_scores",
    "read_votes",
]
