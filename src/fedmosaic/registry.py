"""Registries of everything that settings choose by name: methods, datasets, gates, metrics, engines, trackers, ...

Whatever is registered is a class with ``name = "..."`` in its body. The built-in ones are the files of one package per
kind; their names are read from the files without importing them, so that settings are checked, help is printed and
names are completed before any heavy library is loaded. Other packages add theirs by entry points, for instance

    [project.entry-points."fedmosaic.methods"]
    mrmtl = "my_package.mrmtl:MrMtl"

and a notebook by ``METHODS.register(MrMtl)``. The interface of each kind is described in docs/extend.md.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint

C = TypeVar("C", bound=type[Any])

_NAME = re.compile(r'^    name(?:: [^=\n]+)? = "([^"\n]+)"', re.MULTILINE)


class Registry:
    """The classes of one kind by name; a class is imported when it is first asked for.

    Args:
        kind: in the plural, as in the entry points' group ``fedmosaic.KIND``.
        noun: what error messages call one of them.
        package: the package, or single module, whose files hold the built-in ones.
        base: ``module:Class`` that all are derived from; empty where any class with the right methods will do.
    """

    def __init__(self, kind: str, *, noun: str, package: str, base: str = "") -> None:
        self.kind = kind
        self.noun = noun
        self.package = package
        self._base = base
        self._registered: dict[str, type[Any]] = {}

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, sorted.

        Raises:
            SettingsError: an entry point has the name of a built-in one, or of another entry point.
        """
        return iter(sorted({*self._built_in, *self._registered, *self._entry_points()}))

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._registered or name in self._entry_points()

    def check(self, name: str) -> str:
        """Return a name unchanged, after checking that it is registered.

        Args:
            name: as in the settings.

        Raises:
            SettingsError: there is none of this name; names the nearest and all others.
        """
        if name not in self:
            known = list(self)
            raise SettingsError(
                f"unknown {self.noun} {name!r}; {hint(name, known)}known: {', '.join(known) or 'none is installed'}"
            )
        return name

    def load(self, name: str) -> Any:
        """Return the class of a name; it is imported now.

        Args:
            name: as in the settings.

        Raises:
            SettingsError: there is none of this name, or an entry point does not hold what it should.
        """
        entries = self._entry_points()
        if name not in self._registered and name not in entries:
            self.check(name)
        return self._loaded(name, entries)

    def load_all(self) -> list[Any]:
        """Return all classes, sorted by name; installed packages are looked up once.

        Raises:
            SettingsError: an entry point does not hold what it should.
        """
        entries = self._entry_points()
        return [self._loaded(name, entries) for name in sorted({*self._built_in, *self._registered, *entries})]

    def _loaded(self, name: str, entries: Mapping[str, EntryPoint]) -> Any:
        if name in self._registered:
            return self._registered[name]
        if name in entries:
            return self._of_entry_point(entries[name])
        module = importlib.import_module(self._built_in[name])
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and vars(value).get("name") == name:
                return self._checked(value, f"{self.noun} {name!r} ({module.__name__})")
        raise SettingsError(
            f"{module.__name__} has no class with name = {name!r}; it must be at the module's top level"
        )

    def register(self, kind: C) -> C:
        """Register a class in this process and return it, so that this is a decorator too.

        Args:
            kind: a class with ``name = "..."``; the same class, defined again, replaces itself.

        Raises:
            SettingsError: the class has no name, is of another kind, or its name is taken.
        """
        self._checked(kind, f"{self.noun} {kind.__qualname__}")
        name, known = kind.name, self._registered.get(getattr(kind, "name", ""))
        if name in self and (known is None or known.__qualname__ != kind.__qualname__):
            raise SettingsError(f"a {self.noun} named {name!r} exists already; give {kind.__qualname__} another name")
        self._registered[name] = kind
        return kind

    def unregister(self, name: str) -> None:
        """Remove a class that :meth:`register` added; other names are ignored.

        Args:
            name: of the class.
        """
        self._registered.pop(name, None)

    @cached_property
    def _built_in(self) -> dict[str, str]:
        """Name -> module."""
        place = _place(self.package)
        found: dict[str, str] = {}
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            module = self.package if path.stem in ("__init__", place.name) else f"{self.package}.{path.stem}"
            for name in _NAME.findall(path.read_text(encoding="utf-8")) if path.is_file() else ():
                if name in found:
                    raise SettingsError(f"{found[name]} and {module} both hold a {self.noun} named {name!r}")
                found[name] = module
        return found

    def _entry_points(self) -> dict[str, EntryPoint]:
        """Those of installed packages, which may come and go in a process."""
        found: dict[str, EntryPoint] = {}
        for entry in _installed(_import_path()).get(f"fedmosaic.{self.kind}", ()):
            if entry.name in found and found[entry.name].value == entry.value:
                continue  # one package that is found twice, e.g. where it is installed and in its source
            if entry.name in self._built_in or entry.name in found or entry.name in self._registered:
                raise SettingsError(
                    f"entry point {entry.name!r} ({entry.value}): a {self.noun} named {entry.name!r} exists already; "
                    "one of the packages must be removed or rename its own"
                )
            found[entry.name] = entry
        return found

    def _of_entry_point(self, entry: EntryPoint) -> type[Any]:
        source = f"entry point {entry.name!r} ({entry.value}) of fedmosaic.{self.kind}"
        try:
            value = entry.load()
        except (ImportError, AttributeError) as error:
            raise SettingsError(
                f"{source} cannot be loaded: {error}; install its package again or remove it"
            ) from error
        if self._checked(value, source).name != entry.name:
            raise SettingsError(f"{source}: the class calls itself {value.name!r}; both names must be the same")
        found: type[Any] = value
        return found

    def _checked(self, value: Any, source: str) -> Any:
        """Return a class that has a name and the base of its kind."""
        if not isinstance(value, type) or not isinstance(getattr(value, "name", None), str):
            raise SettingsError(f'{source} is no {self.noun}: expected a class with name = "..."')
        module, _, base = self._base.partition(":")
        if base and not issubclass(value, getattr(importlib.import_module(module), base)):
            raise SettingsError(f"{source} is no {self.noun}: expected a class derived from {module}.{base}")
        return value


