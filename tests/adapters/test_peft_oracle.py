"""PEFT's LoRA as an independent oracle for the single conventional slot."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from fedmosaic.adapters import Adapter, Slot

MODULES = {"llama": ["q_proj", "down_proj"], "gpt_neox": ["query_key_value", "dense_4h_to_h"], "gpt2": ["c_fc"]}


@pytest.mark.parametrize("family", MODULES)
def test_same_weights_give_pefts_logits_and_gradients(make_model, ids, family):
    ours, plain = make_model(family), make_model(family)
    adapter = Adapter.attach(
        ours, ours, slots=[Slot("local", communicated=True)], rank=4, alpha=12, seed=0, architecture=family,
        modules=MODULES[family],
    )  # fmt: skip
    torch.manual_seed(0)
    tensors = {name: torch.randn_like(tensor) * 0.2 for name, tensor in adapter.slot_tensors("local").items()}
    adapter.load_slot("local", tensors)
    theirs = get_peft_model(plain, LoraConfig(r=4, lora_alpha=12, target_modules=MODULES[family]))
    parameters = {}
    for adapted in adapter.linears():
        layer = theirs.base_model.model.get_submodule(adapted.path)
        for letter, module in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
            with torch.no_grad():
                module.weight.copy_(tensors[f"{adapted.target.prefix}.{letter}"])
            parameters[f"{adapted.target.prefix}.{letter}"] = module.weight
    adapter.train_only("local")
    own, other = ours(input_ids=ids, labels=ids), theirs(input_ids=ids, labels=ids)
    torch.testing.assert_close(own.logits, other.logits, atol=1e-5, rtol=1e-5)
    own.loss.backward()
    other.loss.backward()
    assert set(parameters) == set(tensors)
    for adapted in adapter.linears():
        for letter, parameter in adapted.linear.slot("local").items():
            torch.testing.assert_close(
                parameter.grad, parameters[f"{adapted.target.prefix}.{letter}"].grad, atol=1e-6, rtol=1e-4
            )
