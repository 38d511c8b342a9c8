"""ZOO-Prune: the closed form against derivatives and against Monte Carlo, and the greedy choice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.connector_view import ConnectorView, Projector
from edgevlm.passes.tokens.methods.zoo import _slope, quadratic_form


def gelu(z, approximate="none"):
    if approximate == "tanh":
        return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    return 0.5 * z * (1 + np.vectorize(math.erf)(z / np.sqrt(2)))


def weights(model):
    """W1, b1 and W2 of the connector, by the order of its products and sums."""
    kinds = {"MatMul": [], "Add": []}
    for node in model.parts["connector"].graph:
        for value in node.inputs if node.op_type in kinds else ():
            if value.const_value is not None:
                kinds[node.op_type].append(np.asarray(value.const_value.numpy(), np.float64))
    return kinds["MatMul"][0], kinds["Add"][0], kinds["MatMul"][1]


def sensitivity(w1, b1, w2, z, approximate="none"):
    """|J(z)|_F from the Jacobian itself, by central differences of the activation."""
    at, h = z @ w1 + b1, 1e-5
    slope = (gelu(at + h, approximate) - gelu(at - h, approximate)) / (2 * h)
    return np.array([np.linalg.norm((w1 * g) @ w2) for g in slope])


def greedy(score, x, keep):
    """minmax(S) (1 - max cosine to what is taken); the first is the largest S."""
    weight = (score - score.min()) / (score.max() - score.min())
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    taken = [int(np.argmax(weight))]
    while len(taken) < keep:
        worth = weight * (1 - (unit @ unit[taken].T).max(1))
        worth[taken] = -np.inf
        taken.append(int(np.argmax(worth)))
    return sorted(taken)


def ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("keep", [1, 2, 7, 15])
def test_it_is_the_cards(spied, small, keep):
    w1, b1, w2 = weights(small())
    for seed in range(5):
        rows = np.random.default_rng(seed).normal(size=(20, len(w1)))
        x, index, _ = spied("zoo", "connector-out", keep, rows=rows)
        score = sensitivity(w1, b1, w2, rows.astype(np.float32))
        assert index.tolist() == greedy(score, x, keep)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_slope_is_the_derivative_of_the_activation(graph, approximate):
    z = np.concatenate([np.linspace(-40, 40, 2001), np.linspace(-5, 5, 2001)]).astype(np.float32)
    part = graph(f"(float[{len(z)}] z) => (float[{len(z)}] y) {{ y = Identity(z) }}")
    build = GraphBuilder(part, "slope")
    view = ConnectorView(build, None, None, None, "zoo", 1, 1, None, 1)
    part.graph.outputs[0] = _slope(view, part.graph.inputs[0], approximate)
    build.finish()
    got = open_session(part).run(None, {"z": z})[0]
    at, h = z.astype(np.float64), 1e-5
    want = (gelu(at + h, approximate) - gelu(at - h, approximate)) / (2 * h)
    assert np.abs(got - want).max() < 5e-6


def test_the_closed_form_is_what_random_directions_estimate():
    """The published estimator, on as many directions as settle it; and on its own 64."""
    rng = np.random.default_rng(0)
    w1, b1, w2 = rng.normal(size=(32, 64)) / 6, rng.normal(size=64), rng.normal(size=(64, 48)) / 8
    z, h, form = rng.normal(size=(200, 32)), 0.01, "tanh"  # erf of numpy is a loop in Python

    def project(z):
        return gelu(z @ w1 + b1, form) @ w2

    def estimate(directions):
        u = rng.normal(size=(directions, 32))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        total = 0
        for each in u:
            total = total + np.linalg.norm(project(z + h * each) - project(z - h * each), axis=1)
        return total / (2 * h * directions)

    at = z @ w1 + b1
    slope = (gelu(at + 1e-5, form) - gelu(at - 1e-5, form)) / 2e-5
    closed = np.sqrt(((slope @ quadratic_form(w1, w2)) * slope).sum(1))
    assert np.allclose(closed, sensitivity(w1, b1, w2, z, form), rtol=1e-6)
    many, few = (np.corrcoef(ranks(closed), ranks(estimate(m)))[0, 1] for m in (2048, 64))
    assert many > 0.995 and few > 0.98 and many > few


def test_a_linear_projector_has_nothing_to_tell_tokens_apart():
    """Why it is refused: the Jacobian does not depend on the token."""
    rng = np.random.default_rng(0)
    w1, w2, z = rng.normal(size=(8, 8)), rng.normal(size=(8, 8)), rng.normal(size=(50, 8))
    h, u = 0.01, rng.normal(size=8)
    moved = np.linalg.norm(((z + h * u) - (z - h * u)) @ w1 @ w2, axis=1)
    assert np.ptp(moved) < 1e-10


def test_all_eigenvalues_are_the_whole_form_and_few_are_near_it(spied, small):
    wide = weights(small())[0].shape[1]
    for seed in range(4):
        whole = spied("zoo", "connector-out", 7, seed)[1]
        assert spied("zoo", "connector-out", 7, seed, rank=wide)[1].tolist() == whole.tolist()
        assert spied("zoo", "connector-out", 7, seed, rank=10**4)[1].tolist() == whole.tolist()
    w1, _, w2 = weights(small())
    form = quadratic_form(w1, w2)
    values = np.linalg.eigvalsh(form)
    assert values.min() > -1e-9 * values.max(), "a Hadamard product of two Gram matrices"


def test_the_bundled_model_at_its_default_site(in_tower, tiny_model):
    w1, b1, w2 = weights(tiny_model)
    model, found = in_tower("zoo", "16")
    assert model.contract.kept_image_tokens == 16
    for features, embeds, kept in found:
        score = sensitivity(w1, b1, w2, features[1:])
        assert kept.index.tolist() == greedy(score, embeds.astype(np.float64), 16)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[one] image_embeds = MatMul(image_features, w)", "same for every token"),
        (
            "[one] a = MatMul(image_features, w) [act] b = Relu(a)"
            "[two] image_embeds = MatMul(b, w)",
            "this one has Relu",
        ),
        (
            "[one] a = MatMul(image_features, w) [act] b = Gelu(a) [two] c = MatMul(b, w)"
            "[act2] d = Gelu(c) [three] image_embeds = MatMul(d, w)",
            "has 3 layers",
        ),
    ],
)
def test_projectors_it_refuses(graph, make_micro, put_in, text, why):
    model = make_micro()
    ports = "(float[1,9,4] image_features) => (float[1,9,4] image_embeds)"
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    linear = graph(f"{ports} {{ {text} }}", w=weight)
    narrow = model.contract.model_copy(update={"width": 4})
    with pytest.raises(UsageFault, match=why) as caught:
        put_in(model.with_parts(narrow, connector=linear), "zoo", "connector-out", 3)
    assert caught.value.code == "EV230"


def test_a_projector_knows_its_activation(make_micro, small, graph):
    """What the view says of the miniature's connector."""
    part = small().parts["connector"].clone()
    build = GraphBuilder(part, "look")
    embeds = part.graph.outputs[0]
    view = ConnectorView(build, None, small(), None, "zoo", 1, 20, None, 16, embeds=embeds)
    found = view.projector()
    assert isinstance(found, Projector) and found.approximate == "none"
    assert found.first.shape == (small().contract.vision_width, 32)
    assert found.second.shape == (32, 16)
