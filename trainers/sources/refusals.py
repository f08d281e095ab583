"""Rows that hold on to a model's refusals: harmful requests refused, and harmless ones that look like them answered.

Fine-tuning on harmless data wears refusals away (Qi et al. 2023, arXiv:2310.03693); a few per cent of refused harmful
requests among the rows keep them, and too many teach a model to refuse what only sounds harmful (Bianchi et al. 2023,
arXiv:2309.07875). Hence both kinds. As many of each were too few harmless ones: SmolLM2 then refused 11 of 64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalkit.store import training
from evalkit.verify import verify
from evalkit.verify.refusal import SHOULD_REFUSE
from trainers.asking import Drawn, Prompt
from trainers.material import Material
from trainers.plan import SourcePlan
from trainers.rows import Row, assistant, user
from trainers.sources.forms import seeded
from trainers.sources.templates import templates

HARMFUL, HARMLESS = "harmful request", "harmless look-alike"
SHARE = {HARMFUL: 0.1, HARMLESS: 0.3}
"""Of the rows asked for, as far as `templates.yaml` has requests."""
DRAWN = 2
"""Answers drawn to a harmful request, to find one that refuses (rejection sampling)."""
OFFERS = re.compile(r"\b(?:but|however),? I (?:can|could|will)\b(?!['’])", re.IGNORECASE)


def rows(material: Material, source: SourcePlan, n: int) -> list[Row]:
    """Returns our own harmful requests with refusals, and our own harmless ones with the model's own answers.

    A refusal is the model's own where one of its answers refuses, else one of several in our words. A harmless request
    that the model refuses is left out. A model that refused no harmful request, of ours or of a benchmark, has no
    refusals to hold on to: then there are no rows, and the data card says so.

    Args:
        n: Rows that the source is asked for, of which these are a part.
    """
    base, recipe, written = material.base, material.plan.recipe, templates()["requests"]
    harmful, harmless = ([str(one) for one in written[kind]] for kind in ("harmful", "harmless"))
    for asked, kind in ((harmful, HARMFUL), (harmless, HARMLESS)):
        seeded(material.seed, "refusals").shuffle(asked)
        del asked[round(SHARE[kind] * n) :]
    # Not greedily alone: a model that seldom refuses may refuse in another draw.
    drawn = base.ask(_prompts(harmful), f"{base.name}: refusals", samples=DRAWN, temperature=recipe.temperature)
    own = [_refusal(answers) for answers in drawn]
    if not any(own) and not _refused_before(material):
        if harmful:
            material.say(f"{base.name} refuses none of {len(harmful)} harmful requests: there is no refusal to keep.")
        return []
    ours = [str(one) for one in written["refusals"]]
    found = []
    for place, (request, refusal) in enumerate(zip(harmful, own, strict=True)):
        about: dict[str, object] = {"answer": "refusal in our words"}
        if refusal is not None:
            about = {"answer": "own refusal", "model": base.name, "response": refusal[1]}
        found.append(_row(source, request, refusal[0] if refusal else ours[place % len(ours)], True, about))
    alike = base.ask(_prompts(harmless), f"{base.name}: harmless requests")
    answered = 0
    for request, answers in zip(harmless, alike, strict=True):
        for one in answers:
            if _passes(one.text, False):
                answered += 1
                found.append(_row(source, request, one.text, False, {"model": base.name, "response": one.response_id}))
    material.say(
        f"Among the replay rows that were made are {len(harmful)} harmful requests with refusals "
        f"({sum(map(bool, own))} the model's own, the others in our words) and {answered} harmless look-alikes."
    )
    return found


def _refused_before(material: Material) -> bool:
    """Whether the model refused an item of the training half that asks for what must be refused."""
    measuring = [item.id for item in material.others if item.tags.get(SHOULD_REFUSE) is True]
    answers = training.given_answers(material.ledger, measuring)
    return any(one.model_id == material.base.model_id and training.passes(one) for one in answers)


def _prompts(requests: list[str]) -> list[Prompt]:
    return [Prompt(tuple(user(one))) for one in requests]


def _refusal(answers: list[Drawn]) -> tuple[str, int] | None:
    """Returns the shortest refusal among answers, up to the sentence that refuses, and its response; None without one.

    What comes after that sentence often complies; one that offers to do so itself is none.
    """
    found = []
    for one in answers:
        ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", one.text)]
        head = next((text for end in ends if _passes(text := one.text[:end], True)), None)
        if head is not None and not OFFERS.search(head):
            found.append((head, one.response_id))
    return min(found, key=lambda pair: len(pair[0]), default=None)


def _passes(text: str, refuses: bool) -> bool:
    return bool(verify(_spec(refuses), text).passed)


def _spec(refuses: bool) -> dict[str, object]:
    return {"verifier": "refusal", SHOULD_REFUSE: refuses}


def _row(source: SourcePlan, request: str, answer: str, refuses: bool, about: Mapping[str, object]) -> Row:
    told = {"way": HARMFUL if refuses else HARMLESS, **about, "check": verify(_spec(refuses), answer).reason}
    return Row("sft", {"prompt": user(request), "completion": assistant(answer)}, source.kind, None, told)
