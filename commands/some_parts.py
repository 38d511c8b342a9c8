"""Bundles of some parts: a vision half whose language half another program runs.

Everything is compiled and proved as ever, the parts that are not written on the reference executor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgevlm.commands.compile_options import CompileOptions
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import Feeds, PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["Completed", "check_parts", "elsewhere", "written_parts"]


def check_parts(options: CompileOptions, model: ExportedModel) -> None:
    """Raises EV220 for parts that the model has not."""
    missing = sorted(set(options.parts or ()) - set(model.parts))
    if missing:
        raise UsageFault(
            "EV220",
            f"--parts with {missing[0]}",
            f"this model has {', '.join(model.parts)}",
            "leave it out",
        )


def written_parts(options: CompileOptions, model: ExportedModel) -> ExportedModel:
    """The model with those parts alone that are lowered."""
    if options.parts is None:
        return model
    return replace(model, parts={role: model.parts[role] for role in options.parts})


def elsewhere(options: CompileOptions, model: ExportedModel) -> tuple[Role, ...]:
    """Parts that are not."""
    wanted = options.parts or model.contract.roles
    return tuple(role for role in model.contract.roles if role not in wanted)


class Completed:
    """Opened artifacts, and the graphs of those parts that were not written."""

    def __init__(self, parts: PartCaller, model: ExportedModel, others: tuple[Role, ...]) -> None:
        graphs = ReferenceParts({role: model.parts[role] for role in others})
        self.by_role: Mapping[Role, PartCaller] = {
            role: graphs if role in others else parts for role in model.contract.roles
        }

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        return self.by_role[role].call(role, feeds)
