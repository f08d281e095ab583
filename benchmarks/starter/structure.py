"""JSON and table output: facts in a sentence to be given back as JSON, a Markdown table or CSV, compared cell by cell.

For whom: a check of whether a model's output can be read by a program. How made: sentence templates written for this
project, filled with values drawn from a seed; four draws each, all draws of a template in the same split.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any

from benchmarks.starter.items import SPLITS, item

DRAWS = 4
NAMES = ["Ida Berg", "Omar Haddad", "Mei Lin", "Paul Novak", "Rosa Silva", "Tom Baker", "Yuki Sato", "Zoe Martin"]
CITIES = ["Oslo", "Lima", "Kyoto", "Cairo", "Vienna", "Toronto", "Nairobi", "Lisbon"]
COLOURS = ["red", "green", "blue", "black", "white", "yellow"]
FRUIT = ["apples", "pears", "plums", "lemons", "cherries", "grapes"]
PLACES = ["Elmford", "Grayton", "Harwick", "Millbrook", "Norwell", "Oakhurst"]
GOODS = ["pens", "cups", "maps", "lamps", "books", "chairs"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}

# What a template draws: the request, and the value or (columns, rows) that it asks for
Json = tuple[str, dict[str, Any]]
Table = tuple[str, list[str], list[list[str]]]


def schema_of(value: Any) -> dict[str, Any]:
    """Return the JSON schema of a value's shape: its types, all keys required and no others."""
    if isinstance(value, dict):
        keys = list(value)
        properties = {key: schema_of(value[key]) for key in keys}
        return {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}
    if isinstance(value, list):
        return {"type": "array", "items": schema_of(value[0])}
    return {"type": TYPES[type(value)]}


def _person(rng: random.Random) -> Json:
    value = {"name": rng.choice(NAMES), "age": rng.randint(19, 80)}
    return f'Write a JSON object with the keys "name" and "age": {value["name"]} is {value["age"]} years old.', value


def _fruit(rng: random.Random) -> Json:
    value = {"fruit": rng.choice(FRUIT), "count": rng.randint(3, 40)}
    text = 'Write a JSON object with the keys "fruit" (a string) and "count" (a number). '
    return f'{text}The fruit is "{value["fruit"]}" and the count is {value["count"]}.', value


def _colours(rng: random.Random) -> Json:
    a, b, c = rng.sample(COLOURS, 3)
    return f'Write a JSON object with the key "colours" that holds a list of these words: {a}, {b}, {c}.', {
        "colours": [a, b, c]
    }


def _home(rng: random.Random) -> Json:
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return (
        f'Turn this sentence into a JSON object with the keys "name", "city" and "country" (null if it is not given): '
        f"{name} lives in {city}."
    ), {"name": name, "city": city, "country": None}


def _product(rng: random.Random) -> Json:
    colour, price, stock = rng.choice(COLOURS), rng.randint(5, 60) + 0.5, rng.random() < 0.5
    state = "in stock" if stock else "sold out"
    return (
        f'Turn this into a JSON object with the keys "product", "price" (a number) and "in_stock" (true or false): '
        f"The {colour} lamp costs {price:.2f} dollars and is {state}. Name the product without an article."
    ), {"product": f"{colour} lamp", "price": price, "in_stock": stock}


def _meeting(rng: random.Random) -> Json:
    people, day, hour = rng.sample([name.split()[0] for name in NAMES], 3), rng.choice(DAYS), rng.randint(10, 17)
    return (
        f"{people[0]}, {people[1]} and {people[2]} meet on {day} at {hour}:00. Give this as a JSON "
        f"object with the keys "
        f'"day", "time" (as "HH:MM") and "people" (a list of the names in this order).'
    ), {"day": day, "time": f"{hour}:00", "people": people}


