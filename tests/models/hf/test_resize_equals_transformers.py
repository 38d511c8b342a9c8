"""resize-image against transformers: the tower on smaller pictures, positions interpolated."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the HF frontend needs: pip install 'edgevlm[torch]'")
transformers = pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.executor import ReferenceParts  # noqa: E402
from edgevlm.models.zoo import bundled_folder  # noqa: E402
from edgevlm.passes.tokens.resize_image import ResizeImage  # noqa: E402


@pytest.fixture(scope="module")
def tower():
    folder = bundled_folder("easyvqa-tiny").parent / "checkpoint"
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval().model.vision_tower


@pytest.mark.parametrize("tokens", [30, 16, 12, 6, 1])
def test_features_are_those_of_interpolate_pos_encoding(tiny_model, tower, tokens):
    model = ResizeImage(tokens=tokens)(tiny_model).model
    size = (1, 3, model.contract.image_height, model.contract.image_width)
    picture = np.random.default_rng(tokens).normal(size=size).astype(np.float32)
    got = ReferenceParts(model.parts).call("vision", {"pixel_values": picture})["image_features"]
    with torch.no_grad():
        seen = tower(
            torch.tensor(picture), output_hidden_states=True, interpolate_pos_encoding=True
        )
    want = seen.hidden_states[-1].numpy()
    assert got.shape == want.shape and np.abs(got - want).max() < 1e-4
