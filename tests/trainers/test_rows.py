"""Rows of one prompt are trained on or validated on, never both."""

from __future__ import annotations

import random

from trainers.rows import Row, assistant, prompt_of, split_rows, user

THINGS = ("rivers", "bread", "owls", "chess", "iron", "silk", "maps", "tea", "snow", "honey", "kites", "salt", "wool",
          "glass", "bees", "rain", "drums", "foxes", "ships", "ink")  # fmt: skip


def pair(prompt: str, n: int, source: str = "preferences") -> Row:
    content = {"prompt": user(prompt), "chosen": assistant(f"Good {n}."), "rejected": assistant(f"Bad {n}.")}
    return Row("preference", content, source)


def test_rows_of_a_prompt_stay_together_whatever_source_they_come_from() -> None:
    rows = [pair(f"Tell me about {thing}.", n) for thing in THINGS for n in range(4)]
    rows += [pair(f"Tell me about {thing}.", 9, "outcomes") for thing in THINGS]
    training, validation = split_rows(rows, 0.1)
    assert not {prompt_of(row) for row in training} & {prompt_of(row) for row in validation}
    assert (len(training), len(validation)) == (90, 10)
    assert sum(row.source == "outcomes" for row in validation) == 2


def test_prompts_of_nearly_the_same_words_stay_together() -> None:
    long = (
        "Write down for a visitor from abroad how the old mill by the river came to matter in this town",
        "My grandmother wants to grow tomatoes on her balcony this summer, so tell her when to begin",
        "Which three questions should a young teacher put to her class on the first morning of school",
    )
    rows = [pair(f"{text}{end}", n) for text in long for n, end in enumerate((".", ", please.", "!"))]
    rows += [pair(f"How much is {n} plus 5?", 0) for n in range(24)]
    for seed in range(20):  # another choice of rows is another order of the groups
        training, validation = split_rows(random.Random(seed).sample(rows, 30), 0.3)
        assert 8 <= len(validation) <= 10  # whole groups
        for text in long:
            assert not all(any(prompt_of(row).startswith(text) for row in part) for part in (training, validation))
    # Another number is another question, however alike the words are.
    assert any(prompt_of(row).startswith("How much") for row in training)
    assert any(prompt_of(row).startswith("How much") for row in validation)


def test_the_rows_alone_decide_and_their_order_stays() -> None:
    rows = [pair(f"Tell me about {thing}.", n) for thing in THINGS for n in range(2)]
    mixed = random.Random(1).sample(rows, len(rows))
    training, validation = split_rows(rows, 0.2)
    again = split_rows(mixed, 0.2)
    assert {row.hash for row in validation} == {row.hash for row in again[1]} and len(validation) == 8
    assert training == [row for row in rows if row in training]
    assert again[0] == [row for row in mixed if row in training]


def test_where_groups_are_too_large_the_smallest_is_taken_unless_little_would_be_left() -> None:
    rows = [pair(f"Tell me about {thing}.", n) for place, thing in enumerate(THINGS[:5]) for n in range(16 + place)]
    _, validation = split_rows(rows, 0.05)
    assert {prompt_of(row) for row in validation} == {f"Tell me about {THINGS[0]}."}
    assert split_rows([pair(f"Tell me about {thing}.", n) for thing in THINGS[:2] for n in range(9)], 0.1)[1] == []
    assert split_rows(rows, 0.0) == (rows, [])