def _order(rng: random.Random) -> Json:
    (a, b), m, n = rng.sample(FRUIT, 2), rng.randint(2, 9), rng.randint(2, 9)
    return (
        f'An order asks for {m} {a} and {n} {b}. Give it as a JSON object with the key "items", a list of objects with '
        f'the keys "name" (as written here) and "quantity", and the key "total" with the sum of the quantities.'
    ), {"items": [{"name": a, "quantity": m}, {"name": b, "quantity": n}], "total": m + n}


def _trip(rng: random.Random) -> Json:
    (a, b), km, minutes = rng.sample(PLACES, 2), rng.randint(61, 190), rng.choice([90, 105, 150, 165, 210])
    return (
        f"A bus trip from {a} to {b} covers {km} kilometres and takes {minutes // 60} hours and "
        f"{minutes % 60} minutes. "
        f'Give it as a JSON object: "route" holds an object with "from" and "to", "distance_km" is a number and '
        f'"duration_minutes" is the whole duration in minutes.'
    ), {"route": {"from": a, "to": b}, "distance_km": km, "duration_minutes": minutes}


def _grades(rng: random.Random) -> Json:
    (a, b, c), x, y, z = rng.sample([n.split()[0] for n in NAMES], 3), *rng.sample(range(20, 100), 3)
    x = max(x, 41)
    points = {a: x, b: y, c: z}
    passed = sorted(name for name in points if points[name] >= 40)
    return (
        f"In a test {a} got {x} points, {b} got {y} points and {c} got {z} points. Give this as a JSON object: "
        f'"points" maps each name to its number of points, "best" is the name with the most points, and "passed" is a '
        f"list of the names with 40 points or more, in alphabetical order."
    ), {"points": points, "best": max(points, key=lambda name: points[name]), "passed": passed}


def _book(rng: random.Random) -> Json:
    name, year, pages = rng.choice(NAMES), rng.randint(1950, 2020), rng.randint(90, 600)
    return (
        f'{name} wrote the book "Quiet Rivers". It came out in {year} and has {pages} pages. Give it as a JSON object '
        f'with the keys "title", "author", "year" and "pages"; year and pages are numbers.'
    ), {"title": "Quiet Rivers", "author": name, "year": year, "pages": pages}


def _pairs_table(rng: random.Random) -> Table:
    people = rng.sample([name.split()[0] for name in NAMES], 2)
    rows = [[person, str(rng.randint(7, 70))] for person in people]
    facts = " ".join(f"{name} is {age}." for name, age in rows)
    return f"Write a table with the columns Name and Age and one row for each person: {facts}", ["Name", "Age"], rows


def _stock_table(rng: random.Random) -> Table:
    rows = [[thing, str(rng.randint(2, 90)), f"{rng.randint(1, 5)}.50"] for thing in rng.sample(GOODS, 3)]
    facts = " ".join(f"{count} {thing} at {price} each." for thing, count, price in rows)
    text = f"Write a table with the columns Item, Count and Price, each item as written here: {facts}"
    return text, ["Item", "Count", "Price"], rows


def _sorted_table(rng: random.Random) -> Table:
    rows = [
        [city, str(degrees)] for city, degrees in zip(rng.sample(CITIES, 4), rng.sample(range(2, 38), 4), strict=True)
    ]
    facts = ", ".join(f"{city} {degrees}" for city, degrees in rows)
    text = f"Write a table with the columns City and Degrees, warmest city first: {facts}."
    return text, ["City", "Degrees"], sorted(rows, key=lambda row: -int(row[1]))


def _plan_table(rng: random.Random) -> Table:
    days, cities = rng.sample(DAYS, 3), rng.sample(CITIES, 3)
    rows = [[day, city] for day, city in zip(days, cities, strict=True)]
    facts = " ".join(f"On {day} we visit {city}." for day, city in rows)
    ordered = sorted(rows, key=lambda row: DAYS.index(row[0]))
    return (
        f"Write a table with the columns Day and City, sorted from Monday to Friday: {facts}",
        ["Day", "City"],
        ordered,
    )


