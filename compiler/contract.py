"""The contract: everything a caller of the parts must know, and nothing about how they work.

    pixel_values [1,3,H,W] -> vision -> image_features -> connector -> image_embeds [1,K,D]
    input_ids [1,T] -> embed -> text_embeds [1,T,D]
    inputs_embeds [1,K+T,D], position_ids, last_index -> prefill -> logits [1,V], key_i, value_i
    inputs_embeds [1,1,D], position_ids, attention_mask, past_key_i, past_value_i
                                                      -> decode -> logits [1,V], key_i, value_i

The image grid has N tokens of which K reach prefill. Text behind the image keeps the positions it
had with all N, so that a pruned prompt means the same to the decoder. A part that drops tokens has
one more output, `image_index` (int64, ascending): which of the tokens it was given it kept.

The KV cache is explicit. prefill returns key_i [1,kv_heads,K+T,head_dim]; decode reads
past_key_i [1,kv_heads,C,head_dim] with C = kv_capacity and returns the one new row; the caller
writes it. attention_mask [1,1,1,C+1] (bool, true = attend) covers the C slots and the new token.
All its ports have one type, `kv_dtype`: float32, float16, or int8 codes whose scales (one a kv
head, layer and side, no zero point) are constants of both parts, so that a caller only carries
codes about.

Tokens may also leave in front of decoder layers (`sites`). prefill then takes `image_start` [1],
the row of the first image token, and returns `image_index_<layer>`; layer i caches
`layer_tokens[i]` image tokens, so its K and C are smaller by what is gone, and decode has one mask
for each length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgevlm.compiler.ports import Port, input_ports, output_ports

if TYPE_CHECKING:  # a device reads contracts too, and has no onnx
    from edgevlm.compiler.axes import Signature

__all__ = ["CLASSIFIER_ROLES", "VLM_ROLES", "Contract", "LayerSite", "Port", "Role"]

Role = Literal["vision", "connector", "embed", "prefill", "decode"]
VLM_ROLES: tuple[Role, ...] = ("vision", "connector", "embed", "prefill", "decode")
CLASSIFIER_ROLES: tuple[Role, ...] = ("vision",)

Count = Annotated[int, Field(ge=1, le=10**7)]
Few = Annotated[int, Field(ge=0, le=10**7)]
#: of one number in a cache
KV_BYTES = {"FLOAT": 4, "FLOAT16": 2, "INT8": 1}


class LayerSite(BaseModel):
    """In front of decoder layer `layer`, `tokens` of the `given` image tokens are chosen.

    Where they `return`, the others pass that one layer by and are there again behind it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layer: Few
    given: Few
    tokens: Few
    returns: bool = False


class Contract(BaseModel):
    """Shapes, budgets and capacities of an exported model; all sizes are elements or tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["vlm", "classifier", "dense"] = "vlm"
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
    kv_dtype: Literal["FLOAT", "FLOAT16", "INT8"] = "FLOAT"  # of all cache ports
    vocabulary: Count  # V; classes for a classifier
    vision_kept: Count | None = None  # image tokens that leave the vision part, where it drops any
    sites: Annotated[tuple[LayerSite, ...], Field(strict=False)] = ()  # ascending
    layer_tokens: Annotated[tuple[Few, ...], Field(strict=False)] = ()  # a layer; () is K in all
    image_positions: Literal["original", "renumber"] = "original"
    map_channels: Count | None = None  # of a dense model's output
    map_height: Count | None = None  # pixels
    map_width: Count | None = None  # pixels

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        if not self.kept_image_tokens <= self.given_tokens <= self.image_tokens:
            raise ValueError(
                f"keeps {self.kept_image_tokens} of {self.given_tokens} of {self.image_tokens} "
                "image tokens"
            )
        if self.kind == "dense" and None in (self.map_channels, self.map_height, self.map_width):
            raise ValueError("a dense model states the size of its map")
        if self.layer_tokens and len(self.layer_tokens) != self.layers:
            raise ValueError(f"layer_tokens has {len(self.layer_tokens)} of {self.layers} layers")
        if any(site.layer >= self.layers for site in self.sites) or any(
            tokens > self.kept_image_tokens for tokens in self.layer_tokens
        ):
            raise ValueError("sites and layer_tokens ask for more than there is")
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
    def given_tokens(self) -> int:
        """Image tokens the connector is given."""
        return self.image_tokens if self.vision_kept is None else self.vision_kept

    def tokens_at(self, layer: int) -> int:
        """Image tokens in the KV cache of a decoder layer."""
        return self.layer_tokens[layer] if self.layer_tokens else self.kept_image_tokens

    def given_at(self, layer: int) -> int:
        """Image tokens in the stream in front of a decoder layer, before what its own site does."""
        before = [site for site in self.sites if site.layer < layer and not site.returns]
        return before[-1].tokens if before else self.kept_image_tokens

    def capacity_at(self, layer: int) -> int:
        """Rows of the KV cache of a decoder layer."""
        return self.kv_capacity - (self.kept_image_tokens - self.tokens_at(layer))

    @property
    def kv_bytes(self) -> int:
        """Of the caches of all layers at capacity, without their scales."""
        rows = sum(self.capacity_at(layer) for layer in range(self.layers))
        return rows * 2 * self.kv_heads * self.head_dim * KV_BYTES[self.kv_dtype]

    @property
    def masks(self) -> dict[int, str]:
        """Inputs of decode by the image tokens of the layers they serve, first layer first."""
        counts = dict.fromkeys(self.tokens_at(layer) for layer in range(self.layers))
        return {n: f"attention_mask_{i}" if i else "attention_mask" for i, n in enumerate(counts)}

    @property
    def roles(self) -> tuple[Role, ...]:
        return VLM_ROLES if self.kind == "vlm" else CLASSIFIER_ROLES

    def inputs(self, role: Role) -> list[Port]:
        """Input ports of a part, in order."""
        return input_ports(self, role)

    def outputs(self, role: Role) -> list[Port]:
        """Output ports of a part, in order."""
        return output_ports(self, role)

    def signature(self, role: Role) -> Signature:
        """Names of the dimensions of a part's ports, for the axis analysis."""
        return {p.name: p.axes for p in (*self.inputs(role), *self.outputs(role))}
