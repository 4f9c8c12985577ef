"""docs/methods.md is what the code says today."""

from pathlib import Path

import pytest
from tests.federation.scenario import small

from fedmosaic.report import methods

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()


def test_the_page_lists_exactly_the_methods_of_today():
    """If this fails: python -m fedmosaic.report.methods docs/methods.md"""
    assert methods.what_they_are() in PAGE
    costs = PAGE.partition("## What they cost")[2]
    rows = [line.split("|")[1].strip() for line in costs.splitlines() if line.startswith("| `")]
    assert rows == [f"`{kind.name}`" for kind in methods.builtin()]


@pytest.mark.slow
def test_costs_are_measured_on_rounds_that_are_run():
    nothing, shared = methods.measure(small("sft")), methods.measure(small("fedavg"))
    assert (nothing.sends, nothing.up, nothing.down) == ("nothing", 0, 0)
    assert shared.sends == "A, B"
    assert shared.up == shared.down > 0
    assert shared.flops == nothing.flops
    costs = {kind.name: shared for kind in methods.builtin()}
    assert "| `fedavg` | A, B |" in methods.what_they_cost(costs)


def test_lines_of_code_are_neither_text_nor_blank():
    code = ["x = 1  # one", "def f(", "    a,", "):", '    s = """a', 'b"""', "    return s"]
    text = ['"""Says', 'what."""', "", "# nothing"]
    source = [*text, *code[:4], '    """Doc."""', *code[4:], *text]
    assert methods.lines_of_code("\n".join(source)) == len(code)
