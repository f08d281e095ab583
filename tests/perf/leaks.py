"""Prints how many planted leaks decontamination finds, and how many clean rows it throws away.

Run: PYTHONPATH=.:tests/trainers python tests/perf/leaks.py [--show] [--tfidf] [COSINE]
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import leak_world

from evalkit.slices import embed as embedding
from evalkit.store.training import TrainItem
from evalkit.verify.spec import spec_of
from trainers.decontaminate import find_leaks
from trainers.plan import DecontaminationPlan
from trainers.rows import Row, assistant, user
from trainers.sources import forms
from trainers.sources.templates import Values, tasks, templates
from trainers.sources.values import from_item


def made(every: list[leak_world.EvalItem]) -> list[Row]:
    """What recipes make without a model: new values in the training half, templates, tasks, general requests."""
    half = {item.text: item for item in every}
    like = []
    for task in ("structure", "sums"):
        for item in leak_world.recipe_world.starter(task):
            text = str(item.messages[0]["content"])
            if half[text].half == "train":
                like.append(TrainItem(half[text].id, 1, item.messages, spec_of(item.reference), item.tags))
    values = Values(forms.seeded(0, "perf"))
    found = [from_item(i.id, str(i.messages[0]["content"]), i.verify or {}, values) for i in like for _ in range(4)]
    found += forms.made_like(like, 200, values)
    texts = [one.prompt for one in found if one is not None]
    texts += [f"{task.text} {w}" for task in tasks() for w in templates()["instructions"]["lowercase"][:2]]
    texts += [task.text for task in tasks()] + list(templates()["general"])
    return [Row("sft", {"prompt": user(t), "completion": assistant("Yes.")}, "made") for t in dict.fromkeys(texts)]


def main() -> None:
    """Prints the table."""
    if "--tfidf" in sys.argv:
        embedding.find_spec = lambda name: None  # type: ignore[assignment]
    every = leak_world.items()
    held = sum(item.half == "held_out" for item in every)
    print(f"{len(every)} eval items, {held} held out; embedder: {embedding.embedder_name()}")
    print(f"{'rows':48} {'n':>5} {'flagged':>8} {'rate':>7}  by rule")
    given = [float(one) for one in sys.argv[1:] if one[0].isdigit()]
    settings = DecontaminationPlan(**({"similarity": given[0]} if given else {}))
    print(f"cosine from {settings.similarity:g}")
    for planted in [*leak_world.planted(every), *leak_world.clean(every, lambda: made(every))]:
        start = time.process_time()
        leaks = find_leaks(planted.rows, every, settings)
        rules = ", ".join(f"{rule} {n}" for rule, n in Counter(leak.rule for leak in leaks).most_common())
        name = ("leak: " if planted.leak else "clean: ") + planted.kind
        rate = len(leaks) / max(1, len(planted.rows))
        spent = time.process_time() - start
        print(f"{name:48} {len(planted.rows):5} {len(leaks):8} {rate:7.1%}  {rules} ({spent:.1f} CPU s)", flush=True)
        wrong = [n for n in range(len(planted.rows)) if (n in {leak.row for leak in leaks}) != planted.leak]
        if "--show" in sys.argv:
            for n in wrong[:6]:
                about = next((leak for leak in leaks if leak.row == n), None)
                item = next((i.text for i in every if about and i.id == about.item_id), "")
                print("     ", str(planted.rows[n].content["prompt"][0]["content"])[:140], "|", about, "|", item[:140])


if __name__ == "__main__":
    main()
