"""What a run reads, noted as digests: data or models that change while it is stopped are noticed, and named."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.federation.assets import Assets
from fedmosaic.io import load_json, write_atomically
from fedmosaic.models import BaseModel
from fedmosaic.registry import BASE_MODELS
from fedmosaic.training.model_pool import ModelPool

Digests = dict[str, str]
"""By what was read, as an error names it."""

_SPLITS = ("train", "validation", "test")
_PASSING = ("padding", "truncation", "transformers_version")  # a tokenizer keeps how it was called last
_TEXTS = (".json", ".txt", ".model", ".jinja")  # of a checkpoint: configuration, tokenizer, processor, chat template


class InputDigests:
    """The note of one run on one machine, and what it is compared with. Everything is read at most once.

    Args:
        path: the note's file.
        assets: what the run reads.
        only: the clients whose data and models are read here; default: all.

    Attributes:
        path: see above.
    """

    def __init__(self, path: Path, assets: Assets, *, only: Collection[int] | None = None) -> None:
        self.path = path
        self._assets = assets
        self._only = only
        self._known: dict[tuple[str, str], Digests] = {}

    @classmethod
    def of(cls, assets: Assets, folder: Path, *, only: Collection[int] | None = None) -> InputDigests:
        """Return the note in the clients' folder of a run.

        Args:
            assets: what the run reads.
            folder: the clients'.
            only: the clients whose data and models are read here; default: all.
        """
        return cls(folder / "inputs.json", assets, only=only)

    def keep(self) -> None:
        """Write the note; if there is one, check what is read here, and add what others did not read.

        Raises:
            DataError: something has changed since it was written.
        """
        self.check_all()
        before = self._before() if self.path.is_file() else {}
        now = self._now(*self._all)
        if now.keys() - before.keys():
            write_atomically(self.path, json.dumps({**before, **now}, indent=2) + "\n")

    def beside(self, folder: Path) -> InputDigests:
        """Return the note of another run of the same scenario; nothing is read a second time.

        Args:
            folder: the other run's clients'.
        """
        other = copy.copy(self)
        other.path = folder / self.path.name
        return other

    def check_all(self) -> None:
        """Compare everything that the run reads, as :meth:`check`.

        Raises:
            DataError: names what has changed.
            RunError: the note is damaged.
        """
        tasks, models, starts = self._all
        self.check(tasks=tasks, models=models, starts=starts)

    def check(self, *, tasks: Sequence[str] = (), models: Sequence[str] = (), starts: Sequence[str] = ()) -> None:
        """Compare some of what the run read with what is there now; without a note nothing is compared.

        Args:
            tasks: their samples with their images.
            models: base models.
            starts: folders of the LoRA that clients begin with.

        Raises:
            DataError: names what has changed.
            RunError: the note is damaged.
        """
        if not self.path.is_file():
            return
        before = self._before()
        now = self._now(tasks, models, starts)
        if changed := [name for name, digest in now.items() if before.get(name, digest) != digest]:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise DataError(
                f"changed since the run in {self.path.parent.parent} began: {', '.join(changed[:3])}{more}; what was "
                "made before and after does not belong together: bring back what it began with, or start another run"
            )

    def _before(self) -> Digests:
        note: Digests = load_json(self.path, advice="delete it to go on without this check")
        return note

    @property
    def _all(self) -> tuple[list[str], list[str], list[str]]:
        scenario = self._assets.settings.scenario
        here = [client for client in scenario.clients if self._only is None or client.id in self._only]
        own = [task for client in here for task in client.tasks]
        tasks = dict.fromkeys(filter(None, (*own, scenario.public)))
        starts = dict.fromkeys(client.start for client in here if client.start)
        proxy = self._assets.method.proxy
        bases = [client.model for client in here]
        models = dict.fromkeys(filter(None, (*bases, scenario.probe, proxy.model if proxy else "")))
        return list(tasks), list(models), list(starts)

    def _now(self, tasks: Sequence[str], models: Sequence[str], starts: Sequence[str]) -> Digests:
        found: Digests = {}
        for kind, names, read in (
            ("task", tasks, self._task),
            ("model", models, self._weights),
            ("start", starts, _start),
        ):
            for name in names:
                if (kind, name) not in self._known:
                    self._known[kind, name] = read(name)
                found |= self._known[kind, name]
        return found

    def _task(self, name: str) -> Digests:
        benchmark = self._assets.benchmark
        task, images = benchmark.task(name), benchmark.images
        return {f"{split} samples of {name}": _of_samples(getattr(task, split), images) for split in _SPLITS}

    def _weights(self, name: str) -> Digests:
        return {f"base model {name}": model_digest(name, self._assets.pool)}


def model_digest(name: str, pool: ModelPool) -> str:
    """Return what a base model is: its architecture, which covers its weights, and a digest of the texts beside them.

    Args:
        name: as clients name it.
        pool: the base models.

    Raises:
        ModelError: it cannot be loaded.
    """
    model, folder = pool.known(name), Path(name).expanduser()
    is_object = name in pool.given and name not in BASE_MODELS and not folder.is_dir()
    texts = _of_object(model) if is_object else _of_files(folder, _TEXTS)
    return " ".join(filter(None, (model.architecture, texts)))


def _of_object(model: BaseModel) -> str:
    """Return a digest of the texts that would lie beside the weights of a model that has no files."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(model.module.config.to_dict(), default=str), encoding="utf-8")
        model.save_processor(folder)
        for path in folder.glob("*.json"):
            table = json.loads(path.read_text(encoding="utf-8"))
            lasting = {key: value for key, value in table.items() if key not in _PASSING}
            path.write_text(json.dumps(lasting, sort_keys=True), encoding="utf-8")
        return _of_files(folder, _TEXTS)


def _start(folder: str) -> Digests:
    return {f"LoRA {folder}": _of_files(Path(folder).expanduser(), (".json", ".safetensors"))}


def _of_samples(samples: Sequence[Sample], images: ImageSource) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        digest.update(f"{sample!r}\x1f{[images.digest(key) for key in sample.images]}\x1e".encode())
    return digest.hexdigest()


def _of_files(folder: Path, suffixes: Sequence[str]) -> str:
    """Return a digest of the names and bytes of some of a folder's files; empty if there is no such folder."""
    if not folder.is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.suffix in suffixes):
        with path.open("rb") as file:
            digest.update(f"{path.name}\x1f".encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
