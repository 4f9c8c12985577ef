import pytest

from fedmosaic.alignment.positions import SamplePositions, ends_by_spelling, find_positions, match_positions
from fedmosaic.data.sample import Sample


def squeezed(model, tokens):
    """The characters that a model has read, without marks and spaces."""
    return "".join(model.tokenizer.decode(tokens, skip_special_tokens=True).split())


@pytest.mark.slow
def test_matched_text_positions_have_read_the_same(models, samples):
    chosen = samples[:12]
    batches = {name: model.collate(chosen) for name, model in models.items()}
    found = {name: find_positions(model, chosen, batches[name]) for name, model in models.items()}
    for row, sample in enumerate(chosen):
        matches = list(match_positions([found[name][row] for name in models]))
        text = [one for one in matches if one.kind == "text"]
        for one in text:
            read = {
                squeezed(model, batches[name].input_ids[row, : column + 1])
                for (name, model), column in zip(models.items(), one.columns, strict=True)
            }
            assert len(read) == 1
        # Every word but the last (where the answer is predicted) ends a token in all three tokenizers.
        words = sample.prompt.replace("<image>", "").split()
        ends = {len("".join(words[: i + 1])) for i in range(len(words) - 1)}
        assert ends <= set(found["tiny-llama"][row].text)
        assert len(text) >= len(ends)


@pytest.mark.slow
def test_image_and_answer_positions_are_those_of_the_batch(models, samples):
    chosen = samples[:4]
    for model in models.values():
        with_answers, without = model.collate(chosen), model.collate(chosen, with_answers=False)
        for row, sample in enumerate(chosen):
            one, other = find_positions(model, chosen, with_answers)[row], find_positions(model, chosen, without)[row]
            assert one == other
            assert one.answer == int(without.last[row])
            assert [len(image) for image in one.images] == [4] * len(sample.images)
            image_tokens = (with_answers.input_ids[row] == 3).nonzero()[:, 0].tolist()
            assert [position for image in one.images for position in image] == image_tokens


def test_longer_image_token_lists_are_thinned_evenly():
    few, many = SamplePositions([[1, 2]], {}, 9), SamplePositions([[1, 2, 3, 4, 5, 6]], {}, 9)
    kinds = [(one.kind, one.columns) for one in match_positions([few, many])]
    assert kinds == [("image", (1, 2)), ("image", (2, 5)), ("answer", (9, 9))]


def test_what_a_chat_template_adds_is_passed_over(models):
    model = models["tiny-qwen2"]
    plain = Sample("x", (), "what kind of thing is this ? answer :", "bird")
    framed = Sample("x", (), f"answer : first {plain.prompt} second", "bird")
    batch = model.collate([framed])
    found = find_positions(model, [plain], batch)[0]  # the model has read more than the sample's text
    alone = find_positions(model, [plain], model.collate([plain]))[0]
    frame = len(model.tokenizer.encode("answer : first", add_special_tokens=False))
    assert {key: position - frame for key, position in found.text.items() if key in alone.text} == alone.text


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-gemma"])
def test_ends_by_spelling_agree_with_the_tokenizers_own_offsets(models, name):
    tokenizer = models[name].tokenizer
    text = "which image shows a bird and not a fish ? options : first second answer :"
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces = [tokenizer.decode([token]) for token in encoded["input_ids"]]
    if name == "tiny-llama":
        pieces = [f" {piece}" for piece in pieces]
    found = ends_by_spelling(text, pieces)
    read = [end for end, piece in zip(found, pieces, strict=True) if piece.strip()]
    known = [end for (_, end), piece in zip(encoded["offset_mapping"], pieces, strict=True) if piece.strip()]
    same = sum(a == b for a, b in zip(read, known, strict=True))
    assert same >= 0.9 * len(known)


def test_an_unknown_word_ends_nowhere():
    assert ends_by_spelling("a zebra runs", ["a", " <unk>", " runs"]) == [1, 0, 12]
