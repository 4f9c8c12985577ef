"""Everything that is used of Flower beyond its public ``app``, ``clientapp`` and ``serverapp``: here and nowhere else.

The version range in ``pyproject.toml`` is what was tested (docs/engines.md); what a new one changes is mended here.
What only one engine needs is imported when it is used: a process that hands a message on must be quick to start.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.app.message import make_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmosaic.errors import RunError, SettingsError

if TYPE_CHECKING:
    from flwr.proto.task_pb2 import Task
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.supercore.control import ControlHttpClient
    from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

__all__ = ["Run"]

UNKNOWN_NODE, CLIENT_RAISED = int(ErrorCode.NODE_UNAVAILABLE), int(ErrorCode.CLIENT_APP_RAISED_EXCEPTION)

_RESTARTS, _REPEATS = 10, 2

# ---- messages --------------------------------------------------------------------------------------------------------


def speak_as(*, run: int, node: int, task: int = 0) -> None:
    """Say who is speaking in this process: ``Message()`` reads it from a process-wide place.

    Args:
        run: id of the run.
        node: id of the node.
        task: id of the task.
    """
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, node, task


def speaker() -> dict[str, int]:
    """Return who is speaking in this process, as :func:`speak_as` takes it."""
    return {"run": TaskIdentity.run_id, "node": TaskIdentity.node_id, "task": TaskIdentity.task_id}


def stamp(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it.

    Args:
        message: without one.
        message_id: unique in the run.
    """
    message.metadata.__dict__["_message_id"] = message_id


def message_bytes(message: Message) -> bytes:
    """Return a message as Flower's protobuf.

    Args:
        message: with its content.
    """
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def message_of(data: bytes) -> Message:
    """Return the message of :func:`message_bytes`.

    Args:
        data: protobuf.
    """
    return message_from_proto(MessageProto.FromString(data))


def context_bytes(context: Context) -> bytes:
    """Return a context as Flower's protobuf.

    Args:
        context: of a node.
    """
    data: bytes = context_to_proto(context).SerializeToString()
    return data


def context_of(data: bytes) -> Context:
    """Return the context of :func:`context_bytes`.

    Args:
        data: protobuf.
    """
    return context_from_proto(ContextProto.FromString(data))


def copied(message: Message) -> Message:
    """Return a copy through the protobuf form, so that nothing aliases.

    Args:
        message: the original.
    """
    return message_from_proto(message_to_proto(message))


def copied_content(content: RecordDict) -> RecordDict:
    """Return a copy through the protobuf form.

    Args:
        content: the original.
    """
    return recorddict_from_proto(recorddict_to_proto(content))


def failed(reply: Message, reason: str) -> Message:
    """Return a reply that cannot be used as an error.

    Args:
        reply: from a node.
        reason: why it is not used.
    """
    return make_message(reply.metadata, error=Error(CLIENT_RAISED, reason))


# ---- simulation ------------------------------------------------------------------------------------------------------


