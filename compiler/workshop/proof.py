"""Run inside a new environment: its modules import, and these are the versions that it got."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

__all__ = ["run"]


def run(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """{"imports": [module]} -> {"python": version, "packages": {name: version}}."""
    for name in request["imports"]:
        importlib.import_module(name)
    found = {each.metadata["Name"]: each.version for each in distributions()}
    packages = {name: found[name] for name in sorted(found, key=str.lower)}
    return {"python": platform.python_version(), "packages": packages}
