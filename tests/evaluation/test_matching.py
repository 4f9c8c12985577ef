# ruff: noqa: RUF001 - letters that look like Latin ones are the point
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.evaluation.matching import match_option

OPTIONS = ("red", "dark red", "blue")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("Red", OPTIONS, "red"),
        ("it is dark red.", OPTIONS, "dark red"),  # an option inside another: the longer one
        ("reddish", OPTIONS, None),  # not a word of its own
        ("blue, not red", OPTIONS, "blue"),  # the first one in the text, not in the list
        ("Answer: B", ("A", "B", "C"), "B"),
        ("(b)", ("A", "B", "C"), "B"),
        ("a dog", ("A", "B", "C"), None),  # the article is no choice
        ("A dog is option C.", ("A", "B", "C"), "C"),
        ("A. a dog", ("A", "B"), "A"),
        ("A", ("A", "B"), "A"),
        ("I think B", ("A", "B"), "B"),
        ("yes", ("Positive", "Negative"), "Positive"),
        ("No, it is not", ("Positive", "Negative"), "Negative"),
        ("yes", ("true", "false"), "true"),
        ("yes", ("yes", "no"), "yes"),
        ("there is no way to know: yes", ("yes", "no"), "no"),
        ("12", ("1", "2", "12"), "12"),
        ("", OPTIONS, None),
        ("???", OPTIONS, None),
        ("Polish", ("polish", "Polish"), "Polish"),  # as it stands before all else
        ("polish", ("Polish", "polish"), "polish"),
        ("It is Polish.", ("polish", "Polish"), "Polish"),
        ("POLISH", ("Polish", "English"), "Polish"),
        ("Dark red it is", OPTIONS, "dark red"),  # its case does not make the shorter one the better
        ("5%", ("5", "5%"), "5%"),
        ("about 5% of it", ("5", "5%"), "5%"),
        ("about 5 of it", ("5", "5%"), "5"),
        ("-5", ("5", "-5"), "-5"),
        ("it is -5", ("5", "6"), None),
        ("3.5 metres", ("3", "5", "3.5"), "3.5"),
        ("1,000 birds", ("1", "1000"), "1000"),
        ("C++", ("C", "C++"), "C++"),
        ("I like C++ most", ("C", "C++", "D#"), "C++"),
        ("the answer is >", ("<", ">"), ">"),
        (">", ("<", ">"), ">"),
        ("?", ("!", "?"), "?"),
        ("it is a 🐶", ("🐱", "🐶"), "🐶"),
        ("答案是红色的。", ("蓝色", "红色", "红"), "红色"),
        ("это Красный цвет", ("синий", "красный"), "красный"),
        ("यह हिन्दी है", ("हिन्द", "हिन्दी"), "हिन्दी"),
        ("เป็นแมวสีดำ", ("หมา", "แมว"), "แมว"),
        ("答案是B", ("A", "B", "C"), "B"),
        ("选B吧", ("A", "B", "C"), "B"),
        ("Ответ: б", ("А", "Б", "В"), "Б"),
        ("собака в саду: Б", ("А", "Б", "В"), "Б"),  # the small letter is the word "in"
        ("b", ("B", "b"), "b"),
        ("（Ｂ）", ("A", "B"), "B"),
    ],
)
def test_matching(text, options, expected):
    assert match_option(text, options) == expected


@given(
    st.lists(
        st.text("abc 12", min_size=1).map(str.strip).filter(bool),
        min_size=2,
        max_size=5,
        unique_by=lambda text: tuple(text.split()),
    )
)
def test_every_option_means_itself(options):
    for option in options:
        matched = match_option(option, options)
        assert matched is not None
        assert matched.split() == option.split()
