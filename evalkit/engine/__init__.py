"""The engine: drives requests under limits, caches and stores them in the ledger."""

from evalkit.engine.drive import asks_by_batch
from evalkit.engine.engine import Engine
from evalkit.engine.progress import Progress, RichProgress
from evalkit.engine.types import Budget, Job, NotSent, Outcome

__all__ = ["Budget", "Engine", "Job", "NotSent", "Outcome", "Progress", "RichProgress", "asks_by_batch"]
