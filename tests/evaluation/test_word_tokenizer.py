"""One scoring for all scripts, with the reference library as the oracle where it has a word to say: on English."""
# ruff: noqa: RUF001 - letters that look like Latin ones are the point

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize

from fedmosaic.evaluation import token_f1
from fedmosaic.evaluation.metrics.rouge_l import rouge_l
from fedmosaic.evaluation.word_tokenizer import rouge_words, split_words

# Two words or four characters; the first half right; all wrong. Share of the half-right answer: by hand.
SCRIPTS = {
    "Latin": ("red bird", "red fish", "blue fish", 1 / 2),
    "Cyrillic": ("красная птица", "красная рыба", "синяя рыба", 1 / 2),
    "Greek": ("κόκκινο πουλί", "κόκκινο ψάρι", "μπλε ψάρι", 1 / 2),
    "Arabic": ("طائر أحمر", "طائر أزرق", "سمكة زرقاء", 1 / 2),
    "Persian": ("کتاب‌خانه بزرگ", "کتاب‌خانه کوچک", "مدرسه کوچک", 1 / 2),
    "Hebrew": ("צִפּוֹר אדומה", "צִפּוֹר כחולה", "דג כחול", 1 / 2),
    "Devanagari": ("लाल चिड़िया", "लाल मछली", "नीली मछली", 1 / 2),
    "Bengali": ("লাল পাখি", "লাল মাছ", "নীল মাছ", 1 / 2),
    "Tamil": ("சிவப்பு பறவை", "சிவப்பு மீன்", "நீல மீன்", 1 / 2),
    "Telugu": ("ఎర్ర పక్షి", "ఎర్ర చేప", "నీలి చేప", 1 / 2),
    "Georgian": ("წითელი ჩიტი", "წითელი თევზი", "ლურჯი თევზი", 1 / 2),
    "Armenian": ("կարմիր թռչուն", "կարմիր ձուկ", "կապույտ ձուկ", 1 / 2),
    "Ethiopic": ("ቀይ ወፍ", "ቀይ ዓሣ", "ሰማያዊ ዓሣ", 1 / 2),
    "Hangul": ("빨간 새", "빨간 물고기", "파란 물고기", 1 / 2),
    "Tibetan": ("བྱ་དམར", "བྱ་སྔོན", "ཉ་སྔོན", 1 / 2),
    "Han": ("红色小鸟", "红色大鱼", "蓝天大鱼", 1 / 2),
    "Kana": ("あかトリ", "あかネコ", "みどネコ", 1 / 2),
    "Thai": ("นกแดง", "นกขาว", "ปลาสีฟ้า", 2 / 5),
    "Lao": ("ນົກແດງ", "ນົກຂາວ", "ປາສີຟ້າ", 2 / 5),
    "Khmer": ("ឆ្មាស", "ឆ្កែ", "ត្រីខៀវ", 2 / 5),  # ឆ្ មា ស | ឆ្ កែ
    "Burmese": ("ငှက်နီ", "ငှက်ပြာ", "ကြောင်", 2 * 2 / (3 + 3)),  # ငှ က် နီ | ငှ က် ပြာ
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_right_half_right_and_wrong_answers_in_every_script(script):
    gold, half, wrong, share = SCRIPTS[script]
    for score in (token_f1, rouge_l):
        for right in (gold, f" «{gold}»! ", gold.upper(), unicodedata.normalize("NFD", gold)):
            assert score(right, gold) == score(gold, right) == 1.0
        assert score(half, gold) == score(half, unicodedata.normalize("NFD", gold)) == pytest.approx(share)
        assert score(wrong, gold) == 0.0
        assert score("", gold) == score(gold, "") == score("?!", gold) == 0.0


def test_combining_marks_stay_with_their_letters():
    assert split_words("हिन्दी में") == ["हिन्दी", "में"]
    assert token_f1("कमल", "कमाल") == 0.0  # they differ in a vowel sign alone
    assert split_words("ดี ดี้") == ["ดี", "ดี้"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5", "-5"), ("5", "−5"), ("-5", "–6"), ("3.5", "35"), ("3.5", "5.3"), ("3,5", "5,3"), ("1,000", "1"),
        (".5", "5"), ("-.5", ".5"), ("-$5", "$5"), ("x=-5", "x=5"), ("5²", "52"), ("1½", "11/2"), ("10⁻³", "10³"),
        ("10⁻³", "10-3"), ("1/2", "2/1"), ("12:30", "30:12"), ("½", "12"), ("٣٫٥", "٥٫٣"), ("5℃", "5℉"),
        ("$5", "€5"), ("x<y", "x>y"), ("2+2", "2-2"), ("C++", "C"), ("1.2.3", "3.2.1"),
    ],
)  # fmt: skip
def test_numbers_that_differ_are_not_the_same(one, other):
    assert token_f1(one, other) < 1
    assert token_f1(other, one) < 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-5", "−5"), ("-5", "–5"), ("-5", "－５"), ("+5", "5"), ("5", "٥"), ("५", "5"), ("๕", "5"), ("3.5", "٣٫٥"),
        ("1,000", "1000"),
        ("1,234,567.5 km", "1234567.5 km"), (".5", "0.5"), ("½", "1/2"), ("1,2,3", "1, 2, 3"), ("(3)", "3."),
        ("0.1,0.2", "0.1, 0.2"), ("ﬁne", "fine"), ("ＡＢＣ", "abc"), ("Straße", "STRASSE"), ("ΟΔΟΣ", "οδος"),
        ("ｶﾞ", "ガ"), ("H₂O", "h2o"), ("co\u00adop", "coop"), ("\u200fعربي\u200e", "عربي"), ("❤️", "❤"), ("3️⃣", "3"),
        ("Nike™", "nike"), ("don’t", "don't"), ("a\u00a0b", "a b"), ("x", "x\ufeff"),
    ],
)  # fmt: skip
def test_spellings_of_one_thing_are_the_same(one, other):
    assert token_f1(one, other) == 1
    assert token_f1(other, one) == 1


