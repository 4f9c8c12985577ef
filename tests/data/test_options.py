import pytest

from fedmosaic.data.options import match_answer, parse_options


@pytest.mark.parametrize(
    ("prompt", "answer", "options"),
    [
        ("What is it? Choice list:[cat, dog, bird].", "dog", ("cat", "dog", "bird")),
        ("What is it?\nChoice list: ['a cat', 'a dog']", "a dog", ("a cat", "a dog")),
        ("Pick. Choice list:[up|down|left|right]", "left", ("up", "down", "left", "right")),
        ("Pick one.\nOptions: red | green | blue", "red", ("red", "green", "blue")),
        ("Which?\nA. a cat\nB. a dog\nC. a bird", "B", ("A", "B", "C")),
        ("Which?\nA. a cat\nB. a dog\nC. a bird", "a dog", ("a cat", "a dog", "a bird")),
        ("Which? (A) one (B) two (C) three", "C", ("A", "B", "C")),
        ("Image A: <image> Image B: <image> Which is odd?", "Image B", ("Image A", "Image B")),
        ("Image A: <image> Image B: <image> Which is odd?", "B", ("A", "B")),
        ("Choose:\n1. sushi\n2. taco\n3. stew", "2", ("1", "2", "3")),
        ("Is it so? Answer yes or no.", "yes", ("Yes", "No")),
        ("True or False: it rains.", "True", ("True", "False")),
    ],
)
def test_options_are_found_in_every_published_form(prompt: str, answer: str, options: tuple[str, ...]) -> None:
    assert parse_options(prompt, answer) == options
    assert match_answer(answer, options) in options


@pytest.mark.parametrize(
    "prompt",
    [
        "Describe a dog in a garden.",
        "Is A. Lincoln in the picture? Say who is.",  # one mark is no list
        "What are the options of the driver?",
        "Steps: B. second C. third",  # does not begin with A
    ],
)
def test_an_article_or_a_lone_letter_is_no_option(prompt: str) -> None:
    assert parse_options(prompt, "something") is None


def test_answers_match_whole_options_only() -> None:
    options = ("apple", "pineapple")
    assert match_answer("Pineapple.", options) == "pineapple"
    assert match_answer("pine", options) is None
