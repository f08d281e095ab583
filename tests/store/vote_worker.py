"""A process of its own that votes: `vote_worker.py URL NAME VOTES [twice]`.

All workers vote on the same battles in the same order, as one member if they are given one name. Prints a ballot's key
once it is committed, and what became of it; every fifth vote is undone and cast again, every seventh is a skip.
"""

from __future__ import annotations

import random
import sys

from store_world import World

from evalkit.store import BattleRow, Ledger
from evalkit.store.ledger_app import BallotRow, People

ITEMS = 50


def main(url: str, name: str, votes: int) -> None:
    rng = random.Random(name)
    with Ledger.open(url) as ledger:
        world, people = World(ledger, ITEMS), People(ledger)
        battles = ledger.add_battles([BattleRow(item, *world.models) for item in world.items])
        member = people.ensure_member(name, name, "voter")
        for number in range(votes):
            key, winner = f"{name} {number}", rng.choice(["model_a", "model_b", "tie", "both_bad"])
            place = (None, member.annotator_id, battles[number % ITEMS], rng.choice(["ab", "ba"]))
            replicate = number // ITEMS
            row = BallotRow(key, *place, None if number % 7 == 3 else winner, replicate=replicate, seconds=1.5)  # type: ignore[arg-type]
            print(key, people.vote(row).status, flush=True)
            if number % 5 == 2:
                people.undo(key)
                again = BallotRow(f"{key} again", *place, "tie", replicate=replicate)  # type: ignore[arg-type]
                print(f"{key} again", people.vote(again).status, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
