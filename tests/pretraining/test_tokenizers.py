import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.errors import ModelError
from fedmosaic.models.special_tokens import BOS, EOS, IMAGE, IMAGE_ID, PAD, SPECIAL, UNKNOWN
from fedmosaic.pretraining.tokenizers import fit_tokenizer, is_one_token

CORPUS = [
    "what kind of thing is this ? options : bird fish answer : bird",
    "<image> first <image> second the odd one ?",
] * 30
WORDS = ["bird", "fish", "xylophone", "0", "12", "second"]


@pytest.fixture(scope="module", params=["word", "bpe", "unigram"])
def tokenizer(request):
    return fit_tokenizer(request.param, CORPUS, vocabulary=290, whole_words=WORDS)


def test_answer_words_are_single_tokens_wherever_they_stand(tokenizer):
    for word in WORDS:
        assert is_one_token(tokenizer, word)
        token = tokenizer.encode(word, add_special_tokens=False)
        inside = tokenizer.encode(f"this {word} ? {word}", add_special_tokens=False)
        assert inside.count(token[0]) == 2


def test_special_tokens_have_fixed_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (PAD, BOS, EOS)
    assert tokenizer.unk_token == UNKNOWN
    assert tokenizer.encode(f"{IMAGE} first", add_special_tokens=False)[0] == IMAGE_ID


def test_natural_writing_reads_like_the_corpus(tokenizer):
    assert tokenizer.encode("What kind of thing is this?") == tokenizer.encode("what kind of thing is this ?")


def test_saved_tokenizer_reads_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = "<image> first the odd xylophone ? 12"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.padding_side == "right"


@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.sampled_from(["bird", "fish", "xylophone", "odd", "first", "what"]), min_size=1, max_size=6))
def test_decoding_gives_the_words_back(words):
    for kind in ("word", "bpe", "unigram"):
        tokenizer = _cached(kind)
        text = " ".join(words)
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text


_TOKENIZERS: dict = {}


def _cached(kind):
    if kind not in _TOKENIZERS:
        _TOKENIZERS[kind] = fit_tokenizer(kind, CORPUS, vocabulary=290, whole_words=WORDS)
    return _TOKENIZERS[kind]


def test_a_phrase_cannot_be_a_single_token(tokenizer):
    for kind in ("word", "bpe", "unigram"):
        with pytest.raises(ModelError, match="ice cream"):
            fit_tokenizer(kind, CORPUS, vocabulary=290, whole_words=["bird", "ice cream"])
