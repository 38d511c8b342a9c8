"""ApET: the error against a solved least-squares problem, the basis, the merged mean."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site


def basis_of(z, picks):
    """Farthest points in squared L2, from the one farthest from the mean."""
    taken = [int(np.argmax(((z - z.mean(0)) ** 2).sum(1)))]
    while len(taken) < picks:
        near = ((z[:, None] - z[taken][None]) ** 2).sum(-1).min(1)
        near[taken] = -1
        taken.append(int(np.argmax(near)))
    return taken


def error_of(z, basis, ridge=0.0):
    """|z_i - W_i B| with W from the normal equations: the code of the paper."""
    b = z[basis]
    weights = np.linalg.solve(b @ b.T + ridge * np.eye(len(b)), b @ z.T).T
    return np.linalg.norm(z - weights @ b, axis=1)


def expected(z, keep, picks=10, normalised=False):
    z = z / np.linalg.norm(z, axis=1, keepdims=True) if normalised else z
    basis = basis_of(z, min(picks, keep, max(1, z.shape[1] // 2)))
    rest = [int(i) for i in np.argsort(-error_of(z, basis), kind="stable") if i not in basis]
    return sorted(basis + rest[: keep - len(basis)])


def merged(z, index):
    """Every dropped token goes into the mean of the kept one with the largest cosine."""
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    near = index[(unit @ unit[index].T).argmax(1)]
    near[index] = index
    return np.stack([z[near == i].mean(0) for i in index])


@pytest.mark.parametrize(
    ("keep", "options"),
    [(1, {}), (9, {}), (19, {}), (3, {"basis": 2}), (9, {"normalised": True, "basis": 5})],
)
def test_it_is_the_cards(spied, keep, options):
    for seed in range(4):
        z, index, content = spied("apet", "connector-out", keep, seed, **options)
        want = expected(z, keep, options.get("basis", 10), options.get("normalised", False))
        assert index.tolist() == want
        assert np.allclose(content, merged(z, index), atol=1e-5)


def test_the_published_ridge_moves_nothing(spied):
    """The code solves with 1e-5 on the diagonal: the order of the errors is the same."""
    for seed in range(5):
        z = spied("apet", "connector-out", 9, seed)[0]
        basis = basis_of(z, 8)
        assert np.allclose(error_of(z, basis), error_of(z, basis, 1e-5), atol=1e-4)


def test_tokens_in_the_span_of_the_basis_go_first(spied):
    """The last five are sums of the first three; what they say is said already."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(20, 16)) * 0.01
        z[:3] = np.linalg.qr(rng.normal(size=(16, 3)))[0].T * 5
        z[15:] = rng.uniform(0.2, 0.4, size=(5, 3)) @ z[:3]
        index = spied("apet", "llm:0", 15, rows=z, basis=3)[1]
        assert index.tolist() == list(range(15))


def test_a_planted_token_of_its_own_stays(spied):
    """T7: whatever its place, and however small the budget."""
    for place in range(20):
        z = np.random.default_rng(place).normal(size=(20, 16)) * 0.1 + 1
        z[place] = np.random.default_rng(99).normal(size=16) * 4
        assert place in chosen(spied, z, 3)


def test_turning_all_tokens_chooses_the_same(spied):
    """T5: distances and spans do not know axes."""
    for seed in range(4):
        z = np.random.default_rng(seed).normal(size=(20, 16))
        turn = np.linalg.qr(np.random.default_rng(seed + 50).normal(size=(16, 16)))[0]
        assert chosen(spied, z, 9) == chosen(spied, z @ turn, 9) == chosen(spied, 7 * z, 9)


def test_nothing_is_lost_in_the_means(spied):
    """T13: sizes sum to N and sizes x means to the sum of all tokens."""
    for seed in range(4):
        z, index, content = spied("apet", "connector-out", 6, seed)
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        near = (unit @ unit[index].T).argmax(1)
        near[index] = np.arange(6)
        sizes = np.bincount(near, minlength=6)
        assert sizes.sum() == 20 and np.allclose(sizes @ content, z.sum(0), atol=1e-4)


def test_without_merging_the_tokens_are_themselves(spied):
    z, index, content = spied("apet", "connector-out", 6, merge=False)
    assert content is None and index.tolist() == expected(z, 6)


def test_two_sites_and_three_times_the_budget_at_the_first():
    method = METHODS["apet"]()
    sites = method.default_sites(32, 24)
    assert [str(s) for s in sites] == ["vision-out", "llm:16"]
    assert method.budgets(576, 32, sites) == [96, 32]
    assert method.budgets(64, 40, sites) == [64, 40]
    assert method.budgets(64, 16, [Site.at("connector-out")]) == [16]


def test_the_bundled_model_at_its_default_sites(in_tiny, in_tower):
    model, found = in_tiny("apet", "8")
    assert model.contract.vision_kept == 24 and model.contract.sites[0].layer == 2
    _, towers = in_tower("apet", "8")
    for got, (features, _, kept) in zip(found, towers, strict=True):
        z = features[1:].astype(np.float64)
        assert kept.index.tolist() == expected(z, 24)
        x = got.trace.layers[2].entry[got.prompt.image]
        assert got.index(2).tolist() == expected(x, 8)


def test_the_merged_tokens_are_what_the_connector_is_given(in_tower, tiny_model):
    from edgevlm.compiler.executor import ReferenceParts

    _, found = in_tower("apet", "12", "vision-out")
    for features, _, kept in found:
        z = features[1:].astype(np.float64)
        given = features[None].copy()
        given[0, 1:13] = merged(z, kept.index)
        want = ReferenceParts(tiny_model.parts).call("connector", {"image_features": given})
        want = want["image_embeds"][:, :12]
        assert measure(want, kept.embeds, "embeds").sqnr_db > 90


def chosen(spied, z, keep):
    """By the method, of rows given to the language model as they are."""
    x, index, _ = spied("apet", "llm:0", keep, rows=z)
    assert np.allclose(x, z, rtol=1e-5, atol=1e-6)
    return index.tolist()
