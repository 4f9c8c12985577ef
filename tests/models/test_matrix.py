"""Every architecture of instances.py does everything of checks.py, or says in one line what it does not do.

The three that stand for the rest are fast; ``python benchmarks/checkpoints.py --write`` makes docs/models.md of all.
"""

from importlib.util import find_spec

import pytest
import torch
from tests.models import checks
from tests.models.instances import INSTANCES, LIMITS
from tests.models.making import save

from fedmosaic.errors import FedMosaicError

FAST = ("idefics3", "qwen2_vl", "llama")
LIGHT = ("load", "batch", "pictures", "answers", "tower adapter", "LoRA")  # of the fast ones


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Makes an instance's checkpoint once."""
    folders = {}

    def of(name, seed=0):
        if missing := [package for package in INSTANCES[name].needs if find_spec(package) is None]:
            pytest.skip(f"{' and '.join(missing)} not installed")
        if (name, seed) not in folders:
            folders[name, seed] = tmp_path_factory.mktemp(name)
            save(INSTANCES[name], folders[name, seed], seed=seed)
        return folders[name, seed]

    return of


def cases():
    for name in INSTANCES:
        for column in checks.CHECKS:
            fast = name in FAST and column in LIGHT
            yield pytest.param(name, column, id=f"{name}-{column}", marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize(("name", "column"), cases())
def test_it_does_what_a_base_model_must_do(saved, tmp_path, name, column):
    case = checks.Case(saved(name), lambda: saved(name, 1), tmp_path)
    if (name, column) in LIMITS:
        with pytest.raises(FedMosaicError, match=LIMITS[name, column]) as caught:
            checks.CHECKS[column](case)
        assert "\n" not in str(caught.value)
    else:
        checks.CHECKS[column](case)


SIZES = ("30x30", "90x40", "40x120", "112x112", "60x50")


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name, instance in INSTANCES.items()
        if instance.tiles
    ],
)
def test_several_pictures_of_unlike_sizes_become_as_many_tokens_as_the_processor_makes(saved, name):
    """One, two, five pictures and none in one batch: each sample's logits are its own."""
    model = checks.Case(saved(name), lambda: saved(name, 1), None).model()
    samples = [
        checks.Sample(str(count), SIZES[:count], "<image> and " * count + checks.WHAT, "bird", checks.KINDS)
        for count in (1, 2, 5, 0)
    ]
    model.prepare(samples)
    batch = model.collate(samples)
    token = model.interface.image_token
    found = (batch.input_ids == token).sum(1).tolist()
    assert found == [_tokens(model, sample.images, token) for sample in samples]
    assert len({_tokens(model, (size,), token) for size in SIZES}) > 1  # unlike sizes, unlike numbers of tokens
    together = model.answer_logits(batch)
    for row, sample in enumerate(samples):
        own = model.answer_logits(model.collate([sample]))
        torch.testing.assert_close(together.logits[together.rows == row], own.logits, **checks.CLOSE)


def _tokens(model, sizes, token):
    """Return the image tokens of a question's pictures, by the processor alone."""
    if not sizes:
        return 0
    asked = [{"role": "user", "content": [{"type": "image"} for _ in sizes]}]
    pictures = [checks.Noise().load(size) for size in sizes]
    inputs = model.processor(text=[model.processor.apply_chat_template(asked)], images=[pictures], return_tensors="pt")
    return int((inputs["input_ids"] == token).sum())
