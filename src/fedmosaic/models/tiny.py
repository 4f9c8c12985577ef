"""Vision-language models with fedmosaic's tower: LLaVA models whose image features are cached (:class:`Features`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fedmosaic.data.sample import Sample
from fedmosaic.models.base import IGNORED, BaseModel, Batch, find_decoder, freeze, pad_right
from fedmosaic.models.batch import reading
from fedmosaic.models.features import Features
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.positions import check_lengths, position_limit
from fedmosaic.models.standalone import save_standalone
from fedmosaic.models.vision import TOKENS_PER_IMAGE

if TYPE_CHECKING:
    from fedmosaic.data.dialogue import Dialogue


class TinyModel(BaseModel):
    """A ``LlavaForConditionalGeneration`` with fedmosaic's frozen tower.

    A sequence is ``<bos> text answer <eos>``, or ``<bos> text answer text answer ... <eos>`` for a dialogue; each
    ``<image>`` mark becomes 4 image tokens. The text is used as it is: no chat template. A space stands before each
    answer and a line end before each later text: tokenizers of real language models see them, those of the smallest
    models drop them.

    Args:
        name: how the user calls it.
        module: the transformers model; is frozen.
        tokenizer: its tokenizer.
        features: gives the images' features.
    """

    module: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    keeps_past = True
    own_code = True

    def __init__(
        self,
        name: str,
        module: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        features: Features,
    ) -> None:
        self.name = name
        self.module = freeze(module)
        self.tokenizer = tokenizer
        self.features = features
        self.decoder = find_decoder(module)
        self.architecture = architecture_name(module)
        self.limit = position_limit(module.config)
        self.image_token: int = module.config.image_token_id

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Check that all samples fit into the model's positions, then compute the missing image features.

        See :meth:`BaseModel.prepare`.
        """
        doubtful = [sample for sample in samples if self._may_be_long(sample)]
        prompts = [self.wording.whole(sample.prompt) for sample in doubtful]
        pairs = zip(self._encode(prompts), self._answers(sample.answer for sample in doubtful), strict=True)
        lengths = [2 + len(self._expanded(prompt)) + len(answer) for prompt, answer in pairs]  # 2: start and end tokens
        check_lengths(self.name, self.limit, [sample.id for sample in doubtful], lengths)
        self.features.prepare(key for sample in samples for key in sample.images)

    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """See :meth:`BaseModel.collate`; ``vision`` holds ``features`` (images, 4, 256)."""
        prompts = self._encode([self.wording.whole(sample.prompt) for sample in samples])
        answers = self._answers(sample.answer for sample in samples) if with_answers else [[] for _ in samples]
        end = [self.tokenizer.eos_token_id] if with_answers else []
        turns = [[(prompt, [*answer, *end])] for prompt, answer in zip(prompts, answers, strict=True)]
        keys, ids = [key for sample in samples for key in sample.images], [sample.id for sample in samples]
        return self._batch(turns, keys, ids)

    def collate_dialogues(self, dialogues: Sequence[Dialogue]) -> Batch:
        """See :meth:`BaseModel.collate_dialogues`; an end token follows the last answer only."""
        asked = [f"\n{text}" if turn else text for each in dialogues for turn, (text, _) in enumerate(each.turns)]
        texts = iter(self._encode(asked))
        answers = iter(self._answers(answer for dialogue in dialogues for _, answer in dialogue.turns))
        turns = [[(next(texts), next(answers)) for _ in dialogue.turns] for dialogue in dialogues]
        for dialogue_turns in turns:
            dialogue_turns[-1][1].append(self.tokenizer.eos_token_id)
        ids = [f"dialogue {index}" for index in range(len(dialogues))]
        return self._batch(turns, [key for dialogue in dialogues for key in dialogue.images], ids)

    def decode(self, batch: Batch) -> Tensor:
        """See :meth:`BaseModel.decode`; the decoder's output after its last norm."""
        inputs = {}
        features = batch.vision.get("features")
        if features is not None and len(features):
            projector: Any = self.module.model.multi_modal_projector
            projected = projector(features.to(projector.linear_1.weight.dtype))  # the tower's dtype may differ
            # The output of tower and projector, passed in as transformers' own caching does.
            pooled: Any = list(projected)
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
        output = self.module.model(input_ids=batch.input_ids, **reading(self.module, batch), **inputs)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def continuations(self, samples: Sequence[Sample]) -> list[list[int]]:
        """See :meth:`BaseModel.continuations`; images are not looked at."""
        answers = self._answers(sample.answer for sample in samples)
        return [[*answer, self.tokenizer.eos_token_id] for answer in answers]

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits (..., V). See :meth:`BaseModel.head`."""
        logits: Tensor = self.module.lm_head(hidden)
        return logits

    def save_processor(self, folder: Path) -> None:
        """See :meth:`BaseModel.save_processor`."""
        save_standalone(self.tokenizer, folder)

    def _may_be_long(self, sample: Sample) -> bool:
        """Return whether a sample must be tokenised to check its length: ASCII has at most one token per character."""
        text = self.wording.whole(sample.prompt) + sample.answer
        return self.limit is not None and (not text.isascii() or len(text) + 4 > self.limit)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def _answers(self, answers: Iterable[str]) -> list[list[int]]:
        return self._encode([f" {answer}" if answer else "" for answer in answers])

    def _expanded(self, text: list[int]) -> list[int]:
        """Return a prompt's tokens with as many image tokens for each mark as the tower gives."""
        return [each for token in text for each in [token] * (TOKENS_PER_IMAGE if token == self.image_token else 1)]

    def _batch(self, turns: list[list[tuple[list[int], list[int]]]], keys: list[str], ids: list[str]) -> Batch:
        rows, labels = [], []
        for dialogue in turns:
            row, label = [self.tokenizer.bos_token_id], [IGNORED]
            for text, answer in dialogue:
                prompt = self._expanded(text)
                row += prompt + answer
                label += [IGNORED] * len(prompt) + answer
            rows.append(row)
            labels.append(label)
        check_lengths(self.name, self.limit, ids, [len(row) for row in rows])
        batch = Batch(
            input_ids=pad_right(rows, self.tokenizer.pad_token_id),
            attention_mask=pad_right([[1] * len(row) for row in rows], 0),
            labels=pad_right(labels, IGNORED),
            vision={"features": self.features.get(keys)},
        )
        return batch.to(self.device)
