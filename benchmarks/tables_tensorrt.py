"""Every scheme for NVIDIA's devices: what TensorRT-RTX made of it, and how right it stays."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]


def section() -> str:
    result = load("tensorrt")
    rows, last = [], None
    for row in result["rows"]:
        rows.append(_row(row, shown=row["model"] != last))
        last = row["model"]
    vlm = [row for row in result["rows"] if "accuracy" in row]
    sources = {row["model"]: row["source_accuracy"]["accuracy"] for row in vlm}
    data = {row["model"]: row["dataset"] for row in vlm}
    told = "; ".join(f"{name} {100 * sources[name]:.1f} % on {data[name]}" for name in sources)
    built = result["rows"][0]["preflight"]["label"].partition(",")[0]
    headings = [
        *("model", "target", "scheme", "layers", "int8", "fp8", "int4", "attention"),
        *("engines MB", "build s", "worst part dB", "half dB", "probes", "right %"),
    ]
    return "\n\n".join(
        [
            "## TensorRT: kernels and answers",
            f"Each bundle's parts, parsed and built ({built}) for the chip that is nearest "
            "(SM86 for an Orin, SM120 for a Thor, SM89), without a GPU: nodes of the network -> "
            "layers of the engines; products of the graph by what they multiply, of all products; "
            "kernels of attention, of those that the graph asks for. No time is one of a GPU. "
            "Drift is that of the emitted files, the worst part against the source's; half: what "
            "the pass cast-half has of it, against the model in front of it. Probes: answered "
            "token for token as the source does, of all. Both, and answers, on ONNX Runtime's CPU "
            f"provider; right: of {result['n']} test questions (the sources: {told}); of the "
            "ViT-S/14 there are maps instead: the median SQNR against the source's on photographs "
            "nothing was fitted to.",
            grid(headings, rows),
            *[
                f"\\* refused by the compile unless `--min-sqnr` lets it: {row['model']}, "
                f"{row['scheme'].replace('quant ', '')}: {row['refused']}."
                for row in result["rows"]
                if row["refused"]
            ],
            provenance(result),
        ]
    )


def _row(row: dict[str, Any], shown: bool) -> list[str]:
    parts = row["preflight"]["parts"]
    counts = [part["summary"] for part in parts]
    total = {key: sum(each[key] for each in counts) for key in ("gemm", "layers", "mha")}
    kinds = [sum(each[f"{kind}_gemm"] for each in counts) for kind in ("int8", "fp8", "int4")]
    wanted = sum(e["wanted"] for part in parts for e in part["expects"] if e["what"] == "mha")
    nodes = sum(part["network_layers"] for part in parts)
    drift, told = row["half"]["drift"]["parts"].values(), row["answers"]
    right = f"{100 * row['accuracy']['accuracy']:.1f}" if "accuracy" in row else ""
    if "maps" in row:
        right = f"{row['maps']['median_db']:.1f} dB"
    return [
        row["model"] if shown else "",
        row["target"],
        row["scheme"].replace("quant ", "") + (" *" if row["refused"] else ""),
        f"{nodes} -> {total['layers']}",
        *(f"{n} of {total['gemm']}" if n else "0" for n in kinds),
        f"{total['mha']} of {wanted}",
        f"{sum(part['engine_bytes'] for part in parts) / 1e6:.1f}",
        f"{sum(part['parse_s'] + part['build_s'] for part in parts):.1f}",
        f"{min(part['drift']['sqnr_db'] for part in row['parts']):.1f}",
        f"{min(each['sqnr_db'] for each in drift):.1f}",
        f"{told['agree_with_source']} of {told['probes']}" if told["probes"] else "",
        right,
    ]
