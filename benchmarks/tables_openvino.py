"""Int8 on this machine, by both of its runtimes."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]

SCHEMES = {
    "none": "float",
    "w8a8": "w8a8",
    "w4a16:method=max": "w4a16",
    "w4a8:method=max,block=64": "w4a8:block=64",
    "onnxruntime": "onnxruntime.quantization",
    "nncf": "NNCF",
}


def section() -> str:
    result = load("openvino")
    rows = [
        [
            f"{part['model']}, {part['part']}" if not place else "",
            f"{SCHEMES[e['scheme']]}, `{e['runtime']}`",
            _ms(e["p50_ms"]),
            _speed(e["speed"]),
            f"{e['int8_products']} of {part['products']}",
            f"{e['sqnr_db']:.0f}" if place else "",
        ]
        for part in result["parts"]
        for place, e in enumerate(part["engines"])
    ]
    counts = sorted({part["n"] for part in result["parts"]})
    return "\n\n".join(
        [
            "## Int8 products: ONNX Runtime and OpenVINO",
            "Whole parts as `--target cpu` and `--target host-openvino` run them, one thread on "
            "one core, the engines of a part in turns; schemes are those of `--quant`, float from "
            "ONNX Runtime is 1. onnxruntime.quantization (symmetric, products alone) and NNCF "
            "(transformer, performance) made their graphs of the same float part with the same "
            "inputs. int8: how many products each engine runs with integer kernels, counted in "
            "what it executes (OpenVINO's with convolutions), of the matrix products with int8 "
            "inputs in our graph for ONNX Runtime; OpenVINO names kernels that round by themselves "
            "(`w4a8:block=64`) float; scores of attention are in none of these counts. dB: the "
            "part's first output against float in ONNX Runtime, the median over inputs that "
            "nothing was fitted to. The LLaVA is the one above: its tower is random, so its dB "
            "mean little." + (f" **{result['note']}**" if result["note"] else ""),
            grid(["part", "engine", "p50 ms", "speed [95 %]", "int8", "dB"], rows),
            f"n = {' or '.join(map(str, counts))} a row, {result['timed_a_turn']} in each turn; "
            "speed is the median over turns of float ONNX Runtime's time by the engine's.",
            provenance(result),
        ]
    )


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _speed(speed: dict[str, Any]) -> str:
    if speed["low"] == speed["high"]:
        return "1"
    return f"{speed['median']:.2f} [{speed['low']:.2f}-{speed['high']:.2f}]"
