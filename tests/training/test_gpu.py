"""What is only true of a card: skipped without one."""

import csv

import pytest
import torch
from tests.api.objects import capitals, colours, text_model
from torch import nn

import fedmosaic as fm
from fedmosaic.adapters import Adapter, Slot
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError
from fedmosaic.models import load_base_model
from fedmosaic.models.device import within_memory
from fedmosaic.models.libraries import installed
from fedmosaic.training import ModelPool

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SAMPLES = [Sample(f"s{i}", (), f"what is {i} ?", word) for i, word in enumerate(("red", "blue", "a colour"))]


def test_losses_on_a_card_are_those_of_the_cpu(home):
    losses = [
        base.loss(base.collate(SAMPLES)).item()
        for base in (
            load_base_model("tiny-llama", images=GivenImages(()), home=home, device=device)
            for device in ("cpu", "cuda")
        )
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_half_precision_on_a_card_is_near(home):
    base = load_base_model("tiny-llama", images=GivenImages(()), home=home, device="cuda", dtype="bfloat16")
    exact = load_base_model("tiny-llama", images=GivenImages(()), home=home)
    near = base.loss(base.collate(SAMPLES)).item()
    assert near == pytest.approx(exact.loss(exact.collate(SAMPLES)).item(), rel=0.05)


def test_off_loading_leaves_one_model_on_the_card(home):
    pool = ModelPool(images=GivenImages(()), home=home, device="cuda", offload=True)
    first = pool.model("tiny-llama")
    first.loss(first.collate(SAMPLES))
    one = torch.cuda.memory_allocated()
    pool.turn()
    second = pool.model("tiny-gemma")
    second.loss(second.collate(SAMPLES))
    assert first.module.device.type == "cpu" and second.module.device.type == "cuda"
    assert torch.cuda.memory_allocated() < 2 * one
    pool.turn()
    again = pool.model("tiny-llama")
    assert again.loss(again.collate(SAMPLES)).isfinite()


def gradients(home, *, device="cuda", autocast=None, recompute=False, **how):
    """The adapter's gradients for one batch, on the CPU."""
    base = load_base_model("tiny-llama", images=GivenImages(()), home=home, device=device, **how)
    base.autocast = autocast
    adapter = Adapter.attach(
        base.module, base.decoder, slots=[Slot("local", communicated=False)], rank=4, alpha=8, blocks=2, seed=1,
        architecture=base.architecture,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    for parameter in adapter.parameters("local").values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw).to(device)
    base.adapter, adapter.recompute = adapter, recompute
    adapter.train_only("local")
    base.loss(base.collate(SAMPLES)).backward()
    found = {name: each.grad for name, each in adapter.parameters("local").items()}
    assert {each.dtype for each in found.values()} == {torch.float32}
    return torch.cat([each.cpu().flatten() for each in found.values()])


def cosine(one, other):
    return nn.functional.cosine_similarity(one, other, dim=0).item()


def test_gradients_on_a_card_are_those_of_the_cpu(home):
    exact = gradients(home, device="cpu")
    torch.testing.assert_close(gradients(home), exact, rtol=1e-3, atol=1e-5)
    assert cosine(gradients(home, dtype="bfloat16"), exact) > 0.98  # with autocast
    assert cosine(gradients(home, dtype="bfloat16", autocast=False), exact) > 0.98
    assert cosine(gradients(home, dtype="float16"), exact) > 0.99


def test_layers_computed_again_give_the_same_gradients_on_a_card(home):
    how = {"dtype": "bfloat16", "attention": "eager"}
    torch.testing.assert_close(gradients(home, recompute=True, **how), gradients(home, **how), rtol=0, atol=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, own = tmp_path_factory.mktemp("checkpoint"), text_model()
    own.module.to(torch.bfloat16).save_pretrained(path)
    own.processor.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("options", "library"),
    [
        ({"quantisation": "nf4", "dtype": "bfloat16"}, "bitsandbytes"),
        ({"quantisation": "int8", "dtype": "bfloat16"}, "optimum.quanto"),
        ({"attention": "flash_attention_2", "dtype": "bfloat16"}, "flash_attn"),
        ({"attention": "sdpa"}, "torch"),
    ],
)
def test_checkpoints_compute_as_asked_for(home, folder, options, library):
    if not installed(library) or not installed("accelerate"):
        pytest.skip(f"needs {library} and accelerate")
    base, plain = (
        load_base_model(str(folder), images=GivenImages(()), home=home, device="cuda", **how)
        for how in (options, {"dtype": "bfloat16"})
    )
    assert base.architecture == plain.architecture
    with torch.no_grad():
        losses = [each.loss(each.collate(SAMPLES)).item() for each in (base, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def finished(out, device, **settings):
    clients = [
        {"id": i, "model": model, "tasks": [("capitals", "colours")[i % 2]]}
        for i, model in enumerate(("llama", "gemma", "llama"))
    ]
    return fm.run(
        fm.Scenario(name="facts", clients=clients),
        method="fedmosaic",
        rounds=2,
        device=device,
        out=out,
        training={"steps": 4, "batch_size": 4},
        adapter={"rank": 4, "alignment": "none", "dropout": 0.0},
        tasks=[capitals(), colours()],
        models={"llama": text_model(), "gemma": text_model("gemma", 1)},
        **settings,
    )


def last_loss(run):
    rows = csv.DictReader((run.path / "rounds.csv").read_text().splitlines())
    return float(list(rows)[-1]["loss"])


def test_a_run_on_a_card_is_near_that_on_the_cpu(tmp_path):
    card, cpu = (finished(tmp_path / device, device) for device in ("cuda", "cpu"))
    assert last_loss(card) == pytest.approx(last_loss(cpu), rel=0.02)
    assert card.client(0).ask([], "what is the capital of italy ?")


def test_clients_side_by_side_on_a_card_are_near_those_one_by_one(tmp_path):
    alone, together = (finished(tmp_path / cohort, "cuda", settings={"cohort": cohort}) for cohort in ("off", "auto"))
    assert last_loss(together) == pytest.approx(last_loss(alone), rel=0.02)
    assert last_loss(together) != last_loss(alone)  # sums are taken in another order


def test_a_run_saves_memory_in_every_way_at_once(tmp_path):
    how = {"dtype": "bfloat16", "offload": True, "autocast": "on"}
    run = finished(
        tmp_path / "run", "cuda", model=how, settings={"training.micro_batch": 2, "training.recompute": True}
    )
    assert run.results.costs.flops > 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_two_cards_give_the_results_of_one(tmp_path):
    one, two = (finished(tmp_path / name, name) for name in ("cuda:0", "cuda:0,cuda:1"))
    assert two.results.self_ == one.results.self_


def test_a_card_without_enough_memory_is_one_line(home):
    base = load_base_model("tiny-llama", images=GivenImages(()), home=home, device="cuda")
    words = r"memory of cuda:0 \(.* GiB\) does not suffice.*micro_batch"
    with pytest.raises(RunError, match=words) as caught, within_memory(base.device, "much is asked"):
        torch.empty(2**48, device="cuda")
    assert "\n" not in str(caught.value)
