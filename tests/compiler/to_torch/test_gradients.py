"""Gradients, against finite differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.pass_manager import apply_unchecked  # noqa: E402
from edgevlm.compiler.reference import observe  # noqa: E402
from edgevlm.compiler.to_torch import to_torch  # noqa: E402
from edgevlm.compiler.to_torch.ops import OPS  # noqa: E402
from edgevlm.models.answer import inputs_of  # noqa: E402
from edgevlm.passes import make_passes  # noqa: E402
from edgevlm.passes.pipelines import Flags, compose  # noqa: E402
from edgevlm.passes.tokens.methods import METHODS  # noqa: E402
from edgevlm.passes.tokens.schedule import parse_asked  # noqa: E402

#: of which the derivative is not that of the function: steps, choices, other types, constants
STEPS = set(
    [
        "And",
        "ArgMax",
        "ArgMin",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Cast",
        "CastLike",
        "Ceil",
        "Constant",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Hardmax",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Not",
        "OneHot",
        "Or",
        "QuantizeLinear",
        "Round",
        "Shape",
        "Sign",
        "Xor",
    ]
)


def differentiable(row) -> bool:
    inputs, nodes, _ = row
    return "float" in inputs and "Round" not in nodes and "[2,0,4]" not in inputs


@pytest.mark.parametrize("op", sorted(set(OPS) - STEPS))
def test_an_op_has_the_gradient_of_what_it_computes(op, table, graph_of, draw):
    rows = [row for row in table[op] if differentiable(row)]
    assert rows
    for row in rows:
        part = graph_of(*row)
        net = to_torch(part).double()
        feeds = {n: torch.from_numpy(a) for n, a in draw(part).items()}
        floats = [n for n, t in feeds.items() if t.is_floating_point()]
        leaves = [feeds[n].double().requires_grad_() for n in floats]

        def run(*values, net=net, feeds=feeds, floats=floats):
            got = net(feeds | dict(zip(floats, values, strict=True))).values()
            return tuple(t for t in got if t.is_floating_point())

        assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-5)


def test_a_row_that_may_look_at_nothing_has_no_gradient_and_no_nan(graph_of):
    part = graph_of("float[1,1,2,3] q, bool[2,2] m", "y = Attention(q, q, q, m)", {})
    q = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = to_torch(part)({"q": q, "m": torch.tensor([[False, False], [True, True]])})["y"]
    assert not y[0, 0, 0].any()
    (grad,) = torch.autograd.grad(y[0, 0, 0].sum(), q, retain_graph=True)
    assert not grad.any()
    (grad,) = torch.autograd.grad(y.sum(), q)
    assert grad.isfinite().all() and grad.any()


@pytest.fixture(scope="module")
def vision(tiny_model):
    clean = apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))
    return clean.parts["vision"]


def test_a_whole_encoder_between_a_tap_and_its_output(vision, tiny_probes):
    """Along one direction at once: a mask on what the first attention gives."""
    net = to_torch(vision).double()
    place = next(n for n in vision.graph if n.op_type == "Attention").outputs[0]
    pixels = torch.from_numpy(tiny_probes[0].pixel_values).double()
    rng = torch.Generator().manual_seed(0)
    heads = (1, int(place.shape[1]), 1, 1)
    gate = torch.ones(heads, dtype=torch.float64, requires_grad=True)
    along = torch.randn(heads, dtype=torch.float64, generator=rng)

    def loss(gate):
        out = net({"pixel_values": pixels}, taps={place.name: lambda t: t * gate})
        return out["image_features"].pow(2).sum()

    (grad,) = torch.autograd.grad(loss(gate), gate)
    step = 1e-5
    with torch.no_grad():
        want = (loss(gate + step * along) - loss(gate - step * along)) / (2 * step)
    assert abs(float(want)) > 1
    assert float((grad * along).sum()) == pytest.approx(float(want), rel=1e-6)


def test_a_parameter_deep_in_the_encoder(vision, tiny_probes):
    net = to_torch(vision).double()
    name = next(n for n in vision.graph if n.op_type == "MatMul").inputs[1].name
    weight = net.parameter(name).requires_grad_()
    pixels = torch.from_numpy(tiny_probes[0].pixel_values).double()

    def loss():
        return net({"pixel_values": pixels})["image_features"].pow(2).sum()

    loss().backward()
    along = torch.randn(
        weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    ends, step = [], 1e-6
    with torch.no_grad():
        for sign in (1, -2):
            weight.add_(sign * step * along)
            ends.append(float(loss()))
    want = (ends[0] - ends[1]) / (2 * step)
    assert float((weight.grad * along).sum()) == pytest.approx(want, rel=1e-5)
    assert all(p.grad is None for p in net.parameters() if p is not weight)
    assert np.isfinite(weight.grad.numpy()).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_gradient_of_a_pruned_model_is_a_number(method, tiny_model, tiny_probes):
    """Selectors compare, divide and mask: none of that may reach what is trained as a NaN."""
    budget = None if METHODS[method].as_pass == "merge-attention" else "24"
    recipe = compose("host-cpu", "ort", Flags(parse_asked(budget, method, None)), tiny_model)
    model = apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:2])
    probes = inputs_of(model)
    fed = observe(model, probes[:1]).feeds[0]
    for role in ("vision", "connector", "prefill"):
        net = to_torch(model.parts[role]).requires_grad_()
        out = net({name: torch.from_numpy(array.copy()) for name, array in fed[role].items()})
        sum(t.pow(2).sum() for t in out.values() if t.is_floating_point()).backward()
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads)
        assert sum(bool(grad.any()) for grad in grads) >= len(grads) / 2 > 0
