"""A comparison written down as a file: scenario, methods with settings, seeds, learning rates and budget."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedmosaic.config import dotted
from fedmosaic.config.overrides import literal
from fedmosaic.config.paths import OF_SETTINGS, expanded, rooted
from fedmosaic.config.validation import explain
from fedmosaic.errors import SettingsError
from fedmosaic.experiments.variant import variant_of

_FILES = (".toml", ".json")


class Sweep(BaseModel):
    """What a sweep file says; every key has the meaning of the option of ``fedmosaic compare`` of this name.

    Attributes:
        scenario: built-in name, or path of a scenario file, relative to the sweep file.
        methods: names, ``name:key=value`` variants, or tables: ``{method = "fedmosaic", relevance = "uniform"}``.
        seeds: of the runs.
        rates: factors of the learning rates to choose from, or the path of a ``comparison.json``, relative to the file.
        budget: what all methods may spend alike.
        rounds: communication rounds; None: the scenario's.
        settings: of all runs, e.g. ``training.steps = 10``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str = "demo"
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    rates: tuple[float, ...] | str = ()
    budget: Literal["steps", "flops"] = "steps"
    rounds: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("methods", mode="before")
    @classmethod
    def _variants(cls, given: Any) -> Any:
        return [_variant(each) for each in given] if isinstance(given, list) else given

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """Read a file.

        Args:
            path: of the file.

        Returns:
            What it says, with its paths absolute.

        Raises:
            SettingsError: it cannot be read or is not valid; names what is wrong.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            sweep = cls.model_validate(table)
        except OSError as error:
            raise SettingsError(f"cannot read sweep {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"sweep {path} is not valid: {error}") from None
        except ValidationError as error:
            raise SettingsError(f"sweep {path}: {explain(error, cls)}") from None
        settings = rooted(sweep.settings, path.resolve().parent, OF_SETTINGS)
        changes: dict[str, Any] = {"scenario": _beside(path, sweep.scenario), "settings": settings}
        if isinstance(sweep.rates, str):
            changes["rates"] = _beside(path, sweep.rates)
        return sweep.model_copy(update=changes)

    def options(self) -> dict[str, Any]:
        """Return the values of the command line's options that mean the same, but for ``--set``."""
        rates = self.rates if isinstance(self.rates, str) else ",".join(f"{each:g}" for each in self.rates)
        return {
            "scenario": self.scenario,
            "methods": ",".join(self.methods),
            "seeds": ",".join(map(str, self.seeds)),
            "rates": rates,
            "budget": self.budget,
            "rounds": self.rounds,
        }

    def overrides(self) -> list[str]:
        """Return the settings of all runs as ``key=value`` strings."""
        return [f"{key}={literal(key, value)}" for key, value in dotted(self.settings)]


def _variant(given: Any) -> Any:
    """Return the name of a method or variant: ``fedmosaic:relevance=uniform:adapter.alignment=none``."""
    if not isinstance(given, Mapping) or not isinstance(given.get("method"), str):
        return given
    changes = [
        f"{key}={value if isinstance(value, str) else literal(key, value)}"
        for key, value in dotted({key: value for key, value in given.items() if key != "method"})
    ]
    try:
        return variant_of(given["method"], changes)
    except ValueError as error:
        raise ValueError(f"methods: {error}") from error


def _beside(path: Path, name: str) -> str:
    """A file's path relative to the sweep file's folder as an absolute one; other names stay as they are."""
    file, *division = re.split("(-dirichlet-.*)", name, maxsplit=1)  # a file's clients may be made by a draw
    if not file.lower().endswith(_FILES):
        return name
    return "".join([str((path.resolve().parent / expanded(file)).resolve()), *division])
