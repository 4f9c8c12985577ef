"""What a run has read is noted; what has changed since is named, and nothing else is."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from tests.api.objects import text_model
from transformers import PreTrainedTokenizerFast

from fedmosaic.config import Scenario, resolve
from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import DataError, RunError
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.input_digests import InputDigests, model_digest
from fedmosaic.models import find_base_model
from fedmosaic.models.from_module import OwnModel
from fedmosaic.models.load import read_module


@dataclasses.dataclass
class Model:
    architecture: str


class World:
    """A benchmark of two tasks, a model folder and a LoRA folder; counts how often a task is asked for."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []
        self.pictures = {"one": "a cat"}
        self.images = self
        self.tasks = {name: self.make(name) for name in ("a", "b", "shown")}
        shown = (Sample("b-validation", ("one",), "<image> is it so ?", "yes"),)
        self.tasks["b"] = dataclasses.replace(self.tasks["b"], validation=shown)
        self.weights = "llama-1"
        for name, files in {"model": ("tokenizer.json", "README.md"), "lora": ("adapter_model.safetensors",)}.items():
            (folder / name).mkdir()
            for file in files:
                (folder / name / file).write_text(file)
        client = {"id": 0, "model": str(folder / "model"), "tasks": ["a"], "start": str(folder / "lora")}
        other = {"id": 1, "model": str(folder / "model"), "tasks": ["b"]}
        self.scenario = Scenario(name="s", benchmark="published", public="shown", clients=[client, other])

    def make(self, name, **changed):
        splits = {
            split: (Sample(f"{name}-{split}", (), "is it so ?", "yes"),) for split in ("train", "validation", "test")
        }
        return Task(name, "vqa", **{**splits, **changed})

    def digest(self, key):
        return self.pictures[key]

    def task(self, name):
        self.asked.append(name)
        return self.tasks[name]

    def inputs(self):
        models = dict.fromkeys([*self.scenario.models, self.scenario.probe], Model(self.weights))
        return InputDigests.of(
            Assets(resolve(self.scenario), benchmark=self, models=models), self.folder / "run" / "clients"
        )


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.inputs().keep()
    return world


def swap(task, split, text):
    (sample,) = getattr(task, split)
    return dataclasses.replace(task, **{split: (dataclasses.replace(sample, answer=text),)})


CHANGES = {
    "train samples of a": lambda world: world.tasks.update(a=swap(world.tasks["a"], "train", "no")),
    "validation samples of a": lambda world: world.tasks.update(a=world.make("a", validation=())),
    "test samples of b": lambda world: world.tasks.update(b=swap(world.tasks["b"], "test", "no")),
    "train samples of shown": lambda world: world.tasks.update(shown=swap(world.tasks["shown"], "train", "no")),
    "validation samples of b": lambda world: world.pictures.update(one="a dog"),
    "base model {folder}/model": lambda world: (world.folder / "model" / "tokenizer.json").write_text("other"),
    "base model {folder}/model ": lambda world: setattr(world, "weights", "llama-2"),
    "LoRA {folder}/lora": lambda world: (world.folder / "lora" / "adapter_model.safetensors").write_text("other"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_changed_is_named(world, name):
    CHANGES[name](world)
    with pytest.raises(DataError) as error:
        world.inputs().keep()
    named = name.format(folder=world.folder).strip()
    assert f"changed since the run in {world.folder / 'run'} began: {named};" in str(error.value)


def test_what_is_the_same_or_does_not_matter_passes(world):
    (world.folder / "model" / "README.md").write_text("more words")
    world.tasks = {name: dataclasses.replace(task, family="other") for name, task in reversed(world.tasks.items())}
    world.inputs().keep()
    world.inputs().check_all()


def test_only_what_is_asked_for_is_read_and_each_thing_once(world):
    world.asked.clear()
    inputs = world.inputs()
    inputs.check(models=world.scenario.models)
    assert world.asked == []
    for _ in range(3):
        inputs.check_all()
    assert sorted(world.asked) == ["a", "b", "shown"]


def test_many_changes_are_counted(world):
    for change in CHANGES.values():
        change(world)
    with pytest.raises(
        DataError, match="validation samples of a, validation samples of b, test samples of b and 3 more;"
    ):
        world.inputs().check_all()


def test_without_a_note_nothing_is_compared_and_a_damaged_one_is_named(world):
    path = world.inputs().path
    path.write_text("{")
    with pytest.raises(RunError, match=r"inputs\.json is damaged"):
        world.inputs().check_all()
    path.unlink()
    before = world.inputs()._task("b")
    CHANGES["validation samples of b"](world)
    world.inputs().check_all()
    world.inputs().keep()
    kept = json.loads(path.read_text())
    assert {name for name, digest in before.items() if kept[name] != digest} == {"validation samples of b"}


def test_notes_of_several_runs_are_compared_and_what_they_share_is_read_once(world, tmp_path):
    first, other = world.inputs(), tmp_path / "other" / "clients"
    first.beside(other).keep()
    asked = len(world.asked)
    first.check_all()
    assert len(world.asked) == asked
    CHANGES["train samples of a"](world)
    for folder in (first.path.parent, other):
        with pytest.raises(DataError, match=rf"changed since the run in {folder.parent} began: train samples of a;"):
            world.inputs().beside(folder).check_all()


def test_a_probe_that_is_no_clients_model_is_noted_too(world, tmp_path):
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "tokenizer.json").write_text("one")
    world.scenario = world.scenario.model_copy(update={"probe": str(tmp_path / "probe")})
    world.inputs().path.unlink()
    world.inputs().keep()
    (tmp_path / "probe" / "tokenizer.json").write_text("another")
    with pytest.raises(DataError, match=f"base model {tmp_path / 'probe'};"):
        world.inputs().check_all()


def test_a_model_that_is_given_as_an_object_is_more_than_its_weights(tmp_path):
    """Two with the same weights and unlike templates answer otherwise: known scores of one are not the other's."""

    def digest(template, theta=10000.0, used=False):
        own = text_model()
        own.processor.chat_template = template
        model = own.load("mine", images=InMemoryImages(), home=tmp_path)
        model.module.config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
        if used:
            own.processor(["one", "two and more"], padding=True, truncation=True, max_length=4)
        return model_digest("mine", SimpleNamespace(given={"mine": own}, known=lambda _: model))

    assert digest("{{ messages[0].content }}") == digest("{{ messages[0].content }}", used=True)
    assert len({digest("{{ messages[0].content }}"), digest("Q: {{ messages[0].content }}")}) == 2
    assert digest(None) != digest(None, theta=500000.0)


def test_an_embedded_model_under_another_name_is_an_object_too(tmp_path):
    folder = find_base_model("tiny-llama")
    own = OwnModel(read_module(folder), PreTrainedTokenizerFast.from_pretrained(folder))
    pool = SimpleNamespace(
        given={"mine": own}, known=lambda _: own.load("mine", images=InMemoryImages(), home=tmp_path)
    )
    assert model_digest("mine", pool) == model_digest("mine", pool)
