"""Help and wrong usage answer at once: nothing that computes is loaded for them."""

import os
import subprocess
import sys

import pytest

from fedmosaic import __version__

pytestmark = pytest.mark.slow  # a process each

HEAVY = {"torch", "transformers", "flwr", "scipy", "sklearn", "PIL"}
PROGRAM = f"""
import sys
import fedmosaic.cli
sys.argv = ["fedmosaic", *sys.argv[1:]]
try:
    fedmosaic.cli.main()
finally:
    print("loaded:", *({HEAVY} & set(sys.modules)))
"""
VERBS = (
    "demo",
    "run",
    "compare",
    "report",
    "watch",
    "evaluate",
    "adapt",
    "align",
    "export",
    "ask",
    "tasks list",
    "settings list",
)


def light(*words, **environment):
    """Run the program and return its status, its output and its errors; fail if anything heavy was loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    output, _, loaded = done.stdout.rpartition("loaded:")
    assert loaded.strip() == "", words
    return done.returncode, output, done.stderr


@pytest.mark.parametrize("words", ["--help", *(f"{verb} --help" for verb in VERBS)])
def test_help_is_light(words):
    status, output, _ = light(*words.split())
    assert status == 0
    assert "Usage" in output


def test_the_version_is_told():
    assert light("--version")[:2] == (0, f"fedmosaic {__version__}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nosuch", "nosuch"),
        ("run --nosuch", "--nosuch"),
        ("run --seed x", "'x' is not a valid"),
        ("run demoo", "did you mean 'demo'"),
        ("run --method fedmosiac", "did you mean 'fedmosaic'"),
        ("run --engine in-proces", "did you mean 'in-process'"),
        ("run --set trainin.steps=2", "did you mean 'training'"),
        ("run --set adapter.gate=tokens", "did you mean 'token'"),
        ("run --set evaluation.open_metric=rougel", "did you mean 'rouge-l'"),
        ("run --set scenario.benchmark=mosaic", "did you mean 'mosaic40'"),
        ("compare --methods sft,fedavgg", "did you mean 'fedavg'"),
        ("align demoo --out bases", "did you mean 'demo'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_loaded(words, told):
    status, _, error = light(*words.split())
    assert status == 2
    assert told in error


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("fedmosaic run mosaic40-s", {"mosaic40-small"}),
        ("fedmosaic run --method fedm", {"fedmosaic", "fedmosaic-proxy", "fedmkt"}),
        ("fedmosaic run --engine in", {"in-process"}),
        ("fedmosaic compare --methods sft,fedav", {"sft,fedavg"}),
    ],
)
def test_a_shell_completes_names(words, offered):
    count = str(len(words.split()) - 1)
    _, output, _ = light(_FEDMOSAIC_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert set(output.split()) == offered


BUILDERS = {"sklearn", "pandas", "scipy.stats", "matplotlib", "vega_datasets"}


def test_a_run_does_without_what_only_builds_the_benchmark():
    """Every command, worker and node would wait for it."""
    program = "import sys, fedmosaic.cli.run, fedmosaic.federation.engines, fedmosaic.report\n"
    program += f"print({BUILDERS} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
