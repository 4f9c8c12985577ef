"""The interface of base models, whatever library or family they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models.batch import IGNORED, Batch
from fedmosaic.models.generation import Continuing, Rereading, Said, greedy, growing
from fedmosaic.models.interface import Interface, find_interface
from fedmosaic.models.past_check import can_read_on
from fedmosaic.models.reader import Answering
from fedmosaic.models.residence import Residence
from fedmosaic.models.stack import layer_list
from fedmosaic.models.wording import PLAIN, Wording

if TYPE_CHECKING:
    from fedmosaic.data.dialogue import Dialogue

__all__ = [
    "IGNORED",
    "AnswerLogits",
    "AttachedAdapter",
    "BaseModel",
    "Batch",
    "find_decoder",
    "freeze",
    "output_matrix",
    "pad_right",
]

Module = TypeVar("Module", bound=nn.Module)


class AnswerLogits(NamedTuple):
    """Predictions at the n answer tokens of a batch.

    Attributes:
        logits: (n, V).
        targets: (n,) token ids.
        rows: (n,) the row of each token.
        hidden: (n, d) hidden state at the position before each token, from which it is predicted.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor
    hidden: Tensor

    @property
    def starts(self) -> Tensor:
        """(n,) bool: true at the first answer token of each row."""
        return self.rows != F.pad(self.rows[:-1], (1, 0), value=-1)

    @property
    def embeddings(self) -> Tensor:
        """(B, d) hidden states from which each row's first answer token is predicted."""
        return self.hidden[self.starts]


class AttachedAdapter(Protocol):
    """The part of an adapter that a base model uses; :class:`fedmosaic.adapters.Adapter` has it."""

    attached: bool
    """Whether the decoder computes with it."""

    @property
    def interface(self) -> Interface | None:
        """The vision-language interface that carries a tower adapter, if one does."""
        ...

    def reading(self, batch: Batch) -> AbstractContextManager[None]:
        """Return a context in which the batch is computed, with the slots' weights that depend on it.

        Args:
            batch: the token sequences.
        """
        ...

    def reattach(self) -> None:
        """Put the adapter back into the decoder."""
        ...

    def detach(self) -> None:
        """Take the adapter out of the decoder."""
        ...


