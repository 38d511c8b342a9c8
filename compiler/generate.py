"""Greedy generation over the parts: token ids in, token ids out, one KV cache.

The loop knows the contract and nothing else: no tokenizer, no image files, no runtime. Everything
that runs parts (the reference executor, every runtime) is driven by this one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import Feeds, PartCaller

__all__ = ["ImageTokens", "Trace", "classify", "encode_image", "generate"]


@dataclass(frozen=True)
class ImageTokens:
    """What the connector kept of an image; may be reused for any number of questions."""

    embeds: np.ndarray  # float32 [1,K,D]
    index: np.ndarray  # int64 [K], ascending places in the grid of N


@dataclass
class Trace:
    """Seconds spent in each stage, and the feeds of each part if asked for."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    feeds: dict[str, Feeds] | None = None

    def timed(
        self, stage: str, parts: PartCaller, role: str, feeds: Feeds
    ) -> dict[str, np.ndarray]:
        if self.feeds is not None and role not in self.feeds:
            self.feeds[role] = {k: np.array(v) for k, v in feeds.items()}
        start = perf_counter()
        out = parts.call(role, feeds)
        self.seconds.setdefault(stage, []).append(perf_counter() - start)
        return out


def encode_image(
    contract: Contract, parts: PartCaller, pixel_values: np.ndarray, trace: Trace | None = None
) -> ImageTokens:
    """pixel_values float32 [1,3,H,W] -> the image tokens the decoder will read."""
    trace = trace or Trace()
    features = trace.timed("vision", parts, "vision", {"pixel_values": pixel_values})
    out = trace.timed("connector", parts, "connector", features)
    index = out.get("image_index")
    return ImageTokens(
        out["image_embeds"], np.arange(contract.image_tokens) if index is None else index
    )


def classify(parts: PartCaller, pixel_values: np.ndarray, trace: Trace | None = None) -> np.ndarray:
    """Logits [1,classes] of a plain ViT."""
    trace = trace or Trace()
    return trace.timed("vision", parts, "vision", {"pixel_values": pixel_values})["logits"]


def generate(
    contract: Contract,
    parts: PartCaller,
    image: ImageTokens,
    before: Sequence[int],
    after: Sequence[int],
    eos_ids: Sequence[int],
    *,
    max_new: int | None = None,
    trace: Trace | None = None,
    on_logits: Callable[[np.ndarray], None] | None = None,
) -> Iterator[int]:
    """Yield greedy token ids until an end token, `max_new` or a full cache.

    before, after: prompt ids in front of and behind the image. Raises EV120 if the prompt does not
    fit `contract.prompt_capacity` (UsageFault), before anything runs.
    """
    trace = trace or Trace()
    rows = len(before) + contract.kept_image_tokens + len(after)
    if len(before) + len(after) > contract.prompt_capacity:
        raise UsageFault(
            "EV120",
            f"the prompt has {len(before) + len(after)} text tokens",
            f"this model was compiled for at most {contract.prompt_capacity}",
            "ask a shorter question, or compile with a larger --max-prompt",
        )
    room = contract.kv_capacity - rows + 1  # the last token is returned, not cached
    limit = room if max_new is None else min(max_new, room)
    if limit < 1:
        return
    start = perf_counter()
    feeds = _prompt(contract, parts, image, before, after)
    out = trace.timed("prefill", parts, "prefill", feeds)
    trace.seconds["prefill"][-1] = perf_counter() - start  # looking up the embeddings included
    cache = _Cache(contract, out)
    # behind all N tokens, even where the image ends the prompt and its last token was dropped
    position = len(before) + contract.image_tokens + len(after) - 1
    for step in range(limit):
        if on_logits:
            on_logits(out["logits"])
        token = int(out["logits"][0].argmax())
        if token in eos_ids:
            return
        yield token
        if step + 1 == limit:
            return
        position += 1
        start = perf_counter()
        feeds = {
            "inputs_embeds": _embed(contract, parts, [token])[:, :1],
            "position_ids": np.array([[position]]),
            **cache.feeds(rows + step),
        }
        seconds = perf_counter() - start
        out = trace.timed("decode", parts, "decode", feeds)
        start = perf_counter()
        cache.write(rows + step, out)
        trace.seconds["decode"][-1] += seconds + perf_counter() - start


def _embed(contract: Contract, parts: PartCaller, ids: Sequence[int]) -> np.ndarray:
    padded = np.zeros((1, contract.prompt_capacity), np.int64)
    padded[0, : len(ids)] = ids
    return parts.call("embed", {"input_ids": padded})["text_embeds"]


def _prompt(
    contract: Contract,
    parts: PartCaller,
    image: ImageTokens,
    before: Sequence[int],
    after: Sequence[int],
) -> dict[str, np.ndarray]:
    """Lay out before | image | after | padding; text keeps its positions of all N tokens."""
    head, tail, kept = len(before), len(after), contract.kept_image_tokens
    text = _embed(contract, parts, [*before, *after])
    embeds = np.zeros((1, contract.prefill_length, contract.width), np.float32)
    embeds[:, :head] = text[:, :head]
    embeds[:, head : head + kept] = image.embeds
    embeds[:, head + kept : head + kept + tail] = text[:, head : head + tail]
    behind = head + contract.image_tokens  # position of the first token after the image
    padding = contract.prefill_length - head - kept - tail
    positions = np.concatenate(
        [np.arange(head), head + image.index, np.arange(behind, behind + tail + padding)]
    )
    return {
        "inputs_embeds": embeds,
        "position_ids": positions[None].astype(np.int64),
        "last_index": np.array([head + kept + tail - 1]),
    }


class _Cache:
    """Key and value rows of all layers, written in place."""

    def __init__(self, contract: Contract, prefill: dict[str, np.ndarray]) -> None:
        shape = (1, contract.kv_heads, contract.kv_capacity, contract.head_dim)
        self.mask = np.zeros((1, 1, 1, contract.kv_capacity + 1), bool)
        self.rows: dict[str, np.ndarray] = {}
        for name, value in prefill.items():
            if name != "logits":
                self.rows[name] = np.zeros(shape, value.dtype)
                self.rows[name][:, :, : value.shape[2]] = value

    def feeds(self, filled: int) -> dict[str, np.ndarray]:
        """Inputs of decode when `filled` rows hold tokens; the last mask entry is the new token."""
        self.mask[..., :filled] = True
        self.mask[..., -1] = True
        return {"attention_mask": self.mask, **{f"past_{k}": v for k, v in self.rows.items()}}

    def write(self, row: int, decode: dict[str, np.ndarray]) -> None:
        for name, cached in self.rows.items():
            cached[:, :, row : row + 1] = decode[name]
