"""Tasks about numbers: sums, what is larger, what comes next, units."""

from __future__ import annotations

import random
from functools import partial

from fedmosaic.data.words import lexicon
from fedmosaic.data.words.parts import part_of, part_of_list
from fedmosaic.data.words.questions import Ask, Question, choice, ordered

VALUES = range(2, 62)
_UNITS = {"length": lexicon.LENGTHS, "time": lexicon.TIMES}
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def two_numbers(part: str, rng: random.Random, *, most: int) -> tuple[int, int]:
    """Return two different numbers from 2 on, a pair of a part whatever its order.

    Args:
        part: whose pair.
        rng: draws.
        most: the largest number.
    """
    while True:
        one, other = rng.sample(range(2, most + 1), 2)
        if part_of("pair", *sorted((one, other))) == part:
            return one, other


def sum_of_numbers(part: str, rng: random.Random) -> Question:
    """Ask for the sum of two numbers; an open question. See :data:`Ask`."""
    one, other = two_numbers(part, rng, most=49)
    return Question(f"What is {one} plus {other}?", str(one + other))


def sum_of_prices(part: str, rng: random.Random) -> Question:
    """Ask what two things cost together; an open question. See :data:`Ask`."""
    one, other = two_numbers(part, rng, most=49)
    first, second = rng.sample(part_of_list("goods", lexicon.GOODS.split(), part), 2)
    text = f"The {first} costs {one} dollars and the {second} costs {other} dollars."
    return Question(f"{text} How many dollars do they cost together?", str(one + other))


def larger_number(part: str, rng: random.Random) -> Question:
    """Ask which of two numbers is larger. See :data:`Ask`."""
    one, other = map(str, two_numbers(part, rng, most=99))
    return Question(f"Which number is larger, {one} or {other}?", max(one, other, key=int), (one, other))


def longer_length(part: str, rng: random.Random) -> Question:
    """Ask which of two lengths in different units is longer. See :data:`Ask`."""
    larger, smaller, factor = rng.choice(lexicon.LENGTHS)
    while True:
        one, ratio = rng.choice(VALUES), rng.choice((0.2, 0.3, 0.5, 0.7, 1.4, 2, 3, 4))
        other = round(one * factor * ratio)
        if other != one * factor and part_of("lengths", larger, one) == part:
            break
    lengths = (f"{one} {larger}", f"{other} {smaller}")
    answer = lengths[other > one * factor]
    first, second = rng.sample(lengths, 2)
    return Question(f"Which is longer, {first} or {second}?", answer, (first, second))


def next_number(part: str, rng: random.Random) -> Question:
    """Ask for the next number of a sequence with equal steps. See :data:`Ask`."""
    while True:
        step, start = rng.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 10)), rng.randrange(1, 60)
        numbers = [start + step * i for i in range(5)]
        if min(numbers) >= 1 and part_of("sequence", start, step) == part:
            break
    answer = numbers[4]
    others = {answer + off for off in (-step, step, 1, -1, 2, -2)} - {answer, *numbers[:4]}
    text = f"Which number comes next: {', '.join(map(str, numbers[:4]))}?"
    return choice(text, str(answer), {str(other) for other in others if other > 0}, rng)


def next_date(part: str, rng: random.Random) -> Question:
    """Ask for a day or month some steps from another. See :data:`Ask`."""
    names, unit, most = rng.choice(((lexicon.DAYS, "day", 6), (lexicon.MONTHS, "month", 11)))
    while True:
        at, steps = rng.randrange(len(names)), rng.choice([*range(-most, 0), *range(1, most + 1)])
        if part_of("dates", unit, at, steps) == part:
            break
    number = _WORDS[abs(steps) - 1]
    text = f"Which {unit} is {number} {unit}{'s' * (abs(steps) > 1)} {'after' if steps > 0 else 'before'} {names[at]}?"
    return choice(text, names[(at + steps) % len(names)], set(names) - {names[at]}, rng)


def convert(domain: str, part: str, rng: random.Random) -> Question:
    """Ask how many smaller units some larger ones are; an open question. See :data:`Ask`.

    Args:
        domain: ``length`` or ``time``.
        part: whose numbers.
        rng: draws.
    """
    larger, smaller, factor = rng.choice(_UNITS[domain])
    number = rng.choice(part_of_list(f"convert {domain}", VALUES, part))
    return Question(f"How many {smaller} are {number} {larger}?", str(number * factor))


NUMBERS: dict[str, Ask] = {
    "sum@numbers": sum_of_numbers,
    "sum@shopping": sum_of_prices,
    "larger@numbers": larger_number,
    "larger@lengths": longer_length,
    "next@numbers": next_number,
    "next@calendar": next_date,
    **{f"convert@{domain}": partial(convert, domain) for domain in _UNITS},
}


def even_or_odd(part: str, rng: random.Random) -> Question:
    """Ask whether a number is even or odd. See :data:`Ask`."""
    number = rng.choice(part_of_list("parity", range(2, 400), part))
    return ordered(f"Is the number {number} even or odd?", ("even", "odd")[number % 2], ("even", "odd"), rng)


def difference(part: str, rng: random.Random) -> Question:
    """Ask for the difference of two numbers; an open question. See :data:`Ask`."""
    low, high = sorted(two_numbers(part, rng, most=60))
    return Question(f"What is {high} minus {low}?", str(high - low))
