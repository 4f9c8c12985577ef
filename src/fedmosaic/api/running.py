"""Starting, resuming and opening runs from Python."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.api.executing import execute
from fedmosaic.api.finished import Run
from fedmosaic.api.methods import MethodChoice, name_of
from fedmosaic.api.objects import Objects
from fedmosaic.api.placing import placed
from fedmosaic.api.preparing import prepare
from fedmosaic.api.reference import reference_of, start_or_resume
from fedmosaic.api.settings import overrides_of, scenario_of, with_options
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.api.watching import shown, teller
from fedmosaic.config import RunSettings, Scenario, resolve, varied
from fedmosaic.data.in_memory import Picture
from fedmosaic.data.sample import Task
from fedmosaic.federation import RunFolder, divided
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.continuation import check_can_go_on, continued, explanation, go_on, is_done
from fedmosaic.models.from_module import OwnModel
from fedmosaic.report import write_report
from fedmosaic.trackers import make_trackers


def run(
    scenario: Scenario | str | Path = "demo",
    *,
    method: MethodChoice | None = None,
    seed: int | None = None,
    rounds: int | None = None,
    engine: str | None = None,
    device: str | None = None,
    out: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    adapter: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    participation: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    tasks: Sequence[Task] = (),
    images: Mapping[str, Picture] | None = None,
    models: Mapping[str, OwnModel] | None = None,
    reference: bool | str = False,
    skip_bad: bool = False,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
    progress: bool = False,
) -> Run:
    """Run one method on one scenario, as ``fedmosaic run`` does, in this process.

    An interrupted run (Ctrl-C) can be gone on with: ``fedmosaic.resume(out)``.

    Args:
        scenario: a built-in name, a ``.toml`` file, a published ``.json`` file, or a :class:`Scenario`.
        method: a name, or a :class:`Method` class; default: the scenario's, else ``fedmosaic``.
        seed: of everything random; default 0.
        rounds: communication rounds; default: the scenario's.
        engine: default: ``in-process``.
        device: where models compute: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; default: ``auto``.
        out: a new folder for the run; default: one below ``runs``, named by scenario, method and seed.
        settings: any setting by its dotted key: ``{"training.steps": 10}``.
        method_settings: those of the method.
        training: those that begin with ``training.``; so are ``adapter``, ``evaluation``, ``participation``, ``model``.
        adapter: see ``training``.
        evaluation: see ``training``.
        participation: see ``training``.
        model: see ``training``.
        tasks: instead of the scenario's data; tasks that no client has are unseen ones.
        images: the pictures that the tasks' samples name: PIL images or paths by key.
        models: base models by the names that the scenario's clients use.
        reference: whether a reference is run, too, afterwards, below ``out/reference``: True for the scenario's (else
            ``sft``), or a method's name.
        skip_bad: leave out data records that cannot be used.
        callbacks: told what happens while it happens.
        track: names of trackers: ``wandb``, ``mlflow``, ``tensorboard``, ``trackio``; the reference gets them, too.
        progress: whether to show how far the run is.

    Returns:
        The finished run.

    Raises:
        FedMosaicError: the run cannot start (nothing is written then), or it failed.
    """
    objects = Objects(tasks, images or {}, models or {})
    chosen = with_options(objects.named_in(scenario_of(scenario)), skip_bad=skip_bad, reference=reference)
    tables = {"training": training, "adapter": adapter, "evaluation": evaluation, "participation": participation}
    overrides = overrides_of(settings, method_settings=method_settings, model=model, **tables)
    options = {"method": name_of(method) if method is not None else None, "engine": engine, "device": device}
    asked = resolve(chosen, overrides=overrides, rounds=rounds, seed=seed, **options)
    whole = placed(divided(asked, objects.assets), tell=teller(progress=progress))
    trackers = make_trackers(track)
    path = Path(out) if out is not None else _free_folder(whole)
    RunFolder.check_free(path)
    prepare(whole, objects=objects, tell=teller(progress=progress))
    return _run(RunFolder.create(path, whole), objects, [*callbacks, *trackers], track, progress=progress)


def resume(
    path: Path | str,
    *,
    rounds: int | None = None,
    method: MethodChoice | None = None,
    tasks: Sequence[Task] = (),
    images: Mapping[str, Picture] | None = None,
    models: Mapping[str, OwnModel] | None = None,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
    progress: bool = False,
) -> Run:
    """Go on with a run that was interrupted, or beyond its last round; a finished one is opened.

    Args:
        path: the run's folder.
        rounds: where it shall end, if later than it was to.
        method: the class of its method, if that is known to this process by no name.
        tasks: as the run was given them; so are ``images`` and ``models``.
        images: see ``tasks``.
        models: see ``tasks``.
        callbacks: told what happens while it happens.
        track: names of trackers: ``wandb``, ``mlflow``, ``tensorboard``, ``trackio``; the reference gets them, too.
        progress: whether to show how far the run is.

    Returns:
        The finished run.

    Raises:
        FedMosaicError: there is no run, it cannot go on like this, what it reads has changed or is missing, or it
            failed.
    """
    out = Path(path)
    objects = Objects(tasks, images or {}, models or {})
    if method is not None:
        name_of(method)
    before = RunFolder.holding_run(out).settings
    settings = continued(before, before if rounds is None else varied(before, [f"rounds={rounds}"]))
    objects.check(settings)
    trackers = make_trackers(track)
    if reopened(out, settings, objects, tell=teller(progress=progress)) is None:
        return Run(out, objects)
    return _run(RunFolder(out), objects, [*callbacks, *trackers], track, progress=progress)


def load_run(
    path: Path | str,
    *,
    method: MethodChoice | None = None,
    tasks: Sequence[Task] = (),
    images: Mapping[str, Picture] | None = None,
    models: Mapping[str, OwnModel] | None = None,
) -> Run:
    """Open a run's folder, finished or not.

    Args:
        path: the folder.
        method: the class of its method, if that is known to this process by no name.
        tasks: as the run was given them, for :meth:`Run.evaluate`; so are ``images``.
        images: see ``tasks``.
        models: as the run was given them, for what needs models.

    Returns:
        The run; nothing of it is read before it is asked for.

    Raises:
        SettingsError: there is no run.
    """
    if method is not None:
        name_of(method)
    RunFolder.holding_run(Path(path)).settings  # noqa: B018 - refused here rather than later
    return Run(Path(path), Objects(tasks, images or {}, models or {}))


def reopened(out: Path, settings: RunSettings, objects: Objects, *, tell: Teller = SILENT) -> RunFolder | None:
    """Make a run ready to go on with these settings; nothing is written before all is checked.

    Args:
        out: its folder.
        settings: as :func:`~fedmosaic.federation.continuation.continued` returns them.
        objects: what the run is given as objects.
        tell: shows what takes long.

    Returns:
        Its folder; None if there is nothing to do.

    Raises:
        FedMosaicError: it cannot go on like this, or what it reads has changed.
    """
    before = RunFolder.holding_run(out).settings
    runs = {out: settings}
    if reference := reference_of(settings):
        runs[out / "reference"] = reference
    if all(is_done(path, each) for path, each in runs.items()):
        return None
    begun = {path: each for path, each in runs.items() if (path / "settings.toml").is_file()}
    for path, each in begun.items():
        check_can_go_on(path, each, objects.assets)
    prepare(settings, objects=objects, folder=RunFolder(out).client_folder, tell=tell)
    if settings.rounds > before.rounds:
        tell.note(explanation(before, settings))
    for path, each in begun.items():
        go_on(path, each)
    return RunFolder(out)


def _run(
    folder: RunFolder, objects: Objects, callbacks: Sequence[Callback], track: Sequence[str], *, progress: bool
) -> Run:
    """Run what is left of a run and of its reference, one after the other."""
    settings = folder.settings
    reference = reference_of(settings)
    with shown(settings, progress=progress) as bars:
        execute(settings, folder, objects=objects, callbacks=[*bars, *callbacks])
    if reference is not None:
        beside = start_or_resume(reference, folder.path / "reference")
        with shown(reference, progress=progress) as bars:
            execute(reference, beside, objects=objects, callbacks=[*bars, *make_trackers(track)])
        write_report(beside.path)
    write_report(folder.path)
    return Run(folder.path, objects)


def _free_folder(settings: RunSettings) -> Path:
    name = f"{settings.scenario.name}-{settings.method}-seed{settings.seed}".replace("/", "_")
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(Path("runs").joinpath, names) if not path.exists())
