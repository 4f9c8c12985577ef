"""The model card of an export: ``README.md`` as the Hugging Face hub reads it.

It says what the model is, not where it was made: no path, no sample, and no setting that holds one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.evaluation.statistics import bootstrap_interval
from fedmosaic.federation import RunFolder
from fedmosaic.federation.results import PrivacyAccount
from fedmosaic.registry import BASE_MODELS, METRICS
from fedmosaic.version import __version__

_HUB_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?")
_HUB_CACHE = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)[/\\]snapshots[/\\]")
_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")
_WORDS = {"system": "the system message", "template": "the user's text, with the question at `{question}`"}


@dataclass(frozen=True, slots=True)
class BaseName:
    """What a stranger calls a base model.

    Attributes:
        text: the name.
        on_hub: whether it is a name on the Hugging Face hub.
    """

    text: str
    on_hub: bool


def base_name(model: str, given: str | None = None) -> BaseName:
    """Return the name of a base model outside of this machine.

    Args:
        model: as the scenario names it: a built-in model, or a folder.
        given: its name on the hub, if the user tells it.

    Returns:
        The given name; else that of the hub's cache, if the model lies there; else that of the built-in model with this
        package's version; else the folder's last part.

    Raises:
        SettingsError: what is given is no such name.
    """
    if given is not None:
        if not _HUB_NAME.fullmatch(given) or ".." in given or "--" in given:
            raise SettingsError(f"--base-model {given}: expected a name on the hub, such as owner/model")
        return BaseName(given, on_hub=True)
    if model in BASE_MODELS:
        return BaseName(f"{model} (fedmosaic {__version__})", on_hub=False)
    if cached := _HUB_CACHE.search(f"{model}/"):
        return BaseName(f"{cached['owner']}/{cached['name']}", on_hub=True)
    return BaseName(re.split(r"[/\\]", model.rstrip("/\\"))[-1], on_hub=False)


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says.

    Attributes:
        spec: the client.
        form: ``lora``, ``merged`` or ``base``.
        bases: names of the base models: one, or the client's and the proxy's.
        fingerprint: of the client's base model.
        usage: how to load it, in Markdown.
        method: the method's title.
        state: after which round, and whether after the last exchange.
        settings: of the run.
        scores: (task, score of each sample) of the client's own tasks; none if they were not measured.
        privacy: what the method promises.
        terms: names of the files beside it that say under which terms the base model may be used and passed on.
    """

    spec: ClientSpec
    form: str
    bases: Sequence[BaseName]
    fingerprint: str
    usage: str
    method: str
    state: str
    settings: RunSettings
    scores: Sequence[tuple[str, Sequence[float]]]
    privacy: PrivacyAccount | None
    terms: Sequence[str] = ()

    def text(self) -> str:
        """Return the card: the header that the hub reads, and the page."""
        clients = len(self.settings.scenario.clients)
        title = f"# Client {self.spec.id} of {clients} that learned together ({self.form})"
        method = (
            f"{plain(self.method)} on {plain(self.settings.scenario.name)}: {clients} clients, {self.state}, "
            f"seed {self.settings.seed}, {self.settings.scenario.protocol} tasks; fedmosaic {__version__}. "
            "The clients' data stayed with them."
        )
        parts = [title, self.usage, *self._prompts(), "## Base model", self._base()]
        parts += ["## Tasks and scores", self._scores(), "## Method", method, "## Privacy", self._privacy()]
        return f"---\n{self._header()}\n---\n\n" + "\n\n".join(parts) + "\n"

    def _header(self) -> str:
        # Takes a moment to import, and only exports need it.
        from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415

        kind = self.settings.scenario.benchmark
        results = [
            # The hub's library takes results of one data set and config for results on the same data.
            EvalResult(
                *("visual-question-answering", kind, task, "mean-score", round(_mean(scores), 4)), dataset_config=task
            )
            for task, scores in self.scores
        ]
        on_hub = [base.text for base in self.bases if base.on_hub]
        data = ModelCardData(
            base_model=on_hub or None,
            library_name="peft" if self.form == "lora" else "transformers",
            tags=["fedmosaic", "federated-learning", *(["lora"] if self.form == "lora" else []), kind],
            metrics=["accuracy", self.settings.evaluation.open_metric],
            model_name=f"client-{self.spec.id}" if results else None,
            eval_results=results or None,
        )
        return str(data.to_yaml()).strip()

    def _prompts(self) -> list[str]:
        """How to put a question, where it was not put bare."""
        scenario = self.settings.scenario
        words = {"system": scenario.system, "template": scenario.template}
        given = {name: text for name, text in words.items() if text and self.form != "base"}
        if not given:
            return []
        told = " and ".join(f"`{name}`, {_WORDS[name]}" for name in given)
        lines = [f"{name} = {text!r}" for name, text in given.items()]
        code = "\n".join(["```python", *lines, "```"])
        return ["## Prompts", f"The client learned with words around every question: {told}.\n\n{code}"]

    def _base(self) -> str:
        names = " and ".join(f"`{base.text}`" for base in self.bases)
        where = _where(self.spec, self.bases[0])
        files = " and ".join(f"`{name}`" for name in self.terms)
        terms = f"\n\nUse it, and pass it on, under the terms in {files}, which go along." if files else ""
        return f"{names}; fingerprint of the client's: `{self.fingerprint}`.{where}{terms}"

    def _scores(self) -> str:
        tasks = ", ".join(map(plain, self.spec.tasks))
        if not self.scores:
            return f"Trained on {tasks}. The run has no scores of this state."
        samples = f"{self.settings.evaluation.split} samples"
        rows = [f"| task | score | 95 % interval | {samples} |", "|---|---|---|---|"]
        for task, scores in self.scores:
            low, high = bootstrap_interval(scores, seed=self.settings.seed)
            rows.append(f"| {plain(task)} | {_mean(scores):.3f} | {low:.3f} to {high:.3f} | {len(scores)} |")
        metric = self.settings.evaluation.open_metric
        told = (
            f"Mean scores, from 0 to 1, on {samples} of the client's own tasks: accuracy where there are options, "
            f"and for open answers {METRICS.load(metric).title}. The interval is the bootstrap's over these samples: "
            "it says nothing of how much another training run would differ."
        )
        return "\n".join(rows) + f"\n\n{told}"

    def _privacy(self) -> str:
        account = self.privacy
        spent = account.per_client.get(self.spec.id) if account else None
        promise = f"What the client sent during training: {plain(account.guarantee)}." if account else ""
        if spent is not None and spent.epsilon is not None and spent.delta is not None:
            promise += f" Epsilon {spent.epsilon:.3g} at delta {spent.delta:g}."
        return " ".join(
            filter(
                None,
                (
                    promise or "The method promises nothing about what the client sent during training.",
                    "That is no promise about this model: weights that were trained on data can tell something about "
                    "them. This card holds no sample and no path.",
                ),
            )
        )


