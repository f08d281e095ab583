"""Simple reasoning: orderings, weekdays, months, comparisons, sequences (drawn from a seed); syllogisms, odd ones out
and small puzzles (written by hand).

For whom: a check of whether a model draws a conclusion that the prompt holds, with no knowledge to recall. How made:
templates and puzzles written for this project; each family of templates is in one split.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from benchmarks.starter.items import item

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Greta", "Henry", "Ines", "Jonas"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
MONTHS += ["November", "December"]
LEVELS = ("easy", "medium", "hard")
# comparative, superlative, opposite superlative, split
ORDERS = [
    ("taller", "tallest", "shortest", "dev"),
    ("older", "oldest", "youngest", "dev"),
    ("faster", "fastest", "slowest", "test"),
    ("heavier", "heaviest", "lightest", "test"),
]
MORE_ORDERS = [
    ("richer", "richest", "poorest", "test"),
    ("louder", "loudest", "quietest", "test"),
    ("stronger", "strongest", "weakest", "test"),
]
# premises, conclusion, whether it must be true, difficulty, split
SYLLOGISMS = [
    ("All dogs are animals. Rex is a dog.", "Rex is an animal", True, "easy", "dev"),
    ("No fish can fly. Nemo is a fish.", "Nemo can fly", False, "easy", "dev"),
    ("All roses are flowers. This plant is a flower.", "this plant is a rose", False, "medium", "dev"),
    ("All bakers get up early. Some bakers sing.", "some people who get up early sing", True, "medium", "dev"),
    ("If it rains, the street gets wet. The street is wet.", "it rained", False, "medium", "dev"),
    ("No robots sleep. All dreamers sleep.", "some robots are dreamers", False, "hard", "dev"),
    ("All tulips are flowers. Some flowers fade quickly.", "some tulips fade quickly", False, "hard", "dev"),
    ("All birds have wings. A robin is a bird.", "a robin has wings", True, "easy", "test"),
    ("No square is a circle. This shape is a square.", "this shape is a circle", False, "easy", "test"),
    ("All doctors can read. Lena can read.", "Lena is a doctor", False, "medium", "test"),
    ("If the lamp is on, the switch is up. The switch is not up.", "the lamp is off", True, "medium", "test"),
    ("Some pupils play chess. All chess players are patient.", "some pupils are patient", True, "medium", "test"),
    ("No miser is generous. Some rich people are generous.", "some rich people are not misers", True, "hard", "test"),
    ("Only members may vote. Karl is a member.", "Karl voted", False, "hard", "test"),
]
MORE_SYLLOGISMS = [
    ("All whales are mammals. Moby is a whale.", "Moby is a mammal", True, "easy", "test"),
    ("No stone can swim. This thing is a stone.", "this thing can swim", False, "easy", "test"),
    ("All pilots can see well. Nora cannot see well.", "Nora is not a pilot", True, "medium", "test"),
    ("If the shop is open, its sign is lit. The sign is lit.", "the shop is open", False, "medium", "test"),
    ("Some cakes are sweet. All sweet things draw ants.", "some cakes draw ants", True, "medium", "test"),
    ("Every key opens some door. This door is open.", "a key was used", False, "medium", "test"),
    ("No poet is bored. Some teachers are bored.", "some teachers are not poets", True, "hard", "test"),
    ("Only adults may drive. Mia is an adult.", "Mia drives", False, "hard", "test"),
]
# words, the odd one, difficulty, split
ODD_ONES = [
    (["apple", "pear", "hammer", "plum"], "hammer", "easy", "dev"),
    (["lion", "tiger", "wolf", "table"], "table", "easy", "test"),
    (["violin", "cello", "trumpet", "guitar"], "trumpet", "medium", "dev"),
    (["eagle", "sparrow", "bat", "owl"], "bat", "medium", "test"),
    (["9", "16", "25", "27"], "27", "hard", "dev"),
    (["11", "13", "15", "17"], "15", "hard", "test"),
]
MORE_ODD_ONES = [
    (["chair", "river", "sofa", "stool"], "river", "easy", "test"),
    (["red", "green", "blue", "loud"], "loud", "easy", "test"),
    (["March", "June", "Monday", "August"], "Monday", "medium", "test"),
    (["novel", "piano", "drum", "flute"], "novel", "easy", "test"),
    (["ice", "snow", "hail", "steam"], "steam", "medium", "test"),
    (["8", "12", "21", "16"], "21", "hard", "test"),
]
# question, accepted answers, options (empty: none), difficulty, split
PUZZLES: list[tuple[str, list[str], list[str], str, str]] = [
    ("A farmer has 12 sheep. All but 5 run away. How many sheep are left?", ["5"], [], "medium", "dev"),
    ("A rope is cut in 4 places. How many pieces are there?", ["5"], [], "medium", "dev"),
    (
        "Peter's mother has three children: April, May and ... What is the third child's name?",
        ["Peter"],
        ["Peter", "June"],
        "medium",
        "dev",
    ),
    (
        "Lamps A, B and C stand in a row. B is not at an end. C is on the left end. Which lamp is on the right end?",
        ["A"],
        [],
        "medium",
        "dev",
    ),
    (
        "A clock strikes once at one o'clock, twice at two o'clock, and so on. How often does it "
        "strike in all from one to four o'clock?",
        ["10"],
        [],
        "hard",
        "dev",
    ),
    (
        "One of two sisters always lies and the other always tells the truth. Ada says: We are both "
        "liars. Which of them lies, Ada or Bea?",
        ["Ada"],
        ["Ada", "Bea"],
        "hard",
        "dev",
    ),
    (
        "A bottle and its cork cost 22 cents together. The bottle costs 20 cents more than the cork. "
        "How many cents does the cork cost?",
        ["1"],
        [],
        "hard",
        "dev",
    ),
    (
        "You overtake the runner in second place. In which place are you now?",
        ["second", "2nd"],
        ["first", "second", "third"],
        "medium",
        "test",
    ),
    (
        "A house faces north. You leave by its front door and turn right. In which direction do you face?",
        ["east"],
        ["north", "east", "south", "west"],
        "medium",
        "test",
    ),
    ("Yesterday was the day before Friday. What day is today?", ["Friday"], DAYS, "medium", "test"),
    (
        "The cup is left of the plate. The plate is left of the fork. Which of the three is in the middle?",
        ["plate"],
        ["cup", "plate", "fork"],
        "easy",
        "test",
    ),
    (
        "A candle burns 1 cm in 6 minutes. How many minutes does it take to burn from 9 cm to 4 cm?",
        ["30"],
        [],
        "hard",
        "test",
    ),
    (
        "There are only red and blue socks in a dark drawer. How many must you take out, without "
        "looking, to be sure of a pair of one colour?",
        ["3"],
        [],
        "hard",
        "test",
    ),
    (
        "A snail climbs 3 metres up a wall each day and slides 2 metres down each night. On which "
        "day does it reach the top of a wall of 6 metres?",
        ["4"],
        [],
        "hard",
        "test",
    ),
]
MORE_PUZZLES: list[tuple[str, list[str], list[str], str, str]] = [
    ("Three cats sit on a wall. Two jump down. How many are still on the wall?", ["1"], [], "easy", "test"),
    ("Lisa is the last in a queue of six people. How many people stand before her?", ["5"], [], "medium", "test"),
    (
        "The red box is inside the blue box. The blue box is inside the green box. Which colour has the box that holds "
        "the other two?",
        ["green"],
        ["red", "blue", "green"],
        "easy",
        "test",
    ),
    ("Tomorrow is Sunday. What day was yesterday?", ["Friday"], DAYS, "medium", "test"),
    ("A train has 8 wagons. Every second wagon is empty. How many wagons are empty?", ["4"], [], "medium", "test"),
    (
        "You face south and turn around to look the opposite way. In which direction do you look?",
        ["north"],
        ["north", "east", "south", "west"],
        "easy",
        "test",
    ),
]
COMPARISONS = [
    ("Which number is larger", "45", "54", "54", "easy", "dev"),
    ("Which number is larger", "9.11", "9.9", "9.9", "medium", "dev"),
    ("Which number is larger", "-8", "-3", "-3", "medium", "dev"),
    ("Which fraction is larger", "3/7", "4/9", "4/9", "hard", "dev"),
    ("Which is longer", "3 metres", "3 kilometres", "3 kilometres", "easy", "test"),
    ("Which is heavier", "2 kilograms", "1900 grams", "2 kilograms", "medium", "test"),
    ("Which takes longer", "100 minutes", "2 hours", "2 hours", "medium", "test"),
    ("Which is faster", "20 metres per second", "70 kilometres per hour", "20 metres per second", "hard", "test"),
]
MORE_COMPARISONS = [
    ("Which is shorter", "90 centimetres", "1 metre", "90 centimetres", "medium", "test"),
    ("Which takes longer", "3 days", "50 hours", "3 days", "medium", "test"),
    ("Which is warmer", "5 degrees", "-10 degrees", "5 degrees", "easy", "test"),
    ("Which costs more", "2 dollars", "150 cents", "2 dollars", "medium", "test"),
    ("Which comes first in the year", "May", "April", "April", "easy", "test"),
    ("Which is more", "a dozen eggs", "ten eggs", "a dozen eggs", "easy", "test"),
    ("Which is nearer", "a town 8 miles away", "a town 8 kilometres away", "a town 8 kilometres away", "hard", "test"),
]


def build(seed: int) -> list[dict[str, Any]]:
    """Return the items of the task.

    Args:
        seed: Of the drawn ones.
    """
    rng = random.Random(seed)
    items = _orders(rng, ORDERS) + _calendar(rng) + _comparisons(rng, COMPARISONS) + _sequences(rng)
    items += _statements(SYLLOGISMS) + _odd_ones(ODD_ONES) + _puzzles(PUZZLES)
    # What came later stands at the end: the ids and draws of the first ones stay as they were.
    items += _orders(rng, MORE_ORDERS) + _comparisons(rng, MORE_COMPARISONS)
    return items + _statements(MORE_SYLLOGISMS) + _odd_ones(MORE_ODD_ONES) + _puzzles(MORE_PUZZLES)


def _statements(rows: list[tuple[str, str, bool, str, str]]) -> list[dict[str, Any]]:
    items = []
    for premises, conclusion, valid, level, split in rows:
        question = f"{premises} Must it be true that {conclusion}? Answer yes or no."
        items.append(_word(question, "yes" if valid else "no", ["yes", "no"], "syllogism", level, split))
    return items


def _odd_ones(rows: list[tuple[list[str], str, str, str]]) -> list[dict[str, Any]]:
    items = []
    for words, odd, level, split in rows:
        question = f"Which one does not belong with the others: {', '.join(words)}? Answer with that one only."
        items.append(_word(question, odd, words, "odd one out", level, split))
    return items


def _puzzles(rows: list[tuple[str, list[str], list[str], str, str]]) -> list[dict[str, Any]]:
    items = []
    for question, answers, options, level, split in rows:
        spec: dict[str, Any] = {"verifier": "exact", "answers": answers, "options": options}
        form, asked = "word", "Answer with one word."
        if answers[0].isdigit():
            spec = {"verifier": "numeric", "answer": answers[0]}
            form, asked = "number", "Answer with the number only."
        elif answers[0] in "ABC":
            spec = {"verifier": "choice", "answer": answers[0]}
            form, asked = "letter", "Answer with the letter only."
        items.append(
            item(f"{question} {asked}", answers[0], spec, topic="puzzle", difficulty=level, form=form, split=split)
        )
    return items


def _word(question: str, answer: str, options: list[str], topic: str, level: str, split: str) -> dict[str, Any]:
    spec = {"verifier": "exact", "answers": [answer], "options": options}
    return item(question, answer, spec, topic=topic, difficulty=level, form="word", split=split)


def _orders(rng: random.Random, orders: list[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
    """Three, four and five people in an order given by pairs; the more people, the more shuffled the pairs."""
    items = []
    for more, most, least, split in orders:
        for size, level in zip((3, 4, 5), LEVELS, strict=True):
            people = rng.sample(NAMES, size)
            facts = [f"{a} is {more} than {b}." for a, b in pairwise(people)]
            if level != "easy":
                rng.shuffle(facts)
            word, answer = rng.choice([(most, people[0]), (least, people[-1])])
            question = f"{' '.join(facts)} Who is the {word}? Answer with the name only."
            items.append(_word(question, answer, people, "ordering", level, split))
    return items


def _calendar(rng: random.Random) -> list[dict[str, Any]]:
    items = []
    for level, days in zip(LEVELS, ((2, 3), (9, 12), (50, 100)), strict=True):
        for distance in days:
            start = rng.randrange(7)
            question = (
                f"Today is {DAYS[start]}. What day of the week will it be in {distance} days? Answer with one word."
            )
            items.append(_word(question, DAYS[(start + distance) % 7], DAYS, "calendar", level, "dev"))
    for level, months in zip(LEVELS, ((1, 2), (4, 5), (17, 31)), strict=True):
        for distance in months:
            start = rng.randrange(6, 12)
            question = f"Which month comes {distance} month{'s' * (distance > 1)} after {MONTHS[start]}?"
            if level == "hard":
                question = f"A project starts in {MONTHS[start]} and ends exactly {distance} months later. "
                question += "In which month does it end?"
            question += " Answer with one word."
            items.append(_word(question, MONTHS[(start + distance) % 12], MONTHS, "calendar", level, "test"))
    return items


def _comparisons(rng: random.Random, pairs: list[tuple[str, str, str, str, str, str]]) -> list[dict[str, Any]]:
    items = []
    for question, a, b, answer, level, split in pairs:
        first, second = rng.sample([a, b], 2)
        text = f"{question}: {first} or {second}? Answer with the larger one only."
        if not question.startswith(("Which number", "Which fraction")):
            text = f"{question}: {first} or {second}? Answer with one of the two only."
        items.append(_word(text, answer, [a, b], "comparison", level, split))
    return items


def _sequences(rng: random.Random) -> list[dict[str, Any]]:
    """Steps and doublings (dev), squares and sums of the two before (test)."""
    step, start, drop = rng.randint(3, 4), rng.randint(2, 9), rng.randint(6, 9)
    a, b = rng.randint(2, 4), rng.randint(5, 7)
    sums = [a, b]
    while len(sums) < 7:
        sums.append(sums[-1] + sums[-2])
    rows: list[tuple[list[int], str, str]] = [
        ([2, 4, 6, 8, 10], "easy", "dev"),
        ([start + step * i for i in range(6)], "easy", "dev"),
        ([90 - drop * i for i in range(6)], "medium", "dev"),
        ([3 * 2**i for i in range(6)], "medium", "dev"),
        ([2, 3, 5, 8, 12, 17, 23], "hard", "dev"),
        ([5, 10, 15, 20, 25], "easy", "test"),
        ([i * i for i in range(1, 7)], "medium", "test"),
        (sums, "hard", "test"),
        ([2, 3, 5, 7, 11, 13, 17], "hard", "test"),
    ]
    items = []
    for numbers, level, split in rows:
        shown = ", ".join(str(value) for value in numbers[:-1])
        question = f"Which number comes next: {shown}, ...? Answer with the number only."
        answer = str(numbers[-1])
        spec = {"verifier": "numeric", "answer": answer}
        items.append(item(question, answer, spec, topic="sequence", difficulty=level, form="number", split=split))
    return items
