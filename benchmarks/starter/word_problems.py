"""The arithmetic task's templates: a problem in three languages, the numbers it draws and their answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Numbers = Mapping[str, int | Fraction]


@dataclass(frozen=True)
class Template:
    """A word problem with open numbers.

    Attributes:
        topic: Slice tag.
        difficulty: easy (one step, small numbers), medium or hard.
        draw: Draws the numbers.
        answer: Their answer.
        texts: Language -> the problem with {places} for the numbers.
    """

    topic: str
    difficulty: str
    draw: Callable[[random.Random], Numbers]
    answer: Callable[[Any], int | Fraction]
    texts: dict[str, str]


def _minutes(rng: random.Random) -> Numbers:
    start, lasts = rng.randrange(8 * 60, 11 * 60, 5), rng.randrange(35, 100, 5)
    end = start + lasts
    # Minutes below ten would need a leading zero in the text
    while start % 60 < 10 or end % 60 < 10:
        start, end = start + 5, end + 5
    return {"h": start // 60, "m": start % 60, "k": end // 60, "n": end % 60}


def _workers(rng: random.Random) -> Numbers:
    days, few, many = rng.choice([(12, 2, 3), (10, 3, 5), (9, 4, 6), (15, 4, 6), (12, 5, 6), (14, 2, 4), (8, 3, 6)])
    return {"a": few, "d": days, "b": many}


def _ages(rng: random.Random) -> Numbers:
    times, son = rng.choice([3, 4]), rng.randint(8, 11)
    return {"k": times, "y": son * (times - 2)}


def _average(rng: random.Random) -> Numbers:
    a, b = rng.randint(11, 29), rng.randint(11, 29)
    return {"a": a, "b": b, "c": rng.choice([c for c in range(11, 30) if (a + b + c) % 3 == 0])}


def _milk(rng: random.Random) -> Numbers:
    litre = Fraction(rng.randrange(105, 195, 2), 100)
    return {"x": 4 * litre, "m": rng.choice([7, 9, 11])}


TEMPLATES = [
    Template(
        "addition",
        "easy",
        lambda rng: {"a": rng.randint(2, 9), "b": rng.randint(2, 9)},
        lambda n: n["a"] + n["b"],
        {"en": "What is {a} + {b}?", "de": "Wie viel ist {a} + {b}?", "zh": "{a} + {b} 等于多少？"},
    ),
    Template(
        "addition",
        "easy",
        lambda rng: {"a": rng.randint(5, 60)},
        lambda n: n["a"] + 1,
        {
            "en": "Which number is one more than {a}?",
            "de": "Welche Zahl ist um 1 größer als {a}?",
            "zh": "比{a}大1的数是多少？",
        },
    ),
    Template(
        "multiplication",
        "easy",
        lambda rng: {"a": rng.randint(2, 12)},
        lambda n: n["a"] * 10,
        {"en": "What is 10 times {a}?", "de": "Wie viel ist 10 mal {a}?", "zh": "{a}的10倍是多少？"},
    ),
    Template(
        "addition",
        "easy",
        lambda rng: {"a": rng.randint(2, 9), "b": rng.randint(2, 9)},
        lambda n: n["a"] + n["b"],
        {
            "en": "Anna has {a} apples. Ben gives her {b} more. How many apples does Anna have now?",
            "de": "Anna hat {a} Äpfel. Ben gibt ihr noch {b} dazu. Wie viele Äpfel hat Anna jetzt?",
            "zh": "小红有{a}个苹果，小明又给了她{b}个。小红现在有多少个苹果？",
        },
    ),
    Template(
        "subtraction",
        "easy",
        lambda rng: {"a": rng.randint(6, 9), "b": rng.randint(2, 4)},
        lambda n: n["a"] - n["b"],
        {
            "en": "There are {a} birds on a fence. Then {b} of them fly away. How many birds are left on the fence?",
            "de": "Auf einem Zaun sitzen {a} Vögel. Dann fliegen {b} von ihnen weg. Wie viele Vögel sitzen noch da?",
            "zh": "篱笆上有{a}只鸟，飞走了{b}只。篱笆上还剩多少只鸟？",
        },
    ),
    Template(
        "subtraction",
        "easy",
        lambda rng: {"a": rng.randint(5, 9), "b": rng.randint(1, 4)},
        lambda n: n["a"] - n["b"],
        {"en": "What is {a} - {b}?", "de": "Wie viel ist {a} - {b}?", "zh": "{a} - {b} 等于多少？"},
    ),
    Template(
        "multiplication",
        "easy",
        lambda rng: {"a": rng.randint(3, 9), "b": rng.randint(2, 6)},
        lambda n: n["a"] * n["b"],
        {
            "en": "There are {a} pencils in a box. How many pencils are in {b} such boxes?",
            "de": "In einer Schachtel sind {a} Bleistifte. Wie viele Bleistifte sind in {b} solchen Schachteln?",
            "zh": "一盒有{a}支铅笔，{b}盒一共有多少支铅笔？",
        },
    ),
    Template(
        "age",
        "easy",
        lambda rng: {"a": rng.randint(5, 12), "b": rng.randint(2, 6)},
        lambda n: n["a"] + n["b"],
        {
            "en": "Lisa is {a} years old. Her brother is {b} years older than she is. How old is her brother?",
            "de": "Lisa ist {a} Jahre alt. Ihr Bruder ist {b} Jahre älter als sie. Wie alt ist ihr Bruder?",
            "zh": "小丽今年{a}岁，她的哥哥比她大{b}岁。哥哥今年多少岁？",
        },
    ),
    Template(
        "time",
        "easy",
        lambda rng: {"a": rng.randint(2, 9)},
        lambda n: n["a"] * 7,
        {
            "en": "How many days are there in {a} weeks?",
            "de": "Wie viele Tage haben {a} Wochen?",
            "zh": "{a}个星期一共有多少天？",
        },
    ),
    Template(
        "division",
        "easy",
        lambda rng: (lambda b: {"a": b * rng.randint(2, 6), "b": b})(rng.randint(2, 5)),
        lambda n: n["a"] // n["b"],
        {
            "en": "{a} sweets are shared equally among {b} children. How many sweets does each child get?",
            "de": "{a} Bonbons werden gleichmäßig an {b} Kinder verteilt. Wie viele Bonbons bekommt jedes Kind?",
            "zh": "把{a}颗糖平均分给{b}个孩子，每个孩子分到多少颗糖？",
        },
    ),
    Template(
        "addition",
        "medium",
        lambda rng: {"a": rng.randint(123, 389), "b": rng.randint(123, 389)},
        lambda n: n["a"] + n["b"],
        {
            "en": "A school has {a} girls and {b} boys. How many pupils does it have in all?",
            "de": "Auf eine Schule gehen {a} Mädchen und {b} Jungen. Wie viele Kinder sind es insgesamt?",
            "zh": "一所学校有{a}名女生和{b}名男生。这所学校一共有多少名学生？",
        },
    ),
    Template(
        "money",
        "medium",
        lambda rng: {"p": rng.randint(11, 38)},
        lambda n: 50 - n["p"],
        {
            "en": "Maria buys a book for {p} dollars and pays with a 50 dollar note. "
            "How many dollars does she get back?",
            "de": "Maria kauft ein Buch für {p} Euro und bezahlt mit einem 50-Euro-Schein. "
            "Wie viele Euro bekommt sie zurück?",
            "zh": "小美买了一本{p}元的书，付了一张50元的钞票。应找回多少元？",
        },
    ),
    Template(
        "money",
        "medium",
        lambda rng: {"a": rng.randint(3, 7), "p": rng.randint(2, 6), "q": rng.randint(2, 9)},
        lambda n: n["a"] * n["p"] + n["q"],
        {
            "en": "Tom buys {a} notebooks at {p} dollars each and a pen for {q} dollars. "
            "How many dollars does he pay in all?",
            "de": "Tom kauft {a} Hefte zu je {p} Euro und einen Stift für {q} Euro. Wie viele Euro "
            "bezahlt er insgesamt?",
            "zh": "小刚买了{a}本笔记本，每本{p}元，又买了一支{q}元的钢笔。他一共要付多少元？",
        },
    ),
    Template(
        "addition and subtraction",
        "medium",
        lambda rng: {"a": rng.randint(18, 40), "b": rng.randint(5, 15), "c": rng.randint(4, 18)},
        lambda n: n["a"] - n["b"] + n["c"],
        {
            "en": "There are {a} people on a bus. At the next stop {b} get off and {c} get on. "
            "How many people are on the bus now?",
            "de": "In einem Bus sitzen {a} Fahrgäste. An der nächsten Haltestelle steigen {b} aus und {c} ein. "
            "Wie viele Fahrgäste sind jetzt im Bus?",
            "zh": "公交车上有{a}名乘客。到站后有{b}人下车，{c}人上车。现在车上有多少名乘客？",
        },
    ),
    Template(
        "time",
        "medium",
        _minutes,
        lambda n: (n["k"] - n["h"]) * 60 + n["n"] - n["m"],
        {
            "en": "A lesson starts at {h}:{m} and ends at {k}:{n} on the same morning. How many minutes does it last?",
            "de": "Ein Kurs beginnt um {h}:{m} Uhr und endet am selben Vormittag um {k}:{n} Uhr. "
            "Wie viele Minuten dauert er?",
            "zh": "一节课上午{h}:{m}开始，当天上午{k}:{n}结束。这节课持续多少分钟？",
        },
    ),
    Template(
        "geometry",
        "medium",
        lambda rng: {"a": rng.randint(12, 28), "b": rng.randint(5, 11)},
        lambda n: 2 * (n["a"] + n["b"]),
        {
            "en": "A rectangular garden is {a} metres long and {b} metres wide. "
            "How many metres of fence are needed to go all the way around it?",
            "de": "Ein rechteckiger Garten ist {a} Meter lang und {b} Meter breit. "
            "Wie viele Meter Zaun braucht man, um ihn ganz zu umzäunen?",
            "zh": "一个长方形花园长{a}米，宽{b}米。要把它围一圈，需要多少米的篱笆？",
        },
    ),
    Template(
        "division",
        "medium",
        lambda rng: {"a": 6 * rng.randint(5, 15) + rng.randint(2, 5)},
        lambda n: n["a"] % 6,
        {
            "en": "A farmer packs {a} eggs into boxes of 6 and fills as many boxes as she can. "
            "How many eggs are left over?",
            "de": "Eine Bäuerin packt {a} Eier in Sechserschachteln und füllt so viele Schachteln wie möglich. "
            "Wie viele Eier bleiben übrig?",
            "zh": "农民把{a}个鸡蛋装盒，每盒装6个，尽可能多装满几盒。最后剩下多少个鸡蛋？",
        },
    ),
    Template(
        "average",
        "medium",
        _average,
        lambda n: (n["a"] + n["b"] + n["c"]) // 3,
        {
            "en": "Paul scored {a}, {b} and {c} points in three tests. What was his average score?",
            "de": "Paul hat in drei Tests {a}, {b} und {c} Punkte erreicht. Wie hoch war seine "
            "durchschnittliche Punktzahl?",
            "zh": "小强三次测验分别得了{a}分、{b}分和{c}分。他的平均分是多少？",
        },
    ),
    Template(
        "division",
        "medium",
        lambda rng: (lambda a: {"a": a, "p": a * rng.randint(7, 15)})(rng.choice([12, 15, 18, 20, 25])),
        lambda n: n["p"] // n["a"],
        {
            "en": "Lena reads {a} pages every day. How many days does she need for a book of {p} pages?",
            "de": "Lena liest jeden Tag {a} Seiten. Wie viele Tage braucht sie für ein Buch mit {p} Seiten?",
            "zh": "小莲每天读{a}页书。读完一本{p}页的书，她需要多少天？",
        },
    ),
    Template(
        "percent",
        "hard",
        lambda rng: {"p": 20 * rng.randint(3, 12), "r": rng.choice([15, 35, 45])},
        lambda n: n["p"] * (100 - n["r"]) // 100,
        {
            "en": "A jacket costs {p} dollars. Its price is reduced by {r} percent. What is the new price in dollars?",
            "de": "Eine Jacke kostet {p} Euro. Ihr Preis wird um {r} Prozent gesenkt. Wie viel Euro kostet sie jetzt?",
            "zh": "一件外套原价{p}元，现在降价{r}%。现价是多少元？",
        },
    ),
    Template(
        "speed",
        "hard",
        lambda rng: {"v": rng.randint(14, 24), "h": rng.randint(2, 4), "w": 2 * rng.randint(6, 9)},
        lambda n: n["v"] * n["h"] + n["w"] // 2,
        {
            "en": "A cyclist rides at {v} kilometres per hour for {h} hours and then at {w} kilometres per hour "
            "for 30 minutes. How many kilometres does she ride in all?",
            "de": "Eine Radfahrerin fährt {h} Stunden lang mit {v} Kilometern pro Stunde und danach 30 Minuten lang "
            "mit {w} Kilometern pro Stunde. Wie viele Kilometer fährt sie insgesamt?",
            "zh": "一位骑车人先以每小时{v}公里的速度骑了{h}小时，"
            "然后以每小时{w}公里的速度骑了30分钟。她一共骑了多少公里？",
        },
    ),
    Template(
        "proportion",
        "hard",
        _workers,
        lambda n: n["a"] * n["d"] // n["b"],
        {
            "en": "{a} painters need {d} days to paint a house. "
            "How many days do {b} painters need if all of them work at the same pace?",
            "de": "{a} Maler brauchen {d} Tage, um ein Haus zu streichen. "
            "Wie viele Tage brauchen {b} Maler, wenn alle gleich schnell arbeiten?",
            "zh": "{a}名油漆工粉刷一栋房子需要{d}天。如果每个人的工作速度相同，{b}名油漆工需要多少天？",
        },
    ),
    Template(
        "age",
        "hard",
        _ages,
        lambda n: n["y"] // (n["k"] - 2),
        {
            "en": "Mia is {k} times as old as her son. In {y} years she will be exactly twice as old "
            "as he will be then. "
            "How old is her son now?",
            "de": "Mia ist {k}-mal so alt wie ihr Sohn. In {y} Jahren wird sie genau doppelt so alt sein wie er dann. "
            "Wie alt ist ihr Sohn jetzt?",
            "zh": "妈妈现在的年龄是儿子的{k}倍。{y}年后，妈妈的年龄正好是儿子那时年龄的2倍。儿子现在多少岁？",
        },
    ),
    Template(
        "multiplication",
        "hard",
        lambda rng: {"a": rng.randint(53, 98), "b": rng.randint(23, 48)},
        lambda n: n["a"] * n["b"],
        {"en": "What is {a} × {b}?", "de": "Wie viel ist {a} · {b}?", "zh": "{a} × {b} 等于多少？"},
    ),
    Template(
        "proportion",
        "hard",
        lambda rng: (lambda a, b, k: {"a": a, "b": b, "t": (a + b) * k})(
            rng.choice([2, 3]), rng.choice([5, 7]), rng.randint(4, 9)
        ),
        lambda n: n["t"] // (n["a"] + n["b"]) * n["a"],
        {
            "en": "A drink is mixed from syrup and water in the ratio {a} to {b}. "
            "How many litres of syrup are in {t} litres of the drink?",
            "de": "Ein Getränk wird aus Sirup und Wasser im Verhältnis {a} zu {b} gemischt. "
            "Wie viele Liter Sirup sind in {t} Litern des Getränks?",
            "zh": "一种饮料由糖浆和水按{a}比{b}的体积比调成。{t}升这种饮料里有多少升糖浆？",
        },
    ),
    Template(
        "money",
        "hard",
        lambda rng: {
            "r": rng.randint(12, 19),
            "s": rng.randint(21, 28),
            "x": rng.randint(13, 47),
            "p": rng.choice([6, 7, 8, 9]),
        },
        lambda n: (n["r"] * n["s"] - n["x"]) * n["p"],
        {
            "en": "A theatre has {r} rows of {s} seats. One evening {x} seats stay empty and all others are sold at "
            "{p} dollars each. How many dollars does the theatre take that evening?",
            "de": "Ein Theater hat {r} Reihen mit je {s} Plätzen. An einem Abend bleiben {x} Plätze leer, alle anderen "
            "werden für je {p} Euro verkauft. Wie viel Euro nimmt das Theater an diesem Abend ein?",
            "zh": "一家剧院有{r}排座位，每排{s}个。某天晚上有{x}个座位空着，其余座位的票以每张{p}元全部售出。"
            "剧院当晚的票款收入是多少元？",
        },
    ),
    Template(
        "money",
        "hard",
        _milk,
        lambda n: n["x"] / 4 * n["m"],
        {
            "en": "4 litres of milk cost {x} dollars. How many dollars do {m} litres cost at the same price per litre?",
            "de": "4 Liter Milch kosten {x} Euro. Wie viel Euro kosten {m} Liter beim gleichen Literpreis?",
            "zh": "4升牛奶售价{x}元。按同样的单价，{m}升牛奶要多少元？",
        },
    ),
    Template(
        "percent",
        "hard",
        lambda rng: {"p": 100 * rng.randint(12, 68)},
        lambda n: n["p"] * 121 // 100,
        {
            "en": "A village has {p} inhabitants. Their number grows by 10 percent each year. "
            "How many inhabitants does the village have after 2 years?",
            "de": "Ein Dorf hat {p} Einwohner. Die Zahl wächst jedes Jahr um 10 Prozent. "
            "Wie viele Einwohner hat das Dorf nach 2 Jahren?",
            "zh": "一个村庄有{p}名居民，人数每年增长10%。2年后这个村庄有多少名居民？",
        },
    ),
]
