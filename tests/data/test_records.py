import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.data.records import HARMLESS, answers, parse_conversation
from fedmosaic.errors import DataError


def conversation(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns], **more}


def read(record: object, *, is_open: bool = True) -> list[tuple[str, str]]:
    return [(answer.prompt, answer.text) for answer in answers(parse_conversation(record), is_open=is_open)]


@given(st.lists(st.sampled_from("sua"), max_size=7))
def test_roles_decide_who_speaks(roles: list[str]) -> None:
    """The valid conversations are those of a regular expression; no message changes its role."""
    names = {"s": "system", "u": "human", "a": "gpt"}
    said = [f"{role}{i}" for i, role in enumerate(roles)]
    record = conversation(*((names[role], text) for role, text in zip(roles, said, strict=True)))
    if not re.fullmatch("s*a?(u+a)+", "".join(roles)):
        with pytest.raises(DataError):
            read(record)
        return
    first = roles.index("u")
    expected = [("\n".join(said[:i]), said[i]) for i in range(first, len(roles)) if roles[i] == "a"]
    assert read(record) == expected


def test_an_opening_of_the_assistant_is_context_and_never_swaps_the_sides() -> None:
    record = conversation(("gpt", "How can I help?"), ("human", "What is it?"), ("gpt", "A cat."))
    assert read(record) == [("How can I help?\nWhat is it?", "A cat.")]


