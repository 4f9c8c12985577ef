"""The server half at scale: relevance and personalised aggregation for 10 to 10,000 clients, in time and memory.

    python benchmarks/scale.py                     # writes results/scale.json and docs/scale.md; up to an hour
    python benchmarks/scale.py --clients 10,100 --out /tmp/scale.json --table /tmp/scale.md

Clients are synthetic: adapters of the embedded base models in turn (P and Q of Co-LoRA, A and B of the other layers)
with normally distributed values, and sketches of 20 groups of tasks. Up to 1,000 clients, what is measured is the
method's ``aggregate``, in memory. For more, adapters are on disk and the mixtures go, slab by slab, to a sink that
reads every value once and keeps a few clients' for the comparison; a server would send them on. Each number of clients
has a process of its own, in which one thread computes. The naive loop is in double precision, over clients, for some
receivers and all their values. Numbers of clients that the results have already are not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from _runtime import runtime
from torch import Tensor

from fedmosaic.adapters import is_shared
from fedmosaic.config import load_scenario, resolve
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.processes import peak_memory
from fedmosaic.relevance.column_store import ColumnStore, all_weights, gather_columns, mix_columns, nearest

IN_MEMORY = 1000  # clients up to which everything is in memory
TEMPERATURE = 0.5
SKETCH, TASKS = 1024, 20

Shapes = dict[str, dict[str, tuple[int, ...]]]
Row = dict[str, Any]


def payload_shapes() -> Shapes:
    """Return the shapes of what each embedded base model's client uploads, at rank 16 and two blocks."""
    settings = resolve(load_scenario("mosaic40-small"), overrides=["adapter.rank=16", "adapter.blocks=2"])
    adapters = AdapterFactory(runtime(settings))
    by_model = {spec.model: spec for spec in settings.scenario.clients}
    return {model: adapters.adapter(spec).schema("local") for model, spec in by_model.items()}


class Clients:
    """Synthetic clients; the same ones whenever asked."""

    def __init__(self, count: int, shapes: Shapes) -> None:
        self.count, self.shapes = count, shapes
        self.models = [list(shapes)[client % len(shapes)] for client in range(count)]
        random = torch.Generator().manual_seed(0)
        tasks = torch.randn(TASKS, SKETCH, generator=random)
        of_client = torch.randint(TASKS, (count,), generator=random)
        self.sketches = tasks[of_client] + torch.randn(count, SKETCH, generator=random)

    def values(self, client: int) -> dict[str, Tensor]:
        """Return P and Q ("shared") and A and B ("own"), each flat."""
        random = torch.Generator().manual_seed(client + 1)
        return {kind: torch.randn(self.size(client, kind), generator=random) for kind in ("shared", "own")}

    def size(self, client: int, kind: str) -> int:
        """Return the number of values."""
        return self._sizes[self.models[client]][kind]

    @cached_property
    def _sizes(self) -> dict[str, dict[str, int]]:
        return {
            model: {
                kind: sum(math.prod(shape) for name, shape in names.items() if is_shared(name) == (kind == "shared"))
                for kind in ("shared", "own")
            }
            for model, names in self.shapes.items()
        }

    def upload(self, client: int) -> Upload:
        """Return what a server holds of a client."""
        values, tensors = self.values(client), {}
        for kind, flat in values.items():
            names = {n: s for n, s in self.shapes[self.models[client]].items() if is_shared(n) == (kind == "shared")}
            parts = torch.split(flat, [math.prod(shape) for shape in names.values()])
            tensors |= {name: part.view(shape) for (name, shape), part in zip(names.items(), parts, strict=True)}
        return Upload(client, self.models[client], {**tensors, "sketch": self.sketches[client]})

    def groups(self) -> list[tuple[str, list[int]]]:
        """Return (kind, clients) of everything that is mixed: P and Q of all, A and B of each architecture."""
        own = [("own", [c for c in range(self.count) if self.models[c] == model]) for model in self.shapes]
        return [("shared", list(range(self.count))), *(group for group in own if group[1])]

    @property
    def bytes(self) -> int:
        """Size of all adapters."""
        return 4 * sum(self.size(client, kind) for client in range(self.count) for kind in ("shared", "own"))

    def naive(self, receivers: Sequence[int], most: int) -> dict[tuple[int, str], Tensor]:
        """Mix for some receivers by the definition, one client after another, in double precision."""
        weights: dict[tuple[int, str], dict[int, float]] = {}
        for kind, members in self.groups():
            for receiver in set(receivers) & set(members):
                weights[receiver, kind] = self._naive_weights(receiver, members, most)
        mixed = {
            (receiver, kind): torch.zeros(self.size(receiver, kind), dtype=torch.float64) for receiver, kind in weights
        }
        for client in range(self.count):
            values = self.values(client)
            for (receiver, kind), row in weights.items():
                if client in row:
                    mixed[receiver, kind] += row[client] * values[kind].double()
        return mixed

    def _naive_weights(self, receiver: int, members: Sequence[int], most: int) -> dict[int, float]:
        own = self.sketches[receiver].double()
        cosines = {
            other: float(own @ (sketch := self.sketches[other].double()) / (own.norm() * sketch.norm()))
            for other in members
            if other != receiver
        }
        chosen = sorted(cosines, key=lambda other: -cosines[other])[: most or None]
        total = sum(math.exp(cosines[other] / TEMPERATURE) for other in chosen)
        return {other: math.exp(cosines[other] / TEMPERATURE) / total for other in chosen}