@pytest.mark.parametrize("score", [token_f1, rouge_l])
@pytest.mark.parametrize(
    ("gold", "wrong"),
    [
        ("?", "!"), ("...", "?"), ("+", "-"), (">", "<"), ("->", "<-"), ("%", "$"), (":)", ":("),
        ("_", "*"), ("。", "、"), ("¿", "?"),
        ("🐱", "🐶"), ("👩‍🚀", "👩‍🎨"), ("👍🏽", "👍🏿"), ("🇩🇪", "🇫🇷"), ("🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"), ("♠", "♥"),
        ("→", "←"), ("\ue000", "\ue001"),
    ],
)  # fmt: skip
def test_answers_of_punctuation_or_symbols_alone_can_be_right_and_wrong(score, gold, wrong):
    assert score(gold, gold) == score(f" {gold}\n", gold) == 1
    assert score(wrong, gold) == score("yes", gold) == score("", gold) == score(gold, "") == 0


def test_pictures_in_a_sentence_count():
    assert token_f1("a 🐱", "a 🐶") == rouge_l("a 🐱", "a 🐶") == 0.5
    assert split_words("👩‍🚀🇩🇪🇫🇷👍🏽!") == ["👩‍🚀", "🇩🇪", "🇫🇷", "👍🏽"]


def test_scripts_may_mix():
    assert split_words("GPT模型有3.5个层 и слой") == ["gpt", "模", "型", "有", "3.5", "个", "层", "и", "слой"]
    assert split_words("第-5页，2月") == ["第", "-5", "页", "2", "月"]


ENGLISH = [
    "The quick brown fox jumps over the lazy dog.",
    "It's the children's state-of-the-art science-fair project, isn't it?",
    'She said: "We\'ll meet at 12:30 p.m. in Room 4B (2nd floor)."',
    "Revenue rose 3.5% to $1,000,000.50 in Q3/2024, up from $950,000.",
    "In 1990-95 the U.S. and the U.K. signed COVID-19-like treaties; e.g. no. 7.",
    "The answer is (b) -- not (a) or (c) ...",
    "E-mail me@example.com, see https://example.com/a_b?c=d&e=f#g!",
    "It was -77 degrees, and the version was v1.2.3-rc4.",
    "A dog, a cat and two birds are sitting on a red bench",
    "The dog and two cats sat on the bench near a tree.",
    "mixed UPPER lower CamelCase snake_case * bullets * and <b>tags</b>",
    "5 x 3 = 15 and 1/2 + .5 is 1",
    "",
]


@pytest.mark.parametrize("gold", ENGLISH)
def test_rouge_l_equals_the_reference_library_on_english(gold):
    reference = RougeScorer(["rougeL"])
    for answer in ENGLISH:
        if answer or gold:
            assert rouge_l(answer, gold) == reference.score(gold, answer)["rougeL"].fmeasure


def test_rouge_l_tells_numbers_of_different_signs_apart_unlike_the_reference():
    assert RougeScorer(["rougeL"]).score("it is -5", "it is 5")["rougeL"].fmeasure == 1
    assert rouge_l("it is 5", "it is -5") == pytest.approx(2 / 3)


@given(st.text(st.characters(max_codepoint=127), max_size=40))
@example("-$.5--3,5%-1,000.5")
def test_the_words_of_rouge_l_are_the_references_but_for_the_sign_of_numbers(text):
    found = tokenize(text, None)
    assert not found or [word.lstrip("-") for word in rouge_words(text)] == found


@given(st.lists(st.sampled_from(["the", "red", "bird", "and", "blue", "fish", "tree"])), st.integers(0, 4))
def test_token_f1_of_plain_words_is_the_overlap_of_multisets(answer, seed):
    gold = ["the", "red", "bird", "and", "the", "blue", "fish"][seed:]
    common, left = 0, list(gold)
    for word in answer:
        if word in left:
            left.remove(word)
            common += 1
    expected = 2 * common / (len(answer) + len(gold))
    assert token_f1(" ".join(answer).title() + ".", ", ".join(gold)) == pytest.approx(expected)


@given(st.text(), st.text())
def test_any_text_is_itself_and_scores_are_shares(one, other):
    for score in (token_f1, rouge_l):
        assert score(one, one) == 1.0
        assert 0.0 <= score(one, other) <= 1.0
    assert token_f1(one, other) == token_f1(other, one)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_no_letter_or_digit_of_any_script_is_lost(text):
    assert split_words(text)
    assert token_f1("", text) == 0.0
