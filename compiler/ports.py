"""The ports of every part as its contract states them: names, types, shapes, axes, order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from edgevlm.compiler.contract import Contract, Role

__all__ = ["Port", "input_ports", "output_ports"]


class Port(BaseModel):
    """One graph input or output as the contract wants it."""

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: str  # onnx name: FLOAT, INT64, BOOL, INT8
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


def input_ports(contract: Contract, role: Role) -> list[Port]:
    """Input ports of a part, in order."""
    d = contract.width
    match role:
        case "vision":
            return [
                _f(
                    "pixel_values",
                    (1, 3, contract.image_height, contract.image_width),
                    "batch",
                    None,
                    "pixel",
                    "pixel",
                )
            ]
        case "connector":
            return [
                _f(
                    "image_features",
                    (1, contract.vision_tokens, contract.vision_width),
                    "batch",
                    "token",
                    "channel",
                )
            ]
        case "embed":
            return [_i("input_ids", (1, contract.prompt_capacity), "batch", "token")]
        case "prefill":
            rows = contract.prefill_length
            return [
                _f("inputs_embeds", (1, rows, d), "batch", "token", "channel"),
                _i("position_ids", (1, rows), "batch", "token"),
                _i("last_index", (1,), None),
                *([_i("image_start", (1,), None)] if contract.sites else []),
            ]
        case "decode":
            gone = {n: contract.kept_image_tokens - n for n in contract.masks}
            masks = [
                Port(
                    name=name,
                    dtype="BOOL",
                    shape=(1, 1, 1, contract.kv_capacity - gone[n] + 1),
                    axes=("batch", None, None, "kv"),
                )
                for n, name in contract.masks.items()
            ]
            return [
                _f("inputs_embeds", (1, 1, d), "batch", "token", "channel"),
                _i("position_ids", (1, 1), "batch", "token"),
                *masks,
                *_cache(contract, "past_", contract.capacity_at, "kv"),
            ]


def output_ports(contract: Contract, role: Role) -> list[Port]:
    """Output ports of a part, in order."""
    logits = _f("logits", (1, contract.vocabulary), "batch", "class")
    match role:
        case "vision":
            kept = contract.vision_kept
            index = [] if kept is None else [_i("image_index", (kept,), "token")]
            return [_seen(contract, logits), *index]
        case "connector":
            kept = contract.kept_image_tokens
            ports = [_f("image_embeds", (1, kept, contract.width), "batch", "token", "channel")]
            index = [_i("image_index", (kept,), "token")] if kept < contract.given_tokens else []
            return ports + index
        case "embed":
            return [
                _f(
                    "text_embeds",
                    (1, contract.prompt_capacity, contract.width),
                    "batch",
                    "token",
                    "channel",
                )
            ]
        case "prefill":
            chosen = [
                _i(f"image_index_{site.layer}", (site.tokens,), "token")
                for site in contract.sites
                if site.tokens
            ]
            rows = [
                contract.tokens_at(i) + contract.prompt_capacity for i in range(contract.layers)
            ]
            return [logits, *_cache(contract, "", rows.__getitem__, "token"), *chosen]
        case "decode":
            return [logits, *_cache(contract, "", lambda layer: 1, "token")]


def _seen(contract: Contract, logits: Port) -> Port:
    """What the vision part is for: features, classes or a map."""
    if contract.kind == "classifier":
        return logits
    if contract.kind == "dense":
        shape = (1, contract.map_channels, contract.map_height, contract.map_width)
        return _f("map", shape, "batch", "class", "pixel", "pixel")
    shape = (1, contract.vision_tokens, contract.vision_width)
    return _f("image_features", shape, "batch", "token", "channel")


def _cache(contract: Contract, prefix: str, rows: Callable[[int], int], axis: str) -> list[Port]:
    return [
        Port(
            name=f"{prefix}{kind}_{layer}",
            dtype=contract.kv_dtype,
            shape=(1, contract.kv_heads, rows(layer), contract.head_dim),
            axes=("batch", "head", axis, "head_dim"),
        )
        for layer in range(contract.layers)
        for kind in ("key", "value")
    ]


def _f(name: str, shape: tuple[int, ...], *axes: str | None) -> Port:
    return Port(name=name, dtype="FLOAT", shape=shape, axes=axes)


def _i(name: str, shape: tuple[int, ...], *axes: str | None) -> Port:
    return Port(name=name, dtype="INT64", shape=shape, axes=axes)
