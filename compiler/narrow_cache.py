"""Models with int8 or float16 KV caches, called as if they were float32: to meet their source.

The contract says what caches are. Of int8 ones the scale of each is in the graphs, at its ports:

    prefill   key_i = QuantizeLinear(x, s)                decode   DequantizeLinear(past_key_i, s)
                                                                   key_i = QuantizeLinear(y, s)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.cache_units import InUnits, relative_units
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds, PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.quantised import LINEAR

__all__ = ["as_codes", "cache_scales", "float_ports", "float_sides", "rows_read"]


def cache_scales(model: ExportedModel) -> dict[str, np.ndarray]:
    """key_i, value_i -> float32 [heads]; empty for float caches.

    Raises EV501 for a port without a scale, and where the sides of a cache have not the same.
    """
    if model.contract.kv_dtype != "INT8":
        return {}
    graphs = model.parts["prefill"].graph, model.parts["decode"].graph
    ports = {
        "prefill": {str(v.name): v for v in graphs[0].outputs},
        "decode": {str(v.name): v for v in (*graphs[1].inputs, *graphs[1].outputs)},
    }
    found = {}
    for layer in range(model.contract.layers):
        for name in (f"key_{layer}", f"value_{layer}"):
            sides = (("prefill", name), ("decode", name), ("decode", f"past_{name}"))
            scales = [_scale(role, ports[role][port]) for role, port in sides]
            if not all(np.array_equal(scales[0], other) for other in scales[1:]):
                raise _broken(f"the sides of {name} have different scales")
            found[name] = scales[0]
    return found


def rows_read(contract: Contract, layer: int, prefill: Feeds) -> int:
    """Rows of a layer's cache that decode reads; behind them is what padding left."""
    gone = contract.kept_image_tokens - contract.tokens_at(layer)
    return int(prefill["last_index"][0]) + 1 - gone


def as_codes(feeds: Feeds, scales: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The feeds of a part, its float caches rounded as the parts themselves would have."""
    made = dict(feeds)
    for name, scale in scales.items():
        if (past := f"past_{name}") in made:
            codes = np.rint(made[past] / scale[:, None, None])
            made[past] = np.clip(codes, -128, 127).astype(np.int8)
    return made


def float_sides(
    before: ExportedModel, after: ExportedModel, parts: PartCaller, scales: Mapping[str, np.ndarray]
) -> tuple[PartCaller, PartCaller]:
    """Callers of `before`, and of `after` by `parts`, that both have float caches in one unit.

    scales: of the caches of `after`, where they became int8.
    """
    source: PartCaller = ReferenceParts(before.parts)
    if scales or before.contract.kv_dtype != after.contract.kv_dtype:
        source = _FloatCaches(source, before.contract, {})
        parts = _FloatCaches(parts, after.contract, scales)
    units = relative_units(before, after)
    return source, InUnits(parts, units) if units else parts


class _FloatCaches:
    """A caller whose caches are float32, of parts whose caches may be int8 or float16.

    Prefill gives only the rows that are read: no scale was fitted to the others, which may lie
    anywhere.
    """

    def __init__(
        self, parts: PartCaller, contract: Contract, scales: Mapping[str, np.ndarray]
    ) -> None:
        self.parts, self.contract, self.scales = parts, contract, scales

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        half = self.contract.kv_dtype == "FLOAT16"
        feeds = _halved(feeds) if half else as_codes(feeds, self.scales)
        out = self.parts.call(role, feeds)
        for name, scale in self.scales.items():
            if name in out:
                out[name] = out[name].astype(np.float32) * scale[:, None, None]
        if half:
            out = {n: np.asarray(x, np.float32) if _is_cache(n) else x for n, x in out.items()}
        if role == "prefill":
            for layer in range(self.contract.layers):
                read = rows_read(self.contract, layer, feeds)
                for name in (f"key_{layer}", f"value_{layer}"):
                    out[name] = out[name][:, :, :read]
        return out


def _halved(feeds: Feeds) -> dict[str, np.ndarray]:
    return {n: x.astype(np.float16) if _is_cache(n) else x for n, x in feeds.items()}


def _is_cache(name: str) -> bool:
    return name.removeprefix("past_").startswith(("key_", "value_"))


def float_ports(contract: Contract) -> Contract:
    """The contract with float caches, as both of `float_sides` have them."""
    return contract.model_copy(update={"kv_dtype": "FLOAT"})


def _scale(role: str, port: ir.Value) -> np.ndarray:
    """Of the node that makes a port, or of all that read it."""
    maker = port.producer()
    nodes = [maker] if maker is not None else [node for node, _ in port.uses()]
    scales = [
        node.inputs[1].const_value.numpy()
        for node in nodes
        if node.op_type in LINEAR and node.inputs[1].const_value is not None
    ]
    if not scales or len(scales) < len(nodes):
        raise _broken(f"{role}/{port.name} is int8 and has no scale")
    if not all(np.array_equal(scales[0], other) for other in scales[1:]):
        raise _broken(f"{role}/{port.name} is read with different scales")
    return scales[0]


def _broken(what: str) -> JobFault:
    return JobFault("EV501", what, "nobody could tell what its codes mean", "please report this")