class Meter:
    """CPU and wall seconds by part, the peak of memory, and the mixtures of the receivers that are compared."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.peak = 0
        self.mixed: dict[tuple[int, str], list[Tensor]] = {}

    def __call__(self, part: str, work: Callable[[], Any]) -> Any:
        """Do the work and add its time to the part's."""
        Path("/proc/self/clear_refs").write_text("5")  # begins a new peak of resident memory
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        spent = self.seconds.setdefault(part, [0.0, 0.0])
        spent[0] += time.process_time() - cpu
        spent[1] += time.perf_counter() - wall
        self.peak = max(self.peak, peak_memory() or 0)
        return result

    @property
    def cpu(self) -> float:
        """CPU seconds of all parts."""
        return sum(cpu for cpu, _ in self.seconds.values())


def in_memory(clients: Clients, mosts: Sequence[int], receivers: Sequence[int]) -> dict[int, Meter]:
    """Measure the method's server half; the best of three where it is short."""
    uploads = Uploads(clients.upload(client) for client in range(clients.count))
    meters = {}
    for most in mosts:
        method = make_method("fedmosaic", {"temperature": TEMPERATURE, "peers": most})
        for _ in range(3 if clients.count <= 100 else 1):
            meter = Meter()
            result = meter("aggregate", lambda method=method: method.aggregate(uploads, None))
            if most not in meters or meter.cpu < meters[most].cpu:
                meters[most] = meter
                for receiver, (kind, shared) in itertools.product(receivers, (("shared", True), ("own", False))):
                    parts = [t.flatten() for name, t in result.downloads[receiver].items() if is_shared(name) == shared]
                    if parts:
                        meter.mixed[receiver, kind] = parts
            del result
    return meters


def on_disk(clients: Clients, mosts: Sequence[int], receivers: Sequence[int], folder: Path) -> dict[int, Meter]:
    """Measure streamed weights and mixing, one group of tensors after another."""
    meters = {most: Meter() for most in mosts}
    for kind, members in clients.groups():
        store = ColumnStore(folder / "values", len(members), clients.size(members[0], kind))
        for row, client in enumerate(members):
            store.write_client(row, clients.values(client)[kind])
        sketches = clients.sketches[members]
        kept = {receiver: members.index(receiver) for receiver in receivers if receiver in set(members)}
        for most, meter in meters.items():
            _mix_group(meter, most, sketches, store, partial(_sink, meter, kind, kept))
        store.path.unlink()
    return meters


def _mix_group(
    meter: Meter, most: int, sketches: Tensor, store: ColumnStore, sink: Callable[[int, Tensor], None]
) -> None:
    if most:
        pair = meter("weights", lambda: nearest(sketches, temperature=TEMPERATURE, most=most))
        meter("mix", lambda: gather_columns(*pair, store, sink))
    else:
        weights = meter("weights", lambda: all_weights(sketches, temperature=TEMPERATURE))
        meter("mix", lambda: mix_columns(weights, store, sink))


def _sink(meter: Meter, kind: str, kept: dict[int, int], slab: int, mixed: Tensor) -> None:
    """Read all mixed values and keep the compared receivers'."""
    mixed.sum()
    for receiver, row in kept.items():
        meter.mixed.setdefault((receiver, kind), []).append(mixed[row].clone())


def copy_speed() -> float:
    """Return bytes read and written per CPU second by one thread that copies 256 MB, the best of five."""
    source, target = torch.rand(2**26), torch.empty(2**26)
    times = []
    for _ in range(6):
        start = time.process_time()
        target.copy_(source)
        times.append(time.process_time() - start)
    return 2 * 4 * 2**26 / min(times[1:])


def product_speed() -> float:
    """Return floating-point operations per CPU second of a matrix product by one thread, the best of three."""
    left, right = torch.rand(2048, 2048), torch.rand(2048, 2048)
    times = []
    for _ in range(4):
        start = time.process_time()
        left @ right
        times.append(time.process_time() - start)
    return 2 * 2048**3 / min(times[1:])


