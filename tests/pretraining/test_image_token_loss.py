import torch

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.models.base import Batch
from fedmosaic.models.special_tokens import IMAGE_ID
from fedmosaic.pretraining.image_token_loss import ImageTokenLoss

PICTURES = (
    Picture("000001", "icon", "openmoji", {"category": "bird", "colour": "", "name": "fish"}),
    Picture("000002", "grid", "photo", {"cells": ["bird", "", "tool", ""]}),
    Picture("000003", "icon", "openmoji", {"category": "fish tool", "name": "boat"}),  # no single token
)


def naming_loss(tiny, *keys):
    empty = torch.zeros(1, 1, dtype=torch.long)
    batch = Batch(empty, empty, empty, {"features": tiny.features.get(keys)})
    return ImageTokenLoss(PICTURES, tiny).loss(tiny, keys, batch)


@torch.no_grad()
def token_probabilities(tiny, key):
    projected = tiny.module.model.multi_modal_projector(tiny.features.get([key]))
    return tiny.head(tiny.decoder.norm(projected)).softmax(-1)[0].mean(0)  # what the four tokens name on average


def token(tiny, word):
    return tiny.tokenizer.encode(word, add_special_tokens=False)[0]


def test_the_loss_is_the_surprise_at_the_pictures_words(tiny):
    icon = token_probabilities(tiny, "000001")
    grid = token_probabilities(tiny, "000002")
    expected_icon = -icon[token(tiny, "bird")].log()
    expected_grid = -(grid[token(tiny, "bird")].log() + grid[token(tiny, "tool")].log()) / 2
    torch.testing.assert_close(naming_loss(tiny, "000001"), expected_icon)
    torch.testing.assert_close(naming_loss(tiny, "000001", "000002"), (expected_icon + expected_grid) / 2)


def test_a_picture_without_words_costs_nothing(tiny):
    assert naming_loss(tiny, "000003") == 0


def test_the_projector_learns_to_name(tiny):
    projector = tiny.module.model.multi_modal_projector
    before = {name: value.clone() for name, value in projector.state_dict().items()}
    projector.requires_grad_(True)
    optimiser = torch.optim.Adam(projector.parameters(), lr=1e-2)
    first = naming_loss(tiny, "000001", "000002").item()
    for _ in range(20):
        optimiser.zero_grad()
        naming_loss(tiny, "000001", "000002").backward()
        optimiser.step()
    last = naming_loss(tiny, "000001", "000002").item()
    projector.load_state_dict(before)
    projector.requires_grad_(False)
    assert last < 0.7 * first


def test_the_position_behind_an_icon_shall_name_its_kind(tiny):
    ask = Dialogue(
        ("000001", "000002", "000001"), (("<image> first <image> second <image> third what ? answer :", "bird"),)
    )
    batch = tiny.collate_dialogues([ask])
    naming = ImageTokenLoss(PICTURES, tiny)
    with torch.no_grad(), naming.recording(tiny):
        tiny.hidden_states(batch)
        loss = naming.first_layer_loss(tiny, ask.images, batch)
        first = tiny.module.model.language_model(input_ids=None, **first_layer_inputs(tiny, batch)).hidden_states[1]
    ordinals = [
        position
        for position in range(1, 16)
        if batch.input_ids[0, position - 1] == IMAGE_ID != batch.input_ids[0, position]
    ]
    assert len(ordinals) == 3
    named = tiny.head(tiny.decoder.norm(first[0, ordinals])).log_softmax(-1)[:, token(tiny, "bird")]
    torch.testing.assert_close(loss, -(named[0] + named[2]) / 2)  # the second picture is no icon


def first_layer_inputs(tiny, batch):
    """What the decoder reads: word embeddings with the projected features in the image tokens' places."""
    embedded = tiny.decoder.embed_tokens(batch.input_ids)
    embedded[batch.input_ids == IMAGE_ID] = tiny.module.model.multi_modal_projector(batch.vision["features"]).flatten(
        0, 1
    )
    return {"inputs_embeds": embedded, "attention_mask": batch.attention_mask, "output_hidden_states": True}
