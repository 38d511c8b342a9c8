"""The unit in which each channel of a value cache is kept, where a pass changed it.

    cached = V / unit          unit [kv_heads, head_dim], 1 where nobody said otherwise

Whoever attends to a value cache multiplies by the same weights, so the parts may agree to cache
smaller or larger numbers; the answer is the same. What a cached number stands for is written into
the metadata of the parts, so that two versions of a model can be compared in one unit.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds, PartCaller
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["InUnits", "relative_units", "scale_units", "to_units"]

KEY = "edgevlm.cache_units"
PAST = "past_"


def units_of(part: ir.Model) -> dict[str, np.ndarray]:
    """Port -> float32 [heads,width]; ports in the source's unit are left out."""
    rows = json.loads(part.metadata_props.get(KEY, "{}"))
    return {
        name: np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)
        for name, (shape, text) in rows.items()
    }


def scale_units(part: ir.Model, more: Mapping[str, np.ndarray]) -> None:
    """Numbers at these ports have become smaller by [heads,width]."""
    units = units_of(part)
    for name, by in more.items():
        units[name] = units.get(name, np.float32(1)) * np.asarray(by, np.float32)
    rows = {
        name: (unit.shape, base64.b64encode(unit.astype("<f4").tobytes()).decode())
        for name, unit in units.items()
    }
    part.metadata_props[KEY] = json.dumps(rows, sort_keys=True)


def relative_units(before: ExportedModel, after: ExportedModel) -> dict[str, np.ndarray]:
    """Cache -> what its numbers in `after` are smaller by than those in `before`, of decode."""
    if "decode" not in after.parts or "decode" not in before.parts:
        return {}
    old, new = (units_of(model.parts["decode"]) for model in (before, after))
    caches = sorted(name for name in old | new if not name.startswith(PAST))
    one = np.float32(1)
    found = {name: new.get(name, one) / old.get(name, one) for name in caches}
    return {name: by for name, by in found.items() if (by != 1).any()}


def to_units(feeds: Feeds, units: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The feeds of a part with their caches in its units."""
    made = dict(feeds)
    for name, by in units.items():
        if (past := PAST + name) in made:
            made[past] = made[past] / by[:, None]
    return made


class InUnits:
    """A caller of parts whose caches are kept in other units."""

    def __init__(self, parts: PartCaller, units: Mapping[str, np.ndarray]) -> None:
        self.parts, self.units = parts, units

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        out = dict(self.parts.call(role, to_units(feeds, self.units)))
        for name, by in self.units.items():
            if name in out:
                out[name] = out[name] * by[:, None]
        return out
