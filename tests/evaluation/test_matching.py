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
