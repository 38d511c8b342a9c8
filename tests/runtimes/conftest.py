"""Compiled bundles of the bundled model, as edgevlm itself opens them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.compiler.bundle import Bundle, open_bundle


def compiled(out: Path, target: str = "cpu", **options: object) -> Bundle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile_model("easyvqa-tiny", options_of(target, out, **options))
    return open_bundle(out)


@pytest.fixture(scope="session")
def compile_tiny():
    return compiled


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """16 of 64 image tokens, int8 weights."""
    out = tmp_path_factory.mktemp("runtimes") / "small"
    return compiled(out, tokens="16", quant="w8", payoff="none")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As it was trained: float, all tokens."""
    return compiled(tmp_path_factory.mktemp("runtimes") / "plain")