def measure(count: int, peers: int, shapes: Shapes, folder: Path) -> list[Row]:
    """Measure one number of clients, dense and with few peers."""
    torch.set_num_threads(1)
    clients, memory = Clients(count, shapes), count <= IN_MEMORY
    receivers = list(range(count)) if count <= 100 else [count * k // 4 + k for k in range(4)]
    mosts = (0, min(peers, count - 1))
    meters = in_memory(clients, mosts, receivers) if memory else on_disk(clients, mosts, receivers, folder)
    speed, product = copy_speed(), product_speed()
    products = sum(len(members) ** 2 * clients.size(members[0], kind) for kind, members in clients.groups())
    rows = []
    for most, meter in meters.items():
        mixed = {key: torch.cat(parts) for key, parts in meter.mixed.items()}
        naive = clients.naive(receivers, most)
        row = {
            "clients": count,
            "peers": most or "all",
            "where": "memory" if memory else "disk",
            "adapters_bytes": clients.bytes,
            "cpu_seconds": meter.cpu,
            "parts_cpu_wall_seconds": meter.seconds,
            "peak_bytes": meter.peak,
            "copy_bytes_per_second": speed,
            "times_copy": meter.cpu / (2 * clients.bytes / speed),
            "max_difference": max(float((mixed[key] - value).abs().max()) for key, value in naive.items()),
            "largest_value": max(float(value.abs().max()) for value in naive.values()),
            "receivers_compared": len(receivers),
        }
        if not most:
            row |= {"product_flop_per_second": product, "flop_per_second": 2 * products / meter.cpu}
        rows.append(row)
    return rows


def table(result: Row) -> str:
    """Return docs/scale.md."""
    lines = [
        "# The server half at scale\n",
        f"Made by `{result['command']}`; `results/scale.json` has all numbers. One thread, on a machine busy with",
        "other work: times are CPU seconds; wall seconds, which count the others' work too, are in the JSON file.\n",
        "| clients | peers | adapters | CPU seconds | peak memory | times a copy | of product speed | max difference |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        share = f"{row['flop_per_second'] / row['product_flop_per_second']:.0%}" if "flop_per_second" in row else ""
        lines.append(
            f"| {row['clients']:,} | {row['peers']} | {row['adapters_bytes'] / 1e6:,.0f} MB ({row['where']}) "
            f"| {row['cpu_seconds']:,.3g} | {row['peak_bytes'] / 1e6:,.0f} MB | {row['times_copy']:.1f} | {share} "
            f"| {row['max_difference']:.0e} |"
        )
    return "\n".join(lines) + f"\n\n{NOTES}"


NOTES = """\
- **Clients**: synthetic, adapters of the three embedded base models in turn at rank 16 and two blocks (P and Q: 3,808
  values; A and B: 81,920, 198,656 or 107,520), normally distributed values with standard deviation 1, sketches of 1,024
  numbers. With few peers a client learns from the 16 most similar, of those of its architecture for A and B.
- **CPU seconds**: relevance (cosines, softmax) and every client's own mixture, P and Q over all clients, A and B within
  the architecture. Up to 1,000 clients it is the method's `aggregate`, from uploads to downloads; at 10,000 it is
  `relevance/column_store.py`, which reads the adapters from files just written (mostly from the system's page cache).
- **Peak memory**: of the whole process, with Python, torch and the sketches; in memory also all uploads and downloads.
  At 10,000 all mixtures together are as large as all adapters. They are not kept, but passed in blocks of columns to a
  function that reads every value once.
- **A run's server** holds neither uploads nor customised downloads in memory: each upload is a file
  (`federation/upload_store.py`) and the mixtures are read from disk when they are sent (`methods/mixtures.py`). Its
  peak does not grow with the clients: 584 MB with 100 and 583 MB with 200 clients of 1 MB each
  (`tests/federation/test_flat_memory.py`). `benchmarks/server_memory.py` measures it, also where all answers of an
  exchange wait at once: the server takes eight at a time. The table's rows marked as in memory are `aggregate` without
  these files.
- **Times a copy**: CPU seconds over those in which one thread copies as many bytes as adapters come in and mixtures go
  out (speed measured in the same process): the limit of memory bandwidth. Dense mixing does 2 N operations per value
  and is bound by the product instead: **of product speed** is its rate, relevance included, over that of a
  2,048 x 2,048 product.
- **Max difference**: to a naive loop over clients in double precision; all receivers up to 100, then four of them.
"""


def main() -> None:
    """Measure everything, each in a process of its own, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="10,100,1000,10000")
    parser.add_argument("--peers", type=int, default=16, help="of the sparse rows")
    parser.add_argument("--out", type=Path, default=Path("results/scale.json"))
    parser.add_argument("--table", type=Path, default=Path("docs/scale.md"))
    parser.add_argument("--folder", type=Path, help="for the adapters on disk, up to 3 GB at a time")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.peers, json.load(sys.stdin), arguments.folder)))
        return
    rows = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    measured = {row["clients"] for row in rows}
    shapes = json.dumps(payload_shapes())
    for count in [each for each in map(int, arguments.clients.split(",")) if each not in measured]:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            command = [
                sys.executable,
                __file__,
                "--one",
                str(count),
                "--peers",
                str(arguments.peers),
                "--folder",
                folder,
            ]
            done = subprocess.run(command, input=shapes, stdout=subprocess.PIPE, text=True, check=True)
        rows = sorted(rows + json.loads(done.stdout), key=lambda row: row["clients"])
        write({"command": "python benchmarks/scale.py", "torch": torch.__version__, "rows": rows}, arguments)


def write(result: Row, arguments: argparse.Namespace) -> None:
    """Write the results and the table, and print it."""
    for path, text in ((arguments.out, json.dumps(result, indent=1) + "\n"), (arguments.table, table(result))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(table(result), flush=True)


if __name__ == "__main__":
    main()
