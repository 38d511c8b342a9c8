"""exported: small ViTs with fused projections by torch's exporters; skipped without torch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def exported() -> ModuleType:
    pytest.importorskip("torch", reason="torch exports these: pip install 'edgevlm[torch]'")
    path = Path(__file__).with_name("exported.py")
    spec = importlib.util.spec_from_file_location("mobile_exported", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
