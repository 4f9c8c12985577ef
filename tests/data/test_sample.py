import pytest

from fedmosaic.data.sample import Sample
from fedmosaic.data.texts import check_text, is_blank, normalised
from fedmosaic.errors import DataError

SCRIPTS = (
    "naïve café Ελληνικά русский العربية עברית हिन्दी ไทย 中文 日本語 한국어 \U0001f469\u200d\U0001f467"
    " \u200ba\u200db x\u00a0y tab\tline\r\npage\f"
)


def test_texts_of_all_scripts_are_taken() -> None:
    assert Sample("s", (), SCRIPTS, SCRIPTS).answer == SCRIPTS


@pytest.mark.parametrize("code", [0, 1, 8, 0x0E, 0x1B, 0x1F, 0x7F, 0x80, 0x9F, 0xD800, 0xDCE9, 0xDFFF])
def test_control_characters_and_lone_surrogates_are_named(code: int) -> None:
    bad = f"ab{chr(code)}c"
    for sample in (("q", "a", ("a", bad)), (bad, "a", None), ("q", bad, None)):
        with pytest.raises(DataError, match=f"'s'.*U\\+{code:04X} at character 2") as error:
            Sample("s", (), *sample)
        str(error.value).encode()  # the message itself can be printed
    with pytest.raises(DataError, match="the path"):
        check_text(bad, "the path")


@pytest.mark.parametrize(
    ("images", "prompt", "answer", "options", "words"),
    [
        ((), "<image> q", "a", None, "1 <image> mark"),
        (("k",), "q", "a", None, "0 <image> mark"),
        ((), " ", "a", None, "prompt is empty"),
        ((), "q", "", None, "answer is empty"),
        ((), "q", "\u200b \n", None, "answer is empty"),
        ((), "q", "<image>", None, "answer '<image>' holds"),
        ((), "q", "a", ("a", "<image> b"), "option '<image> b' holds"),
        ((), "q", "a", ("a", " "), "option is empty"),
        ((), "q", "a", ("a",), "1 option"),
        ((), "q", "a", (), "0 option"),
        ((), "q", "a", ("a", "b", "a"), "repeat"),
        ((), "q", "c", ("a", "b"), "'c' is not among"),
    ],
)
def test_samples_that_mean_nothing_are_refused(
    images: tuple[str, ...], prompt: str, answer: str, options: tuple[str, ...] | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Sample("s", images, prompt, answer, options)


def test_options_that_differ_in_case_only_are_two() -> None:
    assert Sample("s", (), "q", "polish", ("Polish", "polish")).answer == "polish"


def test_texts_that_look_alike_are_plainly_equal() -> None:
    assert normalised("  \uff23afe\u0301 \n STRASSE") == normalised("café straße")
    assert normalised("a b") != normalised("ab")
    assert is_blank("\u2060\u00ad ")
    assert not is_blank(".")
