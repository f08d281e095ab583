"""The two halves of the items: one to find slices on and to train on, one that only the gate may read.

An item is given its half once and for ever, whatever run or round asks for it, so that nothing learned in one round can
come back as evidence in a later one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from evalkit.store.ledger import Ledger
from evalkit.store.schema import DatasetItem, Item
from evalkit.store.schema_training import ItemHalf
from evalkit.store.writing import chunks, insert_new

TRAIN: Literal["train"] = "train"
HELD_OUT: Literal["held_out"] = "held_out"

Stratum = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Item:
    text: str
    hash: str
    strata: tuple[Stratum, ...]


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Returns the text of an item's messages, whoever speaks; parts of a message that are not text are left out."""
    texts = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [content]
        texts += [str(part.get("text") or "") if isinstance(part, Mapping) else str(part or "") for part in parts]
    return "\n".join(filter(None, texts))


def stored_halves(ledger: Ledger, item_ids: Collection[int]) -> dict[int, str]:
    """Returns the halves of those items that have one."""
    found: dict[int, str] = {}
    with ledger.engine.connect() as connection:
        for chunk in chunks(sorted(set(item_ids))):
            query = sa.select(ItemHalf.item_id, ItemHalf.half).where(ItemHalf.item_id.in_(chunk))
            found.update((item_id, half) for item_id, half in connection.execute(query))
    return found


def clusters(ledger: Ledger, item_ids: Collection[int]) -> dict[int, int]:
    """Returns the cluster of near-duplicates of those items that have a half."""
    found: dict[int, int] = {}
    with ledger.engine.connect() as connection:
        for chunk in chunks(sorted(set(item_ids))):
            query = sa.select(ItemHalf.item_id, ItemHalf.cluster).where(ItemHalf.item_id.in_(chunk))
            found.update((item_id, cluster) for item_id, cluster in connection.execute(query))
    return found


def held_out_items(ledger: Ledger) -> set[int]:
    """Returns every item of the held-out half."""
    with ledger.engine.connect() as connection:
        return set(connection.scalars(sa.select(ItemHalf.item_id).where(ItemHalf.half == HELD_OUT)))


def assign_halves(ledger: Ledger, item_ids: Collection[int], *, seed: int) -> dict[int, str]:
    """Gives every item a half, and stores it; an item that has one keeps it.

    Near-duplicates and paraphrases (see `near.near_duplicates`) go to one half. A new item near an old one joins its
    half; near old ones of both halves it is held out. Else a group goes to the half that its datasets and tags have
    fewer items in (minimisation, Pocock & Simon 1975, Biometrics 31:103-115); where they have as many, a coin decides
    that is tossed with the seed and the items' content.

    Args:
        item_ids: Items that need a half.
        seed: Of the coin.

    Returns:
        "train" or "held_out" for each of the items.

    Raises:
        UserError: A package of the extra `train` is missing.
    """
    wanted = sorted(set(item_ids))
    halves = stored_halves(ledger, wanted)
    new = [item_id for item_id in wanted if item_id not in halves]
    if new:
        with ledger.engine.connect() as connection:
            old = {row.item_id: row for row in connection.execute(sa.select(ItemHalf.__table__))}
            items = _read(connection, [*old, *new])
        given = _assign(items, {key: (row.half, row.cluster) for key, row in old.items()}, new, seed)
        with ledger.write() as connection:
            # Whoever was quicker has decided: what is there already stays.
            rows = [{"item_id": key, "half": half, "cluster": of, "seed": seed} for key, (half, of) in given.items()]
            insert_new(connection, ItemHalf, rows)
        halves = stored_halves(ledger, wanted)
    return halves


def _read(connection: sa.Connection, item_ids: Sequence[int]) -> dict[int, _Item]:
    names: defaultdict[int, list[Stratum]] = defaultdict(list)
    items: dict[int, _Item] = {}
    for chunk in chunks(sorted(item_ids)):
        places = sa.select(DatasetItem.item_id, DatasetItem.dataset_id).where(DatasetItem.item_id.in_(chunk))
        for item_id, dataset_id in connection.execute(places.distinct()):
            names[item_id].append(("dataset", str(dataset_id)))
        query = sa.select(Item.id, Item.messages, Item.hash, Item.tags).where(Item.id.in_(chunk))
        for item_id, messages, digest, tags in connection.execute(query):
            strata = [*names[item_id], *((str(tag), repr(value)) for tag, value in (tags or {}).items())]
            items[item_id] = _Item(prompt_text(messages), digest, tuple(strata))
    return items


def _assign(
    items: Mapping[int, _Item], old: Mapping[int, tuple[str, int]], new: Sequence[int], seed: int
) -> dict[int, tuple[str, int]]:
    """Half and cluster of each new item."""
    from evalkit.slices.near import near_duplicates

    order = [*sorted(old), *sorted(new)]
    labels = near_duplicates([items[key].text for key in order])
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for key, label in zip(order, labels.tolist(), strict=True):
        groups[label].append(key)
    surplus: Counter[Stratum] = Counter()  # items of the training half less those held out
    for key, (half, _) in old.items():
        for stratum in items[key].strata:
            surplus[stratum] += 1 if half == TRAIN else -1

    def coin(group: Sequence[int]) -> bytes:
        known = min(items[key].hash for key in group)
        return hashlib.sha256(f"{seed} {known}".encode()).digest()

    given: dict[int, tuple[str, int]] = {}
    # Large groups first: small ones then even out what these left uneven.
    for group in sorted(groups.values(), key=lambda g: (-len(g), coin(g))):
        fresh = [key for key in group if key not in old]
        if not fresh:
            continue
        known = sorted(old[key] for key in group if key in old)  # held_out stands before train
        if known:
            half, cluster = known[0]
        else:
            strata = Counter(stratum for key in fresh for stratum in items[key].strata)
            too_many = sum(n * surplus[stratum] for stratum, n in strata.items())
            heads = coin(group)[-1] % 2 == 0
            half = HELD_OUT if too_many > 0 or (too_many == 0 and heads) else TRAIN
            cluster = min(fresh)
        for key in fresh:
            given[key] = (half, cluster)
            for stratum in items[key].strata:
                surplus[stratum] += 1 if half == TRAIN else -1
    return given
