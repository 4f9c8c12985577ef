"""Any transformers checkpoint as a base model.

Vision-language models are driven through their processor, text models through their tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.base import (
    IGNORED,
    BaseModel,
    Batch,
    find_decoder,
    freeze,
    output_matrix,
    pad_right,
    reads_in_order,
)
from fedmosaic.models.batch import beside_tokens, reading
from fedmosaic.models.chat_format import ChatFormat, Turns
from fedmosaic.models.end_tokens import complete_end_tokens, known_tokens
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.library_errors import model_errors
from fedmosaic.models.parameter_linear import give_linear
from fedmosaic.models.pixels import fit_image
from fedmosaic.models.positions import check_lengths, position_limit
from fedmosaic.models.tower_features import NAME, TowerFeatures

if TYPE_CHECKING:
    from fedmosaic.data.dialogue import Dialogue


_CHUNK = 256  # samples that are tokenised at once to check their lengths
_QUESTION = "what is this ?"
_NO_ORDER = (
    "{} reads a text at once, so that its predictions would see the answers that they should give; "
    "use a model that reads from left to right"
)
_LARGE = ((3600, 3600), (3600, 600), (600, 3600))  # sizes that processors which split images turn into most tokens


class CheckpointModel(BaseModel):
    """A pretrained model from a transformers folder.

    Prompts go through the model's chat template where it has one. Answers are tokenised as the continuation of the
    prompt and end with the tokenizer's end-of-sequence token, which for chat models is the end of the turn.

    Args:
        name: how the user calls it.
        module: the transformers model; is frozen.
        tokenizer: its tokenizer.
        processor: its processor; None for text models.
        images: where the samples' images are.

    Attributes:
        features: keeps what the vision tower gives of pictures; None: it runs on every batch.

    Raises:
        ModelError: the tokenizer has no end-of-sequence token, the chat template raises, or the model is of a kind that
            cannot carry adapters.
    """

    keeps_past = None
    features: TowerFeatures | None = None

    def __init__(
        self,
        name: str,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        processor: Any,
        images: ImageSource,
    ) -> None:
        complete_end_tokens(tokenizer, module)
        give_linear(module)
        self.name = name
        self.module = freeze(module)
        self.tokenizer = tokenizer
        self.processor: Any = processor  # None for text models
        self.reads_images = processor is not None
        self.images = images
        self.decoder = find_decoder(module)
        self.architecture = architecture_name(module)
        self.limit = position_limit(module.config)
        self._chat_format = ChatFormat(tokenizer, processor)
        self._plain_head = False  # whether a vision-language model leaves out what its language model does to logits
        self._needs_pictures = False
        self._answer_type = 0  # of the tokens of an answer, where tokens have types
        self._check_head()
        if self.reads_images:
            self._check_pictures()

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """See :meth:`BaseModel.collate`; ``vision`` holds whatever else the processor returns."""
        turns = [((self.wording.question(sample.prompt), sample.answer),) for sample in samples]
        ids = [sample.id for sample in samples]
        self._check_images(samples)
        keys = [sample.images for sample in samples]
        return self._batch(turns, self._load(keys), ids, with_answers=with_answers, keys=keys)

    def collate_dialogues(self, dialogues: Sequence[Dialogue]) -> Batch:
        """See :meth:`BaseModel.collate_dialogues`."""
        turns = [dialogue.turns for dialogue in dialogues]
        ids = [f"dialogue {index}" for index in range(len(dialogues))]
        keys = [dialogue.images for dialogue in dialogues]
        return self._batch(turns, self._load(keys), ids, with_answers=True, keys=keys)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Make sure that the model can read all samples, and compute the features of their images if these are kept.

        Images are opened only where their size could matter, or their features are missing.

        Args:
            samples: all that will be collated.

        Raises:
            DataError: a sample has images and this is a text model.
            ModelError: a sample (it is named) does not fit into the model's positions or has tokens that the model does
                not know, or the chat template raises on its text.
        """
        if self.features is not None and self.reads_images:
            self.features.prepare([key for sample in samples for key in sample.images])
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            self._check_images(chunk)
            for sample, row in zip(chunk, self._text_rows(chunk), strict=True):
                self._check_tokens([sample.id], [row])
                images = len(sample.images)
                if self.limit is not None and len(row) + (images and images * self._most_image_tokens) > self.limit:
                    self.collate([sample])  # with its images as they are: raises if they do not fit

    def decode(self, batch: Batch) -> Tensor:
        """See :meth:`BaseModel.decode`."""
        vision = {
            name: tensor.to(self.module.dtype) if tensor.is_floating_point() else tensor
            for name, tensor in batch.vision.items()
        }
        states = vision.pop(NAME, None)
        pictures = {} if states is None or self.features is None else self.features.arguments(self.module, states)
        if self._answer_type:
            answers = (batch.labels != IGNORED).cumsum(1) > 0
            vision |= {
                name: tensor.masked_fill(answers, self._answer_type)
                for name, tensor in vision.items()
                if beside_tokens(tensor, batch.input_ids)
            }
        output = self.module.base_model(
            input_ids=batch.input_ids, **reading(self.module, replace(batch, vision=vision)), **vision, **pictures
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits (..., V), scaled or capped as in the model's family. See :meth:`BaseModel.head`."""
        logits: Tensor = output_matrix(self.module)(hidden)
        if self._plain_head:
            return logits
        config = self.module.config.get_text_config()
        if scale := getattr(config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scaling := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / scaling
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
            logits = torch.tanh(logits / cap) * cap
        return logits

    def continuations(self, samples: Sequence[Sample]) -> list[list[int]]:
        """See :meth:`BaseModel.continuations`; images are not looked at."""
        rows = []
        for sample in samples:
            turns = ((self.wording.question(sample.prompt), sample.answer),)
            pieces = self._chat_format.pieces(turns, system=self.wording.system)
            rows.append(self._chat_format.continuation(pieces, [sample.answer])[0])
        self._check_tokens([sample.id for sample in samples], rows)
        return rows

    def picture_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """Return what the processor makes of one picture in a short question.

        Args:
            image: any mode.
        """
        (text,) = self._chat_format.pieces(((f"{IMAGE_MARK} ?", ""),))
        return self._process([text], [[image]])

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Have the model on its device and without an adapter inside the block."""
        if self.residence is not None:
            self.residence.enter(self)
        attached = self.adapter if self.adapter is not None and self.adapter.attached else None
        if attached is not None:
            attached.detach()
        try:
            yield
        finally:
            if attached is not None:
                attached.reattach()

    def answer_tokens(self, answer: str) -> list[int]:
        """See :meth:`BaseModel.answer_tokens`; no picture is needed for it."""
        if answer not in self._known_answers:
            pieces = self._chat_format.pieces(((self.wording.question("answer :"), answer),))
            self._known_answers[answer] = self._chat_format.continuation(pieces, [answer])[0]
        return list(self._known_answers[answer])

    @property
    def end_tokens(self) -> Tensor:
        """Return the ids that end an answer: the tokenizer's, and those of the generation settings."""
        more = getattr(self.module.generation_config, "eos_token_id", None) or []
        ids = {self.tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])}
        return torch.tensor(sorted(ids))

    def save_processor(self, folder: Path) -> None:
        """See :meth:`BaseModel.save_processor`."""
        (self.tokenizer if self.processor is None else self.processor).save_pretrained(folder)

    def _load(self, keys: Sequence[Sequence[str]]) -> list[list[Image.Image]]:
        return [[self.images.load(key) for key in row] for row in keys]

    def _batch(
        self,
        turns: Sequence[Turns],
        images: list[list[Image.Image]],
        ids: Sequence[str],
        *,
        with_answers: bool,
        keys: Sequence[Sequence[str]] = (),
    ) -> Batch:
        rendered = [self._chat_format.pieces(dialogue, system=self.wording.system) for dialogue in turns]
        inputs = self._process([pieces[0] for pieces in rendered], images)
        read = inputs.pop("attention_mask").bool()  # whatever side the processor pads on
        prompts = inputs.pop("input_ids")
        rows, labels = [], []
        for prompt, mask, pieces, dialogue in zip(prompts, read, rendered, turns, strict=True):
            row: list[int] = prompt[mask].tolist()
            label = [IGNORED] * len(row)
            if with_answers:
                more, answers = self._chat_format.continuation(pieces, [answer for _, answer in dialogue])
                row += more
                label += answers
            rows.append(row)
            labels.append(label)
        check_lengths(self.name, self.limit, ids, [len(row) for row in rows])
        self._check_tokens(ids, rows)
        width = max(map(len, rows))
        vision = {
            name: pad_right([row[mask].tolist() for row, mask in zip(tensor, read, strict=True)], 0, width=width)
            if beside_tokens(tensor, prompts)
            else tensor
            for name, tensor in inputs.items()
        }
        if self.features is not None and self.interface is not None and any(keys):
            marks = sum(row.count(self.interface.image_token) for row in rows)
            vision = self.features.instead_of_pixels(vision, [key for row in keys for key in row], marks)
        batch = Batch(
            input_ids=pad_right(rows, int(self.tokenizer.pad_token_id)),
            attention_mask=pad_right([[1] * len(row) for row in rows], 0),
            labels=pad_right(labels, IGNORED),
            vision=vision,
        )
        return batch.to(self.device)

    def _text_rows(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Return each sample's tokens, answer included, in which an image is as long as its mark."""
        rendered = [
            self._chat_format.pieces(
                ((self.wording.question(sample.prompt), sample.answer),), system=self.wording.system
            )
            for sample in samples
        ]
        prompts = self.tokenizer(
            [pieces[0] for pieces in rendered], add_special_tokens=self._chat_format.adds_special_tokens
        )["input_ids"]
        return [
            [*prompt, *self._chat_format.continuation(pieces, [sample.answer])[0]]
            for prompt, pieces, sample in zip(prompts, rendered, samples, strict=True)
        ]

    @cached_property
    def _most_image_tokens(self) -> int:
        """Return the tokens of the largest of some large images; processors that split images split these."""
        lengths = [self.picture_inputs(Image.new("RGB", size))["input_ids"].shape[1] for size in _LARGE]
        return max(lengths)

    def _check_images(self, samples: Sequence[Sample]) -> None:
        """Refuse pictures for a text model, and their absence for a model that cannot do without."""
        for sample in samples:
            if sample.images and not self.reads_images:
                raise DataError(
                    f"base model {self.name!r} is a text model, but a sample has images; "
                    "use a vision-language model for this task"
                )
            if self._needs_pictures and not sample.images:
                raise DataError(
                    f"base model {self.name!r} reads no text without a picture, but sample {sample.id!r} has none; "
                    "use another base model for this task"
                )

    def _check_tokens(self, ids: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        """Make sure that the model has an embedding for every token: a tokenizer may have more."""
        known = known_tokens(self.module)
        for name, row in zip(ids, rows, strict=True):
            if (largest := max(row, default=0)) >= known:
                raise ModelError(
                    f"sample {name!r} has the token {self.tokenizer.convert_ids_to_tokens(largest)!r} ({largest}), but "
                    f"base model {self.name!r} has only {known} embeddings; its tokenizer does not fit its weights"
                )

    def _process(self, texts: list[str], images: list[list[Image.Image]]) -> dict[str, Tensor]:
        """Return the processor's tensors for prompts; ``input_ids`` and ``attention_mask`` are right-padded."""
        common = {"padding": True, "return_tensors": "pt", "add_special_tokens": self._chat_format.adds_special_tokens}
        if self.processor is None:
            inputs = self.tokenizer(texts, **common)
            return {name: inputs[name] for name in ("input_ids", "attention_mask")}
        images = [[fit_image(image, self.processor) for image in row] for row in images]
        inputs = self._with_images(texts, images, common) if any(images) else self.processor(text=texts, **common)
        return {name: tensor for name, tensor in inputs.items() if isinstance(tensor, Tensor) and name != "labels"}

    def _with_images(self, texts: list[str], images: list[list[Image.Image]], common: dict[str, Any]) -> Any:
        """Hand over one list of images per text; where empty lists are not understood, one list for all."""
        try:
            return self.processor(text=texts, images=images, **common)
        except (ValueError, IndexError, TypeError):
            if all(images):
                raise
        return self.processor(text=texts, images=[image for row in images for image in row], **common)

    @torch.no_grad()
    def _check_head(self) -> None:
        """Make sure that ``head(hidden_states)`` is what the model itself computes."""
        ids = torch.arange(4, device=self.device)[None] + 5
        batch = Batch(ids, torch.ones_like(ids), torch.full_like(ids, IGNORED))
        ours = self.head(self.hidden_states(batch)).float()
        theirs = self.module(input_ids=ids, attention_mask=batch.attention_mask, use_cache=False).logits.float()
        if not theirs.isfinite().all():
            raise ModelError(
                f"the logits are not finite in {self.module.dtype}; the weights are damaged, or need another "
                "model.dtype (bfloat16 where float16 overflows)"
            )
        close = partial(torch.allclose, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max()))
        if ours.shape == theirs.shape and not close(ours):
            self._plain_head = True  # as Aya Vision
            ours = self.head(self.hidden_states(batch)).float()
        if ours.shape != theirs.shape or not close(ours):
            raise ModelError(
                f"{type(self.module).__name__} computes its logits in a way that "
                "fedmosaic does not know; use another checkpoint, or subclass CheckpointModel and override `head`"
            )
        if not reads_in_order(self.decode, batch):
            raise ModelError(_NO_ORDER.format(type(self.module).__name__))

    @torch.no_grad()
    def _check_pictures(self) -> None:
        """Make sure that the processor reads a picture, and that answers about it are read from left to right."""
        with model_errors("its processor cannot read a question about a picture"):
            asked = [((f"{IMAGE_MARK} {_QUESTION}", _QUESTION),)]
            batch = self._batch(asked, [[Image.new("RGB", (64, 64))]], ["a question"], with_answers=True)
        try:
            self._process([self._chat_format.pieces(((_QUESTION, ""),))[0]], [[]])
        except Exception:  # whatever type a processor chooses
            self._needs_pictures = True
        if any(beside_tokens(tensor, batch.input_ids) for tensor in batch.vision.values()):
            for self._answer_type in (0, 1):
                if reads_in_order(self.decode, batch):
                    return
            raise ModelError(_NO_ORDER.format(type(self.module).__name__))
