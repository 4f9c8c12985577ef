"""A client with a proxy model leaves its run as two LoRAs, which answer together as it did."""

import json

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tests.cli.calling import call
from tests.federation.scenario import small
from tests.text_only import make_scenario

import fedmosaic as fm
from fedmosaic.api.exporting import export
from fedmosaic.config import load_scenario, resolve
from fedmosaic.data.images import GivenImages
from fedmosaic.errors import FedMosaicError, ModelError, SettingsError
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.final_model import answering
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.models.wording import Wording

pytestmark = pytest.mark.slow  # whole runs

WORDING = Wording("Be brief.", "Think of colours and capitals: {question} answer :")
FAMILIARITY = {"weighting": "familiarity", "weight_familiar": 0.5, "weight_foreign": 3.0, "novelty_quantile": 0.3}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """Two unlike text models with a proxy, relevance from updates, a memory, and words around every question."""
    folder = tmp_path_factory.mktemp("text")
    settings = resolve(
        load_scenario(str(make_scenario(folder, "llama", "gemma"))),
        method="fedmosaic-proxy",
        rounds=3,
        training={"steps": 2, "batch_size": 4, "learning_rate": 0.05},
        adapter={"rank": 4, "alignment": "none"},
        method_settings={**FAMILIARITY, "relevance": "update", "remembered": 4},
        overrides=[f"scenario.system={WORDING.system}", f"scenario.template={WORDING.template}"],
    )
    engines.run(settings, RunFolder.create(folder / "run", settings))
    return folder / "run"


@torch.inference_mode()
def test_text_clients_answer_from_their_folders_as_in_the_run(text_run, tmp_path):
    run = fm.load_run(text_run)
    for client in (0, 1):
        out = run.client(client).export(tmp_path / str(client))
        assert {each.name for each in out.iterdir()} == {
            "README.md", "own", "proxy", "product.json", "known.safetensors",
        }  # fmt: skip
        exported, runtime = fm.ExportedProduct.from_pretrained(out), run.open()
        tasks = [runtime.assets.benchmark.task(name) for name in ("Colours-0", "Capitals-0")]
        choices, asked = tasks[0].test, tasks[1].test[:5]
        with answering(runtime, client) as model:
            expected, answers, weights = log_likelihoods(model, choices), model.answer(asked), model.weigh(choices)
        torch.testing.assert_close(log_likelihoods(exported.model, choices), expected, atol=1e-4, rtol=1e-5)
        assert exported.model.answer(asked) == answers
        assert exported.model.weigh(choices).tolist() == weights.tolist()
        assert set(weights.tolist()) <= {0.5, 3.0}
        question, options = choices[0].prompt, choices[0].options
        assert exported.ask(None, question, options) == run.client(client).ask(None, question, options)
        assert exported.model.inner.wording == exported.model.second.wording == WORDING
        assert f"system = {WORDING.system!r}\ntemplate = {WORDING.template!r}\n" in (out / "README.md").read_text()
        untrained = log_likelihoods(exported.model.inner, choices)[0]
        assert not torch.allclose(untrained, expected[0], atol=1e-2)


def test_what_was_received_is_exported_where_it_has_a_say(tmp_path):
    settings = resolve(
        load_scenario(str(make_scenario(tmp_path, "llama", "gemma"))),
        method="fedmosaic-proxy",
        rounds=2,
        training={"steps": 2, "batch_size": 4, "learning_rate": 0.05},
        adapter={"rank": 4, "alignment": "none"},
        method_settings={**FAMILIARITY, "restart": 0.5, "share": 0.5, "common_familiar": 0.25, "common_foreign": 0.75},
    )
    engines.run(settings, RunFolder.create(tmp_path / "run", settings))
    run = fm.load_run(tmp_path / "run")
    for client in (0, 1):
        for after in (False, True):
            out = run.client(client, after_exchange=after).export(tmp_path / f"{client}-{after}")
            assert {each.name for each in out.iterdir() if each.is_dir()} == {"own", "proxy", "common"}
            exported, runtime = fm.ExportedProduct.from_pretrained(out), run.open(after_exchange=after)
            choices = runtime.assets.benchmark.task("Colours-0").test
            asked = runtime.assets.benchmark.task("Capitals-0").test[:5]
            with torch.inference_mode(), answering(runtime, client) as model:
                expected, answers = log_likelihoods(model, choices), model.answer(asked)
            with torch.inference_mode():
                found = log_likelihoods(exported.model, choices)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
            assert exported.model.answer(asked) == answers