def _quoted_table(rng: random.Random) -> Table:
    people, cities = rng.sample(NAMES, 2), rng.sample(CITIES, 2)
    rows = [[f"{n.split()[1]}, {n.split()[0]}", city] for n, city in zip(people, cities, strict=True)]
    facts = " ".join(f"{person} lives in {city}." for person, city in zip(people, cities, strict=True))
    text = f'Write a table with the columns name and city; write each name as "Surname, First name": {facts}'
    return text, ["name", "city"], rows


def _sum_table(rng: random.Random) -> Table:
    rows = [
        [day, str(x), str(y), str(x + y)] for day in DAYS[:3] for x, y in [(rng.randint(3, 30), rng.randint(3, 30))]
    ]
    facts = " ".join(f"On {day} we sold {x} coffees and {y} teas." for day, x, y, _ in rows)
    text = f"Write a table with the columns Day, Coffee, Tea and Total, where Total is the sum of both: {facts}"
    return text, ["Day", "Coffee", "Tea", "Total"], rows


JSON_TEMPLATES: list[tuple[str, str, Callable[[random.Random], Json]]] = [
    ("people", "easy", _person),
    ("food", "easy", _fruit),
    ("colours", "easy", _colours),
    ("people", "medium", _home),
    ("shopping", "medium", _product),
    ("meetings", "medium", _meeting),
    ("books", "medium", _book),
    ("shopping", "hard", _order),
    ("travel", "hard", _trip),
    ("school", "hard", _grades),
]
TABLE_TEMPLATES: list[tuple[str, str, str, Callable[[random.Random], Table]]] = [
    ("people", "easy", "markdown", _pairs_table),
    ("people", "easy", "csv", _pairs_table),
    ("shopping", "medium", "csv", _stock_table),
    ("weather", "medium", "markdown", _sorted_table),
    ("travel", "medium", "markdown", _plan_table),
    ("people", "hard", "csv", _quoted_table),
    ("shopping", "hard", "markdown", _sum_table),
]


def as_table(form: str, columns: list[str], rows: list[list[str]]) -> str:
    """Write a table as Markdown or CSV."""
    if form == "markdown":
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue().rstrip("\n")


def build(seed: int) -> list[dict[str, Any]]:
    """Return the items of the task.

    Args:
        seed: Of the drawn values.
    """
    items: list[dict[str, Any]] = []
    for index, (topic, difficulty, draw) in enumerate(JSON_TEMPLATES):
        for text, value in _distinct(draw, f"{seed} {draw.__name__}"):
            spec = {"verifier": "json_schema", "schema": schema_of(value), "expected": value}
            question, answer = f"{text} Reply with the JSON only.", json.dumps(value)
            split = SPLITS[(index + 1) % 2]
            items.append(item(question, answer, spec, topic=topic, difficulty=difficulty, form="json", split=split))
    for index, (topic, difficulty, form, draw_table) in enumerate(TABLE_TEMPLATES):
        for text, columns, rows in _distinct(draw_table, f"{seed} {draw_table.__name__} {form}"):
            table_spec = {"verifier": "table", "format": form, "columns": columns, "rows": rows}
            name = "Markdown table" if form == "markdown" else "table in CSV format"
            question = f"{text.replace('a table', f'a {name}', 1)} Reply with the table only."
            # The two tables of people and ages differ in format only, so they share a split
            split = SPLITS[max(index - 1, 0) % 2]
            answer = as_table(form, columns, rows)
            items.append(item(question, answer, table_spec, topic=topic, difficulty=difficulty, form=form, split=split))
    return items


def _distinct(draw: Callable[[random.Random], Any], seed: str) -> list[Any]:
    rng, drawn = random.Random(seed), list[Any]()
    while len(drawn) < DRAWS:
        value = draw(rng)
        if value not in drawn:
            drawn.append(value)
    return drawn
