"""Every path to a phone: sizes, answers, what is delegated, and XNNPACK's time against ours."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]

NAMES = {
    "xnnpack": "ExecuTorch, XNNPACK",
    "vulkan": "ExecuTorch, Vulkan",
    "coreml": "Core ML",
    "coreai": "Core AI",
}
TIMED = ("vision", "prefill", "decode")
#: of Core ML: what its layouts differ in
OPS = ("conv", "linear", "einsum", "matmul", "transpose", "reshape", "split", "layer_norm")


def section() -> str:
    result = load("phones")
    rows, times, last = [], [], None
    for row in result["rows"]:
        rows.append(_row(row, shown=row["model"] != last))
        if "times" in row:
            times.append(_times(row))
        last = row["model"]
    headings = [
        *("model", "path", "scheme", "MB", "worst part dB", "against", "delegated %"),
        *("n", "right %", "source %"),
    ]
    parts = [f"{role}: ms, of ONNX Runtime's" for role in TIMED]
    return "\n\n".join(
        [
            "## Phones: what emitted files compute",
            "Bundles of `edgevlm compile`: a `.pte` run by XNNPACK's kernels, or, for Vulkan, by "
            "our evaluator of such programs; a `.mlpackage` run "
            "by the MIL evaluator, an `.aimodel` run by Core AI's runtime for Linux; on this host, "
            "all answers from the emitted file. Drift is that of the worst part against the "
            "source's (of w8a8 and 8da*, whose ranges and rows are rounded, that is what rounding "
            "costs). Delegated: of all ops of a program, those that XNNPACK or Vulkan is given. "
            "Right: of n test questions; the source's share of the same questions beside it.",
            grid(headings, rows),
            *_layouts(result["rows"]),
            *[
                f"\\* refused by the compile unless `--min-sqnr` lets it: {row['model']}, "
                f"{row['path']} {row['scheme']}: {row['refused']}."
                for row in result["rows"]
                if row["refused"]
            ],
            "A call by XNNPACK, and its time over that of ONNX Runtime for the same part, in float "
            "and on the same cores, turn about; the middle half of the ratios in brackets. Caches "
            "stay inside the program, while ONNX Runtime is handed them at every step.",
            grid(["model", "scheme", *parts], times),
            provenance(result),
        ]
    )


def _row(row: dict[str, Any], shown: bool) -> list[str]:
    worst = min(row["parts"], key=lambda part: part["drift"]["sqnr_db"])["drift"]
    ours = sum(part["delegated"] for part in row["placed"].values())
    left = sum(n for part in row["placed"].values() for n in part["left"].values())
    scheme = "float" if row["scheme"] == "none" else row["scheme"]
    layout = ", channels first" if row.get("layout") == "channels" else ""
    return [
        row["model"] if shown else "",
        NAMES[row["path"]],
        scheme + layout + (" *" if row["refused"] else ""),
        f"{row['bundle_mb']:.2f}",
        f"{worst['sqnr_db']:.1f}",
        worst["against"],
        f"{100 * ours / (ours + left):.1f}" if row["placed"] else "",
        str(row["accuracy"]["n"]),
        f"{100 * row['accuracy']['accuracy']:.1f}",
        f"{100 * row['source_accuracy']['accuracy']:.1f}",
    ]


def _layouts(rows: list[dict[str, Any]]) -> list[str]:
    """What a package of floats is made of, with tokens as rows and with channels first."""
    told = []
    for row in rows:
        if row["scheme"] == "none" and "ops" in row:
            for role in TIMED:
                of, (part,) = row["ops"][role], [p for p in row["parts"] if p["role"] == role]
                told.append(
                    [row["model"], role, row["layout"], *(str(of.get(op, "")) for op in OPS),
                     f"{part['drift']['sqnr_db']:.1f}"]
                )  # fmt: skip
    if not told:
        return []
    about = (
        "Core ML's package of floats in both layouts (`--layout`): ops of each function, and its "
        "drift in float16. Products are the same; no device was asked which is faster."
    )
    return [about, grid(["model", "part", "layout", *OPS, "dB"], told)]


def _times(row: dict[str, Any]) -> list[str]:
    cells = [row["model"], "float" if row["scheme"] == "none" else row["scheme"]]
    for role in TIMED:
        told = row["times"][role]
        cells.append(
            f"{told['ms']:.2f}, {told['ratio']:.2f} ({told['low']:.2f}–{told['high']:.2f})"
        )
    return cells