def scores_of(folder: RunFolder, spec: ClientSpec, *, after_exchange: bool) -> list[tuple[str, list[float]]]:
    """Return the scores of the samples of a client's own tasks, in the tasks' order; none where they were not kept.

    Args:
        folder: of the run.
        spec: the client.
        after_exchange: whether the model is that of the last exchange, not of local training.
    """
    exchanged = results.exchanged if after_exchange and (results := folder.results()) else None
    try:
        scores = folder.scores(when="exchanged" if exchanged and exchanged.changed else "final").get(spec.id, {})
    except RunError:
        scores = {}
    return [(task, list(scores[task])) for task in spec.tasks if scores.get(task)]


def _where(spec: ClientSpec, base: BaseName) -> str:
    """Return where a stranger finds the base model, if it is not on the hub."""
    if base.on_hub:
        return ""
    if spec.model not in BASE_MODELS:
        return " It is not known on the hub: ask who published this for it, and compare the fingerprint."
    lines = [
        "from pathlib import Path",
        "",
        "from fedmosaic.data.images import GivenImages",
        "from fedmosaic.models import load_base_model",
        "",
        f'model = load_base_model("{spec.model}", images=GivenImages(()), home=Path("cache"))',
        'model.save(Path("BASE"))',
    ]
    code = "\n".join(["```python", *lines, "```"])
    return f" It comes with `pip install fedmosaic=={__version__}`, which writes it as a checkpoint:\n\n{code}"


def plain(text: str) -> str:
    """Return a text in which Markdown finds nothing.

    Args:
        text: any.
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def write_card(path: Path, card: Card) -> None:
    """Write a card.

    Args:
        path: of the file.
        card: what it says.
    """
    path.write_text(card.text(), encoding="utf-8")
