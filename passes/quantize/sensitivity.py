"""How much a model's outputs suffer when the weights of one layer alone are rounded: measured.

One session for all of it: the weights in question are inputs of the graph, so a run with another
weight is a run with another input. The error is relative and squared, the mean over the inputs and
the outputs of the part; caches of a decoder do not count beside its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds, ReferenceParts, open_session
from edgevlm.compiler.reference import Reference
from edgevlm.passes.quantize.grids import TINY, Grid
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.walk import Walk

__all__ = ["joint_error", "sensitivities", "to_logits", "w8a8_losses"]

#: (input, outputs of a part) -> what is compared
Follow = Callable[[int, dict[str, np.ndarray]], dict[str, np.ndarray]]

INPUTS = 16  # with 4, scenes-tiny at 4 bits on average loses 4 dB of its logits


def sensitivities(
    part: ir.Model,
    layers: Sequence[Layer],
    rounded: Callable[[Layer], np.ndarray],
    feeds: Sequence[Feeds],
    follow: Follow = lambda i, outputs: outputs,
) -> list[float]:
    """Of each layer of the part; rounded: the weights it would have, [n,m].

    follow: what the model makes of the part's outputs on input i; these themselves by default.
    """
    run, real = _opened(part, layers)
    wanted = [follow(i, run(feed, real)) for i, feed in enumerate(feeds[:INPUTS])]
    errors = []
    for layer in layers:
        name = str(layer.weight.name)
        weights = real | {name: layer.unrolled(rounded(layer)).astype(np.float32)}
        found = [follow(i, run(feed, weights)) for i, feed in enumerate(feeds[:INPUTS])]
        errors.append(
            float(np.mean([_output_error(a, b) for a, b in zip(wanted, found, strict=True)]))
        )
    return errors


def to_logits(parts: Mapping[Role, ir.Model], seen: Reference, role: Role) -> Follow:
    """From the outputs of a part to the logits of the first token, on the inputs that it saw.

    Image rows of the prompt are exchanged and everything else is as it was; decode, and a part
    whose outputs are the model's, ends where it is.
    """
    if role not in ("vision", "connector") or "prefill" not in parts:
        return lambda i, outputs: outputs
    runs, kept = seen.runs(role), seen.contract.kept_image_tokens
    rest = ReferenceParts(parts)

    def follow(i: int, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if role == "vision":
            given = {name: a for name, a in outputs.items() if name != "image_index"}
            outputs = rest.call("connector", given)
        feeds, start = dict(seen.feeds[runs[i]]["prefill"]), seen.starts[runs[i]]
        feeds["inputs_embeds"] = feeds["inputs_embeds"].copy()
        feeds["inputs_embeds"][:, start : start + kept] = outputs["image_embeds"]
        return rest.call("prefill", feeds)

    return follow


def w8a8_losses(
    part: ir.Model,
    layers: Sequence[Layer],
    feeds: Sequence[Feeds],
    follow: Follow = lambda i, outputs: outputs,
) -> list[float]:
    """Of each layer, its weights and inputs alone rounded to 8 bits, a scale a channel and tensor.

    What the outputs lose by weights of 4 bits is measured; and so is, for both, the noise in what
    the layer gives. To first order the outputs lose in proportion to it.
    """
    feeds = feeds[:INPUTS]
    measured = sensitivities(part, layers, lambda layer: _nearest(layer, 4), feeds, follow)
    walk, losses = Walk(part, feeds), []
    for layer, loss in zip(layers, measured, strict=True):
        walk.to(layer.node)
        x = np.concatenate([a.reshape(-1, a.shape[-1]) for a in walk.inputs(layer.node.inputs[0])])
        step = max(float(np.abs(x).max()) / Grid(8).high, TINY)
        rows, rounded = layer.rows(), np.clip(np.rint(x / step), -128, 127) * step
        wanted = x @ rows.T
        coarse = np.square(x @ _nearest(layer, 4).T - wanted).sum()
        fine = np.square(rounded @ _nearest(layer, 8).T - wanted).sum()
        losses.append(float(loss * fine / coarse) if coarse else 0.0)
    return losses


def _nearest(layer: Layer, bits: int) -> np.ndarray:
    return to_nearest(layer.rows(), Grid(bits), 0, "max" if bits == 8 else "mse").weights()


def joint_error(before: ir.Model, after: ir.Model, feeds: Sequence[Feeds]) -> float:
    """The same of two parts: what all that changed does together. 0 without inputs."""
    if not feeds:
        return 0.0
    sessions = [open_session(part) for part in (before, after)]
    names = [o.name for o in sessions[0].get_outputs()]
    errors = []
    for feed in feeds[:INPUTS]:
        a, b = (dict(zip(names, s.run(names, dict(feed)), strict=True)) for s in sessions)
        errors.append(_output_error(a, b))
    return float(np.mean(errors))


def _output_error(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """|a - b|^2 / |a|^2, the mean over outputs; infinite where something is not finite."""
    main = {n: a for n, a in wanted.items() if not n.startswith(("key_", "value_"))} or wanted
    errors = []
    for name, a in main.items():
        if a.dtype != np.float32:
            continue
        a, b = a.astype(np.float64), found[name].astype(np.float64)
        errors.append(np.square(a - b).sum() / (np.square(a).sum() or 1.0))
    mean = float(np.mean(errors)) if errors else 0.0
    return mean if np.isfinite(mean) else np.inf


def _opened(
    part: ir.Model, layers: Sequence[Layer]
) -> tuple[Callable[[Feeds, dict[str, np.ndarray]], dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """What runs a part with given weights, and its own."""
    clone = part.clone()
    real = {}
    for name in dict.fromkeys(str(layer.weight.name) for layer in layers):
        value = clone.graph.initializers.pop(name)
        real[name] = np.ascontiguousarray(value.const_value.numpy())
        value.const_value = None
        clone.graph.inputs.append(value)
    session = open_session(clone)
    names = [o.name for o in session.get_outputs()]

    def run(feed: Feeds, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {**feed, **weights}), strict=True))

    return run, real