class BaseModel(ABC):
    """A client's frozen pretrained model. Adapters are put into ``decoder``; nothing else ever changes.

    Attributes:
        name: how the user calls it.
        architecture: equal for two models exactly when weights and shapes are equal, so that ordinary adapters of the
            two can be averaged.
        module: the transformers model; no parameter requires a gradient, and it is in eval mode.
        tokenizer: its tokenizer.
        decoder: the stack of decoder layers inside ``module``; :func:`~fedmosaic.models.stack.decoder_layers` are they.
        reads_images: False for text models.
        limit: the longest sequence that the decoder reads, in tokens; None if nothing bounds it.
        adapter: what whoever attached an adapter to ``decoder`` set here, so that it is told of every batch.
        together: computes hidden states with those of other clients in one pass, and returns None where it does not.
        residence: moves the model to its device when it computes, if idle models wait elsewhere.
        wording: what is put around every question.
        autocast: whether an adapter's products are taken in the model's half precision; None: on accelerators.
        keeps_past: whether :meth:`decode` reads a batch after its past; None: if it computes the same, which is tried.
        own_code: whether transformers loads the folder that :meth:`save` writes only with the code in it.
    """

    name: str
    architecture: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoder: nn.Module
    reads_images: bool = True
    limit: int | None = None
    adapter: AttachedAdapter | None = None
    together: Callable[[BaseModel, Batch], Tensor | None] | None = None
    residence: Residence | None = None
    wording: Wording = PLAIN
    autocast: bool | None = None
    keeps_past: bool | None = False
    own_code: bool = False

    @abstractmethod
    def collate(self, samples: Sequence[Sample], *, with_answers: bool = True) -> Batch:
        """Return the samples as one batch on the model's device.

        Args:
            samples: at least one.
            with_answers: append the answers (and label them); False gives the prompts only, to answer them.

        Raises:
            DataError: an image cannot be loaded.
            ModelError: a sample is longer than the model's positions; it is never cut off.
        """

    @abstractmethod
    def collate_dialogues(self, dialogues: Sequence[Dialogue]) -> Batch:
        """Return dialogues as one batch; the answers of all turns are labelled.

        Args:
            dialogues: at least one.
        """

    @abstractmethod
    def decode(self, batch: Batch) -> Tensor:
        """Return :meth:`hidden_states`, (B, T, d), with the adapter in its current state.

        Args:
            batch: token sequences; on the model's device.
        """

    def hidden_states(self, batch: Batch) -> Tensor:
        """Return the inputs of the language head, with gradients flowing to whatever requires them.

        This is the one place where the adapter is told of the batch: its prompts, and the slots' weights in each row.

        Args:
            batch: token sequences; on the model's device.

        Returns:
            (B, T, d); of the batch's tokens alone, also where it has a past.
        """
        if self.together is not None and torch.is_inference_mode_enabled():
            hidden = self.together(self, batch)
            if hidden is not None:
                return hidden
        if self.residence is not None:
            self.residence.enter(self)
        if self.adapter is None:
            return self.decode(batch)
        dtype = output_matrix(self.module).weight.dtype  # not the module's: a vision tower may have another
        with self.adapter.reading(batch), self._precision(dtype):
            return self.decode(batch).to(dtype)

    def _precision(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """Autocast to the weights' half precision: adapters are float32, and their products need not be."""
        kind = self.device.type
        wanted = kind != "cpu" if self.autocast is None else self.autocast
        half = dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(kind, dtype=dtype) if wanted and half else nullcontext()

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., d).

        Args:
            hidden: from :meth:`hidden_states`; any number of leading dimensions.
        """

    def prepare(self, samples: Sequence[Sample]) -> None:  # noqa: B027 - optional: most models have nothing to do
        """Do in large batches what ``collate`` would do image by image, and refuse the samples that it would refuse.

        Args:
            samples: all that will be collated.

        Raises:
            ModelError: a sample does not fit into the model's positions.
        """

    def answer_logits(self, batch: Batch) -> AnswerLogits:
        """Return the predictions of the answer tokens; the head is computed only there.

        Args:
            batch: with answers; on the model's device.
        """
        hidden = self.hidden_states(batch)[:, :-1]
        targets = batch.labels[:, 1:]
        inside = targets != IGNORED
        read = hidden[inside]
        return AnswerLogits(self.head(read), targets[inside], inside.nonzero()[:, 0], read)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the batch's answer tokens (a scalar; nats).

        Args:
            batch: with answers; on the model's device.
        """
        answers = self.answer_logits(batch)
        return F.cross_entropy(answers.logits.float(), answers.targets)

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample], *, max_tokens: int = 8) -> list[str]:
        """Return the greedy answer to each prompt; each token is read once where the model keeps a past.

        Args:
            samples: their answers are not used.
            max_tokens: longest answer; one that reaches the model's last position ends there.
        """
        return greedy(self, samples, max_tokens)

    def tell(self, sample: Sample, *, max_tokens: int) -> Iterator[Said]:
        """Yield :meth:`answer` to one prompt as it grows, token by token; the last one is complete.

        Args:
            sample: its answer is not used.
            max_tokens: longest answer; one that reaches the model's last position ends there.
        """
        return growing(self, sample, max_tokens)

    def answering(self, samples: Sequence[Sample]) -> Answering:
        """Return what gives the scores of answers' next tokens.

        Args:
            samples: their answers are not used.
        """
        batch = self.collate(samples, with_answers=False)
        return Continuing(self, batch) if can_read_on(self, batch) else Rereading(self, batch)

    def continuations(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Return the tokens of each sample's answer, end token included, as they follow its prompt in a batch.

        Args:
            samples: at least one.

        Raises:
            ModelError: an answer has tokens that the model does not know.
        """
        labels = self.collate(samples).labels
        return [row[row != IGNORED].tolist() for row in labels]

    def save(
        self, folder: Path, *, changes: Mapping[str, Tensor] | None = None, config: PreTrainedConfig | None = None
    ) -> None:
        """Write an ordinary transformers checkpoint, which ``from_pretrained`` loads; no adapter may be attached.

        Args:
            folder: configuration, all weights in safetensors, and the files of the tokenizer or processor go there.
            changes: tensors that replace the module's own of the same name, or join them.
            config: the configuration that they fit, if it is not the module's own.
        """
        tensors = {
            name: tensor.contiguous() for name, tensor in {**self.module.state_dict(), **(changes or {})}.items()
        }
        generation = self.module.generation_config
        try:
            # transformers refuses to write settings that it has read, e.g. Llama 2's
            self.module.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
            self.module.save_pretrained(folder, state_dict=tensors)
        finally:
            self.module.generation_config = generation
        generation.to_json_file(folder / "generation_config.json")
        if config is not None:
            config.architectures, config.dtype = self.module.config.architectures, self.module.config.dtype
            config.save_pretrained(folder)
        self.save_processor(folder)

    def save_processor(self, folder: Path) -> None:
        """Write what makes tokens of texts and pictures: tokenizer or processor, and the chat template.

        Args:
            folder: that has the configuration.
        """
        self.tokenizer.save_pretrained(folder)

    def answer_tokens(self, answer: str) -> list[int]:
        """Return the token ids of an answer, end-of-sequence token included, as they stand in a batch.

        Args:
            answer: the text.
        """
        if answer not in self._known_answers:
            labels = self.collate([Sample(id="", images=(), prompt="answer :", answer=answer)]).labels
            self._known_answers[answer] = labels[labels != IGNORED].tolist()
        return list(self._known_answers[answer])

    @cached_property
    def _known_answers(self) -> dict[str, list[int]]:
        """Tokens by answer: the same few options are asked for in every batch."""
        return {}

    @property
    def end_tokens(self) -> Tensor:
        """Return the token ids that end an answer."""
        return torch.tensor([self.tokenizer.eos_token_id])

    @cached_property
    def interface(self) -> Interface | None:
        """Where the projector reads the vision tower's features; None for text models. Asked first without an adapter.

        Raises:
            ModelError: the model reads images, but its projector is of a kind that is not known here.
        """
        return find_interface(self.module)

    @property
    def device(self) -> torch.device:
        """Return where the model computes."""
        return self.module.device if self.residence is None else self.residence.device

    @property
    def auto_class(self) -> str:
        """Return the name of the transformers class that loads this kind of model."""
        known = auto_class(self.module.config)
        if known is not None:
            return str(known.__name__)
        return "AutoModelForImageTextToText" if self.reads_images else "AutoModelForCausalLM"

    @property
    def parameter_count(self) -> int:
        """Return the number of weights of the whole model, vision tower included."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the transformers class that loads models of a kind; None for those that are no decoders.

    Args:
        config: a model's configuration.
    """
    kinds = (AutoModelForImageTextToText, AutoModelForCausalLM)
    return next((kind for kind in kinds if type(config) in kind._model_mapping), None)


def pad_right(rows: Sequence[Sequence[int]], fill: int, *, width: int = 0) -> Tensor:
    """Return integer rows as one (B, longest) tensor.

    Args:
        rows: at least one.
        fill: the value after the end of shorter rows.
        width: of the result, if no row is longer.
    """
    width = max(width, *map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)


def reads_in_order(decode: Callable[[Batch], Tensor], batch: Batch) -> bool:
    """Return whether hidden states are the same whatever the last token is, but for its own.

    Args:
        decode: as :meth:`BaseModel.decode`.
        batch: one sequence, whose last two tokens are text and differ.
    """
    ids = batch.input_ids.clone()
    ids[:, -1] = ids[:, -2]
    one, other = (decode(replace(batch, input_ids=each))[:, :-1].float() for each in (batch.input_ids, ids))
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def freeze(module: Module) -> Module:
    """Return the module in eval mode, no parameter requiring a gradient.

    Args:
        module: is changed in place.
    """
    module.requires_grad_(False)
    module.train(False)
    return module


def output_matrix(module: PreTrainedModel) -> nn.Linear:
    """Return the language head.

    Args:
        module: a language or vision-language model.
    """
    head: nn.Linear = module.get_output_embeddings()  # type: ignore[no-untyped-call]
    return head


def find_decoder(module: PreTrainedModel) -> nn.Module:
    """Return the submodule that holds the language model's decoder layers, whatever its list of them is called.

    Args:
        module: a language or vision-language model.

    Raises:
        ModelError: there is none.
    """
    candidate = module.get_decoder()  # type: ignore[no-untyped-call]
    if not isinstance(candidate, nn.Module):
        raise ModelError(
            f"{type(module).__name__}: get_decoder() gives a {type(candidate).__name__}; adapters need a transformers "
            "model whose get_decoder() is its stack of decoder layers"
        )
    layer_list(candidate)
    return candidate
