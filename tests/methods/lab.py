"""Clients on tiny random text models (about 10,000 weights), without benchmark, images, server or wire."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as tf

from fedmosaic.adapters import Adapter
from fedmosaic.config import RunSettings, resolve
from fedmosaic.config.scenario import Scenario
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.stream import Stream
from fedmosaic.methods.base import Upload
from fedmosaic.methods.registry import make_method
from fedmosaic.models.base import IGNORED, BaseModel, Batch, find_decoder, freeze, pad_right
from fedmosaic.training import Client, ModelPool

WIDTHS = {"narrow": 16, "wide": 24, "foreign": 20}
VOCABULARY, END = 24, 1


class Numbers:
    """All that answering and translating need of a tokenizer: a token is a number, or in reverse 31 less the number."""

    eos_token_id = END
    all_special_ids = (0, END)

    def __init__(self, *, reverse=False):
        self.reverse = reverse
        self.size = 30 if reverse else VOCABULARY

    def turned(self, token: int) -> int:
        """The number of a token, the token of a number."""
        return 31 - token if self.reverse and token > END else token

    def encode(self, text):
        return [self.turned(int(word)) for word in text.split()]

    def decode(self, tokens, **_):
        return " ".join(str(self.turned(int(token))) for token in tokens)

    def get_vocab(self):
        return {str(self.turned(token)): token for token in range(self.size)}


class NumbersModel(BaseModel):
    """A random Llama of three layers whose tokens are the numbers in a sample's text; ``foreign`` has other tokens."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(7)
        width = WIDTHS[name]
        config = tf.LlamaConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=2, vocab_size=(numbers := Numbers(reverse=name == "foreign")).size, pad_token_id=0,
        )  # fmt: skip
        self.name = self.architecture = name
        self.module = freeze(tf.LlamaForCausalLM(config))
        self.decoder = find_decoder(self.module)
        self.tokenizer = numbers

    def collate(self, samples, *, with_answers=True):
        encode = self.tokenizer.encode
        prompts = [encode(sample.prompt) for sample in samples]
        answers = [[*encode(sample.answer), END] if with_answers else [] for sample in samples]
        rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        labels = [[IGNORED] * len(prompt) + answer for prompt, answer in zip(prompts, answers, strict=True)]
        mask = pad_right([[1] * len(row) for row in rows], 0)
        return Batch(pad_right(rows, 0), mask, pad_right(labels, IGNORED))

    def collate_dialogues(self, dialogues):
        raise NotImplementedError

    def decode(self, batch):
        output = self.module.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        return output.last_hidden_state

    def head(self, hidden):
        return self.module.lm_head(hidden)

    @property
    def end_tokens(self):
        return torch.tensor([END])


def make_samples(seed: int, count: int) -> tuple[Sample, ...]:
    """Random questions of three to five numbers."""
    random = torch.Generator().manual_seed(seed)

    def draw(count: int) -> str:
        return " ".join(str(int(n)) for n in torch.randint(2, VOCABULARY, (count,), generator=random))

    return tuple(Sample(f"{seed}-{i}", (), draw(3 + i % 3), draw(1 + i % 2)) for i in range(count))


def make_task(client: int, samples: int = 24) -> Task:
    """Each client's own questions."""
    made = make_samples(100 + client, samples)
    return Task(f"numbers-{client}", "vqa", made, (), made[:6])


def public(count: int, round_: int) -> tuple[Sample, ...]:
    """Public questions of a round."""
    return make_samples(1000 + round_, count)


