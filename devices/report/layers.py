"""Time by node: a strip a part in the order in which nodes run, sums by kind of op, a table of all.

The strip is made of as many pieces as can be seen: neighbours that are too small share one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from edgevlm.devices.report.measured import Layer, Op, Profile
from edgevlm.devices.report.words import figure, of_how, of_moment, percent, plural, short

__all__ = ["FAMILIES", "family", "layer_view"]

#: letter, what it is, ops; the first that fits. Letters tell pieces apart where colours do not
FAMILIES = (
    ("A", "attention", r".*attention"),
    ("Q", "quantise",
     r".*quantizelinear|(de)?quantize_|choose_qparams|fakequantize|convert$"),
    ("P", "products",
     r".*(matmul|gemm|conv)|(fully|inner|dense).*connected|inner_?product|deconvolution|einsum|"
     r"_?(quantized_)?linear|(add|badd)?b?mm$|addmv$|mv$|dot$"),
    ("N", "norms and activations",
     r".*(norm|gelu|softmax|relu|sigmoid|silu)|erf$|tanh$|mvn$|rms|swish|reciprocal|r?sqrt|square"),
    ("M", "moving data",
     r"reshape|transpose|concat|slice|gather|split|(un)?squeeze|reorder|expand|cast|identity|pad$|"
     r"shape$|scatter|stridedslice|broadcast|flatten|tile$|permute|memcpy|.*copy_?$|_?clone|cat$|"
     r"embedding|index_|(index)?select|.*_view|view|.*dim_order|constant"),
    ("R", "round the kernels of a delegate", r".*backend$"),
    ("E", "everything else", r".*"),
)  # fmt: skip
PIECES = 240  # of a strip
LETTERED = 0.02  # share of the longest strip from which a letter fits into a piece
OPS, NODES = 12, 150  # rows that are told


def family(op: str) -> int:
    """Which of `FAMILIES`; OpenVINO adds a kernel behind the op."""
    word = op.split(" ")[0].lower()
    return next(i for i, (_, _, ops) in enumerate(FAMILIES) if re.match(ops, word))


def layer_view(profile: Profile) -> dict[str, Any] | None:
    """For the template; None where ops were not timed."""
    ops = profile.ops or _summed(profile.layers)
    if not ops:
        return None
    how = ops[0].how
    total = sum(op.ms for op in ops) or 1.0
    parts: dict[str, list[Layer]] = defaultdict(list)
    for layer in profile.layers:
        parts[layer.role].append(layer)
    longest = max((sum(r.ms for r in rows) for rows in parts.values()), default=0) or 1.0
    return {
        "how": of_how(how) + (f" on {of_moment(profile.ops_at)}" if profile.ops_at else ""),
        "total": figure(total),
        "strips": [_strip(role, rows, longest) for role, rows in parts.items()],
        "families": _families(ops, total),
        "ops": _ops(ops, total),
        "tables": [_table(role, rows) for role, rows in parts.items()],
    }


def _summed(layers: Sequence[Layer]) -> list[Op]:
    found: dict[tuple[str, str], list[Layer]] = defaultdict(list)
    for row in layers:
        found[row.role, row.op].append(row)
    return [
        Op(role=role, op=op, nodes=len(rows), ms=sum(r.ms for r in rows), how=rows[0].how)
        for (role, op), rows in found.items()
    ]


def _strip(role: str, rows: Sequence[Layer], longest: float) -> dict[str, Any]:
    whole = sum(row.ms for row in rows)
    pieces: list[tuple[float, int, str]] = []  # ms, family, title
    small: list[Layer] = []
    held = 0.0  # ms of `small`

    def flush() -> None:
        nonlocal held
        if small:
            ms, held = held, 0.0
            kinds = [family(row.op) for row in small]
            first = small[0]
            title = f"{first.op} {short(first.node, 60)}"
            if len(small) > 1:
                title = f"{plural(len(small), 'small node')} from {title}"
            most = Counter(kinds).most_common(1)[0][0]
            pieces.append((ms, most, f"{title}: {figure(ms)} ms"))
            small.clear()

    least = whole / PIECES or 1.0
    for row in rows:
        if row.ms < least:
            small.append(row)
            held += row.ms
            if held >= least:
                flush()
            continue
        flush()
        title = f"{row.op} {short(row.node, 60)}: {figure(row.ms)} ms"
        pieces.append((row.ms, family(row.op), title))
    flush()
    return {
        "role": role,
        "ms": figure(whole),
        "nodes": plural(len(rows), "node"),
        "width": f"{100 * whole / longest:.2f}%",
        "pieces": [
            {"grow": f"{ms / (whole or 1):.5f}", "kind": FAMILIES[kind][0], "title": title,
             "letter": FAMILIES[kind][0] if ms / longest >= LETTERED else ""}
            for ms, kind, title in pieces
        ],
    }  # fmt: skip


def _families(ops: Sequence[Op], total: float) -> list[dict[str, str]]:
    sums = [0.0] * len(FAMILIES)
    for op in ops:
        sums[family(op.op)] += op.ms
    rows = sorted(zip(sums, FAMILIES, strict=True), key=lambda row: -row[0])
    return [
        {"letter": letter, "name": name, "ms": figure(ms), "share": percent(ms / total),
         "width": f"{100 * ms / (rows[0][0] or 1):.1f}%"}
        for ms, (letter, name, _) in rows
        if ms
    ]  # fmt: skip


def _ops(ops: Sequence[Op], total: float) -> dict[str, Any]:
    rows = sorted(ops, key=lambda op: -op.ms)
    rest = rows[OPS:]
    return {
        "rows": [
            {"role": r.role, "op": r.op, "nodes": r.nodes, "ms": figure(r.ms),
             "share": percent(r.ms / total), "width": f"{100 * r.ms / (rows[0].ms or 1):.1f}%",
             "kind": FAMILIES[family(r.op)][0]}
            for r in rows[:OPS]
        ],
        "rest": len(rest) and {
            "ops": len(rest), "nodes": sum(r.nodes for r in rest),
            "ms": figure(sum(r.ms for r in rest)),
            "share": percent(sum(r.ms for r in rest) / total),
        },
    }  # fmt: skip


def _table(role: str, rows: Sequence[Layer]) -> dict[str, Any]:
    """All nodes in order, or the first of very many; the strip has them all."""
    whole = sum(row.ms for row in rows) or 1.0
    return {
        "role": role,
        "rows": [
            {"op": r.op, "node": short(r.node, 80), "unit": r.unit or "not said",
             "ms": f"{r.ms:.4f}", "share": percent(r.ms / whole)}
            for r in rows[:NODES]
        ],
        "left_out": max(0, len(rows) - NODES),
        "left_out_ms": figure(sum(r.ms for r in rows[NODES:])),
    }  # fmt: skip
