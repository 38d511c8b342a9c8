"""Calls of `edgevlm derive` on the tiny ViT of micro/fleet.py.

command(sets, *args)     the words of a call into tmp_path/fleet; sets: TOML text, or a file
derive(sets, *args)      how it ended, in this process
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def command(vit, pictures, tmp_path):
    """The words of a call."""

    def words(sets: str | Path, *args: object) -> tuple[object, ...]:
        if isinstance(sets, str):
            path = tmp_path / "sets.toml"
            path.write_text(sets)
            sets = path
        call = ("derive", vit, "--class-sets", sets, "--calib", pictures)
        return *call, "--targets", "cpu", "--alpha", "0.45", "-o", tmp_path / "fleet", *args

    return words


@pytest.fixture
def derive(command, edgevlm):
    """In this process, unless --jobs says otherwise."""

    def call(sets: str | Path, *args: object):
        jobs = () if {"--jobs", "--on"} & set(args) else ("--jobs", 1)
        return edgevlm(*command(sets, *jobs, *args), "--json")

    return call
