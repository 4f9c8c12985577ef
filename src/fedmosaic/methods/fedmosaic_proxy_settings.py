"""Settings of FedMosaic with a proxy model (:mod:`fedmosaic.methods.fedmosaic_proxy`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from fedmosaic.errors import SettingsError
from fedmosaic.methods.task_sketch import Count, Positive, SketchSettings
from fedmosaic.methods.upload_memory import MemorySettings

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class FedMosaicProxySettings(MemorySettings, SketchSettings):
    """No paper has values for it; docs/method-facts.md#proxy-model."""

    own: Literal["private", "shared"] = "private"
    """Whether nothing of a client's own model leaves it, or its adapter is averaged within its architecture."""
    proxy: str = ""
    """Base model of the proxy; empty: that of the scenario's probe, or the smallest of the clients' models."""
    own_steps: Share = 1.0
    """Share of ``training.steps`` that the own model takes."""
    proxy_steps: Positive = 1.0
    """Steps of the proxy model, as a multiple of ``training.steps``; they cost less than the own model's."""
    proxy_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Of the proxy's adapter; None: ``training.learning_rate``."""
    relevance: Literal["uniform", "sketch", "update"] = "uniform"
    """Whether every client receives the proxies' mean, or more of those whose sketches or whose proxies' updates are
    like its own. The settings of sketches (``probe_on`` to ``privacy``) count for ``sketch`` only."""
    temperature: Positive = 0.2
    """tau of the relevance softmax."""
    self_weight: Share | None = None
    """Of a client's own proxy in what it receives by relevance; None: 1 / clients, as in the mean."""
    relevance_share: Share = 1.0
    """How much of what is received is weighed by relevance; the rest is the mean."""
    restart: Share = 1.0
    """rho: a round starts from (1 - rho) of what the client has trained, of all that it uploads, and rho of what it
    receives."""
    share: Share | None = None
    """Weight in answers of what the round started from, beside what was trained from it; None: answers are given by
    what was trained, and after the last exchange by what a next round would start from."""
    weighting: Literal["fixed", "familiarity"] = "fixed"
    """Whether the proxy counts alike in all answers, or by how familiar the question is."""
    open_answers: Literal["proposals", "tokens"] = "proposals"
    """Whether both models propose a whole answer each, of which they take the likelier, or generate one together."""
    weight: Weight = 1.0
    """Of ``fixed``: w of the proxy's log-likelihood."""
    weight_familiar: Weight = 1.0
    """Of ``familiarity``: w where the client has trained on questions like this one."""
    weight_foreign: Weight = 2.0
    """Of ``familiarity``: w of all other questions."""
    common: Share = 0.0
    """Of ``fixed``: share of w that is the proxy's as it was received, without what is the client's own in it."""
    common_familiar: Share = 0.0
    """Of ``familiarity``: the same where the client has trained on questions like this one."""
    common_foreign: Share = 0.0
    """Of ``familiarity``: the same for all other questions."""
    known_per_round: Count = 32
    """Of ``familiarity``: how many questions of a round's batches are remembered, as embeddings on the client."""
    known: Annotated[int, Field(ge=2)] = 512
    """Of ``familiarity``: how many are kept at most."""
    novelty_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of ``familiarity``: share of the known questions that may be called unfamiliar."""

    @property
    def keeps_common(self) -> bool:
        """Whether answers need the proxy as it was received."""
        by_question = self.weighting == "familiarity"
        return any((self.common_familiar, self.common_foreign) if by_question else (self.common,))

    def own_step_count(self, steps: float) -> int:
        """Return how many steps the own model takes in a round.

        Args:
            steps: of the round's budget.
        """
        return round(self.own_steps * steps)

    def check_own_steps(self, steps: float) -> None:
        """Refuse an own model that is to train and never would, or that takes no step where its questions are used.

        Args:
            steps: ``training.steps``; a part of one is a step in some rounds.

        Raises:
            SettingsError: names the setting.
        """
        needed = {
            "relevance=sketch": self.relevance == "sketch",
            "weighting=familiarity": self.weighting == "familiarity",
        }
        needing = [name for name, asked in needed.items() if asked]
        if needing and not self.own_step_count(math.floor(steps)):
            raise SettingsError(
                f"method.own_steps={self.own_steps:g} of training.steps={steps:g} leaves the own model no step, and "
                f"method.{needing[0]} is made of the questions that it is trained on; give it a step or more"
            )
        if self.own_steps and not self.own_step_count(math.ceil(steps)):
            raise SettingsError(
                f"method.own_steps={self.own_steps:g} of training.steps={steps:g} is rounded to no step in every "
                "round, so the own model would never train; give it a step or more, or 0 if it is to stay as it is"
            )
