"""Everything that only a card can tell, in about ten minutes: the tests marked gpu, times, and memory.

    python benchmarks/gpu.py --out results/gpu.json        # on a machine with a card
    python benchmarks/gpu.py --small --device cpu          # the same parts in small shapes, without one: a check
    python benchmarks/gpu.py --only steps vlm

Each part is a process of its own with a time limit: one that fails or takes too long costs its own result only.

``tests``   the tests marked gpu
``steps``   one step of our adapters beside PEFT's single LoRA, width 2048, bfloat16: wall time, in turns; peak memory
``vlm``     ten clients of a random 1.2-billion-weight vision-language model, beside PEFT and transformers' Trainer
            training one with the same batch: tokens per second, share of the card's peak
``compiled`` a stacked step and a stacked reading of four clients, as they are, with torch.compile and with CUDA graphs
``rounds``  the first round of mosaic40, with clients one by one and, where there are cohorts, together
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _card import name_of
from _gpu_compile import compiled
from _gpu_steps import steps
from _gpu_vlm import cohorts, vlm

from fedmosaic.config import load_scenario

ROOT = Path(__file__).parent.parent
LIMITS = {"tests": 100, "steps": 60, "vlm": 150, "compiled": 90, "rounds": 190}
"""Seconds of each part; together less than ten minutes."""


def rounds(device: torch.device, small: bool) -> dict[str, Any]:
    """Seconds of the first round, until the last client has trained."""
    scenario, until = "mosaic40-small" if small else "mosaic40", time.monotonic() + LIMITS["rounds"] - 20
    clients = len(load_scenario(scenario).clients)
    found: dict[str, Any] = {}
    for cohort in cohorts():
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "run"
            words = ["run", scenario, "--method", "fedmosaic", "--no-reference", "--rounds", "1", "--quiet"]
            words += ["--device", str(device), "--out", str(out), "--set", f"training.steps={2 if small else 25}"]
            words += ["--set", f"cohort={cohort}"] if cohort else []
            process = subprocess.Popen([sys.executable, "-m", "fedmosaic", *words])
            try:
                found[cohort or "one by one"] = _trained(out, process, clients, until=until)
            finally:
                process.kill()  # its scores are not waited for
                process.wait()
    return {"seconds": found}


def _trained(out: Path, process: subprocess.Popen[bytes], clients: int, *, until: float) -> float | str:
    """Return the seconds from the begin of round 1 until all clients have trained, or what went wrong."""
    log, trained = out / "events.jsonl", list[float]()
    while time.monotonic() < until and len(trained) < clients:
        if process.poll() is not None:
            return f"ended with {process.returncode}"
        time.sleep(0.2)
        written = log.read_text() if log.is_file() else ""
        lines = [json.loads(each) for each in written[: written.rfind("\n") + 1].splitlines()]
        begun = [line["time"] for line in lines if line["event"] == "round"]
        trained = [line["time"] for line in lines if line["event"] == "trained"]
    if len(trained) < clients:
        return f"not done in time: {len(trained)} of {clients} clients had trained"
    return float(max(trained) - begun[0])


def tests(device: torch.device, small: bool) -> dict[str, Any]:
    """The last line of pytest's report; on a CPU the tests skip."""
    del device, small
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/training/test_gpu.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout[-4000:])
    return {"exit": done.returncode, "report": done.stdout.strip().splitlines()[-1:]}


PARTS: dict[str, Callable[[torch.device, bool], dict[str, Any]]] = {
    each.__name__: each for each in (tests, steps, vlm, compiled, rounds)
}


def _in_process_of_its_own(part: str, options: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, __file__, "--part", part, "--device", options.device, *["--small"] * options.small]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        try:
            subprocess.run([*words, "--out", str(result)], timeout=options.limit or LIMITS[part], check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done within {options.limit or LIMITS[part]} s"}
        if not result.is_file():
            return {"failed": "see its messages above"}
        return {**json.loads(result.read_text()), "took": round(time.monotonic() - start, 1)}


def main() -> None:
    """Run the parts and write what they found after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small shapes: whether it works, not how fast")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=int, help="seconds for each part, instead of its own limit")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.part:
        options.out.write_text(json.dumps(PARTS[options.part](device, options.small)))
        return
    found: dict[str, Any] = {"device": name_of(device), "torch": torch.__version__, "small": options.small}
    for part in options.only:
        found[part] = _in_process_of_its_own(part, options)
        print(part, json.dumps(found[part], indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
