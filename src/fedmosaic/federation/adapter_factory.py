"""The adapters of a run: one set of modules for each base model, the bases in them, and how clients begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from fedmosaic import seeding
from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.start import Start, client_start
from fedmosaic.alignment import Alignment, is_alignment
from fedmosaic.config import AdapterSettings, ClientSpec
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.tower_basis import aligned_site
from fedmosaic.models import BaseModel
from fedmosaic.training import ClientState


class AdapterFactory:
    """Attaches adapters to base models on first use, and knows how clients begin.

    Args:
        assets: of the run.
        kept_bases: the folder where the run keeps its alignment; if it holds one, this counts, whatever is shipped or
            made later. None: nothing is kept.
    """

    def __init__(self, assets: Assets, kept_bases: Path | None = None) -> None:
        self._assets = assets
        self._kept_bases = kept_bases
        self._adapters: dict[str, Adapter] = {}
        self._starts: dict[str, ClientState] = {}
        self._proxy: Adapter | None = None
        self._imports: dict[tuple[str, str], Start] = {}
        self._alignment: tuple[Alignment | None] | None = None

    @property
    def alignment(self) -> Alignment | None:
        """Co-LoRA's frozen bases: those that the run keeps, or else its assets' ones.

        Raises:
            RunError: what the run keeps is damaged.
        """
        if self._alignment is None:
            kept = self._kept_bases
            found = Alignment.load(kept) if kept and is_alignment(kept) else self._assets.alignment
            self._alignment = (found,)
        return self._alignment[0]

    def keep_alignment(self) -> None:
        """Store the bases in the folder for them, as they give the states' P and Q a meaning."""
        if self._kept_bases and self.alignment is not None and not is_alignment(self._kept_bases):
            self._kept_bases.mkdir(parents=True, exist_ok=True)
            with FileLock(self._kept_bases / "lock"):
                self.alignment.save(self._kept_bases)

    def adapter(self, spec: ClientSpec) -> Adapter:
        """Return the adapter modules of a client's base model, which the clients of this model take turns in.

        Args:
            spec: who the client is.

        Raises:
            ModelError: the base model cannot be loaded, or carries another adapter.
            SettingsError: the settings do not fit it.
        """
        if spec.model not in self._adapters:
            adapter = self._attached(spec.model)
            start = ClientState.of_adapter(adapter)
            if (proxy := self._proxy_adapter()) is not None:
                adapter.proxy, start = proxy, replace(start, proxy=self._proxy_start)
            self._starts[spec.model] = start
            self._adapters[spec.model] = adapter
        return self._adapters[spec.model]

    def _proxy_adapter(self) -> Adapter | None:
        """The modules that all clients of the run take turns in to train their proxy models, attached on first use."""
        proxy = self._assets.method.proxy
        if self._proxy is None and proxy is not None:
            settings = self._assets.settings.adapter.model_copy(update={"blocks": 0, "align_towers": False})
            self._proxy = self._attach(self._assets.pool.proxy(proxy.model), proxy.slots, settings, gate="none")
            self._proxy_start = ClientState.of_adapter(self._proxy)
        return self._proxy

    def _attach(self, base: BaseModel, slots: Sequence[Slot], settings: AdapterSettings, *, gate: str) -> Adapter:
        run = self._assets.settings
        rank, towers = settings.tower_rank, self._towers() if settings.align_towers and settings.tower_rank else {}
        home, device = self._assets.cache, self._assets.device
        tower = aligned_site(base, rank, towers, home=home, device=device, dtype=run.model.dtype)
        base.adapter = adapter = Adapter.attach(
            base.module,
            base.decoder,
            slots=slots,
            rank=settings.rank,
            alpha=settings.alpha,
            blocks=settings.blocks,
            dropout=settings.dropout,
            gate=gate,
            seed=seeding.derive(self._assets.settings.seed, "adapter"),
            architecture=base.architecture,
            tower=tower,
        )
        adapter.recompute = run.training.recompute
        return adapter

    def _towers(self) -> dict[str, str]:
        """The vision towers of all clients' base models, each with the name of a model that has it."""
        names = sorted(set(self._assets.settings.scenario.models))
        found = {name: model.interface for name in names if (model := self._assets.pool.known(name)).reads_images}
        return {interface.tower: name for name, interface in found.items() if interface is not None}

    def _attached(self, model: str) -> Adapter:
        method, base = self._assets.method, self._assets.pool.known(model)
        settings = method.adapter_settings(self._assets.settings.adapter)
        gate = settings.gate if method.answers_with == "gate" else "none"
        adapter = self._attach(base, method.slots, settings, gate=gate)
        try:  # settings that do not fit have been refused: now the bases, which it may take long to make
            if self.alignment is not None:
                adapter.load_basis(self.alignment.basis(base.architecture))
        except FedMosaicError:
            adapter.detach()
            base.adapter = None
            raise
        return adapter

    def start(self, spec: ClientSpec) -> ClientState:
        """Return the state of a client that has not trained yet: the same draw for all clients of one architecture.

        A client that brings a LoRA starts with it in every slot, as slots start alike anyway, or with its parts.

        Args:
            spec: who the client is.

        Raises:
            ModelError: as :meth:`adapter` and :meth:`imported`.
        """
        self.adapter(spec)
        start = self._starts[spec.model]
        if (imported := self.imported(spec)) is None:
            return start
        brought = start.with_slots({slot: own.tensors for slot, own in imported.slots.items()})
        return replace(brought, gate={**start.gate, **imported.gates})

    def imported(self, spec: ClientSpec) -> Start | None:
        """Return the PEFT LoRA that a client starts from, if it brings one.

        Args:
            spec: who the client is.

        Raises:
            ModelError: the folder cannot be read, or does not fit the client's model and the adapter settings.
        """
        if not spec.start:
            return None
        key = (spec.model, spec.start)
        if key not in self._imports:
            adapter = self.adapter(spec)
            initial = self._starts[spec.model].slots[adapter.slots[0].name]
            folder = Path(spec.start).expanduser()
            self._imports[key] = client_start(adapter, initial, folder, answers_with=self._assets.method.answers_with)
        return self._imports[key]

    def detach(self) -> None:
        """Take all adapters out of their base models, so that another factory can attach its own."""
        for name, adapter in self._adapters.items():
            adapter.detach()
            self._assets.pool.known(name).adapter = None
        self._adapters.clear()
        if self._proxy is not None and (proxy := self._assets.method.proxy) is not None:
            self._proxy.detach()
            self._assets.pool.proxy(proxy.model).adapter = None
            self._proxy = None
