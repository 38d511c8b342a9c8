"""What a manifest says of pieces, where it is a stranger's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.executorch.ethos.callers import TosaParts
from edgevlm.runtimes.executorch.ethos.estimates import estimates, preflight
from edgevlm.runtimes.executorch.ethos.told import told_by

PIECE = {"name": "vision", "runs": "host", "inputs": ["x"], "outputs": ["y"], "delegates": 0}
CONTRACT = SimpleNamespace(
    inputs=lambda role: [SimpleNamespace(name="x")],
    outputs=lambda role: [SimpleNamespace(name="y")],
)


def artifact(*pieces: dict, **settings: object) -> Artifact:
    return Artifact(
        role="vision", file="ethos/vision.pte", settings={"pieces": list(pieces)} | settings
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"inputs": ["x", "z"]}, "piece vision of vision reads z, from nowhere"),
        ({"outputs": ["z"]}, "no piece of vision gives y"),
    ],
)
def test_pieces_that_do_not_fit_together(tmp_path, change, why):
    with pytest.raises(JobFault, match="EV304") as told:
        TosaParts(tmp_path, [artifact(PIECE | change)], CONTRACT)
    assert told.value.why == why


def test_what_the_npu_runs_has_a_command_stream(tmp_path):
    for call in (told_by, lambda one, folder: estimates(folder, [one])):
        with pytest.raises(JobFault, match="EV304"):
            call(artifact(PIECE | {"runs": "device"}), tmp_path)


def test_versions_that_are_none(tmp_path):
    one = artifact(PIECE, versions=[])
    assert "ethos-u-vela" in preflight(estimates(tmp_path, [one]), [one]).label
