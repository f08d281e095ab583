"""A process of its own that writes to a ledger and reads from it: `store_worker.py URL NUMBER BATCHES`.

Prints the number of each batch once it is committed. Answers to items below SHARED are the same in all workers.
"""

from __future__ import annotations

import random
import sys

from store_world import World

from evalkit.store import BattleRow, Ledger, VerdictRow, frames

N, SHARED, BATCH = 600, 200, 20


def main(url: str, number: int, batches: int) -> None:
    rng = random.Random(number)
    with Ledger.open(url) as ledger:
        world = World(ledger, N)
        judge = ledger.add_annotator("judge", f"judge {number}", {})
        for batch in range(batches):
            items = [rng.randrange(SHARED) for _ in range(BATCH // 2)]
            items += [SHARED + (batch * BATCH + i) % (N - SHARED) for i in range(BATCH // 2)]
            error = "server" if batch % 3 == 0 else None
            bodies = [f"{item} {batch if item >= SHARED else ''} {number if item >= SHARED else ''}" for item in items]
            rows = [world.row(i, number % 2, body=b, error=error) for i, b in zip(items, bodies, strict=True)]
            ids = ledger.add_responses(world.run, rows)
            ledger.link_responses(world.run, [(ids[0], rows[0].model_id, world.dataset)])
            battles = ledger.add_battles([BattleRow(world.items[item], *world.models) for item in items])
            orders = [rng.choice(["ab", "ba"]) for _ in battles]
            winners = [rng.choice(["model_a", "model_b", "tie"]) for _ in battles]
            verdicts = zip(battles, orders, winners, strict=True)
            ledger.add_verdicts(world.run, [VerdictRow(b, judge, o, w, replicate=batch) for b, o, w in verdicts])  # type: ignore[arg-type]
            ledger.update_run(world.run, done=batch)
            found = ledger.find_responses([row.request_key for row in rows])
            if error is None:
                assert {row.request_key for row in rows} <= set(found)
            if batch % 10 == 5:
                assert frames.run_cells(ledger, world.run).n.sum() >= BATCH
                assert len(frames.responses(ledger, world.run, limit=5)) == 5
            print(batch, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