@contextmanager
def ray_workers(app: Callable[[], ClientApp], *, workers: int, threads: int) -> Iterator[RayBackend]:
    """Run Flower's Ray backend on this machine while the block runs; nothing of it stays.

    A worker that dies is started again by Ray and gets its message again, which gives the same reply; Flower's own
    setting would hand later messages to the dead worker.

    Args:
        app: gives the ``ClientApp``, in the workers.
        workers: how many processes.
        threads: of each.

    Yields:
        The backend; its ``process_message`` may be called from ``workers`` threads at once.

    Raises:
        SettingsError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415
        from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            "the engine 'simulation' needs Ray, which is not installed: pip install 'fedmosaic[simulation]'"
        ) from None
    resources = {"num_cpus": threads, "max_restarts": _RESTARTS, "max_task_retries": _REPEATS}
    start = {
        "address": "local",  # never a cluster that happens to be there
        "num_cpus": workers * threads,
        "num_gpus": 0,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    # Every worker sees all accelerators, and is as important as this process, which waits for it.
    with _environment(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_worker_niceness="0"):
        try:
            backend = RayBackend({"init_args": start, "client_resources": resources})  # type: ignore[dict-item]
            backend.build(app)
            yield backend
        finally:
            ray.shutdown()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables while the block runs; the backend changes some, too (``PYTHONPATH``), which are put back."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def worker_died(error: BaseException) -> bool:
    """Return whether an error of ``process_message`` means that its worker process has died for good.

    Args:
        error: that was raised.
    """
    from ray.exceptions import RayActorError  # noqa: PLC0415

    return isinstance(error, RayActorError)


# ---- deployment ------------------------------------------------------------------------------------------------------

COMPONENTS = {"serverapp": "fedmosaic.federation.server_app:app", "clientapp": "fedmosaic.federation.forwarding:app"}
"""Where Flower finds the apps; ``pyproject.toml`` says the same to ``flwr run``."""


def app_bundle(name: str, version: str, config: Mapping[str, UserConfigValue]) -> bytes:
    """Return the app bundle that a SuperLink sends to its nodes: it names the apps, and holds no code and no weights.

    Every machine runs the fedmosaic that its owner has installed.

    Args:
        name: of the app.
        version: of the app.
        config: the keys that a run may set, with their defaults.
    """
    import tomli_w  # noqa: PLC0415
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415

    app = {"publisher": name, "components": COMPONENTS, "config": dict(config)}
    table = {"project": {"name": name, "version": version}, "tool": {"flwr": {"app": app}}}
    bundle: bytes = build_fab_from_files({"pyproject.toml": tomli_w.dumps(table).encode()})[0]
    return bundle


class SuperLink:
    """The control API of a SuperLink that runs somewhere.

    Args:
        name: of its connection in ``$FLWR_HOME/config.toml``; None: the default one there.

    Raises:
        SettingsError: there is no such connection, or it would start a SuperLink here.
    """

    def __init__(self, name: str | None) -> None:
        from flwr.cli.constant import FLOWER_CONFIG_FILE  # noqa: PLC0415
        from flwr.cli.flower_config import read_superlink_connection  # noqa: PLC0415
        from flwr.cli.utils import init_http_client_from_connection  # noqa: PLC0415
        from flwr.supercore.utils import get_flwr_home  # noqa: PLC0415

        path = get_flwr_home() / FLOWER_CONFIG_FILE
        if not path.is_file():
            raise SettingsError(
                f"{path} is missing: it names the SuperLink that a run is submitted to (docs/engines.md)"
            )
        with _in_our_words(f"SuperLink connection {name or 'default'!r} in {path}", SettingsError):
            connection = read_superlink_connection(name)
            if not connection.address or connection.address.startswith(":"):
                raise SettingsError(
                    f"SuperLink connection {connection.name!r} in {path} has no address of a running SuperLink; "
                    "on this machine alone, use --engine simulation"
                )
            self._federation = connection.federation or ""
            self.address = connection.address
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it prints which SuperLink is used
                self._client: ControlHttpClient = init_http_client_from_connection(connection)

    def start(self, bundle: bytes, config: Mapping[str, UserConfigValue]) -> int:
        """Start a run and return its id.

        Args:
            bundle: of :func:`app_bundle`.
            config: values of its keys.

        Raises:
            RunError: the SuperLink cannot be reached, or refuses.
        """
        from flwr.common.serde import fab_to_proto, user_config_to_proto  # noqa: PLC0415
        from flwr.proto.control_pb2 import StartRunRequest  # noqa: PLC0415
        from flwr.supercore.fab import Fab  # noqa: PLC0415

        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        request = StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)), federation=self._federation
        )
        with self._asked():
            response = self._client.StartRun(request)
        if not response.HasField("run_id"):
            raise RunError(
                f"the SuperLink at {self.address} has not started the run: {response.note or 'no reason given'}"
            )
        return int(response.run_id)

    def output(self, run: int) -> Iterator[str]:
        """Yield what the run's ServerApp has printed and prints, in pieces, from its beginning to the run's end.

        Args:
            run: its id.

        Raises:
            RunError: the SuperLink cannot be reached.
        """
        from flwr.proto.control_pb2 import StreamLogsRequest  # noqa: PLC0415

        with self._asked():
            for response in self._client.StreamLogs(StreamLogsRequest(run_id=run, after_timestamp=0.0)):
                yield response.log_output

    def failure(self, run: int) -> str | None:
        """Return why a run has ended early; None if it is running, or finished.

        Args:
            run: its id.

        Raises:
            RunError: the SuperLink cannot be reached.
        """
        from flwr.proto.control_pb2 import ListRunsRequest  # noqa: PLC0415

        with self._asked():
            runs = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
        if run not in runs:
            return "the SuperLink does not know it"
        status = runs[run].status
        if status.status != "finished" or status.sub_status == "completed":
            return None
        return f"{status.sub_status}: {status.details}" if status.details else str(status.sub_status)

    def stop(self, run: int) -> None:
        """Stop a run.

        Args:
            run: its id.

        Raises:
            RunError: the SuperLink cannot be reached.
        """
        from flwr.proto.control_pb2 import StopRunRequest  # noqa: PLC0415

        with self._asked():
            self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        from flwr.cli.utils import flwr_cli_exc_handler  # noqa: PLC0415

        with _in_our_words(f"the SuperLink at {self.address}", RunError), flwr_cli_exc_handler():
            yield


def supernode() -> None:
    """Be Flower's ``flower-supernode``, which answers for every ClientApp that ends without an answer."""
    from flwr.supernode.cli import flower_supernode  # noqa: PLC0415

    answer_for_ended_apps()
    flower_supernode()


