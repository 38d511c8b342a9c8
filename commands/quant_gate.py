"""Is a quantised model worth it on this target? Against the same model before its first rounding.

Both are run by the target's runtime, turn about, whole requests (an answer of NEW_TOKENS included).
Refused: what is measured slower than float (EV233), with the layers that became slower, and what
loses more than `--max-drop` (EV234), with the layers whose rounded weights alone change the outputs
most. `--force` keeps it all the same: it is smaller, after all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.payoff import WARM_UP, asker, stages
from edgevlm.commands.quant_drop import blamed_layers, check_drop, measure_drop
from edgevlm.commands.quant_table import average_bits, layer_rows
from edgevlm.commands.sweep_timing import Times, turn_about
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.reference import Reference
from edgevlm.devices.stats import Ratio
from edgevlm.passes.quantize.grids import grid_of
from edgevlm.runtimes.base import Runtime

__all__ = ["QUANT_STEPS", "Judged", "check_speed", "judge", "judge_lowered", "measure_speed"]

#: passes that round numbers; what stands in front of the first of them is "float"
QUANT_STEPS = (
    "palettise-weights",
    "quantize-weights",
    "compensate-modalities",
    "quantize-activations",
    "quantize-dynamically",
    "quantize-kv",
)
REQUESTS = 40
TOLERANCE = 1.05  # a ratio this close to 1 is no difference that anybody would feel
BLAMED = 3  # layers named in a refusal
NODE_RUNS = 20

Side = tuple[Contract, PartCaller, Path, Sequence[Artifact]]


@dataclass(frozen=True)
class Judged:
    """A model before its first rounding or after its last, and what it did on the probes."""

    model: ExportedModel
    seen: Reference


def judge(
    runtime: Runtime,
    before: Judged,
    after: Judged,
    lowered: tuple[PartCaller, Path, Sequence[Artifact]],
    probes: Sequence[ProbeInput],
    *,
    scheme: str,
    calib: str | None,
    max_drop: float | None,
    timed: bool,
    force: bool,
) -> dict[str, Any]:
    """`quant` of record.json. lowered: the quantised parts, opened, their folder and files.

    Raises EV233, EV234 unless `force`.
    """
    rows = layer_rows(before.model, after.model, before.seen, after.seen)
    report: dict[str, Any] = {
        "scheme": scheme,
        "bits": round(average_bits(rows), 3) if rows else 32.0,
        "layers": rows,
        "speed": None,
        "drop": None,
    }
    if not timed and max_drop is None:
        return report
    parts, folder, artifacts = lowered
    with tempfile.TemporaryDirectory() as other:
        base = runtime.lower(before.model, Path(other))
        contract = before.model.contract
        opened = runtime.open_artifacts(Path(other), base, contract)
        if max_drop is not None:
            sides = (before.model, opened), (after.model, parts)
            drop = report["drop"] = measure_drop(*sides, calib, probes)
            if drop["drop_points"] > max_drop and not force:
                grids = {
                    f"{r['part']}/{r['output']}": grid_of(r.get("number", "int"), r["bits"])
                    for r in rows
                }
                check_drop(drop, max_drop, blamed_layers(before.model, before.seen, grids))
        if timed:
            report["speed"] = measure_speed(
                runtime,
                (contract, opened, Path(other), base),
                (after.model.contract, parts, folder, artifacts),
                probes,
            )
            check_speed(report["speed"], scheme, force)
    return report


def judge_lowered(
    model: ExportedModel,
    parts: PartCaller,
    probes: Sequence[ProbeInput],
    *,
    scheme: str,
    calib: str | None,
    max_drop: float | None,
    force: bool,
) -> dict[str, Any]:
    """The same for a runtime that rounds float graphs while it lowers them, all in eight bits.

    Float is what ONNX Runtime makes of the graphs. Raises EV234 unless `force`.
    """
    drop = None
    if max_drop is not None:
        sides = (model, ReferenceParts(model.parts)), (model, parts)
        drop = measure_drop(*sides, calib, probes)
        if not force:
            check_drop(drop, max_drop, ["not told: every op is rounded"])
    return {"scheme": scheme, "bits": 8.0, "layers": [], "speed": None, "drop": drop}


def measure_speed(
    runtime: Runtime,
    base: Side,
    model: Side,
    probes: Sequence[ProbeInput],
    n: int = REQUESTS,
) -> dict[str, Any]:
    """ms a stage and the ratio of whole requests, quantised to float, with its 95 %."""
    after, before, ratio = turn_about(
        asker(model[0], model[1], probes),
        asker(base[0], base[1], probes),
        n=n,
        warmup=WARM_UP,
        seconds=_whole,
    )
    slower = ratio.low > TOLERANCE
    return {
        "stages": stages(before, after),
        "request_ratio": vars(ratio),
        "slower": slower,
        "blame": _slower_layers(runtime, base, model) if slower else [],
        "n": n,
        "how": "measured-host",
    }


def check_speed(speed: Mapping[str, Any], scheme: str, force: bool) -> None:
    """Raises EV233 for a scheme that was measured slower, unless `force`."""
    if not speed["slower"] or force:
        return
    ratio = Ratio(**speed["request_ratio"])
    worst = max(speed["stages"].items(), key=lambda s: s[1]["after_ms"] - s[1]["before_ms"])
    layers = ", ".join(f"{b['layer']} (+{b['ms']:.3f} ms)" for b in speed["blame"])
    raise JobFault(
        "EV233",
        f"{scheme} makes a request {ratio.median:.2f}x as slow (95 % {ratio.low:.2f} - "
        f"{ratio.high:.2f}) as float on this target",
        f"{worst[0]} takes {worst[1]['after_ms']:.2f} ms instead of {worst[1]['before_ms']:.2f}"
        + (f"; most of it in {layers}" if layers else ""),
        "another --quant, leave those layers float in a recipe, or --force for its size alone",
    )


def _whole(times: Times) -> float:
    return sum(sum(each) for each in times.values())


def _slower_layers(runtime: Runtime, base: Side, model: Side) -> list[dict[str, Any]]:
    """Nodes that take longer than before, or are new; the worst first."""
    was, now = (runtime.time_nodes(side[2], side[3], NODE_RUNS) for side in (base, model))
    extra = {node: ms - was.get(node, 0.0) for node, ms in now.items()}
    worst = sorted((n for n in extra if extra[n] > 0), key=lambda n: -extra[n])[:BLAMED]
    return [{"layer": node, "ms": round(extra[node], 4)} for node in worst]
