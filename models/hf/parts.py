"""The five parts as torch modules, built from the organs of any Llama-like VLM.

The decoder is driven layer by layer, with the cache made explicit: `prefill` returns the keys and
values it computed, `decode` is given the past ones as plain inputs and returns its one new row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ATTENTION", "DecodePart", "EmbedPart", "PrefillPart", "grouped_attention"]

#: name under which `grouped_attention` is registered with transformers
ATTENTION = "edgevlm"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention that leaves key and value heads grouped, so that ONNX Attention has them as stored.

    transformers' own SDPA path repeats the kv heads when a mask is given, which exports as Expand.
    query [B,H,S,hd], key and value [B,Hkv,T,hd]; causal if there is no mask and S > 1.
    """
    causal = attention_mask is None and query.shape[2] > 1
    out = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        scale=scaling,
        is_causal=causal,
        enable_gqa=True,
    )
    return out.transpose(1, 2).contiguous(), None


class _Cache:
    """What a transformers attention layer needs of a cache: `update`, nothing else."""

    def __init__(self, past: list[tuple[Tensor, Tensor]] | None = None) -> None:
        self.past = past
        self.new: list[tuple[Tensor, Tensor]] = []

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        self.new.append((key, value))
        if self.past is None:
            return key, value
        old_key, old_value = self.past[layer]
        return torch.cat([old_key, key], 2), torch.cat([old_value, value], 2)


class _Decoder(nn.Module):
    def __init__(self, language: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.language, self.head = language, head

    def run(self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: _Cache) -> Tensor:
        rotary = self.language.rotary_emb(embeds, position_ids=positions)
        hidden = embeds
        for layer in self.language.layers:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                position_embeddings=rotary,
            )
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [1,1,D] -> [1,V]; the norm runs on the one row that is read."""
        return self.head(self.language.norm(hidden)).reshape(1, -1)


class EmbedPart(nn.Module):
    """input_ids [1,T] -> text_embeds [1,T,D]."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)


class PrefillPart(_Decoder):
    """The whole prompt at once; right padding is harmless because attention is causal."""

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, last_index: Tensor
    ) -> tuple[Tensor, ...]:
        cache = _Cache()
        hidden = self.run(inputs_embeds, position_ids, None, cache)
        last = hidden.index_select(1, last_index)
        return (self.logits(last), *(t for pair in cache.new for t in pair))


class DecodePart(_Decoder):
    """One token; `attention_mask` [1,1,1,C+1] (bool) says which cache rows hold something."""

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, attention_mask: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        cache = _Cache(list(zip(past[::2], past[1::2], strict=True)))
        hidden = self.run(inputs_embeds, position_ids, attention_mask, cache)
        return (self.logits(hidden), *(t for pair in cache.new for t in pair))
