"""Which passes run in which order for which runtime: the one table, with the reason per group.

A pipeline is the skeleton of a recipe. Groups marked with a flag join when the user asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes.derive.asked import Derived
from edgevlm.passes.quantize.asked import kv_steps, quant_steps
from edgevlm.passes.quantize.forms import find_integer_form
from edgevlm.passes.tokens.schedule import Asked

__all__ = ["PIPELINES", "Flags", "Group", "compose"]


@dataclass(frozen=True)
class Flags:
    """What the command line asks for."""

    reduction: Asked | None = None  # of image tokens; None keeps all
    quant: str = "none"
    kv: str = "float"
    derived: Derived | None = None  # what for, and how small
    layout: str = "tokens"  # of activations: tokens [1,S,C], or channels first [1,C,1,S]


@dataclass(frozen=True)
class Group:
    why: str
    passes: tuple[str, ...]


PIPELINES: dict[str, tuple[Group, ...]] = {
    "ort": (
        Group(
            "exporters repeat themselves; later passes match a small, plain graph",
            (
                "fold-constants",
                "fuse-layer-norm",
                "fuse-gelu",
                "fuse-attention",
                "fold-batch-norm",
                "merge-duplicates",
                "drop-zero-masks",
                "drop-dead",
            ),
        ),
        Group(
            "only now is it plain which rows anybody reads",
            ("gather-early",),
        ),
        Group(
            "shapes before weights: calibration and scales must see the final shapes",
            ("resize-image", "keep-tokens", "merge-attention"),
        ),
        Group(
            "smaller matrices before anything is fitted to them",
            ("keep-classes", "purify-units", "narrow-encoder", "recover-encoder"),
        ),
        Group(
            "scales move between activations and weights while weights are float yet",
            ("smooth-activations", "scale-weights"),
        ),
        Group(
            "weights last: whatever removes weights has run",
            ("palettise-weights", "quantize-weights", "compensate-modalities"),
        ),
        Group(
            "ranges of activations are those of the model with its weights rounded",
            ("quantize-activations", "quantize-dynamically"),
        ),
        Group(
            "the last ranges of all: what caches hold hangs on every rounding in front of them",
            ("quantize-kv",),
        ),
    ),
}

# the same machine, and the same graphs: only the kernels are others
PIPELINES["openvino"] = PIPELINES["ort"]
# of phones: NPUs move no tensors of five axes, and partitions end at what they do not run
PHONES = (
    PIPELINES["ort"][0],
    Group(
        "products of their own for queries, keys and values, with scales of their own later on",
        ("separate-qkv", "four-axes"),
    ),
    *PIPELINES["ort"][1:],
)
APPLE = (
    *PHONES,
    Group(
        "last: all others look for products of tokens, and for attention",
        ("channels-first",),
    ),
)
PIPELINES["coreml"] = APPLE
PIPELINES["coreai"] = APPLE
PIPELINES["executorch"] = PHONES
# micro NPUs neither gather nor look into pictures by windows; what is left on five axes goes last
PIPELINES["ethos"] = (
    PIPELINES["ort"][0],
    Group(
        "products of their own for queries, keys and values: no tensors of five axes between",
        ("separate-qkv",),
    ),
    *PIPELINES["ort"][1:],
    Group(
        "the graph is final: what the NPU cannot do becomes products, or goes in front of it",
        ("unfold-patches", "one-hot-tokens", "four-axes"),
    ),
)
PIPELINES["tensorrt"] = (
    *PIPELINES["ort"],
    Group(
        "what others fit and compare is float32: types change when all else is done",
        ("cast-half",),
    ),
)

#: runtime -> pass -> options that its pipeline sets
OPTIONS: dict[str, dict[str, dict[str, object]]] = {
    # choosing is the host's there, as scores in eight bits have too many equals to be ranked; and
    # so are tables
    "ethos": {"one-hot-tokens": {"topk": False, "table_rows": 0}},
}


def compose(
    target: str,
    runtime: str,
    flags: Flags,
    model: ExportedModel | None = None,
    multiple: int | None = None,
) -> Recipe:
    """The recipe for a target's runtime and flags. Raises EV202, EV203, EV209, EV220.

    model: needed where tokens are dropped, since sites and budgets are the model's. multiple: of
    channels, where the target's device file says one.
    """
    asked: dict[str, list[dict[str, object]]] = {
        "resize-image": [],
        "keep-tokens": [],
        "merge-attention": [],
        "keep-classes": [],
        "purify-units": [],
        "narrow-encoder": [],
        "recover-encoder": [],
        "smooth-activations": [],
        "scale-weights": [],
        "palettise-weights": [],
        "quantize-weights": [],
        "compensate-modalities": [],
        "quantize-activations": [],
        "quantize-dynamically": [],
        "quantize-kv": [],
        "channels-first": [{}] if flags.layout == "channels" else [],
    }
    asked |= {name: [dict(options)] for name, options in OPTIONS.get(runtime, {}).items()}
    block = find_integer_form(runtime).block
    kind = model.contract.kind if model else "classifier"
    for step in (*quant_steps(flags.quant, block), *kv_steps(flags.kv)):
        # what a target runs in integers is told in the recipe, as its selectors' form is
        rows = step.name == "quantize-dynamically" and find_integer_form(runtime).rows
        other = rows or (step.name == "quantize-activations" and runtime != "ort")
        asked[step.name].append(step.options | ({"form": runtime} if other else {}))
    for step in flags.derived.steps(kind) if flags.derived else ():
        widths = {"multiple": multiple} if multiple and step.name == "narrow-encoder" else {}
        asked[step.name].append(step.options | widths)
    if flags.reduction:
        for step in flags.reduction.steps(model, runtime):
            asked[step.name].append(step.options)
    names = [name for group in PIPELINES[runtime] for name in group.passes]
    if asked["channels-first"] and "channels-first" not in names:
        raise UsageFault(
            "EV220",
            f"--layout {flags.layout} for runtime {runtime}",
            "that layout is for the Neural Engine; others are faster with tokens as rows",
            "leave it out, or --target iphone",
        )
    steps = [Step(name, dict(o)) for name in names for o in asked.get(name, [{}])]
    return Recipe(target, tuple(steps))
