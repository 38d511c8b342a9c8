"""The program that goes to a device with a bundle: those files of edgevlm that run one, in a zip.

What `commands/on_device.py` imports on top of its modules, and what those import, goes along; what
is imported inside a function stays behind, which is how all that lowers and needs onnx does. Python
runs such a zip as it is. The same edgevlm makes the same bytes.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from edgevlm.runtimes import RUNTIMES

__all__ = ["RUNNER", "modules", "runner"]

RUNNER = "run_on_device.pyz"
MAIN = "edgevlm.commands.on_device"
START = f"import sys\n\nfrom {MAIN} import main\n\nsys.exit(main())\n"
HOME = Path(__file__).resolve().parents[1]  # of the package edgevlm


@cache
def runner(runtime: str) -> bytes:
    """For bundles of that runtime."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        files = {"__main__.py": START.encode()}
        for name, path in modules(runtime).items():
            inside = "/".join(name.split("."))
            file = f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"
            files[file] = path.read_bytes()
        for file in sorted(files):
            entry = zipfile.ZipInfo(file, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[file])
    return buffer.getvalue()


def modules(runtime: str) -> dict[str, Path]:
    """Name -> file of every module that goes along."""
    own = RUNTIMES[runtime][0]
    waiting = [MAIN, own, f"{own.rpartition('.')[0]}.op_profile"]
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


def _imported(path: Path) -> Iterator[str]:
    """Names of edgevlm that a file imports when it is imported itself."""
    waiting: list[ast.AST] = list(ast.parse(path.read_bytes()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("edgevlm"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgevlm"):
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        waiting += ast.iter_child_nodes(node)
