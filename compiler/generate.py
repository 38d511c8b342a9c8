"""Greedy generation over the parts: token ids in, token ids out, one KV cache.

The loop knows the contract and nothing else: no tokenizer, no image files, no runtime. Everything
that runs parts (the reference executor, every runtime) is driven by this one loop. Whoever keeps
the cache elsewhere than in numpy gives its own, `parts.cache(contract, prefill)`. Python 3.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.promise import check_choice

if TYPE_CHECKING:  # this file travels to devices, with numpy and nothing else
    from edgevlm.compiler.contract import Contract
    from edgevlm.compiler.executor import Feeds, PartCaller

__all__ = ["Cache", "ImageTokens", "Trace", "classify", "encode_image", "generate"]


@dataclass(frozen=True)
class ImageTokens:
    """What the connector kept of an image; may be reused for any number of questions."""

    embeds: np.ndarray  # float32 [1,K,D]
    index: np.ndarray  # int64 [K], ascending places in the grid of N


@dataclass
class Trace:
    """Seconds spent in each stage, which tokens were kept, and the parts' feeds if asked for.

    With the feeds come the rows that decode added to the caches, a step each.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    feeds: dict[str, Feeds] | None = None
    choices: dict[str, np.ndarray] = field(default_factory=dict)  # by part and output
    rows: list[dict[str, np.ndarray]] = field(default_factory=list)  # key_i, value_i

    def timed(
        self, stage: str, parts: PartCaller, role: str, feeds: Feeds
    ) -> dict[str, np.ndarray]:
        if self.feeds is not None and role not in self.feeds:
            self.feeds[role] = {k: np.array(v) for k, v in feeds.items()}
        start = perf_counter()
        out = parts.call(role, feeds)
        self.seconds.setdefault(stage, []).append(perf_counter() - start)
        chosen = {f"{role}/{k}": v for k, v in out.items() if k.startswith("image_index")}
        self.choices.update(chosen)
        return out


def encode_image(
    contract: Contract, parts: PartCaller, pixel_values: np.ndarray, trace: Trace | None = None
) -> ImageTokens:
    """pixel_values float32 [1,3,H,W] -> the image tokens the decoder will read."""
    trace = trace or Trace()
    seen = trace.timed("vision", parts, "vision", {"pixel_values": pixel_values})
    places, given = np.arange(contract.image_tokens), contract.given_tokens
    if "image_index" in seen:
        places = check_choice("vision", seen.pop("image_index"), given, len(places))
    out = trace.timed("connector", parts, "connector", seen)
    if "image_index" in out:
        kept = contract.kept_image_tokens
        places = places[check_choice("the connector", out["image_index"], kept, given)]
    return ImageTokens(out["image_embeds"], places)


def classify(parts: PartCaller, pixel_values: np.ndarray, trace: Trace | None = None) -> np.ndarray:
    """Logits [1,classes] of a plain ViT, or the map [1,channels,H,W] of a dense one."""
    trace = trace or Trace()
    seen = trace.timed("vision", parts, "vision", {"pixel_values": pixel_values})
    return seen["map" if "map" in seen else "logits"]


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
    _check_sites(contract, out)
    cache: Cache = getattr(parts, "cache", Cache)(contract, out)
    # behind all N tokens, even where the image ends the prompt and its last token was dropped
    position = len(before) + _span(contract) + len(after) - 1
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
        if trace.feeds is not None:
            trace.rows.append({name: np.array(out[name]) for name in cache.rows})


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
    behind = head + _span(contract)  # position of the first token after the image
    padding = contract.prefill_length - head - kept - tail
    places = image.index if contract.image_positions == "original" else np.arange(kept)
    positions = np.concatenate(
        [np.arange(head), head + places, np.arange(behind, behind + tail + padding)]
    )
    feeds = {
        "inputs_embeds": embeds,
        "position_ids": positions[None].astype(np.int64),
        "last_index": np.array([head + kept + tail - 1]),
    }
    return {**feeds, "image_start": np.array([head])} if contract.sites else feeds


def _check_sites(contract: Contract, prefill: dict[str, np.ndarray]) -> None:
    for site in contract.sites:
        if site.tokens:
            index = prefill[f"image_index_{site.layer}"]
            check_choice(f"decoder layer {site.layer}", index, site.tokens, site.given)


def _span(contract: Contract) -> int:
    """Positions the image takes up."""
    renumbered = contract.image_positions == "renumber"
    return contract.kept_image_tokens if renumbered else contract.image_tokens


class Cache:
    """Key and value rows of all layers, written in place."""

    def __init__(self, contract: Contract, prefill: dict[str, np.ndarray]) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.gone: dict[str, int] = {}  # image tokens dropped before the layer
        for layer in range(contract.layers):
            shape = (1, contract.kv_heads, contract.capacity_at(layer), contract.head_dim)
            for name in (f"key_{layer}", f"value_{layer}"):
                self.rows[name] = self.hold(name, shape, prefill[name])
                self.gone[name] = contract.kept_image_tokens - contract.tokens_at(layer)
        self.masks = {
            port.name: np.zeros(port.shape, bool)
            for port in contract.inputs("decode")
            if port.name in contract.masks.values()
        }
        for tokens, name in contract.masks.items():
            self.gone[name] = contract.kept_image_tokens - tokens

    def hold(self, name: str, shape: tuple[int, ...], first: np.ndarray) -> np.ndarray:
        """Room for `shape` [1,kv_heads,C,head_dim], its first rows those of prefill, others 0."""
        held = np.zeros(shape, first.dtype)
        held[:, :, : first.shape[2]] = first
        return held

    def put(self, held: np.ndarray, at: int, row: np.ndarray) -> None:
        """One row [1,kv_heads,1,head_dim] into the place `at`."""
        held[:, :, at : at + 1] = row

    def feeds(self, filled: int) -> dict[str, np.ndarray]:
        """Inputs of decode when `filled` rows of an unpruned layer hold tokens.

        The last entry of a mask is the new token.
        """
        for name, mask in self.masks.items():
            mask[..., : filled - self.gone[name]] = True
            mask[..., -1] = True
        return {**self.masks, **{f"past_{k}": v for k, v in self.rows.items()}}

    def write(self, row: int, decode: dict[str, np.ndarray]) -> None:
        for name, held in self.rows.items():
            self.put(held, row - self.gone[name], decode[name])
