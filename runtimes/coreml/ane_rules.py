"""What is said of ops and tensors that the Neural Engine does not take, each with who says it.

Apple publishes no list: "There is no static documentation, as it changes based on device
generation, operating system version, tensor sizes etc." (issue 1780 of coremltools). So every rule
says how it is known, and every finding made with one is a prediction; what a device does is told by
compute_plan.py on a Mac.

    documented    Apple's documentation, or an engineer of Apple
    measured      somebody compiled or placed it on a device and published that
    reported      somebody says so
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FORM_RULES", "OP_RULES", "Known", "Rule"]

Known = Literal["documented", "measured", "reported"]

GUIDE = "https://ane-guide.readthedocs.io/en/latest/"
MATRIX = GUIDE + "appendices/a-op-device-matrix.html"
DESIGN = GUIDE + "part-5-practice/17-model-design-rules.html"
TYPED = "https://apple.github.io/coremltools/docs-guides/source/typed-execution-example.html"
ARTICLE = "https://machinelearning.apple.com/research/neural-engine-transformers"
FORUM = "https://developer.apple.com/forums/thread/724930"
RECURRENT = "https://github.com/apple/coremltools/issues/1780"
GATHER = "https://huggingface.co/SingularityUS/atc-whisperkit/blob/main/small/TextDecoder.mlcomputeplan.json"
TOPK = "https://github.com/roboflow/rf-detr/pull/1495"
EXECUTORCH = "https://github.com/pytorch/executorch/pull/19252"


@dataclass(frozen=True)
class Rule:
    """why: of the Neural Engine. until: the last A-chip it is said of, None for all.

    effect: `leaves` runs elsewhere, `slows` stays and costs more.
    """

    why: str
    source: str
    known: Known
    until: int | None = None
    effect: Literal["leaves", "slows"] = "leaves"


def _no_path(*ops: str) -> dict[str, Rule]:
    rule = Rule("no path on any chip from M1 to M5", MATRIX, "measured")
    return dict.fromkeys(ops, rule)


#: by the type of an op
OP_RULES: dict[str, Rule] = {
    **_no_path(
        "acos", "asin", "atanh", "band_part", "constexpr_cast", "cosh", "list_gather",
        "list_length", "list_read", "list_scatter", "list_write", "logical_and", "logical_or",
        "logical_xor", "make_list", "mod", "one_hot", "random_bernoulli", "random_categorical",
        "random_normal", "reduce_prod", "reverse_sequence", "scatter", "scatter_along_axis",
        "scatter_nd", "shape", "sinh", "sliding_windows", "tan",
    ),
    **dict.fromkeys(
        ("gru", "lstm", "rnn"),
        Rule("recurrent cells are not supported on it", RECURRENT, "documented"),
    ),
    **dict.fromkeys(
        ("cond", "while_loop"),
        Rule("control flow is compiled only where it can be flattened", MATRIX, "measured"),
    ),
    "non_zero": Rule("a shape that only the numbers decide", MATRIX, "measured"),
    "non_maximum_suppression": Rule("offloaded to CPU or GPU", MATRIX, "measured"),
    "range_1d": Rule("refused by its code generator; make it a constant", MATRIX, "measured"),
    "gather": Rule("placed on the CPU in published compute plans", GATHER, "measured"),
    "gather_along_axis": Rule("left it in published compute plans", TOPK, "measured"),
    "gather_nd": Rule("a narrow form only", MATRIX, "measured"),
    "topk": Rule("left it in published compute plans", TOPK, "measured"),
    "argsort": Rule("sorting leaves as topk does; none before A14", MATRIX, "measured"),
    "cumsum": Rule("native by a route that compiling does not take", MATRIX, "measured"),
    "cast": Rule("listed among ops that leave it", EXECUTORCH, "reported"),
    "sin": Rule("none before A15", MATRIX, "measured", until=14),
    "cos": Rule("none before A15", MATRIX, "measured", until=14),
    "random_uniform": Rule("none before A15", MATRIX, "measured", until=14),
    "reduce_argmin": Rule("none before A15", MATRIX, "measured", until=14),
    "classify": Rule("strings", MATRIX, "reported"),
}  # fmt: skip

#: by what an op takes or gives; lint.py says when each holds
FORM_RULES: dict[str, Rule] = {
    "float32": Rule("it computes in float16; float32 is for GPU and CPU", TYPED, "documented"),
    "integers": Rule("arithmetic on integers: its datapath is float16", DESIGN, "measured"),
    "dynamic": Rule("of a range of shapes it takes the default one only", FORUM, "documented"),
    "rank6": Rule("a rank above 5 is refused", DESIGN, "measured"),
    "rank5": Rule("a product of rank 5 is refused", DESIGN, "measured"),
    "rank5moved": Rule(
        "four axes with channels first are what it is made for", ARTICLE, "documented",
        effect="slows",
    ),
    "extent65536": Rule("an axis longer than 65536", DESIGN, "measured"),
    "extent16384": Rule("an axis longer than 16384", DESIGN, "measured", until=15),
    "argument": Rule("the place of a maximum among more than 2048", DESIGN, "measured"),
    "kernel16": Rule("a kernel wider than 16 in float16", MATRIX, "measured"),
    "kernel13": Rule("a kernel wider than 13 in float16", MATRIX, "measured", until=13),
    "ragged": Rule(
        "the last axis of inputs and outputs is padded to 64 bytes", ARTICLE, "documented",
        effect="slows",
    ),
}  # fmt: skip
