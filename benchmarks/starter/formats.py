"""Answers in an asked form: all lowercase, a JSON object with one key, a fixed ending. And sums of two-digit numbers.

For whom: who wants slices that are large enough to be retrained on and measured. How made: questions from templates
written for this project, each with one of the forms asked in one of several wordings; the sums are drawn from a seed.
"""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.starter.items import item

TEST, DEV = 48, 26
QUESTIONS: dict[str, tuple[str, str]] = {
    "What does a {} do?": (
        "baker carpenter nurse pilot plumber tailor teacher welder gardener librarian dentist farmer firefighter judge "
        "lawyer mechanic painter photographer porter postman sailor shepherd singer surgeon translator vet waiter "
        "watchmaker architect astronomer beekeeper blacksmith bookbinder butcher chemist conductor cook cobbler",
        "works with care",
    ),
    "What is a {} used for?": (
        "hammer ladder needle kettle compass rope bucket brush whistle candle mirror pillow umbrella wallet basket "
        "broom calendar drawer envelope fork helmet key lantern magnet net oven paddle ruler saw spoon telescope "
        "thermometer towel vase wheel zip anchor bell",
        "helps with a task",
    ),
    "Where does a {} live?": (
        "beaver camel cod crab crow dolphin donkey eagle falcon fox frog goat goose heron hyena kangaroo koala leopard "
        "lizard mole moose octopus otter owl panda parrot penguin pigeon rabbit raccoon salmon seal shark sloth "
        "squirrel swan tiger turtle",
        "lives where it finds food",
    ),
    "What does {} taste like?": (
        "apricot basil butter cabbage caramel celery cheese cinnamon cocoa coconut coffee cucumber fennel garlic "
        "ginger grapefruit hazelnut honey leek lentils liquorice mango melon mint mustard nutmeg olives onion "
        "paprika parsley peanut pepper pumpkin radish rhubarb rice spinach vanilla",
        "has a taste of its own",
    ),
    "Why do people {}?": (
        "dance travel whistle laugh yawn paint read garden fish knit hike argue celebrate collect cook cycle dream "
        "exercise gossip juggle meditate nap negotiate paddle pray recycle run save sculpt sew skate sleep study "
        "swim vote wander whisper write",
        "like it",
    ),
    "How is {} made?": (
        "bread glass ink jam leather paper plaster porcelain rope rubber salt sauerkraut silk soap steel sugar tofu "
        "varnish vinegar wax wine wool yoghurt cement charcoal chocolate cider concrete copper cotton felt flour ice "
        "linen mead oil pasta perfume",
        "takes time",
    ),
}
FORMS: dict[str, tuple[str, ...]] = {
    "lowercase": (
        "Answer in one sentence, in all lowercase letters.",
        "Use lowercase letters only, and one sentence.",
        "Give one sentence without any capital letter.",
    ),
    "json": (
        'Answer with a JSON object that has the one key "answer" and nothing else.',
        'Reply only with JSON: an object whose key "answer" holds one sentence.',
        'Put one sentence into a JSON object under the key "answer". Write nothing around it.',
    ),
    "ending": (
        'Answer in one sentence, then end with the words "Hope this helps!"',
        'One sentence, please. The last words of your reply must be "Hope this helps!"',
        'Close your one-sentence answer with exactly this: "Hope this helps!"',
    ),
}


def build(seed: int) -> list[dict[str, Any]]:
    """Return `TEST` and `DEV` items of each form; no two ask the same question."""
    rng = random.Random(seed)
    asked = [(frame, word, said) for frame, (words, said) in QUESTIONS.items() for word in words.split()]
    rng.shuffle(asked)
    items = []
    for place, (frame, word, said) in enumerate(asked[: len(FORMS) * (TEST + DEV)]):
        form = list(FORMS)[place % len(FORMS)]
        wording = FORMS[form][place // len(FORMS) % len(FORMS[form])]
        answer, spec = _answer(form, f"A good answer is that it {said}.")
        split = "test" if place < len(FORMS) * TEST else "dev"
        items.append(
            item(f"{frame.format(word)} {wording}", answer, {"verifier": "constraints", "constraints": [spec]},
                 topic=form, difficulty="easy", form="json" if form == "json" else "free", split=split)
        )  # fmt: skip
        items[-1]["tags"]["constraints"] = 1
    return items


def _answer(form: str, sentence: str) -> tuple[str, dict[str, Any]]:
    if form == "lowercase":
        return sentence.lower(), {"kind": "lowercase"}
    if form == "json":
        return json.dumps({"answer": sentence}), {"kind": "json_object", "keys": ["answer"]}
    return f"{sentence} Hope this helps!", {"kind": "ends_with", "phrase": "Hope this helps!"}


def build_sums(seed: int) -> list[dict[str, Any]]:
    """Return sums of two two-digit numbers, no pair twice in either order."""
    rng = random.Random(seed)
    pairs = [(a, b) for a in range(11, 100) for b in range(a, 100)]
    items = []
    for place, (a, b) in enumerate(rng.sample(pairs, 64 + 36)):
        a, b = rng.sample((a, b), 2)
        spec = {"verifier": "numeric", "answer": str(a + b)}
        items.append(
            item(f"What is {a} + {b}? Answer with the number only.", str(a + b), spec, topic="addition",
                 difficulty="easy", form="number", split="test" if place < 64 else "dev")
        )  # fmt: skip
    return items