@torch.inference_mode()
def test_an_export_of_before_wordings_were_kept_asks_as_it_did(text_run, tmp_path):
    run = fm.load_run(text_run)
    out = run.client(0).export(tmp_path / "out")
    table = json.loads((out / "product.json").read_text())
    (out / "product.json").write_text(
        json.dumps({name: value for name, value in table.items() if name not in ("system", "template")})
    )
    exported = fm.ExportedProduct.from_pretrained(out)
    assert exported.model.inner.wording == exported.model.second.wording == Wording()


def test_the_own_base_model_has_the_name_that_is_given(text_run, tmp_path):
    export(text_run, 0, "lora", tmp_path / "out", base_model="some-lab/their-model")
    named = {
        part: json.loads((tmp_path / "out" / part / "adapter_config.json").read_text()) for part in ("own", "proxy")
    }
    assert named["own"]["base_model_name_or_path"] == "some-lab/their-model"
    proxy = named["proxy"]["base_model_name_or_path"]
    assert proxy != "some-lab/their-model"
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"`own` for `some-lab/their-model`, and `proxy` for `{proxy}`" in text
    assert ModelCard(text).data.base_model[0] == "some-lab/their-model"
    fm.ExportedProduct.from_pretrained(tmp_path / "out")  # which still finds the model where the run did


def test_clients_with_eyes_and_a_tower_adapter_do_too(monkeypatch, capsys, tmp_path):
    settings = small(
        "fedmosaic-proxy", rounds=1, adapter={"blocks": 0, "rank": 4, "tower_rank": 8, "alignment": "none"}
    )
    engines.run(settings, RunFolder.create(tmp_path / "run", settings))
    status, shown, error = call(
        monkeypatch, capsys, "export", tmp_path / "run", "--client", 2, "--as", "lora", "--out", tmp_path / "out"
    )
    assert status == 0, error
    assert "README.md" in shown
    exported, run = fm.ExportedProduct.from_pretrained(tmp_path / "out"), fm.load_run(tmp_path / "run")
    picture = Image.effect_noise((80, 60), 90).convert("RGB")
    options = ("up", "down", "rise", "fall")
    question = "what is the trend of the line ? options : up down rise fall answer :"
    assert exported.ask(picture, question, options) == run.client(2).ask(picture, question, options)
    assert exported.ask(picture, question) == run.client(2).ask(picture, question)
    with answering(run.open(images=GivenImages(())), 2) as model:
        for part, inner in (("own", exported.model.inner), ("proxy", exported.model.second)):
            theirs = {"own": model.inner, "proxy": model.second}[part].module.state_dict()
            mine = inner.module.state_dict()
            for name, weight in mine.items():
                torch.testing.assert_close(weight, theirs[name], atol=1e-6, rtol=1e-5)


def test_two_models_are_no_one_checkpoint_and_what_does_not_fit_is_refused(text_run, tmp_path):
    client = fm.load_run(text_run).client(0)
    with pytest.raises(SettingsError, match="--as lora"):
        client.export(tmp_path / "merged", "merged")
    out = client.export(tmp_path / "out")
    with pytest.raises(ModelError, match="own base"):
        fm.ExportedProduct.from_pretrained(
            out, proxy=str(json.loads((out / "product.json").read_text())["own"]), own="tiny-llama"
        )
    (out / "product.json").write_text('{"own": 3}')
    with pytest.raises(FedMosaicError, match=r"product\.json"):
        fm.ExportedProduct.from_pretrained(out)
