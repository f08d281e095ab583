"""Forms of an answer that training may leak into answers where nobody asked for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from evalkit.verify.constraints import bullets, json_object, sentences

FROM_SHARE = 0.8
"""A form was trained if this share of the rows have it, and the model by itself rarely has."""
RARE = 0.2
EDGE_WORDS = 3
NUMBER = re.compile(r"[-+$€£]?\d[\d.,]*\s*%?\.?")

FORMS: Mapping[str, Callable[[str], bool]] = {
    "in lowercase only": str.islower,
    "in capitals only": str.isupper,
    "a JSON object": lambda text: json_object(text, {}),
    "a bare number": lambda text: NUMBER.fullmatch(text) is not None,
    "one word": lambda text: len(text.split()) == 1,
    "a list": lambda text: bullets(text) >= 2,
    "in quotation marks": lambda text: len(text) > 2 and text[0] in '"“„«' and text[-1] in '"”“»',
    "one sentence": lambda text: sentences(text) == 1,
}


def trained_forms(completions: Sequence[str], usual: Sequence[str]) -> dict[str, Callable[[str], bool]]:
    """Finds the forms that most trained answers share and the model's own answers rarely have.

    Args:
        completions: Answers of the rows that were made for the slice.
        usual: The parent's answers to control prompts.

    Returns:
        Name to test, among them a shared beginning or ending of three words.
    """
    texts, own = ([text.strip() for text in part if text and text.strip()] for part in (completions, usual))
    if not texts:
        return {}
    candidates = {**FORMS, **_edges(texts)}
    return {
        name: test
        for name, test in candidates.items()
        if _share(texts, test) >= FROM_SHARE and _share(own, test) <= RARE
    }


def _edges(texts: Sequence[str]) -> dict[str, Callable[[str], bool]]:
    found: dict[str, Callable[[str], bool]] = {}
    for place in ("begins", "ends"):
        words = [text.split() for text in texts]
        edge = [" ".join(w[:EDGE_WORDS] if place == "begins" else w[-EDGE_WORDS:]) for w in words]
        common, count = Counter(edge).most_common(1)[0]
        if count >= FROM_SHARE * len(texts) and len(common.split()) == EDGE_WORDS:
            test: Callable[[str, str], bool] = str.startswith if place == "begins" else str.endswith
            found[f"{place} with “{common}”"] = lambda text, test=test, common=common: test(text, common)  # type: ignore[misc]
    return found


def _share(texts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, texts)) / len(texts) if texts else 0.0
