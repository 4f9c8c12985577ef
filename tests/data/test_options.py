import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.data.option_columns import Options
from fedmosaic.data.options import match_answer, parse_options
from fedmosaic.errors import DataError


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
        ("Which?\na) a cat\nb) a dog", "b", ("a", "b")),
        ("Which? (a) a cat (b) a dog", "a dog", ("a cat", "a dog")),
        ("\u9009\nA\u3001\u732b B\u3001\u72d7", "B", ("A", "B")),
        ("\u9009\n\uff21\uff0e\u732b\n\uff22\uff0e\u72d7", "\u72d7", ("\u732b", "\u72d7")),
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
        "Say (a) who it is and (b) why.",  # prose; the answer is neither
    ],
)
def test_an_article_or_a_lone_letter_is_no_option(prompt: str) -> None:
    assert parse_options(prompt, "something") is None


def test_answers_match_whole_options_only() -> None:
    options = ("apple", "pineapple")
    assert match_answer("Pineapple.", options) == "pineapple"
    assert match_answer("pine", options) is None


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ('Choice list: ["Paris, France", "Rome, Italy"]', ("Paris, France", "Rome, Italy")),
        ("Choice list:['a dog's tail', \"dogs' bowl\", 'it\\'s, well']", ("a dog's tail", "dogs' bowl", "it's, well")),
        ("Options: [\u201cParis, France\u201d, \u201eRome, Italy\u201c]", ("Paris, France", "Rome, Italy")),
        ("Options: [\u2018it\u2019s, so\u2019, \u2018no\u2019]", ("it\u2019s, so", "no")),
        ("Options: [\u00aboui, si\u00bb; \u00abnon\u00bb]", ("oui, si", "non")),
        ("Options: (\"a, b\", 'c').", ("a, b", "c")),
        ('Options: "a, b", "c".\nThink.', ("a, b", "c")),
        ("Options: 'a, b' | 'c'", ("a, b", "c")),
        ("Choices: ['cat' 'dog'\n 'a cow']", ("cat", "dog", "a cow")),
        ('Choices: [Rome, "Paris, France"]', ("Rome", "Paris, France")),
        ("Choices: ['[0, 1]', '(2, 3]']", ("[0, 1]", "(2, 3]")),
        ("Choices: ['a', 'b',]", ("a", "b")),
        ("answer_choices: [a, b]", ("a", "b")),
        ("Options [a, b]", ("a", "b")),
        (r'Choices: ["caf\u00e9", "\ud83d\ude00", "say \"a, b\""]', ("caf\u00e9", "\U0001f600", 'say "a, b"')),
        (r'Choices: ["\frac{1}{2}", "\nu"]', (r"\frac{1}{2}", r"\nu")),
        ("Choices: [f(a, b), a[0], {x, y}]", ("f(a, b)", "a[0]", "{x, y}")),
        ("Choices: [[0, 1], [2, 3]]", ("[0, 1]", "[2, 3]")),
        ("Choices: [:), :(]", (":)", ":(")),
        ("Choices: [don't, dogs', 5\"]", ("don't", "dogs'", '5"')),
        ("Choices: [Paris, France; Rome, Italy]", ("Paris, France", "Rome, Italy")),
        ("As the options [see below]. Choice list:[Polish, polish]", ("Polish", "polish")),
        (f"Which? {' '.join(f'({chr(65 + i)}) word' for i in range(10))}", tuple("ABCDEFGHIJ")),
        ("Which?\n" + "\n".join(f"{i}. word" for i in range(1, 13)), tuple(str(i) for i in range(1, 13))),
    ],
)
def test_lists_are_read_as_they_are_quoted(prompt: str, options: tuple[str, ...]) -> None:
    assert parse_options(prompt, options[-1]) == options
    assert [match_answer(option, options) for option in options] == list(options)


@pytest.mark.parametrize(
    "prompt",
    [
        "Choices: [cat]",
        "Choices: ['cat']",
        "Choices: [cat, dog",
        "adoptions [a, b]",
        "Options: 'a'",
        "options: 'a', and so on.",
    ],
)
def test_what_offers_no_choice_is_no_list(prompt: str) -> None:
    assert parse_options(prompt, "cat") is None


