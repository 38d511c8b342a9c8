"""What a person reads and sees of quantised layers, from the record of a bundle."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.commands.colours import COLOURS
from edgevlm.commands.output import Speaker
from edgevlm.compiler.atomic import atomic_file
from edgevlm.compiler.bundle import RECORD, Bundle
from edgevlm.compiler.errors import JobFault, UsageFault

__all__ = ["draw_layers", "not_quantised", "quant_lines", "quant_table", "stored_quant"]

SIZES = {8: 14, 6: 26, 5: 38, 4: 56, 3: 80, 2: 110}  # of a point, fewer bits being larger


class LayerRow(BaseModel):
    """One row of the record, which may come from anybody."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    part: str = Field(max_length=40)
    layer: str = Field(max_length=400)
    digest: str = Field(max_length=64)
    kind: str = Field(max_length=40)
    bits: int = Field(ge=1, le=16)
    number: str = Field("int", max_length=40)
    method: str = Field(max_length=40)
    weights: int = Field(ge=0)
    block: int = Field(0, ge=0)
    outliers: float = Field(0.0, ge=0, le=1)
    scale_min: float
    scale_max: float
    input: str = Field(max_length=60)
    input_scale: float | None = None
    weights_db: float
    drift_db: float | None = None
    loss: float | None = Field(None, ge=0)


def stored_quant(bundle: Bundle) -> dict[str, Any]:
    """`quant` of record.json. Raises EV220 for a float bundle, EV322 for a broken record."""
    found = bundle.record().get("quant")
    if found is None:
        raise not_quantised(bundle.folder.name)
    try:
        return {**found, "layers": [LayerRow(**row).model_dump() for row in found["layers"]]}
    except (ValidationError, KeyError, TypeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise JobFault(
            "EV322",
            f"{RECORD} of {bundle.folder.name} is broken",
            f"quant: {why}",
            "compile or copy the bundle again",
        ) from error


def not_quantised(name: str) -> UsageFault:
    return UsageFault(
        "EV220",
        f"--quant of {name[:80]}",
        "it is no bundle with quantised layers",
        "edgevlm compile MODEL --target cpu --quant w8a8 -o b.edgevlm",
    )


def quant_table(speaker: Speaker, quant: dict[str, Any]) -> None:
    """A row a layer."""
    speaker.table(
        f"{quant.get('scheme', '?')}: {len(quant['layers'])} layers, "
        f"{quant.get('bits', 0):.2f} bits a weight",
        ["part", "layer", "bits", "by", "scales", "outliers %", "input", "weights dB", "drift dB"],
        [
            [
                row["part"],
                row["layer"],
                _bits(row),
                row["method"],
                f"{row['scale_min']:.2g} - {row['scale_max']:.2g}",
                f"{100 * row['outliers']:.1f}" if row["outliers"] else "",
                row["input"],
                f"{row['weights_db']:.1f}",
                "" if row["drift_db"] is None else f"{row['drift_db']:.1f}",
            ]
            for row in quant["layers"]
        ],
    )


def _bits(row: dict[str, Any]) -> str:
    if row["block"]:
        return f"{row['bits']}/{row['block']}"
    return str(row["bits"]) if row["number"] == "int" else row["number"]


def quant_lines(speaker: Speaker, quant: dict[str, Any] | None) -> None:
    """What a compile says: faster or slower, and what was lost."""
    if quant is None:
        return
    words = [f"{quant['scheme']}: {quant['bits']:.2f} bits a weight"]
    if speed := quant["speed"]:
        ratio = speed["request_ratio"]
        words.append(
            f"a request takes {ratio['median']:.2f}x the time of float "
            f"({ratio['low']:.2f} - {ratio['high']:.2f}, n = {speed['n']})"
        )
    if drop := quant["drop"]:
        words.append(f"loses {drop['drop_points']:.2f} points ({drop['of']}, n = {drop['n']})")
    speaker.say("; ".join(words))


def draw_layers(quant: dict[str, Any], path: Path) -> None:
    """Drift of every layer in the order in which they run, and sensitivities where measured.

    Raises EV220 for another kind of file, EV302 without matplotlib, EV311 where it cannot write.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageFault(
            "EV220", f"--plot {path.name}", "it draws PNG and SVG", "--plot layers.png"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise JobFault(
            "EV302",
            "--plot lacks the package matplotlib",
            "it draws",
            "pip install 'edgevlm[report]'",
        ) from error
    figure = Figure(figsize=(10, 6), layout="constrained")
    first = {row["digest"]: row for row in reversed(quant["layers"])}  # shared weights once
    measured = [row for row in first.values() if row["loss"] is not None]
    axes = figure.subplots(2 if measured else 1, 1, squeeze=False)[:, 0]
    _drift(axes[0], quant)
    if measured:
        _losses(axes[1], measured)
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=150)
    atomic_file(path, data.getvalue())


def _drift(axes: Any, quant: dict[str, Any]) -> None:
    start = 0
    for i, part in enumerate(dict.fromkeys(row["part"] for row in quant["layers"])):
        rows = [r for r in quant["layers"] if r["part"] == part]
        shown = [(start + x, r) for x, r in enumerate(rows) if r["drift_db"] is not None]
        axes.plot(
            [x for x, _ in shown], [r["drift_db"] for _, r in shown], lw=0.8, color=_colour(i)
        )
        axes.scatter(
            [x for x, _ in shown],
            [r["drift_db"] for _, r in shown],
            s=[SIZES.get(r["bits"], 14) for _, r in shown],
            color=_colour(i),
            label=part,
        )
        start += len(rows)
    axes.set_xlabel("layer, in the order in which they run; larger points have fewer bits")
    axes.set_ylabel("SQNR of what it gives, dB")
    axes.set_title(f"{quant.get('scheme', '')}: how far each layer is from the float model")
    axes.legend(frameon=False)


def _losses(axes: Any, rows: list[dict[str, Any]]) -> None:
    worst = sorted(rows, key=lambda r: -r["loss"])[:30]
    parts = list(dict.fromkeys(r["part"] for r in rows))
    axes.bar(
        [f"{r['part']} {r['layer']} ({r['bits']})" for r in worst],
        [r["loss"] for r in worst],
        color=[_colour(parts.index(r["part"])) for r in worst],
    )
    axes.set_yscale("log")
    axes.set_ylabel("relative output error\nof this layer alone")
    axes.set_title("most sensitive layers, at the bits they got")
    axes.tick_params(axis="x", rotation=90, labelsize=6)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]
