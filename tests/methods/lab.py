"""The real participants and server context on tiny random text models (about 10,000 weights), without files or wire."""

from __future__ import annotations

import torch
import transformers as tf

from fedmosaic.config import RunSettings, resolve
from fedmosaic.config.scenario import Scenario
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.stream import Stream
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.uploads import Upload
from fedmosaic.models.base import IGNORED, BaseModel, Batch, find_decoder, freeze, pad_right
from fedmosaic.models.batch import reading
from fedmosaic.training import Client

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

    keeps_past = True

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
        output = self.module.model(input_ids=batch.input_ids, **reading(self.module, batch))
        return output.last_hidden_state

    def head(self, hidden):
        return self.module.lm_head(hidden)

    def answer_tokens(self, answer):
        return [*self.tokenizer.encode(answer), END]

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


class NumbersBenchmark:
    """Each client's questions, and public ones; nothing has images."""

    name = "numbers"
    images = GivenImages(())

    def task_names(self):
        return []

    def unseen_names(self):
        return []

    def task(self, name):
        return make_task(int(name.removeprefix("numbers-")))

    def public(self, count, seed):
        return make_samples(seed % 2**31, count)


class Lab:
    """Makes the clients and the server of one method, each with models and modules of its own.

    Args:
        method: its name.
        settings: of the method.
        models: base model of each client, ``narrow``, ``wide`` or ``foreign``.
        rank: of the adapters.
        training: of the run, e.g. ``{"steps": 3}``.
    """

    def __init__(self, method: str, settings=None, *, models=("narrow", "narrow", "narrow"), rank=4, **training):
        clients = [{"id": i, "model": model, "tasks": [f"numbers-{i}"]} for i, model in enumerate(models)]
        self.settings: RunSettings = resolve(
            Scenario(name="numbers", protocol="static", clients=clients, probe="narrow"),
            method=method,
            rounds=4,
            training={"steps": 3, "batch_size": 4, "learning_rate": 1e-2, **training},
            adapter={"rank": rank, "alpha": 2 * rank, "blocks": 1, "dropout": 0.1, "alignment": "none"},
            method_settings=settings or {},
        )
        self.method = self.assets().method
        self._participants: dict[Client, Participant] = {}

    def assets(self, settings: RunSettings | None = None) -> Assets:
        """New base models, and the numbers."""
        models = {name: NumbersModel(name) for name in WIDTHS}
        return Assets(settings or self.settings, benchmark=NumbersBenchmark(), models=models)

    def client(self, number: int = 0, round_: int = 1, state=None) -> Client:
        """A client before it trains, with adapter modules of its own; ``state`` is that of an earlier round."""
        assets = self.assets()
        participant = Participant(assets, AdapterFactory(assets), number)
        client = participant.client(round_, state)
        self._participants[client] = participant
        return client

    def server(self, round_: int = 2, tensors=None) -> ServerContext:
        """What the method's server half computes with, but without dropout.

        Args:
            round_: the round whose downloads are made.
            tensors: what the last aggregation asked to keep.
        """
        adapter = self.settings.adapter.model_copy(update={"dropout": 0.0})
        context = ServerContext(self.assets(self.settings.model_copy(update={"adapter": adapter})))
        context.round, context.tensors = round_, tensors or {}
        return context

    def stream(self, client: Client) -> Stream:
        """The client's own samples over the rounds."""
        return self._participants[client].stream

    def train(self, client: Client, download=None) -> Upload:
        """What a participant does with a download in one round."""
        return self._participants[client].train(client, download or {}).upload

    def noise(self, client: Client, slot: str, seed: int = 0) -> dict[str, torch.Tensor]:
        """Random tensors for a slot, as if somebody else had trained it."""
        random = torch.Generator().manual_seed(seed)
        return {name: 0.3 * torch.randn(shape, generator=random) for name, shape in client.adapter.schema(slot).items()}

    def batch(self, client: Client):
        """The client's first batch of its round."""
        return next(client.batches(client.budget()))


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
