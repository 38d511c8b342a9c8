"""Parts as an Ethos-U takes them: the host computes what stands in front, and chooses.

    picture -> vision_front: unfold               positions -> prefill_front: angles, one-hot rows
            -> vision                                       -> prefill
                   scores -> vision_a_to_b: TopK, Gather -> vision_b

An NPU of this kind computes in eight bits. So a key that must not be looked at has its score
lowered by what is enough and no more: -32768 among scores would leave one step for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.attention import plain_attention
from edgevlm.compiler.boundary import split_at_choice, split_front
from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.pieces import Piece, call_pieces
from edgevlm.compiler.to_torch.dialect import Dialect

__all__ = ["DIALECT", "NEVER", "Runs", "cut", "runs_of", "without_padding"]

#: e^-16 of the largest weight is a thousandth of a step of eight bits, also where a key that is
#: not looked at scores 10 higher than any that is
NEVER = -16.0
#: portable kernels have no stable sort; selectors make their scores differ (form `ethos`, a ramp)
DIALECT = Dialect(
    linear=True,
    quantised="decomposed",
    attention="plain",
    index="natural",
    top_k="topk",
    fold=True,
)


def cut(role: Role, part: ir.Model) -> list[Piece]:
    """In the order in which they run."""
    return [
        each
        for piece in split_at_choice(plain_attention(part, NEVER), role)
        for each in (split_front(piece.part, piece.name) if piece.runs == "device" else [piece])
    ]


@dataclass
class Runs:
    """Of one piece, in float: [run][port]."""

    inputs: list[list[np.ndarray]] = field(default_factory=list)
    outputs: list[list[np.ndarray]] = field(default_factory=list)


def runs_of(pieces: Sequence[Piece], feeds: Sequence[Feeds]) -> dict[str, Runs]:
    """What each piece computes where the part is fed `feeds`; by ONNX Runtime."""
    sessions = {piece.name: open_session(piece.part) for piece in pieces}
    found = {piece.name: Runs() for piece in pieces}

    def call(piece: Piece, given: Feeds) -> dict[str, np.ndarray]:
        names = [port.name for port in piece.outputs]
        made = sessions[piece.name].run(names, dict(given))
        found[piece.name].inputs.append([np.asarray(given[port.name]) for port in piece.inputs])
        found[piece.name].outputs.append(made)
        return dict(zip(names, made, strict=True))

    for each in feeds:
        call_pieces(pieces, call, each)
    return found


def without_padding(feeds: Feeds) -> Feeds:
    """Of prefill: rows behind the last token are nobody's, and take no part in a range.

    A row of zeros has the largest reciprocal root of all, and would leave no room for the others.
    """
    if "last_index" not in feeds:
        return feeds
    rows, last = np.array(feeds["inputs_embeds"]), int(feeds["last_index"][0])
    rows[:, last + 1 :] = rows[:, last : last + 1]
    return {**feeds, "inputs_embeds": rows}
