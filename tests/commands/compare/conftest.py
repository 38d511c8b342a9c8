"""Two bundles to compare, and a cache of their own for what was measured of them.

compare(a, b, ...)   `edgevlm compare` in this process
figures(ratio=...)   one stage as `compare_speed` tells it
micro_other          the micro VLM with int8 weights
cache                an empty one
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of


@pytest.fixture
def compare(edgevlm):
    return lambda a, b, *args: edgevlm("compare", a, b, *args)


@pytest.fixture(scope="session")
def micro_other(micro_folder: Path) -> Path:
    out = micro_folder.with_name("other.edgevlm")
    compile_model(str(micro_folder), options_of("cpu", out, quant="w8", payoff="none"))
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def figures() -> Callable[..., dict[str, Any]]:
    def make(ratio: float, low: float | None, high: float | None, n: int = 40) -> dict[str, Any]:
        sure = low is not None and high is not None
        verdict = "none"
        if sure:
            verdict = "faster" if high < 1 else "slower" if low > 1 else "none"
        told = (high / low) ** 0.5 - 1 if sure else None
        return {"ratio": ratio, "low": low, "high": high, "told_from": told, "verdict": verdict,
                "n": n}  # fmt: skip

    return make
