"""What Vela says of a bundle, as tables and rows of a profile: `estimated-vela`, all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Preflight, Table
from edgevlm.runtimes.executorch.ethos.told import told_by
from edgevlm.runtimes.executorch.ethos.vela import (
    HOW,
    VelaLayer,
    VelaSummary,
    read_layers,
    read_summary,
    whole_time_ms,
)
from edgevlm.runtimes.times import LayerTime

__all__ = ["Estimate", "estimate_of", "estimates", "layer_times", "preflight"]

HEADINGS = ("part", "ms", "cycles", "MACs", "MACs used", "SRAM", "flash", "slowest ops")
SLOWEST = 3


@dataclass(frozen=True)
class Estimate:
    """One piece on the NPU, an inference."""

    role: str
    piece: str
    summaries: tuple[VelaSummary, ...]
    layers: tuple[VelaLayer, ...]

    @property
    def ms(self) -> float:
        return whole_time_ms(self.summaries)

    @property
    def cycles(self) -> int:
        return sum(each.cycles["total"] for each in self.summaries)

    @property
    def macs(self) -> int:
        return sum(each.macs for each in self.summaries)

    def by_op(self) -> dict[str, int]:
        """Cycles by op, most first."""
        found: dict[str, int] = {}
        for layer in self.layers:
            found[layer.op] = found.get(layer.op, 0) + layer.cycles
        return dict(sorted(found.items(), key=lambda row: -row[1]))

    def most(self, areas: Sequence[str]) -> int:
        """Bytes of these memories."""
        return max((sum(s.memory_bytes[a] for a in areas) for s in self.summaries), default=0)


def estimates(folder: Path, artifacts: Sequence[Artifact]) -> list[Estimate]:
    """Of every piece that the NPU runs, in order. Raises EV304, EV374."""
    found = []
    for artifact in artifacts:
        for piece in told_by(artifact, folder):
            if piece.runs == "host":
                continue
            files = zip(piece.files("summary.csv"), piece.files("layers.csv"), strict=True)
            tables = [(folder / summary, folder / layers) for summary, layers in files]
            found.append(estimate_of(artifact.role, piece.name, tables))
    return found


def estimate_of(role: str, piece: str, tables: Sequence[tuple[Path, Path]]) -> Estimate:
    """tables: summary and layers of each delegate. Raises EV374."""
    summaries = [read_summary(summary) for summary, _ in tables]
    layers = [
        row
        for (_, file), summary in zip(tables, summaries, strict=True)
        for row in read_layers(file, summary.clock_hz)
    ]
    return Estimate(role, piece, tuple(summaries), tuple(layers))


def preflight(found: Sequence[Estimate], artifacts: Sequence[Artifact]) -> Preflight:
    """found: what `estimates` gave of the same artifacts."""
    versions = artifacts[0].settings.get("versions")
    version = versions.get("ethos-u-vela", "") if isinstance(versions, dict) else ""
    label = f"{HOW}: ethos-u-vela {version}"
    note = "its own estimate of cycles; nothing ran on the NPU"
    left = [
        f"part {a.role} runs on the host, in float: integers leave {a.settings['int8_db']} dB of it"
        for a in artifacts
        if "int8_db" in a.settings
    ]
    if found:
        first = found[0].summaries[0]
        label += f", {first.accelerator} at {first.clock_hz / 1e6:g} MHz, {first.memory_mode}"
    parts = [
        {"role": e.role, "piece": e.piece, "ms": e.ms, "cycles": e.cycles, "macs": e.macs,
         "ops": e.by_op(), "sram_bytes": e.most(["sram"]), "how": HOW}
        for e in found
    ]  # fmt: skip
    return Preflight(
        f"{label}: {len(found)} pieces, each one graph of the NPU; {note}",
        None,
        label,
        note,
        Table(HEADINGS, [_row(each) for each in found]),
        left,
        {"parts": parts},
    )


def layer_times(found: Sequence[Estimate]) -> list[LayerTime]:
    """Steps of Vela's schedule."""
    return [
        LayerTime(e.role, layer.name, layer.op, layer.unit, layer.ms, HOW)
        for e in found
        for layer in e.layers
    ]


def _row(each: Estimate) -> list[str]:
    peak = each.cycles * _macs_a_cycle(each)
    ops = list(each.by_op().items())[:SLOWEST]
    return [
        each.piece,
        f"{each.ms:.3f}",
        f"{each.cycles:,}",
        f"{each.macs / 1e6:.1f} M",
        f"{100 * each.macs / peak:.0f} %" if peak else "",
        f"{each.most(['sram']) / 1024:.0f} KiB",
        f"{each.most(['on_chip_flash', 'off_chip_flash', 'dram']) / 1024:.0f} KiB",
        ", ".join(f"{op} {100 * n / max(each.cycles, 1):.0f} %" for op, n in ops),
    ]


def _macs_a_cycle(each: Estimate) -> int:
    """Ethos_U85_256: 256."""
    last = each.summaries[0].accelerator.rpartition("_")[2]
    return int(last) if last.isdigit() else 0
