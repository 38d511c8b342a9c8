"""The contract: everything a caller of the parts must know, and nothing about how they work.

    pixel_values [1,3,H,W] -> vision -> image_features -> connector -> image_embeds [1,K,D]
    input_ids [1,T] -> embed -> text_embeds [1,T,D]
    inputs_embeds [1,K+T,D], position_ids, last_index -> prefill -> logits [1,V], key_i, value_i
    inputs_embeds [1,1,D], position_ids, attention_mask, past_key_i, past_value_i
                                                      -> decode -> logits [1,V], key_i, value_i

The image grid has N tokens of which K are kept. Text behind the image keeps the positions it had
with all N, so that a pruned prompt means the same to the decoder. Where K < N, `connector` has a
second output `image_index` [K] (int64, ascending): which tokens of the grid were kept.

The KV cache is explicit. prefill returns key_i [1,kv_heads,K+T,head_dim]; decode reads
past_key_i [1,kv_heads,C,head_dim] with C = kv_capacity and returns the one new row; the caller
writes it. attention_mask [1,1,1,C+1] (bool, true = attend) covers the C slots and the new token.
"""

from __future__ import annotations

from typing import Annotated, Literal

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgevlm.compiler.axes import Signature

__all__ = ["CLASSIFIER_ROLES", "VLM_ROLES", "Contract", "Port", "Role"]

Role = Literal["vision", "connector", "embed", "prefill", "decode"]
VLM_ROLES: tuple[Role, ...] = ("vision", "connector", "embed", "prefill", "decode")
CLASSIFIER_ROLES: tuple[Role, ...] = ("vision",)

Count = Annotated[int, Field(ge=1, le=10**7)]


class Port(BaseModel):
    """One graph input or output as the contract wants it."""

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: str  # onnx name: FLOAT, INT64, BOOL
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


class Contract(BaseModel):
    """Shapes, budgets and capacities of an exported model; all sizes are elements or tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["vlm", "classifier"] = "vlm"
    family: str = Field(max_length=64)
    image_height: Count  # pixels
    image_width: Count  # pixels
    grid: Annotated[tuple[Count, Count], Field(strict=False)]  # rows x columns of image tokens
    vision_tokens: Count  # tokens the vision part returns; a class token is one of them
    vision_width: Count  # channels of image_features
    image_tokens: Count  # N: what the connector gives before any pruning
    kept_image_tokens: Count  # K <= N
    prompt_capacity: Count  # T: text tokens of a prompt, the template's included
    kv_capacity: Count  # C: rows of the KV cache
    width: Count  # D: channels of the decoder
    layers: Count
    kv_heads: Count
    head_dim: Count
    vocabulary: Count  # V; classes for a classifier

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        if self.kept_image_tokens > self.image_tokens:
            raise ValueError(f"keeps {self.kept_image_tokens} of {self.image_tokens} image tokens")
        if self.kind == "vlm" and self.kv_capacity <= self.prefill_length:
            raise ValueError(
                f"kv_capacity {self.kv_capacity} leaves no row for an answer behind "
                f"{self.prefill_length} prompt tokens"
            )
        return self

    @property
    def prefill_length(self) -> int:
        """K + T: rows of the prefill graph."""
        return self.kept_image_tokens + self.prompt_capacity

    @property
    def roles(self) -> tuple[Role, ...]:
        return VLM_ROLES if self.kind == "vlm" else CLASSIFIER_ROLES

    def inputs(self, role: Role) -> list[Port]:
        """Input ports of a part, in order."""
        d = self.width
        match role:
            case "vision":
                return [
                    _f(
                        "pixel_values",
                        (1, 3, self.image_height, self.image_width),
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
                        (1, self.vision_tokens, self.vision_width),
                        "batch",
                        "token",
                        "channel",
                    )
                ]
            case "embed":
                return [_i("input_ids", (1, self.prompt_capacity), "batch", "token")]
            case "prefill":
                rows = self.prefill_length
                return [
                    _f("inputs_embeds", (1, rows, d), "batch", "token", "channel"),
                    _i("position_ids", (1, rows), "batch", "token"),
                    _i("last_index", (1,), None),
                ]
            case "decode":
                mask = Port(
                    name="attention_mask",
                    dtype="BOOL",
                    shape=(1, 1, 1, self.kv_capacity + 1),
                    axes=("batch", None, None, "kv"),
                )
                return [
                    _f("inputs_embeds", (1, 1, d), "batch", "token", "channel"),
                    _i("position_ids", (1, 1), "batch", "token"),
                    mask,
                    *self._cache("past_", self.kv_capacity, "kv"),
                ]

    def outputs(self, role: Role) -> list[Port]:
        """Output ports of a part, in order."""
        logits = _f("logits", (1, self.vocabulary), "batch", "class")
        match role:
            case "vision" if self.kind == "classifier":
                return [logits]
            case "vision":
                return [
                    _f(
                        "image_features",
                        (1, self.vision_tokens, self.vision_width),
                        "batch",
                        "token",
                        "channel",
                    )
                ]
            case "connector":
                kept = self.kept_image_tokens
                ports = [_f("image_embeds", (1, kept, self.width), "batch", "token", "channel")]
                index = [_i("image_index", (kept,), "token")] if kept < self.image_tokens else []
                return ports + index
            case "embed":
                return [
                    _f(
                        "text_embeds",
                        (1, self.prompt_capacity, self.width),
                        "batch",
                        "token",
                        "channel",
                    )
                ]
            case "prefill":
                return [logits, *self._cache("", self.prefill_length, "token")]
            case "decode":
                return [logits, *self._cache("", 1, "token")]

    def signature(self, role: Role) -> Signature:
        """Names of the dimensions of a part's ports, for the axis analysis."""
        return {p.name: p.axes for p in (*self.inputs(role), *self.outputs(role))}

    def _cache(self, prefix: str, rows: int, axis: str) -> list[Port]:
        shape = (1, self.kv_heads, rows, self.head_dim)
        return [
            _f(f"{prefix}{kind}_{layer}", shape, "batch", "head", axis, "head_dim")
            for layer in range(self.layers)
            for kind in ("key", "value")
        ]


def _f(name: str, shape: tuple[int, ...], *axes: str | None) -> Port:
    return Port(name=name, dtype=ir.DataType.FLOAT.name, shape=shape, axes=axes)


def _i(name: str, shape: tuple[int, ...], *axes: str | None) -> Port:
    return Port(name=name, dtype=ir.DataType.INT64.name, shape=shape, axes=axes)
