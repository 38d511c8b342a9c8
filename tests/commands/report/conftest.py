"""A bundle to spoil, a cache in which nothing has been measured yet, and pages about bundles.

own          a copy of the micro bundle
made(b, ...) the page about bundles, and the JSON of the call
"""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """One of its own, so that nothing has been measured yet."""
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def own(micro_bundle, tmp_path):
    return shutil.copytree(micro_bundle, tmp_path / "own.edgevlm")


@pytest.fixture
def made(edgevlm, tmp_path):
    """`made(bundle, ...)`: the page's text, and the JSON."""

    def make(*args):
        out = tmp_path / "page.html"
        ended = edgevlm("report", *args, "-o", out, "--force", "--json", "--quiet")
        assert ended.status == 0, ended.err
        return out.read_bytes(), ended.json

    return make