def _place(package: str) -> Path:
    """Return the folder of a package, or a single module's without ``.py``; nothing below the top level is imported."""
    top, *below = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)
    return Path(spec.origin).parent.joinpath(*below)


def _import_path() -> tuple[tuple[str, int], ...]:
    """Return where packages are found and when something was last installed or removed there."""
    return tuple((path, _modified(Path(path))) for path in sys.path)


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1  # not there yet


@lru_cache(maxsize=1)
def _installed(places: tuple[tuple[str, int], ...]) -> dict[str, EntryPoints]:
    """Our groups' entry points; to look takes ten milliseconds, and every adapted linear has a gate to be found."""
    found = entry_points()
    return {group: found.select(group=group) for group in found.groups if group.startswith("fedmosaic.")}


class Several:
    """Several registries that one setting chooses from.

    Args:
        registries: of kinds that are used alike.
    """

    def __init__(self, *registries: Registry) -> None:
        self._registries = registries

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, registry by registry."""
        return chain.from_iterable(self._registries)

    def __contains__(self, name: object) -> bool:
        return any(name in registry for registry in self._registries)


METHODS = Registry("methods", noun="method", package="fedmosaic.methods", base="fedmosaic.methods.base:Method")
DATASETS = Registry("datasets", noun="dataset", package="fedmosaic.data.datasets")
FORMATS = Registry("formats", noun="format of records", package="fedmosaic.data.formats")
READERS = Registry("readers", noun="reader of data files", package="fedmosaic.data.readers")
FAMILIES = Registry(
    "families", noun="embedded model", package="fedmosaic.models.embedded", base="fedmosaic.models.families:Family"
)
PACKAGED = Registry(
    "packaged",
    noun="base model from a package",
    package="fedmosaic.models.packaged",
    base="fedmosaic.models.from_package:PackagedModel",
)
BASE_MODELS = Several(FAMILIES, PACKAGED)
GATES = Registry("gates", noun="gate", package="fedmosaic.adapters", base="fedmosaic.adapters.gate:Gate")
SKETCHES = Registry("sketches", noun="sketch", package="fedmosaic.relevance.sketches")
METRICS = Registry("metrics", noun="metric of open answers", package="fedmosaic.evaluation.metrics")
AGGREGATORS = Registry(
    "aggregators",
    noun="rule of aggregation",
    package="fedmosaic.methods.aggregators",
    base="fedmosaic.methods.aggregators.base:Aggregator",
)
ENGINES = Registry("engines", noun="engine", package="fedmosaic.federation.engines")
TRACKERS = Registry("trackers", noun="tracker", package="fedmosaic.trackers", base="fedmosaic.trackers.base:Tracker")

REGISTRIES = (
    METHODS,
    DATASETS,
    FORMATS,
    READERS,
    FAMILIES,
    PACKAGED,
    GATES,
    SKETCHES,
    METRICS,
    AGGREGATORS,
    ENGINES,
    TRACKERS,
)
