"""Which modules of edgevlm a program needs where there is none: what it imports, all the way.

What is imported inside a function stays behind, which is how all that lowers and needs onnx does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["closure"]

HOME = Path(__file__).resolve().parents[1]  # of the package edgevlm
UNREAD = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def closure(mains: Sequence[str]) -> dict[str, Path]:
    """Name -> file of every module that goes along with these, in the order of being found."""
    waiting = list(mains)
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = path = _file(name)
        above = name.rpartition(".")[0]
        waiting += [above] if above else []
        waiting += [each for each in _imported(path) if _file(each)]
    return found


def _file(name: str) -> Path | None:
    """Of a module of edgevlm; None where the name is of something inside one."""
    inside = HOME.joinpath(*name.split(".")[1:])
    package = inside / "__init__.py"
    return package if package.is_file() else _existing(inside.with_name(f"{inside.name}.py"))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _ours(name: str) -> bool:
    return name.partition(".")[0] == "edgevlm"


def _imported(path: Path) -> Iterator[str]:
    """Names of edgevlm that a file imports when it is imported itself."""
    waiting: list[ast.AST] = list(ast.parse(path.read_bytes()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in UNREAD:
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if _ours(each.name))
        elif isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        waiting += ast.iter_child_nodes(node)