@pytest.mark.parametrize(
    "record",
    [
        conversation(("human", "q"), ("gpt", "a")),
        conversation(("USER ", "q"), ("Assistant", "a")),
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"conversations": [{"value": "q"}, {"value": "a"}]},
        {"conversations": [{"value": " q\n"}, {"value": "a ", "from": None}]},
        conversation(("system", " "), ("human", "q"), ("gpt", "a")),
        conversation(("human", "q"), ("gpt", "a"), tools="", images=[], system=None, id=7, _why="x", coco_id=3),
        conversation(("human", "q"), ("gpt", "a"), **dict.fromkeys(HARMLESS, "x")),
        {"conversations": [{"from": "human", "value": "q", "id": 1}, {"from": "gpt", "value": "a", "text": None}]},
        {"messages": [], "conversations": [{"value": "q", "content": "q"}, {"value": "a"}]},
    ],
)
def test_forms_that_say_the_same(record: dict[str, Any]) -> None:
    assert read(record) == [("q", "a")]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, ["None", "object"]),
        ("text", ["'text'", "object"]),
        ([conversation(("human", "q"))], ["object"]),
        ({}, ["conversations"]),
        ({"conversations": {"value": "q"}}, ["conversations"]),
        ({"instruction": "q", "output": "a"}, ["instruction", "output", "conversations"]),
        (conversation(("human", "q"), ("gpt", "a"), video="a.mp4"), ["'video'", "not be used", "images"]),
        (conversation(("human", "q"), ("gpt", "a"), Image="a.png"), ["'Image'"]),
        (conversation(("human", "q"), ("gpt", "a"), system="be brief"), ["'system'"]),
        (
            conversation(("human", "q"), ("gpt", "a"), messages=[{"value": "x"}]),
            ["conversations", "messages", "disagree"],
        ),
        ({"conversations": ["q", "a"]}, ["turn 1", "'q'"]),
        ({"conversations": [{"value": "q", "weight": 0}, {"value": "a"}]}, ["turn 1", "weight"]),
        ({"conversations": [{"value": "q", "content": "p"}, {"value": "a"}]}, ["turn 1", "'value' and 'content'"]),
        ({"conversations": [{"from": "human", "role": "gpt", "value": "q"}]}, ["turn 1", "'from' and 'role'"]),
        (conversation(("human", "q"), ("tool", "42"), ("gpt", "a")), ["turn 2", "'tool'", "assistant"]),
        (conversation(("human", "q"), ("function_call", "f()")), ["turn 2", "'function_call'"]),
        ({"conversations": [{"from": "human", "value": "q"}, {"value": "a"}]}, ["turn 2", "None"]),
        ({"conversations": [{"from": 3, "value": "q"}, {"value": "a"}]}, ["turn 1", "3"]),
        (conversation(("human", "q"), ("gpt", "a"), ("human", "r")), ["ends with a question"]),
        (conversation(("human", "q"), ("gpt", "a"), ("gpt", "b")), ["turns 2 and 3"]),
        (conversation(("gpt", "a")), ["no question"]),
        (conversation(("human", "q"), ("system", "s"), ("gpt", "a")), ["turn 2", "system"]),
        (conversation(("human", "q"), ("gpt", 3)), ["turn 2", "3", "text 'value'"]),
        (conversation(("human", "q"), ("gpt", True)), ["turn 2", "True"]),
        (conversation(("human", "q"), ("gpt", float("nan"))), ["turn 2", "nan"]),
        (conversation(("human", "q"), ("gpt", None)), ["turn 2", "None"]),
        (conversation(("human", [{"type": "text", "text": "q"}]), ("gpt", "a")), ["turn 1", "text 'value'"]),
        (conversation(("human", "q"), ("gpt", " \n")), ["turn 2", "empty"]),
        (conversation(("human", "q"), ("gpt", "\u200b\ufeff")), ["turn 2", "empty"]),
        (conversation(("human", ""), ("gpt", "a")), ["turn 1", "empty"]),
        (conversation(("human", "q"), ("gpt", "see <image1>")), ["turn 2", "<image1>", "answer"]),
        (conversation(("gpt", "see <image>"), ("human", "q"), ("gpt", "a"), image="a.png"), ["turn 1", "<image>"]),
        (conversation(("human", "q"), ("gpt", "a"), image="a.png"), ["0 <image> mark(s)", "1 image(s)"]),
        (conversation(("human", "q"), ("gpt", "a"), images="a.png"), ["0 <image> mark(s)", "1 image(s)"]),
        (conversation(("human", "<img> q"), ("gpt", "a"), image="a.png"), ["0 <image> mark(s)"]),
        (conversation(("human", "<image> q"), ("gpt", "a"), image="a.png", images=["b.png"]), ["disagree", "b.png"]),
        (conversation(("human", "<image> q"), ("gpt", "a"), image=["a.png", None]), ["'image'", "list of paths"]),
        (conversation(("human", "<image> q"), ("gpt", "a"), images=[{"path": "a.png"}]), ["'images'", "list of paths"]),
        (conversation(("human", "<image> q"), ("gpt", "a"), image=float("nan")), ["'image'", "nan"]),
        (conversation(("human", "<image> q"), ("gpt", "a"), image=[""]), ["'image'", "list of paths"]),
        (conversation(("human", "<image1> <image3>"), ("gpt", "a"), image=["a", "b"]), ["numbered", "'3'", "2 images"]),
        (conversation(("human", "<image2> <image2>"), ("gpt", "a"), image=["a", "b"]), ["numbered", "2 images"]),
        (conversation(("human", "<image2> <image>"), ("gpt", "a"), image=["a", "b"]), ["numbered", "2 images"]),
        (conversation(("human", "Choice list:[cat, dog]"), ("gpt", "bird")), ["'bird'", "cat", "dog"]),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_it(record: object, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read(record, is_open=False)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_errors_stay_short_whatever_the_value() -> None:
    for record in ("x" * 10**6, [[0] * 1000] * 1000, conversation(("human", "q"), ("gpt", ["y" * 10**6]))):
        with pytest.raises(DataError) as error:
            parse_conversation(record)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("<image> <image>", "ab"),
        ("<image1> <image2>", "ab"),
        ("<image_0> <Image-1>", "ab"),
        ("<image2> <image1>", "ba"),
        ("<|image_2|> then <|image_1|>", "ba"),
        ("<image1> <image0>", "ba"),
        ("<image_1> <ImageHere>", "ab"),
        ("< image /> <image_placeholder>", "ab"),
        ("<image 3> <image 1> <IMAGE 2>", "cab"),
    ],
)
def test_numbered_marks_show_the_images_that_they_name(text: str, images: str) -> None:
    found = parse_conversation(conversation(("human", text), ("gpt", "a"), images=sorted(images)))
    assert "".join(found.images) == images
    assert found.turns[0].text.count("<image>") == len(images)


def test_a_picture_under_either_key_is_read() -> None:
    for keys in ({"image": "a"}, {"images": ["a"]}, {"image": "a", "images": ["a"]}, {"image": "", "images": "a"}):
        assert parse_conversation(conversation(("human", "<image> q"), ("gpt", "a"), **keys)).images == ("a",)


def test_earlier_answers_are_spelled_as_their_options() -> None:
    record = conversation(
        ("human", "Which? Choice list:[Polish, polish]"), ("gpt", "polish"), ("human", "Sure?"), ("gpt", "so")
    )
    first, second = answers(parse_conversation(record), is_open=False)
    assert (first.text, first.options) == ("polish", ("Polish", "polish"))
    assert second.prompt == "Which? Choice list:[Polish, polish]\npolish\nSure?"
    assert (second.question, second.options) == ("Sure?", None)


def test_the_docs_show_a_record_and_list_all_harmless_keys() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    listed = re.search(r"where a record comes from: (.*?)\.\n", text, re.DOTALL)
    assert example
    assert listed
    assert read(json.loads(example[1]), is_open=False) == [("<image> What is it? Choice list:[cat, dog]", "cat")]
    assert set(re.findall(r"`(\w+)`", listed[1])) == HARMLESS
