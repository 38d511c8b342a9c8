"""docs/measurements.md from benchmarks/results/*.json: no figure in it was typed by hand.

python benchmarks/tables.py            writes the page
python benchmarks/tables.py --check    exit 1 if the page is not what the results say
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "measurements.md"


def load(name: str) -> dict[str, Any]:
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def grid(headings: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def provenance(result: dict[str, Any]) -> str:
    host, tools = result["host"], result["tools"]
    versions = ", ".join(f"{k} {v}" for k, v in tools.items() if v)
    return (
        f"*{result['how']}, {result['date']}: {host['cpu_model']}, {host['cores']} cores, "
        f"{host['ram_gib']} GiB; {versions}.*"
    )


def share(score: dict[str, Any]) -> str:
    return f"{100 * score['accuracy']:.2f} ({100 * score['low']:.2f}-{100 * score['high']:.2f})"


def transformers() -> str:
    result = load("transformers")
    rows = [
        [
            r["answerer"],
            f"{r['p50_ms']:.2f}",
            f"{r['p90_ms']:.2f}",
            f"{r['p99_ms']:.2f}",
            f"{r['speed_vs_best_transformers']:.2f}",
            f"{100 * r['accuracy']:.2f}",
        ]
        for r in result["rows"]
    ]
    return "\n\n".join(
        [
            "## Against transformers' eager generate",
            "Same weights, pictures, questions and CPU, in turns in one run; picture in, text out.",
            grid(["answerer", "p50 ms", "p90 ms", "p99 ms", "speed", "right %"], rows),
            f"n = {result['n']} a row, before every {result['block']} of them "
            f"{result['warmup_a_block']} uncounted; "
            f"speed is against {result['best_transformers']}. Compile: "
            + ", ".join(
                f"{k} {v['seconds']:.1f} s, peak {v['peak_rss_mb']:.0f} MB"
                for k, v in result["compile"].items()
            )
            + ".",
            provenance(result),
        ]
    )


def tokens() -> str:
    result = load("tokens")
    rows = [
        [
            r["select"],
            r["quant"],
            r["kept"],
            f"{r['bundle_mb']:.2f}",
            share(r["easy_vqa"]),
            share(r["easy_scenes"]),
            f"{r['prefill_macs'] / 1e6:.1f}",
            f"{r['connector_p50_ms']:.2f}",
            f"{r['prefill_p50_ms']:.2f}",
            f"{r['end_to_end_p50_ms']:.2f}",
        ]
        for r in result["rows"]
    ]
    n, m = result["rows"][0]["easy_vqa"]["n"], result["rows"][0]["easy_scenes"]["n"]
    return "\n\n".join(
        [
            "## Token budget",
            f"easyvqa-tiny; accuracy in % with a 95 % interval on easy-VQA test (n = {n}, one "
            f"shape a picture) and easy-scenes (n = {m}, up to three shapes).",
            grid(
                [
                    "select",
                    "weights",
                    "tokens",
                    "MB",
                    "easy-VQA",
                    "easy-scenes",
                    "prefill MMAC",
                    "connector ms",
                    "prefill ms",
                    "end to end ms",
                ],
                rows,
            ),
            f"p50 of {result['timed']} requests.",
            provenance(result),
        ]
    )


def startup() -> str:
    result = load("startup")
    rows = [[f"`{r['call']}`", f"{r['p50_ms']:.0f}", f"{r['p90_ms']:.0f}"] for r in result["rows"]]
    return "\n\n".join(
        [
            "## Start-up",
            "Whole processes, from start to exit.",
            grid(["call", "p50 ms", "p90 ms"], rows),
            f"n = {result['n']}.",
            provenance(result),
        ]
    )


def int8() -> str:
    result = load("ort_int8")
    rows = [
        [
            r["width"],
            r["rows"],
            r["way"],
            f"{r['p50_ms']:.3f}",
            f"{r['speed_vs_float']:.2f}",
            f"{r['sqnr_db_vs_fold']:.0f}",
        ]
        for r in result["rows"]
    ]
    return "\n\n".join(
        [
            "## Int8 weights in ONNX Runtime's CPU provider",
            f"A chain of {result['layers']} square MatMuls, {result['threads']} thread. `fold`: "
            "made float once, at load (what `--quant w8` does). `keep4`: kept int8, which rounds "
            "activations to int8 as well. `keep1`: kept int8, products in float.",
            grid(["width", "rows", "way", "p50 ms", "speed", "SQNR dB"], rows),
            f"n = {result['n']}; speed against float weights, SQNR against `fold`.",
            provenance(result),
        ]
    )


def scale() -> str:
    result = load("scale")
    runs = [
        [r["run"], f"{r['seconds']:.0f}", f"{r['peak_rss_mb']:.0f}", f"{r['bytes'] / 1e6:.1f}"]
        for r in result["runs"]
    ]
    passes = [[p["name"], f"{p['seconds']:.1f}"] for p in result["passes"]]
    cos, sin = result["prefill_cos_sin"]
    return "\n\n".join(
        [
            "## A model of full size",
            f"The architecture of SmolVLM-256M ({result['parameters'] / 1e6:.0f} million weights) "
            "with random weights: what a compile takes. Peak memory counts mapped weight "
            "files, which the system may drop.",
            grid(["compile", "s", "peak MB", "bundle MB"], runs),
            grid(["pass, with its check", "s"], passes),
            f"n = {result['n']}. merge-duplicates: {'; '.join(result['merged'])}; {cos} Cos and "
            f"{sin} Sin are left in prefill.",
            provenance(result),
        ]
    )


def page() -> str:
    head = (
        "# Measurements\n\nGenerated by `benchmarks/tables.py` from `benchmarks/results/`; "
        "`make bench` measures again. The machines are shared and noisy: compare within a table."
    )
    return "\n\n".join([head, transformers(), tokens(), startup(), scale(), int8()]) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(HERE.parent)}")
