"""All settings of one run, validated; the run folder's ``settings.toml`` is exactly this."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from fedmosaic.config.overrides import apply_override
from fedmosaic.config.paths import folder, name_or_path, rooted
from fedmosaic.config.scenario import Scenario
from fedmosaic.config.validation import RegisteredName, registered, validate
from fedmosaic.errors import SettingsError
from fedmosaic.registry import AGGREGATORS, ENGINES, GATES, METHODS, METRICS

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def whole(value: float) -> float:
    """Return a number, as an int where it is whole.

    Args:
        value: finite.
    """
    return int(value) if value == int(value) else value


Average = Annotated[
    float,
    Field(ge=1, allow_inf_nan=False),
    AfterValidator(whole),
    PlainSerializer(lambda value: value, return_type=int | float),
]
"""At least 1; a whole number stays one."""


def _clients_at_once(value: Any) -> Any:
    if value in ("off", "auto") or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"cohort={value!r}: expected off, auto, or how many clients train side by side, from 1")


Clients = Annotated[Literal["off", "auto"] | int, BeforeValidator(_clients_at_once)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TrainingSettings(_Settings):
    """The local loop of every client (docs/method-facts.md#training-loop)."""

    steps: Average = 25
    """Optimiser steps of one client in one round; 4.5: rounds of 4 and of 5 steps take turns. The paper has 100 for
    images and 30 or 50 for texts."""
    batch_size: Positive = 8
    """Samples in a step; the paper has 4."""
    micro_batch: Annotated[int, Field(ge=0)] = 0
    """Samples that go through the model at once in a step; their gradients add up to those of the whole step. 0: all.
    Steps on a loss of the method's own, such as distillation, are not cut."""
    recompute: bool = False
    """Gradient checkpointing: layers are computed again in the backward pass instead of keeping their activations."""
    learning_rate: Rate = 3e-3
    """Of conventional A and B; the paper has 2e-5 for images and 1e-4 or 3e-4 for texts, with far larger models."""
    colora_learning_rate: Rate = 1e-2
    """Of Co-LoRA's P and Q; the paper has 5e-5 for images and 5e-4 for texts."""
    gate_learning_rate: Rate = 1e-2
    """Of the gates; in the paper that of A and B."""
    tower_learning_rate: Rate = 1e-3
    """Of the tower adapter's P and Q."""
    weight_decay: Rate = 0.0
    """Of the optimiser, AdamW."""
    max_grad_norm: Rate = 1.0
    """Gradient norm is clipped to this; 0 switches clipping off."""
    averaged_rounds: Positive = 1
    """A client answers with the mean of its weights after this many of the last rounds that it trained in. Training
    and uploads do not change. 1 is the paper's: the last weights."""


class ModelSettings(_Settings):
    """How the base models are loaded."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Of the base models' weights; ``auto`` is what each checkpoint is stored in. Adapters and optimiser are
    float32."""
    autocast: Literal["auto", "on", "off"] = "auto"
    """Whether the adapters' products are taken in the base model's dtype where that is half precision; ``auto``: on
    accelerators, while the CPU takes them in float32."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """How transformers computes attention; ``auto`` is its own choice, ``sdpa`` for most models."""
    quantisation: Literal["none", "int8", "nf4"] = "none"
    """Of the base models' weights as they are loaded: ``int8`` by quanto, ``nf4`` by bitsandbytes, which needs a CUDA
    device. Both must be installed. Embedded models, and modules given from Python, are not quantised."""
    offload: bool = False
    """Whether base models that no client in its turn uses wait in the CPU's memory, so that the device holds one
    family at a time."""
    feature_cache: Rate = 0.0
    """GiB of disk, in the cache folder, for what checkpoints' frozen vision towers give of pictures, so that they run
    once for each picture. 0: they run on every batch. Results differ in the last bits. The embedded models' features
    are always kept."""

    @model_validator(mode="after")
    def _quantised_weights_stay(self) -> ModelSettings:
        if self.offload and self.quantisation != "none":
            raise ValueError(
                f"quantised weights cannot be moved, so model.offload=true and model.quantisation={self.quantisation} "
                "exclude each other; choose one"
            )
        return self


class AdapterSettings(_Settings):
    """Shape and place of the adapters (docs/method-facts.md#adapters)."""

    rank: Positive = 16
    """r of LoRA and Co-LoRA; the paper has 128 for images and 16 for texts."""
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0
    """An update is scaled by alpha / rank; the paper has 2 rank."""
    blocks: Annotated[int, Field(ge=0)] = 2
    """N_B; the last layer of each block carries Co-LoRA. 0 puts conventional LoRA everywhere. 2 is what the shipped
    bases of the embedded models are made for; the paper has 4."""
    tower_rank: Annotated[int, Field(ge=0)] = 0
    """r of the tower adapter, Co-LoRA at the input of vision-language models' projectors, at most the width of the
    tower's features (256 in the embedded models); 0, as published: none."""
    align_towers: bool = False
    """Whether clients with different vision towers share one tower adapter, in coordinates in which the towers'
    features of public pictures agree. It needs the base models of all clients. Off: one adapter for each tower."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """Share of an adapter's inputs that are dropped in training."""
    gate: Annotated[str, registered(GATES)] = "scalar"
    """What weighs two slots of a method that has a gate: one number per linear (``scalar``: the paper's), each sample's
    prompt, or each token's input. ``step`` weighs a single slot: it is a method's own."""
    alignment: str = "joint"
    """Where Co-LoRA's frozen bases come from if there are several architectures: a mode of ``fedmosaic align`` (none,
    a, published, pivot, joint), or the folder of an alignment that it made."""


class EvaluationSettings(_Settings):
    """What is measured when."""

    split: Literal["test", "validation"] = "test"
    """Which samples score a model; ``validation`` is for choosing settings without looking at the test samples."""
    milestones: Annotated[int, Field(ge=1)] = 4
    """Evenly spaced rounds (the last included) at which Others is measured; Self is after every round. The AUC is the
    mean over these rounds."""
    samples_per_task: Annotated[int, Field(ge=1)] = 10
    """Samples per task at rounds other than the last."""
    final_samples_per_task: Annotated[int, Field(ge=0)] = 0
    """Samples per task of all that is measured before the first round and after the last; 0: every one of the split."""
    batch_size: Positive = 64
    """Samples that go through a model at once when it is scored."""
    open_metric: Annotated[str, registered(METRICS)] = "f1"
    """Score of open answers: token F1 (``f1``), or ROUGE-L (``rouge-l``)."""
    answer_tokens: Positive = 6
    """Generation of an open answer stops here if the model does not stop before."""


class ParticipationSettings(_Settings):
    """Who trains in a round, how long an absent client's knowledge counts, and what is done about missing answers."""

    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the clients taking part that train in a round, rounded, at least one; drawn anew in each round."""
    staleness: Annotated[int, Field(ge=0)] = 0
    """An upload made in round u counts in the rounds u + 1 to u + staleness; 0: until the client's next one."""
    min_clients: Annotated[int, Field(ge=0)] = 0
    """A round goes on without clients that are missing, while so many of those that were asked (or all, where fewer
    were) have answered; 0: every one must, else the run stops, and ``--resume`` repeats the round."""
    deadline: Rate = 0.0
    """Seconds that a client has to answer a message; 0: as many as it takes. Clients that take turns in one process
    are not interrupted."""


class WireSettings(_Settings):
    """The messages between server and clients (docs/wire.md)."""

    uploads: Literal["float32", "float16", "int8"] = "float32"
    """How clients send adapter weights: as they are, in half precision, or in 8 bits with a scale for every 256 values.
    All else that a method uploads, and downloads, are float32."""
    max_rms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e8
    """Largest root mean square of a tensor that server and clients accept. The default is above every whole number that
    float32 counts to, such as token ids: it refuses only what no honest client sends. Adapter weights are below 1."""


class AggregationSettings(_Settings):
    """How the server combines uploads (docs/robust.md)."""

    rule: Annotated[str, registered(AGGREGATORS)] = "mean"
    """``mean``: as the methods' papers. ``norm-bound``, ``trimmed-mean``, ``median`` and ``multi-krum`` bound what
    hostile uploads can do, and cost accuracy where all are honest."""
    attackers: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.2
    """Share of the uploads behind a download that these rules take to be hostile, rounded up to whole clients; the
    median of equal weights needs no such guess."""


class RunDefaults(_Settings):
    """What a scenario may give in ``[settings]``."""

    method: Annotated[str, RegisteredName(METHODS)] = "fedmosaic"
    """The federated method; its own settings are ``method.KEY``."""
    # Not a validator: what a method from elsewhere has run can be read and reported where it is not installed.
    method_settings: dict[str, Any] = Field(default_factory=dict)
    engine: Annotated[str, registered(ENGINES)] = "in-process"
    """What runs the clients."""
    rounds: Positive = 20
    """Communication rounds; the paper has 20, and 4 on Fed-LLM-Large."""
    planned_rounds: Annotated[int, Field(ge=0)] = 0
    """The rounds over which samples arrive, milestones are spaced and privacy noise is calibrated; 0: ``rounds``. A run
    that goes on after its last round keeps what it was planned for; later rounds train on all that has arrived."""
    final_exchange: bool = True
    """Whether the server sends one more download after the last round, which clients take up without training; what
    they answer then is reported beside what they answer after local training, the published protocol."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of everything random."""
    threads: Positive = 1
    """Threads of one process; results are reproducible bit for bit at an equal number only."""
    device: str = "auto"
    """Where models compute, as torch calls it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``. ``auto`` is the first CUDA
    device if there is one, else the CPU; a run keeps what it took. Clients are dealt out over several devices with
    ``cuda:0,cuda:1``."""
    cohort: Clients = "off"
    """How many clients train, and are scored, side by side in one pass of each base model (docs/cohorts.md), on each
    device; ``auto``: 16, or as many as there are. ``off``: one after another, whose results older runs have bit for
    bit."""
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    adapter: AdapterSettings = AdapterSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    participation: ParticipationSettings = ParticipationSettings()
    aggregation: AggregationSettings = AggregationSettings()
    wire: WireSettings = WireSettings()


_SINCE: dict[str, dict[str, Any]] = {
    "model": {"autocast": "auto", "attention": "auto", "quantisation": "none", "offload": False, "feature_cache": 0.0},
    "training": {"micro_batch": 0, "recompute": False},
    "evaluation": {"final_samples_per_task": 0},
    "": {"cohort": "off"},
}
"""Settings that came when there were runs, by their part, and the values with which a run is what it was before."""


class RunSettings(RunDefaults):
    """Everything that decides a run's result."""

    scenario: Scenario

    @model_validator(mode="after")
    def _cohorts_have_their_models(self) -> RunSettings:
        if self.model.offload and isinstance(self.cohort, int) and self.cohort > 1:
            raise ValueError(
                f"cohort={self.cohort} trains clients of all base models side by side, and model.offload=true lets one "
                "be on the device at a time; choose one"
            )
        return self

    @model_validator(mode="after")
    def _somebody_takes_part_in_every_round(self) -> RunSettings:
        parts = {client.id: client.rounds(self.rounds) for client in self.scenario.clients}
        if late := [client for client, rounds in parts.items() if not rounds]:
            raise ValueError(f"client {late[0]} joins after the last round, {self.rounds}; run more rounds")
        if late := [client.id for client in self.scenario.clients if not client.rounds(self.horizon)]:
            raise ValueError(
                f"client {late[0]} joins after the last planned round; raise planned_rounds above {self.horizon}"
            )
        if self.scenario.division is None and self.participation.min_clients > len(parts):
            raise ValueError(
                f"participation.min_clients is {self.participation.min_clients}, but the scenario has {len(parts)} "
                "client(s); ask for no more than these, or 0 for all"
            )
        for round_ in range(1, self.rounds + 1):
            if not any(round_ in rounds for rounds in parts.values()):
                raise ValueError(f"no client takes part in round {round_}; check joins and leaves of the clients")
        return self

    @property
    def horizon(self) -> int:
        """The number of rounds that the run is planned for."""
        return self.planned_rounds or self.rounds

    @property
    def digest(self) -> str:
        """16 hex digits that name these settings: two runs with equal digests give equal results."""
        table = self.model_dump(mode="json")
        for part, defaults in _SINCE.items():  # as if there were none, so that the names of older runs stay theirs
            settings = table[part] if part else table
            for key, default in defaults.items():
                if settings[key] == default:
                    del settings[key]
        text = json.dumps(table, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def with_rates(self, factor: float) -> RunSettings:
        """Return the settings with the adapters' learning rates multiplied, those of the method too; the gate's stays.

        The method's are its settings whose names end with ``learning_rate``.

        Args:
            factor: >= 0.
        """
        if factor == 1:  # numbers stay as they are written, and the digest what it is
            return self
        names = ("learning_rate", "colora_learning_rate", "tower_learning_rate")
        rates = {name: factor * getattr(self.training, name) for name in names}
        own = {
            name: factor * value if name.endswith("learning_rate") and isinstance(value, int | float) else value
            for name, value in self.method_settings.items()
        }
        return self.model_copy(update={"training": self.training.model_copy(update=rates), "method_settings": own})

    def to_toml(self) -> str:
        """Write the settings as TOML (None is left out: TOML has no word for it)."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_toml(cls, path: Path) -> RunSettings:
        """Return the settings in ``settings.toml`` of a run folder.

        Args:
            path: the file.

        Raises:
            SettingsError: it is missing, damaged or invalid.
        """
        try:
            return validate(cls, tomllib.loads(path.read_text(encoding="utf-8")), source=str(path))
        except FileNotFoundError:
            raise SettingsError(f"{path} is missing: {path.parent} is not a run folder") from None
        except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of numbers too long to be any
            raise SettingsError(f"{path} is damaged ({error}); the run in this folder cannot be used") from None


def resolve(scenario: Scenario, *, overrides: Sequence[str] = (), **explicit: Any) -> RunSettings:
    """Return the settings of a run: defaults, the scenario's ``[settings]`` and the command line, in this order.

    Relative paths are taken to be relative to the working folder; those of scenario files are absolute by now.

    Args:
        scenario: who the clients are; its ``settings`` table holds its defaults.
        overrides: ``key=value`` strings with dotted keys, e.g. ``training.steps=10``, ``method.temperature=0.2``
            or ``scenario.protocol=static``.
        explicit: top-level values given as options of their own; None means "not given".

    Raises:
        SettingsError: an unknown key or name, or an unusable value.
    """
    table = defaults_of(scenario)
    table["scenario"] = rooted(scenario.model_dump(mode="json"), Path.cwd(), _ALWAYS_PATHS)
    for override in overrides:
        apply_override(table, override)
    table.update({key: value for key, value in explicit.items() if value is not None})
    settings = validate(RunSettings, table, source="the settings")
    METHODS.check(settings.method)
    return settings


def defaults_of(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario's ``[settings]`` as a table of :class:`RunDefaults`; ``[settings.method]`` are the method's.

    Args:
        scenario: the scenario.
    """
    table = copy.deepcopy(scenario.settings)
    if isinstance(table.get("method"), Mapping):
        table["method_settings"] = table.pop("method")
    return table


_ALWAYS_PATHS = {
    ("data",): folder,
    ("probe",): name_or_path,
    ("clients", "*", "model"): name_or_path,
    ("clients", "*", "start"): folder,
}
"""Where a scenario that no file holds may have relative paths."""


def varied(settings: RunSettings, overrides: Sequence[str]) -> RunSettings:
    """Return the settings with some changed.

    Args:
        settings: of a run.
        overrides: ``key=value`` strings with dotted keys.

    Raises:
        SettingsError: an unknown key or an unusable value.
    """
    table = settings.model_dump(mode="json")
    for override in overrides:
        apply_override(table, override)
    return validate(RunSettings, table, source="the settings")
