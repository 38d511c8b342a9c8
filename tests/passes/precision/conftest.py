"""Graphs of one part through cast-half.

halved(part, feeds, ..)   the result; feeds: calibration inputs, a dictionary each
kinds(part)               node name -> type of its first output
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.mixed_types import check_types
from edgevlm.compiler.pass_base import PassResult
from edgevlm.compiler.reference import Reference
from edgevlm.passes.precision.cast_half import CastHalf


@pytest.fixture(scope="session")
def halved(solo):
    def run(part: ir.Model, *feeds: dict[str, np.ndarray], **options: object) -> PassResult:
        step = CastHalf(cache=False, **options)  # a part alone has none
        step.calibration = Reference([{"vision": feed} for feed in feeds], [], [])
        result = step(solo(part))
        check_types("vision", result.model.parts["vision"])
        ports: Sequence[ir.Value] = result.model.parts["vision"].graph.outputs
        assert [(v.name, v.dtype) for v in ports] == [(v.name, v.dtype) for v in part.graph.outputs]
        return result

    return run


@pytest.fixture(scope="session")
def kinds():
    def of(result: PassResult) -> dict[str, str]:
        graph = result.model.parts["vision"].graph
        return {str(n.name): n.outputs[0].dtype.name for n in graph}

    return of


@pytest.fixture(scope="session")
def told():
    """(what is named, why) of what stays float32."""

    def of(result: PassResult) -> list[tuple[str, str]]:
        return [(n.where, n.why) for n in result.notes if n.kind == "skipped"]

    return of
