"""Going on with a run, also beyond the round that it was to end with.

Much of a run follows from its number of rounds: into how many pieces samples are cut, and so which of them round 3
sees; where milestones lie; how much noise keeps a sketch private over the releases to come. What is done cannot be
done again. So a run that goes on keeps the number that it was planned for (``planned_rounds``), and its later rounds
train on all samples that have arrived: it is equal to a run that was started with both numbers (decision 12).
"""

from __future__ import annotations

from pathlib import Path

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation.assets import Assets, AssetsOf
from fedmosaic.federation.checkpoints import Checkpoints, Standing
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.federation.settings_differences import differences
from fedmosaic.federation.upload_store import UploadStore


def continued(before: RunSettings, asked: RunSettings) -> RunSettings:
    """Return the settings with which a run goes on.

    Args:
        before: the run's.
        asked: what is asked for now: the same but for more rounds, or another reference beside it.

    Raises:
        SettingsError: it differs in anything else, or has fewer rounds.
    """
    after = before.model_copy(
        update={
            "rounds": asked.rounds,
            "planned_rounds": before.planned_rounds if asked.rounds == before.rounds else before.horizon,
            "scenario": before.scenario.model_copy(update={"reference": asked.scenario.reference}),
        }
    )
    planned = asked.planned_rounds or after.planned_rounds
    if differ := differences(after, asked.model_copy(update={"planned_rounds": planned})):
        raise SettingsError(
            f"the run to go on with has other settings ({differ}); only rounds can grow: leave the others away"
        )
    if asked.rounds < before.rounds:
        raise SettingsError(f"the run to go on with has {before.rounds} rounds; it cannot end after {asked.rounds}")
    return after


def is_done(path: Path, settings: RunSettings) -> bool:
    """Return whether a folder holds the results of a run with these settings.

    Args:
        path: of the folder.
        settings: of the run.
    """
    folder = RunFolder(path)
    return folder.results() is not None and folder.settings.digest == settings.digest


def check_can_go_on(path: Path, settings: RunSettings, assets: AssetsOf = Assets) -> None:
    """Make sure that the run in a folder can take these settings; nothing is changed.

    Args:
        path: of the run folder.
        settings: with which the run shall go on.
        assets: opens what it reads.

    Raises:
        SettingsError: there is no run, or a finished one without the states that it ended with.
        RunError: a state is missing or damaged.
    """
    folder = RunFolder.holding_run(path)
    before = folder.settings
    continued(before, settings)
    if folder.results() is not None and settings.rounds > before.rounds:
        tasks = before.scenario.tasks_by_client
        states = ClientRuntime(assets(before), folder.client_folder).states

        def lacking(standing: Standing) -> list[str]:
            rounds = standing.progress.round
            return [
                f"client {spec.id} lacks its state" for spec in before.scenario.clients if states.lacks(spec, rounds)
            ]

        found, lost = Checkpoints(folder, UploadStore(folder.path / "uploads"), tasks).last_whole(lacking)
        if found is None or found.progress.round == 0:
            why = "; ".join(lost) or "it has no checkpoints any more"
            raise SettingsError(f"the finished run in {path} cannot go on: {why}")


def go_on(path: Path, settings: RunSettings) -> RunFolder:
    """Write the settings with which a run goes on, if it does not have them yet, and return its folder.

    Args:
        path: of the run folder.
        settings: with which the run goes on.

    Raises:
        SettingsError: another process is running in the folder.
    """
    folder = RunFolder.holding_run(path)
    if folder.settings.digest != settings.digest:
        folder.change(settings)
    return folder


def explanation(before: RunSettings, after: RunSettings) -> str:
    """Return what more rounds mean, in one line.

    Args:
        before: settings so far.
        after: settings with which the run goes on.
    """
    start = f"going on to round {after.rounds} instead of {before.rounds}"
    if after.horizon == after.rounds:
        return f"{start}, as planned: equal to a run that is started with --rounds {after.rounds}"
    equal = f"equal to a run that is started with --rounds {after.rounds} --set planned_rounds={after.horizon}"
    if after.horizon > after.rounds:
        return f"{start} of {after.horizon} that are planned: {equal}"
    return (
        f"{start}: the run was planned for {after.horizon}, all samples have arrived by then, and later rounds train "
        f"on all of them; {equal}, not to one planned for {after.rounds}, which cuts its samples into that many pieces"
    )
