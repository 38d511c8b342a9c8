"""What `--quant` asks for: SCHEME or SCHEME:OPTION=VALUE,..., as steps of a recipe.

    w8                 weights of 8 bits, arithmetic float
    w4a16:block=128    weights of 4 bits, a scale for every 128 inputs, arithmetic float
    lut4               weights looked up in tables of 16 numbers, one for every 16 channels (Apple)
    lut6:group=0       the same with 64, one table for all of a weight; also lut8
    w4a8:block=64      the same weights, int8 activations with a scale a block, found at run time
    w8a8               8-bit weights and activations, products of integers
    8da4w              4-bit weights in blocks, 8-bit activations with a scale a row at run time
    fp8                8-bit weights and activations, floats (E4M3), for NVIDIA GPUs that have them
    mixed:avg=5bit     bits a layer as its sensitivity asks, 5 on average; 8-bit activations
    mixed:ms=20        w8a8 with the layers float that 20 ms to the first token leave room for

Options behind the colon are those of quantize-weights (`edgevlm passes show quantize-weights`), or
of palettise-weights where a scheme has it.
"""

from __future__ import annotations

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Step

__all__ = ["KV_TYPES", "QUANT_SCHEMES", "kv_steps", "quant_steps"]

SMOOTH = Step("smooth-activations")
#: where weights are coarser than activations they take over less
SMOOTH_LESS = Step("smooth-activations", {"alpha": 0.5})
#: a scale a tensor where weights have one a channel; scales at run time where they have blocks
INTEGER = Step("quantize-activations"), Step("quantize-dynamically")

#: in the places that TensorRT multiplies in FP8, whichever target is asked: no other runtime has it
FLOAT8 = (
    Step("quantize-weights", {"number": "e4m3"}),
    Step("quantize-activations", {"number": "e4m3", "form": "tensorrt"}),
)


#: what chooses how weights are stored, and takes a scheme's options
WEIGHTS = ("palettise-weights", "quantize-weights")


def _lut(bits: int) -> tuple[Step, ...]:
    """Tables of embeddings are looked up by row, and are int8."""
    return Step("palettise-weights", {"bits": bits}), Step("quantize-weights")


def _a8(**weights: object) -> tuple[Step, ...]:
    return SMOOTH_LESS if weights else SMOOTH, Step("quantize-weights", weights), *INTEGER


#: --quant -> the passes that do it, in their order
QUANT_SCHEMES: dict[str, tuple[Step, ...]] = {
    "none": (),
    "w8": (Step("quantize-weights"),),
    "w4a16": (Step("quantize-weights", {"bits": 4, "block": 32, "method": "gptq"}),),
    "w8a8": _a8(),
    "w4a8": _a8(bits=4, method="gptq"),
    "w3a8": _a8(bits=3, method="gptq"),
    "dasq-w4a8": _a8(bits=4, method="dasq-gptq"),
    "dasq-w3a8": _a8(bits=3, method="dasq-gptq"),
    "lut4": _lut(4),
    "lut6": _lut(6),
    "lut8": _lut(8),
    "8da8w": (Step("quantize-weights"), Step("quantize-dynamically")),
    "8da4w": (
        Step("quantize-weights", {"bits": 4, "block": 32, "method": "gptq"}),
        Step("quantize-dynamically"),
    ),
    "fp8": FLOAT8,
    "mixed": _a8(bits=4, method="gptq", average_bits=5.0),
}
#: --kv -> the same
KV_TYPES: dict[str, tuple[Step, ...]] = {"float": (), "int8": (Step("quantize-kv"),)}


def quant_steps(asked: str, block: int | None = None) -> tuple[Step, ...]:
    """block: inputs that share a scale on this target, for schemes with blocks.

    Raises UsageFault EV202 for another scheme, and for options no pass could read.
    """
    name, _, rest = asked.partition(":")
    if name not in QUANT_SCHEMES:
        raise _refused(f"unknown quantisation scheme {name[:80]!r}")
    options = dict(_option(name, pair) for pair in rest.split(",")) if rest else {}
    if "budget_ms" in options and name == "fp8":
        raise _refused("a time budget for fp8: layers are chosen between float and int8 alone")
    steps = QUANT_SCHEMES["w8a8" if "budget_ms" in options else name]
    if options and not steps:
        raise _refused(f"options of quantisation scheme {name!r}, which does nothing")
    made, chooses = [], next((s.name for s in steps if s.name in WEIGHTS), None)
    for step in steps:
        if step.name == chooses:
            own = {"block": block} if block and "block" in step.options else {}
            step = Step(step.name, step.options | own | options)
        made.append(step)
    return tuple(made)


def kv_steps(asked: str) -> tuple[Step, ...]:
    """Raises UsageFault EV202 for another type of KV caches."""
    if asked not in KV_TYPES:
        types = f"types: {', '.join(KV_TYPES)}"
        what = f"unknown type of KV caches {asked[:80]!r}"
        raise UsageFault("EV202", what, types, "edgevlm compile --help")
    return KV_TYPES[asked]


def _option(scheme: str, pair: str) -> tuple[str, object]:
    key, equals, text = (word.strip() for word in pair.partition("="))
    if not (key and equals and text):
        raise _refused(f"--quant {scheme}: {pair[:80]!r} is not OPTION=VALUE")
    if key == "ms":
        return "budget_ms", _number(text)
    if key == "avg":
        return "average_bits", _number(text.removesuffix("bit"))
    return key.replace("-", "_"), _number(text)


def _number(text: str) -> object:
    """As TOML would have it in a recipe; words stay words."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _refused(what: str) -> UsageFault:
    schemes = ", ".join(QUANT_SCHEMES)
    return UsageFault("EV202", what, f"schemes: {schemes}", "edgevlm compile --help")