def answer_for_ended_apps() -> None:
    """Let the SuperNode of this process answer for a ClientApp that ends without an answer, however it ends.

    Flower does so only where the process falls silent after it has taken its message. One that is stopped, or whose
    SuperExec is gone, reports that its task has failed, and the node would wait for its answer for ever. A node has one
    message at a time.
    """
    from flwr.supercore.constant import TaskType  # noqa: PLC0415
    from flwr.supernode.nodestate import in_memory_nodestate as flwr_state  # noqa: PLC0415

    state_class = flwr_state.InMemoryNodeState
    finish, expire = state_class.finish_task, state_class._on_task_tokens_expired

    def take(state: InMemoryNodeState, run: int) -> None:
        with state.lock_msg_store:
            for entry in state.msg_store.values():
                about = entry.message.metadata
                entry.is_retrieved |= about.run_id == run and not about.reply_to_message_id

    def expired(state: InMemoryNodeState, tasks: list[Task]) -> None:
        for task in tasks:
            take(state, task.run_id)
        expire(state, tasks)

    def finished(state: InMemoryNodeState, task_id: int, sub_status: str, details: str) -> bool:
        done = finish(state, task_id, sub_status, details)
        for task in state.get_tasks(task_ids=[task_id]) if done and sub_status != "completed" else ():
            if task.type == TaskType.CLIENT_APP:
                take(state, task.run_id)
                state._store_error_replies({task.run_id}, flwr_state.CLIENT_APP_CRASHED_ERROR)
        return done

    state_class.finish_task = finished  # type: ignore[method-assign,assignment]
    state_class._on_task_tokens_expired = expired  # type: ignore[method-assign,assignment]


@contextmanager
def _in_our_words(what: str, kind: type[Exception]) -> Iterator[None]:
    """Turn the errors that Flower's command line prints into ours, on one line."""
    import click  # noqa: PLC0415
    import httpx  # noqa: PLC0415

    try:
        yield
    except click.exceptions.Exit:
        raise kind(f"{what} cannot be used; flwr ls says more") from None
    except (click.ClickException, httpx.HTTPError, OSError, ValueError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise kind(f"{what}: {' '.join(text.split())}") from None
