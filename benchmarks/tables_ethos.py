"""Vela's estimates for an Ethos-U85: what the rewrites are worth, and what fewer tokens are."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]

SLOWEST = 3


def section() -> str:
    result = load("ethos")
    base: dict[tuple[str, str], int] = {}
    rows = []
    for row in result["rows"]:
        first = base.setdefault((row["model"], row["part"]), row["cycles"])
        rows.append(_row(row, row["cycles"] / first))
    return "\n\n".join(
        [
            "## Ethos-U: what Vela estimates",
            f"{result['target']}, all `estimated-vela`: nothing ran on an NPU. Before: the graph "
            "as other targets have it. After: behind the passes of the target, without what the "
            "host computes in front. Delegates: pieces that the compiler cut the part into; "
            "outside: kinds of ops that stay on the CPU between them. dB: Arm's reference model on "
            f"the same graph against float, the worst output of n = {result['n']} runs.",
            grid(
                ["model", "part", "graph", "image tokens", "cycles", "of the first", "ms", "MMAC",
                 "SRAM KiB", "delegates", "outside", "dB", "slowest ops"],
                rows,
            ),
            "Bundles as `edgevlm compile` makes them, ranges fitted to the probes. Answers come "
            "from the reference model, but for parts that integers do not reach, which the host "
            "runs in float.",
            grid(
                ["model", "NPU ms a part", "dB a part", "on the host", "programs MB", "n",
                 "right %", "source %"],
                [_bundle(row) for row in result["bundles"]],
            ),
            provenance(result),
        ]
    )  # fmt: skip


def _bundle(row: dict[str, Any]) -> list[str]:
    host = [text.split()[1] for text in row["on_host"]]
    return [
        row["model"],
        ", ".join(f"{piece} {ms:.3f}" for piece, ms in row["ms"].items()),
        ", ".join(f"{role} {db:.1f}" for role, db in row["parts"].items() if role not in host),
        ", ".join(host) or "nothing",
        f"{row['programs_mb']:.2f}",
        str(row["n"]),
        f"{100 * row['accuracy']:.1f}",
        f"{100 * row['source_accuracy']:.1f}",
    ]


def _row(row: dict[str, Any], share: float) -> list[str]:
    ops = list(row["ops"].items())[:SLOWEST]
    return [
        row["model"],
        row["part"],
        row["form"],
        f"{row['tokens']}{' at ' + row['at'] if row['at'] else ''}",
        f"{row['cycles']:,}",
        f"{share:.2f}",
        f"{row['ms']:.3f}",
        f"{row['macs'] / 1e6:.1f}",
        str(row["sram_kib"]),
        str(row["delegates"]),
        ", ".join(op.removeprefix("aten.").removesuffix(".default") for op in row["outside"]),
        f"{row['sqnr_db']:.1f}",
        ", ".join(f"{op} {100 * n / row['cycles']:.0f} %" for op, n in ops),
    ]
