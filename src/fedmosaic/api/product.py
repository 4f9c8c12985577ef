"""A client's two models in one folder: what answers for a client of a method with a proxy model, outside of its run.

own/, proxy/     a PEFT LoRA each
common/          a third one, of the proxy as it was received, where answers depend on it
product.json     the names of the base models they go on, how much the proxy's opinion counts, how questions are put
known.safetensors    embeddings of questions that the client was trained on, where that depends on them
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel as Table
from pydantic import ConfigDict
from torch import Tensor

from fedmosaic.adapters import SlotWeights
from fedmosaic.adapters.adding import add_lora
from fedmosaic.adapters.export import write_lora
from fedmosaic.api.answering import DEFAULT_TOKENS, answer, pictures_of
from fedmosaic.api.card import base_name
from fedmosaic.config.validation import validate
from fedmosaic.data.in_memory import InMemoryImages, Picture
from fedmosaic.data.sample import Sample
from fedmosaic.federation import ClientRuntime
from fedmosaic.federation.final_model import final_client
from fedmosaic.io import load_json, load_tensors, save_tensors
from fedmosaic.methods.proxy_weight import ProxyWeight
from fedmosaic.methods.token_product import answering_together
from fedmosaic.models import BaseModel, load_base_model
from fedmosaic.models.product_of_experts import ProductOfExperts
from fedmosaic.models.wording import Wording
from fedmosaic.training import Client

FILE, KNOWN = "product.json", "known.safetensors"
OWN, PROXY, COMMON = "own", "proxy", "common"


@runtime_checkable
class AnswersWithProxy(Protocol):
    """A method whose clients answer with their own model and the proxy."""

    @property
    def open_answers(self) -> str:
        """How they answer open questions, one of :data:`~fedmosaic.methods.token_product.OPEN_ANSWERS`."""
        ...

    @property
    def common_slot(self) -> str:
        """The slot of the proxy's adapter that holds what was received, where that counts in answers."""
        ...

    def proxy_weight(self, client: Client, /) -> ProxyWeight:
        """Return how much the proxy counts in a client's answers.

        Args:
            client: after training.
        """
        ...


