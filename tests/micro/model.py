"""The parts put together."""

from __future__ import annotations

import functools

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from edgevlm.compiler.beside import Probe, Processor, Source
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.exported_model import ExportedModel
from micro.decoder import Decoder
from micro.graph import normal, parse_graph
from micro.tower import projector_part, tower_part

__all__ = ["micro_vlm"]

WORDS = ["<unk>", "<s>", "</s>", "<image>", "what", "colour", "is", "it",
         "red", "blue", "green", "one", "two", "three", "yes", "no"]  # fmt: skip
DIGEST = "sha256:" + "0" * 64


def micro_vlm(
    layers: int = 1,
    mask: str | None = None,
    seed: int = 0,
    width: int = 8,
    heads: int = 2,
    *,
    kv_heads: int = 1,
    grid: tuple[int, int] = (3, 3),
    tower: int = 0,
    lead: int = 1,
    places: bool = True,
) -> ExportedModel:
    """2 x 2 pixels a token, 6 text tokens, 5 rows for the answer, 16 words.

    tower: blocks of a vision encoder in place of a mere convolution; lead: 1 for a class token,
    else 0; places: whether it has position embeddings.
    """
    count, (rows, columns) = grid[0] * grid[1], grid
    wide = 16 if tower else 4
    c = Contract(
        family="micro", image_height=2 * rows, image_width=2 * columns, grid=grid,
        vision_tokens=count + lead * bool(tower), vision_width=wide, image_tokens=count,
        kept_image_tokens=count, prompt_capacity=6, kv_capacity=count + 11, width=width,
        layers=layers, kv_heads=kv_heads, head_dim=width // heads, vocabulary=len(WORDS),
    )  # fmt: skip
    rng = np.random.default_rng(seed + 1)
    weight = functools.partial(normal, rng)
    decoder = Decoder(c, heads, mask, seed)
    size = f"1,3,{2 * rows},{2 * columns}"
    vision = f"""(float[{size}] pixel_values) => (float[1,{count},4] image_features) {{
        [conv] a = Conv<strides = [2, 2]>(pixel_values, patch)
        [rows] b = Reshape(a, rows) [turn] image_features = Transpose<perm = [0, 2, 1]>(b) }}"""
    connector = f"""(float[1,{count},4] image_features)
        => (float[1,{count},{width}] image_embeds) {{
        [project] a = MatMul(image_features, projector) [act] b = Gelu(a)
        [shift] image_embeds = Add(b, bias) }}"""
    embed = f"""(int64[1,6] input_ids) => (float[1,6,{width}] text_embeds) {{
        [lookup] text_embeds = Gather(table, input_ids) }}"""
    seen = {
        "vision": parse_graph(vision, patch=weight(4, 3, 2, 2), rows=np.array([1, 4, count])),
        "connector": parse_graph(connector, projector=weight(4, width), bias=weight(width)),
    }
    if tower:
        seen = {"vision": tower_part(c, tower, places, rng), "connector": projector_part(c, rng)}
    parts = {
        **seen,
        "embed": parse_graph(embed, table=weight(len(WORDS), width)),
        "prefill": decoder.part(c.prefill_length, past=False),
        "decode": decoder.part(1, past=True),
    }
    image = {"height": 2 * rows, "width": 2 * columns, "resample": "nearest"}
    template = "<s> <image> {question}"
    processor = Processor(image=image, template=template, image_token="<image>", eos_ids=(2,))
    source = Source(name="micro", digest=DIGEST)
    questions = ("what colour is it", "is it red", "what is it")
    probes = tuple(
        Probe(image=rng.integers(0, 256, (2 * rows, 2 * columns, 3), np.uint8), question=text)
        for text in questions
    )
    return ExportedModel(c, parts, processor, _words(), source, probes)


def _words() -> bytes:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(WORDS[:4])
    return words.to_str().encode()
