"""Whole parts on what they are really fed: as exported, cleaned, pruned, quantised, miniatures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.drift import measure  # noqa: E402
from edgevlm.compiler.exported_model import load_model  # noqa: E402
from edgevlm.compiler.pass_manager import apply_unchecked  # noqa: E402
from edgevlm.compiler.reference import observe  # noqa: E402
from edgevlm.compiler.to_torch import to_torch  # noqa: E402
from edgevlm.models.answer import inputs_of  # noqa: E402
from edgevlm.models.zoo import bundled_folder  # noqa: E402
from edgevlm.passes import make_passes  # noqa: E402
from edgevlm.passes.pipelines import Flags, compose  # noqa: E402
from edgevlm.passes.tokens.methods import METHODS  # noqa: E402
from edgevlm.passes.tokens.schedule import parse_asked  # noqa: E402

ROLES = {"vision", "connector", "embed", "prefill", "decode"}


def seen_by(model, noise=0.0):
    """What every part is given on a picture and a question."""
    probes = inputs_of(model)
    pixels = probes[0].pixel_values
    grain = noise * np.random.default_rng(0).normal(size=pixels.shape).astype(np.float32)
    return observe(model, [replace(probes[0], pixel_values=pixels + grain)]).feeds[0]


def passed(model, flags, probes=(), runtime="ort"):
    recipe = compose("host-cpu", runtime, flags, model)
    return apply_unchecked(model, make_passes(recipe), probes)


@pytest.mark.parametrize("clean", [False, True], ids=["as exported", "cleaned"])
@pytest.mark.parametrize("name", ["easyvqa-tiny", "scenes-tiny"])
def test_bundled_models(name, clean, equal):
    model = load_model(bundled_folder(name))
    model = passed(model, Flags()) if clean else model
    feeds = seen_by(model)
    assert set(feeds) == set(model.parts) == ROLES
    for role, part in model.parts.items():
        equal(part, dict(feeds[role]), rtol=1e-4)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
@pytest.mark.parametrize("method", METHODS)
def test_models_with_fewer_tokens(method, runtime, tiny_model, tiny_probes, equal):
    """Every method where it goes by itself, in both forms of selectors; choices are the same.

    Under noise: tokens of a plain background are equal but for rounding, and any of them will do.
    """
    asked = parse_asked(
        None if METHODS[method].as_pass == "merge-attention" else "24", method, None
    )
    model = passed(tiny_model, Flags(asked), tiny_probes[:2], runtime)
    feeds = seen_by(model, noise=1.0)
    changed = [r for r in model.parts if model.parts[r] is not tiny_model.parts[r]]
    assert changed
    for role in changed:
        equal(model.parts[role], dict(feeds[role]), rtol=1e-4)


@pytest.mark.parametrize("quant", ["w8", "w4a16"])
def test_stored_integers(quant, tiny_model, tiny_probes, equal):
    model = passed(tiny_model, Flags(quant=quant), tiny_probes[:2])
    feeds = seen_by(model)
    for role, part in model.parts.items():
        equal(part, dict(feeds[role]), rtol=1e-4)


@pytest.mark.parametrize("flags", [{"quant": "w8a8"}, {"quant": "w4a8"}, {"kv": "int8"}], ids=str)
def test_numbers_that_are_rounded_while_it_runs(flags, tiny_model, tiny_probes, both):
    """One that lies between two integers may fall to either side, and what follows with it."""
    model = passed(tiny_model, Flags(**flags), tiny_probes[:2])
    feeds = seen_by(model)
    for role, part in model.parts.items():
        want, found = both(part, dict(feeds[role]))
        for name, array in want.items():
            if array.dtype == np.int8:
                assert np.abs(found[name].astype(int) - array.astype(int)).max() <= 2
            else:
                assert measure(array, found[name], name).sqnr_db > 40


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 3, "mask": "bool"}, {"mask": "float"}, {"tower": 2}, {"heads": 4, "width": 16}],
    ids=str,
)
def test_miniatures(options, make_micro, equal):
    model = make_micro(**options)
    for role, part in model.parts.items():
        equal(part, dict(seen_by(model)[role]))


def test_all_that_is_trained_may_be_stored_in_a_whole_part(tiny_model, tiny_probes, ort):
    part = tiny_model.parts["vision"].clone()
    net, feeds = to_torch(part), {"pixel_values": tiny_probes[0].pixel_values}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.05 * parameter.abs().mean() * noise)
        want = net({n: torch.from_numpy(a) for n, a in feeds.items()})["image_features"].numpy()
    net.store(part)
    after, before = (ort(p, **feeds)["image_features"] for p in (part, tiny_model.parts["vision"]))
    np.testing.assert_allclose(after, want, rtol=1e-4, atol=1e-3)
    assert np.abs(after - before).max() > 0.05
