"""How a run ends in the ledger: done, or failed or stopped with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evalkit.errors import UserError
from evalkit.store import arena
from evalkit.store.ledger import Ledger


@contextmanager
def marked(ledger: Ledger, run_id: int) -> Iterator[None]:
    """Marks a run as stopped or failed if it does not come to the end of the block."""
    try:
        yield
    except KeyboardInterrupt:
        ledger.finish_run(run_id, "stopped", "stopped by Ctrl-C; the same command goes on from here")
        raise
    except BaseException as error:
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        ledger.finish_run(run_id, "failed", said)
        raise


def end_run(ledger: Ledger, run_id: int, not_sent: int, *, complete: bool = True) -> int:
    """Marks a run that came to its end: as failed if requests failed or were not sent.

    Args:
        ledger: Holds the run.
        run_id: The run.
        not_sent: Requests that the dollar budget kept back.
        complete: False where only a part of it was asked for.

    Returns:
        How many requests failed.
    """
    errors = arena.count_errors(ledger, run_id)
    said = [f"{errors} requests failed; the same command tries them again"] if errors else []
    said += [f"{not_sent} requests were not sent: the dollar budget is used up"] if not_sent else []
    if said:
        ledger.finish_run(run_id, "failed", "; ".join(said))
    elif complete:
        ledger.finish_run(run_id, "done")
    else:
        ledger.finish_run(run_id, "stopped", "only some stages were asked for")
    return errors