class Product(Table):
    """What ``product.json`` says.

    Attributes:
        own, proxy: names or folders of the base models.
        weight: w of the proxy's log-likelihood, where nothing is known of what the client was trained on.
        familiar, foreign, novelty_quantile, common, common_familiar, common_foreign: as
            :class:`~fedmosaic.methods.proxy_weight.ProxyWeight` has them.
        open_answers: a name in :data:`~fedmosaic.methods.token_product.OPEN_ANSWERS`.
        system, template: the scenario's :class:`~fedmosaic.models.wording.Wording`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: str
    proxy: str
    weight: float
    familiar: float
    foreign: float
    novelty_quantile: float
    common: float = 0.0
    common_familiar: float = 0.0
    common_foreign: float = 0.0
    open_answers: Literal["proposals", "tokens"]
    system: str = ""
    template: str = ""


def write_product(runtime: ClientRuntime, client_id: int, folder: Path, *, base: str) -> str:
    """Write the adapters of a client's models, and what is needed to answer with them.

    Args:
        runtime: of a finished run, whose method answers with a proxy.
        client_id: the client's id in the scenario.
        folder: for it.
        base: what a stranger calls the base model of the client's own model.

    Returns:
        How the folder is used, in Markdown.

    Raises:
        FedMosaicError: as :func:`~fedmosaic.federation.final_model.final_client` does.
    """
    method, scenario = runtime.assets.method, runtime.assets.settings.scenario
    assert isinstance(method, AnswersWithProxy)
    assert method.proxy is not None
    client = final_client(runtime, client_id)
    assert client.proxy is not None
    rule, names = method.proxy_weight(client), {OWN: base, PROXY: base_name(method.proxy.model).text}
    _write(client, method.answers_with, folder / OWN, names[OWN])
    _write(client.proxy, method.proxy.answers_with, folder / PROXY, names[PROXY])
    if rule.shared:
        _write(client.proxy, method.common_slot, folder / COMMON, names[PROXY])
    table = {
        OWN: client.spec.model,
        PROXY: method.proxy.model,
        "weight": rule.fixed,
        "familiar": rule.familiar,
        "foreign": rule.foreign,
        "novelty_quantile": rule.novelty_quantile,
        "common": rule.common,
        "common_familiar": rule.common_familiar,
        "common_foreign": rule.common_foreign,
        "open_answers": method.open_answers,
        "system": scenario.system,
        "template": scenario.template,
    }
    (folder / FILE).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    if rule.known is not None:
        save_tensors(folder / KNOWN, {"known": rule.known})
    return _usage(names, common=rule.shared)


def _write(client: Client, weights: SlotWeights, folder: Path, base: str) -> None:
    task = "CAUSAL_LM" if client.base.auto_class == "AutoModelForCausalLM" else None
    with client.adapter.mixed(weights):
        write_lora(client.adapter, folder, base_model=base, task_type=task)


def _usage(models: dict[str, str], *, common: bool) -> str:
    many, last = ("Three", "`proxy` and `common`") if common else ("Two", "`proxy`")
    return (
        f"{many} PEFT LoRAs that answer together: `own` for `{models[OWN]}`, and {last} for `{models[PROXY]}`.\n\n"
        "```python\nimport fedmosaic as fm\n\n"
        'model = fm.ExportedProduct.from_pretrained("THIS FOLDER")\n'
        'model.ask("photo.png", "what is this ?", options=["a cat", "a dog"])\n```\n\n'
        "It answers as the client does, with the same words around a question where the run had any. Where the base "
        "models lie in other folders than in the run, name them: "
        '`from_pretrained("THIS FOLDER", own="...", proxy="...")`. Each LoRA alone is an ordinary one for PEFT.'
    )


class ExportedProduct:
    """A client's own model and its proxy, which answer together.

    Made by :meth:`from_pretrained`.

    Args:
        model: answers.
        album: where it reads its pictures.

    Attributes:
        model: the product; ``model.inner`` is the own model, ``model.second`` the proxy, unless the proxy as it was
            received counts, too: then ``model.second`` is that one, and ``model.inner`` the product of the others.
    """

    def __init__(self, model: ProductOfExperts, album: InMemoryImages) -> None:
        self.model = model
        self._album = album

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, own: str | None = None, proxy: str | None = None, device: str = "cpu"
    ) -> ExportedProduct:
        """Return what ``fedmosaic export --as lora`` has written for a client with a proxy model.

        Args:
            folder: with ``product.json``.
            own: name or folder of the own base model, if not that of the run.
            proxy: the same of the proxy's.
            device: where both compute, in float32.

        Raises:
            SettingsError: ``product.json`` is no such file, or there is no such device.
            RunError: a file is missing or damaged.
            ModelError: a base model or a LoRA cannot be loaded, or do not fit each other.
        """
        folder = Path(folder)
        table = validate(Product, load_json(folder / FILE, advice="export the client again"), source=str(folder / FILE))
        album = InMemoryImages()
        cache = Path(tempfile.mkdtemp(prefix="fedmosaic-"))  # what was asked about leaves no trace in the user's cache
        load = partial(load_base_model, images=album, home=cache, device=device)
        names = {OWN: own or table.own, PROXY: proxy or table.proxy}
        known = load_tensors(folder / KNOWN)["known"] if (folder / KNOWN).exists() else None
        rule = ProxyWeight(
            fixed=table.weight,
            familiar=table.familiar,
            foreign=table.foreign,
            novelty_quantile=table.novelty_quantile,
            common=table.common,
            common_familiar=table.common_familiar,
            common_foreign=table.common_foreign,
            known=known,
        )
        models = {part: load(name) for part, name in names.items()}
        if rule.shared:
            models[COMMON] = load(names[PROXY])
        embedder = models[PROXY] if known is None else load(names[PROXY])
        for each in (*models.values(), embedder):
            each.wording = Wording(table.system, table.template)
        for part, each in models.items():
            add_lora(each.module, folder / part)
        weigh, common = partial(rule, embed=partial(_embedded, embedder)), models.get(COMMON)
        made = cls(answering_together(table.open_answers, models[OWN], models[PROXY], common, weigh), album)
        weakref.finalize(made, shutil.rmtree, cache, ignore_errors=True)
        return made

    def ask(
        self,
        image: Picture | Sequence[Picture] | None,
        question: str,
        options: Sequence[str] | None = None,
        *,
        max_tokens: int = DEFAULT_TOKENS,
    ) -> str:
        """Return the answer to a question about images. See :meth:`fedmosaic.ClientModel.ask`.

        Args:
            image: a PIL image, a path, a list of these, or None.
            question: may say where each image stands with an ``<image>`` mark.
            options: the answers to choose from; None: the answer is generated.
            max_tokens: longest generated answer.

        Raises:
            SettingsError: ``max_tokens`` is not a whole number from 1, or question and images do not fit each other.
            DataError: an image or an option cannot be used.
            ModelError: the question is too long.
        """
        pictures = pictures_of(image)
        return answer(self.model, self._album, pictures, question, options=options, max_tokens=max_tokens)


@torch.no_grad()
def _embedded(model: BaseModel, samples: Sequence[Sample]) -> Tensor:
    """As :meth:`fedmosaic.training.Client.embed` without an adapter."""
    inputs = model.collate(samples, with_answers=False)
    return model.hidden_states(inputs)[torch.arange(len(samples)), inputs.last]
