"""The attentions of the vision encoder whose rows may be merged, and why others may not.

Self-attention of a plain ViT: all rows of one picture, each of them seen by each. Rows that merge
are patches. Where class and register tokens are, a classifier's and a dense model's contract says;
in a VLM, whose connector may join neighbours, patches are the largest part of the stream's axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgevlm.compiler.axes import Analysis, analyse, size_of
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.blocks import Block, find_blocks
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.key_bias import leans

__all__ = ["AttentionSite", "attention_sites", "refused"]


MASK = 3  # input of Attention; those of a cache are behind it


@dataclass(frozen=True)
class AttentionSite:
    """One attention; `count` rows from `start` on are patches. why_not: empty where it can."""

    node: ir.Node
    index: int  # among the blocks of the encoder
    rows: int = 0  # L
    start: int = 0
    count: int = 0
    why_not: str = ""


def attention_sites(model: ExportedModel, mark: str) -> list[AttentionSite]:
    """All of them, in order; those with `mark` in their metadata are no blocks any more.

    Raises EV230 where there is none, EV210 and EV211 where the graph cannot be analysed.
    """
    graph = model.parts["vision"].graph
    blocks = {block.attention: block for block in find_blocks(graph)}
    nodes = [n for n in graph if n.op_type == "Attention"]
    nodes = [n for n in nodes if n in blocks or mark in n.metadata_props]
    if not nodes:
        raise refused("this vision part", "it has no blocks of self-attention")
    axes = analyse(graph, model.contract.signature("vision"))
    found = []
    for index, node in enumerate(nodes):
        if mark in node.metadata_props:
            found.append(AttentionSite(node, index, why_not="its rows are merged already"))
        else:
            found.append(_site(index, blocks[node], axes, model.contract))
    return found


def refused(what: str, why: str) -> UsageFault:
    """EV230."""
    return UsageFault(
        "EV230",
        f"merge-attention in {what}",
        why,
        "edgevlm compile ... --prune dart, or another method",
    )


def _site(index: int, block: Block, axes: Analysis, contract: Contract) -> AttentionSite:
    node = block.attention
    why = _why_not(node, [int(d) for d in block.entry.shape])
    if why:
        return AttentionSite(node, index, why_not=why)
    rows = int(block.entry.shape[1])
    if contract.kind != "vlm":
        dense = contract.kind == "dense"
        start = contract.vision_tokens - (contract.image_tokens if dense else contract.given_tokens)
        return AttentionSite(node, index, rows, start, rows - start)
    parts = [size_of(part) for part in parts_of(axes.of(block.entry)[1])]
    largest = parts.index(max(parts))
    return AttentionSite(node, index, rows, sum(parts[:largest]), parts[largest])


def _why_not(node: ir.Node, stream: list[int]) -> str:
    q, k, v = (node.inputs[i] for i in range(3))
    queries, keys = (int(x.shape[-2]) for x in (q, k))
    masks = node.inputs[MASK:]
    if node.attributes.get_int("is_causal", 0):
        return "it is causal: a merged row would see what comes behind some of its members"
    if any(value is not None for value in masks[1:]) or any(o.uses() for o in node.outputs[1:]):
        return "it reads or writes a cache, which has all rows"
    if masks and masks[0] is not None and not leans(node):
        return "it has a mask of its own (windows or padding), and whom that hides is not known"
    if len(stream) != 3 or stream[0] != 1 or int(q.shape[0]) != 1:
        return "it works in windows, each of them a picture of its own"
    if not queries == keys == stream[1]:
        return f"it computes {queries} of {stream[1]} rows, so there is nothing to save"
    if any(x.dtype not in (None, ir.DataType.FLOAT) for x in (q, k, v)):
        return f"its rows are {q.dtype}, and a match is made in float32"
    return ""