class Lab:
    """Makes the clients of one method.

    Args:
        method: its name.
        settings: of the method.
        models: base model of each client, ``narrow``, ``wide`` or ``foreign``.
        training: of the run, e.g. ``{"steps": 3}``.
    """

    def __init__(self, method: str, settings=None, *, models=("narrow", "narrow", "narrow"), rank=4, **training):
        clients = [{"id": i, "model": model, "tasks": [f"numbers-{i}"]} for i, model in enumerate(models)]
        self.method = make_method(method, settings or {})
        self.settings: RunSettings = resolve(
            Scenario(name="numbers", clients=clients),
            method=method,
            rounds=4,
            training={"steps": 3, "batch_size": 4, "learning_rate": 1e-2, **training},
            adapter={"rank": rank, "alpha": 2 * rank, "blocks": 1, "dropout": 0.1},
        )
        self.method.prepare(None, self.settings)

    def client(self, number: int = 0, round_: int = 1, state=None) -> Client:
        """A client before it trains, with adapter modules of its own; ``state`` is that of an earlier round."""
        spec, shape = self.settings.scenario.client(number), self.settings.adapter
        base = NumbersModel(spec.model)
        adapter = Adapter.attach(
            base.module,
            base.decoder,
            slots=self.method.slots,
            rank=shape.rank,
            alpha=shape.alpha,
            blocks=shape.blocks if self.method.colora else 0,
            dropout=shape.dropout,
            gate=(self.method.gate or shape.gate) if self.method.answers_with == "gate" else "none",
            seed=0,
            architecture=base.architecture,
        )
        adapter.train(False)
        base.adapter = adapter
        pool = ModelPool(images=None, home=Path("unused"))
        pool._models[spec.model] = base
        stream = Stream([make_task(number)], "static", rounds=self.settings.rounds, seed=number)
        client = Client(
            spec, base=base, adapter=adapter, stream=stream, pool=pool, settings=self.settings, round_=round_,
            public=public,
        )  # fmt: skip
        if state is not None:
            client.restore(state)
        return client

    def train(self, client: Client, download=None) -> Upload:
        """What a participant does with a download in one round."""
        self.method.receive(client, download or {})
        client.timed(lambda each: self.method.train(each, each.budget()))
        tensors = self.method.upload(client)
        return Upload(client.id, client.base.architecture, tensors, client.meter.samples, client.round)

    def noise(self, client: Client, slot: str, seed: int = 0) -> dict[str, torch.Tensor]:
        """Random tensors for a slot, as if somebody else had trained it."""
        random = torch.Generator().manual_seed(seed)
        return {name: 0.3 * torch.randn(shape, generator=random) for name, shape in client.adapter.schema(slot).items()}

    def batch(self, client: Client):
        """The client's first batch of its round."""
        return next(client.batches(client.budget()))


class Server:
    """What a method's server half may compute with, as the context gives it, but without dropout.

    Args:
        lab: whose clients these are.
        round_: the round whose downloads are made.
        tensors: what the last aggregation asked to keep.
    """

    def __init__(self, lab: Lab, round_: int = 2, tensors=None) -> None:
        self.tensors = tensors or {}
        self.round = round_
        self.trainees: list[Client] = []
        self._lab = lab
        self._owners: dict[str, tuple[Client, dict]] = {}

    def trainee(self, client: int, *, rate=1.0) -> Client:
        """A client of the server's own; those of one model take turns in the same modules."""
        settings = self._lab.settings.with_rates(rate)
        spec = settings.scenario.client(client)
        if spec.model not in self._owners:
            owner = self._lab.client(client)
            self._owners[spec.model] = owner, owner.state()
        owner, start = self._owners[spec.model]
        trainee = Client(
            spec, base=owner.base, adapter=owner.adapter, stream=None, pool=owner.pool, settings=settings,
            round_=self.round, public=public,
        )  # fmt: skip
        trainee.restore(start)
        self.trainees.append(trainee)
        return trainee


def spied(client: Client, name: str) -> list[dict]:
    """Record the keyword arguments of every call of a client's method, which goes on as before."""
    calls, original = [], getattr(client, name)

    def recording(*args, **kwargs):
        calls.append(dict(kwargs))
        return original(*args, **kwargs)

    setattr(client, name, recording)
    return calls


def distance(one, other) -> float:
    """Euclidean distance between two tables of tensors."""
    return float(sum((one[name] - other[name]).square().sum() for name in one) ** 0.5)


def same(one, other) -> bool:
    """Whether two tables hold equal tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
