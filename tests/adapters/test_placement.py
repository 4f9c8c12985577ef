import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedmosaic.adapters.placement import EVERY_LAYER, block_ends, find_targets
from fedmosaic.errors import ModelError, SettingsError

SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
T5_CROSS = {f"{kind}.{letter}" for kind in ("SelfAttention", "EncDecAttention") for letter in "qkvo"}


@pytest.mark.parametrize(
    ("layers", "ends"),
    [
        (16, (3, 7, 11, 15)),
        (24, (5, 11, 17, 23)),
        (28, (6, 13, 20, 27)),
        (32, (7, 15, 23, 31)),
        (36, (8, 17, 26, 35)),
        (7, (0, 1, 2, 6)),
    ],
)
def test_block_ends_of_real_depths(layers, ends):
    assert block_ends(layers, 4) == ends


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 120).flatmap(lambda layers: st.tuples(st.just(layers), st.integers(1, layers))))
def test_block_ends_increase_and_include_the_last_layer(sizes):
    layers, blocks = sizes
    ends = block_ends(layers, blocks)
    assert len(ends) == blocks
    assert list(ends) == sorted(set(ends))
    assert ends[0] >= 0
    assert ends[-1] == layers - 1


def test_no_blocks_means_no_colora(make_model):
    placement = find_targets(make_model("llama"), blocks=0)
    assert placement.ends == ()
    assert all(target.block is None for target in placement.targets)


def test_more_blocks_than_layers_names_both_numbers():
    with pytest.raises(SettingsError, match=r"blocks=5 .* only 4 layer"):
        block_ends(4, 5)
    with pytest.raises(SettingsError, match="blocks=-2"):
        block_ends(4, -2)


@pytest.mark.parametrize(
    ("family", "stack", "layers", "modules"),
    [
        ("llama", "model.layers", 4, SEVEN),
        ("qwen2", "model.layers", 6, SEVEN),
        ("qwen3", "model.layers", 4, SEVEN),
        ("gemma3", "model.layers", 4, SEVEN),
        ("gpt_neox", "gpt_neox.layers", 4, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        ("opt", "model.decoder.layers", 4, {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}),
        ("gpt2", "transformer.h", 4, {"c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"}),
        ("mixtral", "model.layers", 4, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("t5", "decoder.block", 4, T5_CROSS | {"wi", "wo"}),
        ("llava", "model.language_model.layers", 4, SEVEN),
        ("idefics3", "model.text_model.layers", 4, SEVEN),
        ("smolvlm", "model.text_model.layers", 4, SEVEN),
        ("qwen2_vl", "model.language_model.layers", 4, SEVEN),
        ("qwen2_5_vl", "model.language_model.layers", 4, SEVEN),
    ],
)
def test_decoder_linears_are_found_and_nothing_else(make_model, family, stack, layers, modules):
    model = make_model(family)
    placement = find_targets(model, blocks=2)
    assert placement.layers == layers
    assert placement.ends == (layers // 2 - 1, layers - 1)
    assert {target.module for target in placement.targets} == modules
    assert len(placement.targets) == layers * len(modules)
    for target in placement.targets:
        assert target.path.startswith(f"{stack}.{target.layer}.")
        assert target.path.endswith(target.module)
        assert target.block == (placement.ends.index(target.layer) if target.layer in placement.ends else None)
        linear = model.get_submodule(target.path)
        sizes = set(linear.weight.shape)
        assert {target.in_features, target.out_features} == sizes
    assert [target.layer for target in placement.targets] == sorted(target.layer for target in placement.targets)


@pytest.mark.parametrize(
    ("family", "stack"),
    [
        ("llava", "model.language_model"),
        ("smolvlm", "model.text_model"),
        ("t5", "decoder"),
        ("opt", "model.decoder"),
        ("gpt_neox", "gpt_neox"),
    ],
)
def test_the_stack_alone_gives_the_same_targets(make_model, family, stack):
    model = make_model(family)
    whole, alone = find_targets(model, blocks=2), find_targets(model.get_submodule(stack), blocks=2)
    assert [f"{stack}.{target.path}" for target in alone.targets] == [target.path for target in whole.targets]


@pytest.mark.parametrize(
    ("family", "module", "widths"), [("llama", "down_proj", (48, 32)), ("gpt2", "c_fc", (32, 128))]
)
def test_input_and_output_widths_are_not_swapped(make_model, family, module, widths):
    targets = find_targets(make_model(family), blocks=0, modules={module}).targets
    assert {(target.in_features, target.out_features) for target in targets} == {widths}


def test_colora_names_agree_between_architectures_of_other_depth_and_width(make_model):
    names = [
        {target.prefix for target in find_targets(make_model(family), blocks=2).targets if target.block is not None}
        for family in ("llama", "qwen2", "gemma3")
    ]
    assert names[0] == names[1] == names[2]
    assert "block.1.q_proj" in names[0]


def test_every_layer_can_carry_co_lora(make_model):
    for family, layers in (("llama", 4), ("wide_llama", 6)):
        placement = find_targets(make_model(family), blocks=EVERY_LAYER)
        assert placement.ends == tuple(range(layers))
        assert all(target.block == target.layer for target in placement.targets)


def test_modules_can_be_chosen(make_model):
    placement = find_targets(make_model("llama"), blocks=0, modules={"q_proj", "v_proj"})
    assert {target.module for target in placement.targets} == {"q_proj", "v_proj"}
    with pytest.raises(SettingsError, match=r"query.*q_proj"):
        find_targets(make_model("llama"), blocks=0, modules={"query"})


class Stack(nn.Module):
    def __init__(self, *lists: nn.ModuleList) -> None:
        super().__init__()
        self.lists = nn.Module()
        for index, layers in enumerate(lists):
            self.lists.add_module(f"list{index}", layers)


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))


def test_two_equally_long_stacks_are_ambiguous():
    stacks = Stack(nn.ModuleList([block(), block()]), nn.ModuleList([block(), block()]))
    with pytest.raises(ModelError, match=r"list0.*list1"):
        find_targets(stacks, blocks=0)


def test_the_longest_stack_is_the_decoder():
    stacks = Stack(nn.ModuleList([block(), block()]), nn.ModuleList([block() for _ in range(3)]))
    assert find_targets(stacks, blocks=0).layers == 3


def test_lists_without_linears_or_of_unlike_layers_do_not_count():
    norms = nn.ModuleList([nn.LayerNorm(4) for _ in range(5)])
    unlike = nn.ModuleList([block(), nn.ModuleDict({"a": nn.Linear(4, 4)}), block()])
    with pytest.raises(ModelError, match="no list of like layers"):
        find_targets(Stack(norms, unlike), blocks=0)


def test_a_linear_shared_between_layers_is_refused():
    shared = nn.Linear(4, 4)
    with pytest.raises(ModelError, match="same module"):
        find_targets(Stack(nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])), blocks=0)