def _words(without: str) -> st.SearchStrategy[list[str]]:
    visible = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters=without)
    word = st.text(visible, min_size=1).filter(lambda text: text == text.strip())
    return st.lists(word, min_size=2, max_size=5, unique=True)


@given(_words(without=""), st.booleans())
def test_whatever_json_writes_is_read_back(words: list[str], ascii_only: bool) -> None:
    written = json.dumps(words, ensure_ascii=ascii_only)
    assert parse_options(f"Pick. Choice list: {written}.", words[0]) == tuple(words)


@given(_words(without="\\"))
def test_whatever_python_prints_is_read_back(words: list[str]) -> None:
    printable = [word for word in words if word.isprintable()]
    if len(printable) > 1:
        assert parse_options(f"Pick. Choice list: {printable}.", words[0]) == tuple(printable)


def test_exact_matches_come_before_normalised_ones() -> None:
    assert match_answer("polish", ("Polish", "polish")) == "polish"
    assert match_answer(" polish\n", ("Polish", "polish")) == "polish"
    assert match_answer("'polish.'", ("Polish", "polish")) == "polish"
    assert match_answer("POLISH", ("Polish", "polish")) is None  # names both alike
    assert match_answer("U.S.", ("U.S", "U.S.")) == "U.S."
    assert match_answer("A.", ("a", "b")) == "a"
    assert match_answer("cafe\u0301", ("caf\u00e9", "bar")) == "caf\u00e9"
    assert match_answer("new  york", ("New York", "York")) == "New York"
    assert match_answer(")", ("(", ")")) == ")"
    assert match_answer(".", ("(", ")")) is None


def test_a_letter_is_first_the_letter_that_it_is() -> None:
    assert parse_options("Which word? A. the B. a C. an", "A") == ("A", "B", "C")
    assert parse_options("Which word? A. the B. a C. an", "a") == ("the", "a", "an")
    assert parse_options("How many?\n1. 1\n2. 2", "2") == ("1", "2")
    with pytest.raises(DataError, match="'B' is the mark of one option and the text of another"):
        parse_options("Which blood?\nA. B\nB. A\nC. AB", "B")


@pytest.mark.parametrize(
    ("options", "question", "named"),
    [
        (["red", "dark red", "light red"], "Is the car dark red or light red?", False),
        (["red", "dark red", "light red"], "Is the car red, dark red or light red?", True),
        (["dark red", "red"], "Red or dark red? Say red.", True),
        (["cat", "cat food"], "Is it cat food ?", False),
        (["cat", "cat food"], "Is it cat food or a cat?", True),
        (["a b", "b c"], "Is it a b c?", False),
        (["12", "7"], "Is it 7 or -12?", False),
        (["12", "7"], "Is it 7 or \u221212?", False),
        (["12", "-12"], "Is it -12 or 12?", True),
        (["12", "-12"], "Is it -12?", False),
        (["5", "1.5"], "Is it 1.5?", False),
        (["1", "1.5"], "Is it 1.5?", False),
        (["1", "1.5"], "Is it 1.5 or 1.", True),
        (["5", "6"], "Is it .5 or 6?", False),
        (["1", "2", "3"], "Choose 1/2/3.", True),
        (["1", "2", "3"], "Choose: 1,2,3", True),
        (["10", "12"], "Is it in 10-12?", True),
        (["yes", "no"], "A yes-no question: is it so?", True),
        (["yes", "no"], "(yes/no) is it so", True),
        (["yes", "no"], "Do you know? yes", False),
        (["C++", "C"], "Is it C++ or C?", True),
        (["C++", "C"], "Is it C++?", False),
        (["A", "B"], "<image> is A and <image> is B", True),
        (["(1)", "(2)"], "Is it (1) or (2)?", True),
    ],
)
def test_a_question_that_does_not_name_all_options_is_given_their_list(
    options: list[str], question: str, named: bool
) -> None:
    told = Options(tuple(options), tuple("ABC"[: len(options)]), numbered=True).told_in(question)
    assert told == (question if named else f"{question}\nChoice list:[{', '.join(options)}]")
    if not named:
        assert parse_options(told, options[0]) == tuple(options)
