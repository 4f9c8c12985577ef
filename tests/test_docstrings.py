"""Public functions, methods and classes say what each of their arguments is, and functions what they return."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "fedmosaic"

EXCEPTIONS = ("cli",)
"""Packages whose docstrings are not checked."""

CHECKED = sorted(
    path.name
    for path in SOURCE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.name not in EXCEPTIONS
)

Function = ast.FunctionDef | ast.AsyncFunctionDef

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples|Note):$", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:", re.MULTILINE)
_ELSEWHERE = re.compile(r"\bSee :(meth|func|data|class):")  # the contract is a base method's, or a function type's
_RETURNS_IN_SUMMARY = re.compile(r"Return|Yield|Whether|\b(and|;) return\b")


@pytest.mark.parametrize("package", CHECKED)
def test_public_definitions_describe_their_arguments(package: str) -> None:
    path = SOURCE / package
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"{path} holds no Python file"
    found = [
        f"{file.relative_to(SOURCE)}:{fault}" for file in files for fault in faults(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def faults(source: str) -> Iterator[str]:
    """Yield what the docstrings of a module lack, one line each.

    Args:
        source: text of a Python file.
    """
    for name, node in _public(ast.parse(source), ""):
        text = ast.get_docstring(node) or ""
        if _ELSEWHERE.search(text):
            continue
        missing = set(_arguments(node)) - _described(text, {"Args", "Attributes"} if _is_class(node) else {"Args"})
        if missing:
            yield f"{node.lineno} {name}: no Args entry for {', '.join(sorted(missing))}"
        if not _is_class(node) and not _says_what_it_returns(node, text):
            yield f"{node.lineno} {name}: neither a Returns section nor a summary that says it"


def _public(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in parent.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{node.name}.")


def _is_class(node: Function | ast.ClassDef) -> bool:
    return isinstance(node, ast.ClassDef)


def _arguments(node: Function | ast.ClassDef) -> list[str]:
    """List the arguments to describe: those of ``__init__`` for a class, the fields for a dataclass or named tuple."""
    if isinstance(node, ast.ClassDef):
        own = [each for each in node.body if isinstance(each, Function) and each.name == "__init__"]
        return _arguments(own[0]) if own else _fields(node)
    spec = node.args
    every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
    return [each.arg for each in every if each and each.arg not in {"self", "cls"} and not each.arg.startswith("_")]


def _fields(node: ast.ClassDef) -> list[str]:
    record = [*node.decorator_list, *node.bases]
    if not any(re.search(r"\b(dataclass|NamedTuple)\b", ast.unparse(each)) for each in record):
        return []
    pairs = zip(node.body, [*node.body[1:], ast.Pass()], strict=True)
    names = [
        each.target.id
        for each, after in pairs
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and not _is_text(after)
    ]
    return [name for name in names if not name.startswith("_")]


def _is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a string: below a field, it is the field's docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _described(text: str, sections: set[str]) -> set[str]:
    """Return the names that have an entry in one of some sections of a docstring."""
    parts = _SECTION.split(text)
    bodies = [body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title in sections]
    return {name.strip().lstrip("*") for body in bodies for entry in _ENTRY.findall(body) for name in entry.split(",")}


def _says_what_it_returns(node: Function | ast.ClassDef, text: str) -> bool:
    assert isinstance(node, Function)
    if (
        node.returns is None
        or ast.unparse(node.returns) in {"None", "NoReturn", "Iterator[None]"}
        or not _arguments(node)
    ):
        return True
    return bool(
        _RETURNS_IN_SUMMARY.search(text.partition("\n\n")[0]) or re.search(r"^(Returns|Yields):$", text, re.MULTILINE)
    )


def test_faults_are_found() -> None:
    source = '''
def f(x: int, *, y: int, **rest: int) -> int:
    """Compute.

    Args:
        x (int): a number.
        rest: more.
    """

def g(x: int, y: int) -> int:
    """Return the sum.

    Args:
        x, y: numbers.
    """

class C:
    """A class.

    Args:
        a: one.
    """
    def __init__(self, a: int, b: int) -> None: ...
    def m(self, a: int) -> None:
        """See :meth:`Base.m`."""
    def n(self, a: int) -> None: ...
    def _o(self, a: int) -> None: ...

@dataclass(frozen=True)
class D:
    """A record.

    Attributes:
        a: one.
    """
    a: int
    b: int
'''
    assert list(faults(source)) == [
        "2 f: no Args entry for y",
        "2 f: neither a Returns section nor a summary that says it",
        "17 C: no Args entry for b",
        "26 C.n: no Args entry for a",
        "30 D: no Args entry for b",
    ]
