"""What takes long to make, made once for all processes; and tools that may be missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop.interpreter import interpreter_for

__all__ = ["made_once", "need_tool"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` filled; whoever comes first fills it, others wait."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


def need_tool(name: str) -> None:
    """Skip, and say what brings it, where its environment was not made."""
    try:
        interpreter_for(name)
    except JobFault as fault:
        pytest.skip(f"the tool {name} is not here: {fault.fix}")
