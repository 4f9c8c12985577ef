"""System messages and instruction templates: as ``apply_chat_template`` writes them, or before the question."""

import pytest
import torch
from tests.models import instances, making
from tests.models.making import TEMPLATE

from fedmosaic.config.scenario import Scenario
from fedmosaic.config.validation import validate
from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.models.read import load_checkpoint
from fedmosaic.models.wording import Wording

SYSTEM = "you are a careful helper ."
ALPACA = "first say what it is .\n\n{question}\n\nanswer :"
ASKED = "what kind of thing is this ?"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
SILENT = "{% for m in messages if m['role'] == 'user' %}user : {{ m['content'] }}\n{% endfor %}assistant :\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name in ("llama", "idefics3"):
        made[name] = tmp_path_factory.mktemp(name)
        making.save(instances.INSTANCES[name], made[name])
    return made


@pytest.fixture
def model(folders, noise):
    return lambda name: load_checkpoint(name, folders[name], images=noise)


def prompt_of(model, sample):
    batch = model.collate([sample], with_answers=False)
    return model.tokenizer.decode(batch.input_ids[0][batch.attention_mask[0].bool()])


def chat(model, messages):
    owner = model.processor or model.tokenizer
    return model.tokenizer(
        owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), add_special_tokens=False
    )["input_ids"]


@pytest.mark.parametrize("wording", [Wording(), Wording(SYSTEM), Wording(SYSTEM, ALPACA), Wording(template=ALPACA)])
def test_a_text_models_prompt_is_what_its_chat_template_makes(model, wording):
    llama = model("llama")
    llama.wording = wording
    question = wording.template.replace("{question}", ASKED) if wording.template else ASKED
    messages = [{"role": "system", "content": SYSTEM}] if wording.system else []
    expected = chat(llama, [*messages, {"role": "user", "content": question}])
    batch = llama.collate([Sample("a", (), ASKED, "bird")], with_answers=False)
    assert batch.input_ids[0].tolist() == expected
    assert llama.collate([Sample("a", (), ASKED, "bird")]).input_ids[0, : len(expected)].tolist() == expected


def test_a_vision_language_models_system_message_comes_before_pictures(model):
    sees = model("idefics3")
    sees.wording = Wording(SYSTEM, ALPACA)
    sample = Sample("a", ("000001",), f"<image> {ASKED}", "bird")
    text = prompt_of(sees, sample)
    before, _, after = text.partition("user :")
    assert SYSTEM in before
    assert "<image>" not in before
    assert after.count("<image>") == 4 * (1 + 2)  # the whole, and a row of two tiles
    assert after.index("first say") < after.index("<image>") < after.index(ASKED)
    parts = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [{"type": "text", "text": "first say what it is ."}, {"type": "image"},
                                     {"type": "text", "text": f"{ASKED}\n\nanswer :"}]},
    ]  # fmt: skip
    theirs = sees.processor(
        text=[sees.processor.apply_chat_template(parts, add_generation_prompt=True)],
        images=[[sees.images.load("000001")]],
        add_special_tokens=False,
        return_tensors="pt",
    )
    assert torch.equal(sees.collate([sample], with_answers=False).input_ids, theirs["input_ids"])


@pytest.mark.parametrize("template", [NO_SYSTEM + TEMPLATE, SILENT, None])
def test_where_no_template_writes_it_the_system_message_begins_the_question(folders, noise, template):
    """Gemma 2's raises; others say nothing; base models have none. The question is asked in any case."""
    llama = load_checkpoint("llama", folders["llama"], images=noise)
    llama.tokenizer.chat_template = template
    llama = type(llama)("llama", llama.module, llama.tokenizer, None, noise)
    llama.wording = Wording(SYSTEM)
    text = prompt_of(llama, Sample("a", (), ASKED, "bird"))
    assert text.count(SYSTEM) == 1
    assert f"{SYSTEM} {ASKED}" in text  # this tokenizer reads line breaks as spaces
    assert "system :" not in text


def test_dialogues_have_one_system_message(model):
    llama = model("llama")
    llama.wording = Wording(SYSTEM)
    batch = llama.collate_dialogues([Dialogue((), ((ASKED, "bird"), ("which ?", "fish")))])
    assert llama.tokenizer.decode(batch.input_ids[0]).count(SYSTEM) == 1


def test_embedded_models_read_it_before_the_question(tiny, samples):
    try:
        plain = tiny.collate(samples[:1], with_answers=False).input_ids[0].tolist()
        tiny.wording = Wording("first second", "a {question} red")
        worded = tiny.collate(samples[:1], with_answers=False).input_ids[0].tolist()
        assert len(worded) > len(plain)
        image = plain[1:5]
        assert worded.index(image[0]) > plain.index(image[0])
        assert tiny.tokenizer.decode(worded).split()[-1] == "red"
    finally:
        tiny.wording = Wording()


def test_options_are_tokenised_after_the_templates_end(folders, noise):
    """A template that ends in a line break is followed by a word without a space, in batches and in options alike."""
    llama = load_checkpoint("llama", folders["llama"], images=noise)
    llama.tokenizer.chat_template = None
    llama = type(llama)("llama", llama.module, llama.tokenizer, None, noise)
    llama.wording = Wording(template="{question}\n")
    sample = Sample("a", (), ASKED, "bird", ("bird", "fish"))
    labels = llama.collate([sample]).labels
    assert llama.answer_tokens("bird") == labels[labels != -100].tolist()


CLIENTS = [{"id": 0, "model": "tiny-llama", "tasks": ["a"]}]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"template": "no place"}, "question.* once"),
        ({"template": "{question} {question}"}, "once"),
        ({"template": "<image> {question}"}, "mark"),
        ({"system": "see <image>"}, "mark"),
    ],
)
def test_words_that_cannot_be_used_are_one_line(table, words):
    with pytest.raises(SettingsError, match=words) as caught:
        validate(Scenario, {"clients": CLIENTS, **table}, source="a scenario")
    assert "\n" not in str(caught.value)


def test_scenarios_without_words_keep_their_digest():
    scenario = validate(Scenario, {"clients": CLIENTS}, source="a scenario")
    assert not {"system", "template"} & scenario.model_dump().keys()
