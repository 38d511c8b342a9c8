"""`edgevlm compile --prune resize`: smaller pictures from the compile to the answer."""

from __future__ import annotations

import json


def test_a_bundle_of_smaller_pictures_compiles_verifies_and_answers(
    edgevlm, micro_folder, tmp_path
):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm(
        "compile", micro_folder, "--target", "cpu", "-o", out,
        "--tokens", "4", "--prune", "resize", "--payoff", "quick", "--force", "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    report = ended.json
    assert report["answers"]["probes"] == 3
    assert {"before_ms", "after_ms"} == report["payoff"]["stages"]["vision"].keys()
    contract = json.loads((out / "manifest.json").read_text())["contract"]
    assert (contract["image_height"], contract["image_width"]) == (4, 4)
    assert (contract["vision_kept"], contract["image_tokens"]) == (4, 9)
    recipe = (out / "recipe.toml").read_text()
    assert 'name = "resize-image"' in recipe and "keep-tokens" not in recipe
    assert edgevlm("verify", out).status == 0
    picture = out / "goldens" / "000.png"
    asked = edgevlm("run", out, "--image", picture, "--prompt", "is it red")
    assert asked.status == 0, asked.err


def test_a_site_for_it_is_refused_in_three_lines(edgevlm, micro_folder, tmp_path):
    ended = edgevlm(
        "compile", micro_folder, "--target", "cpu", "-o", tmp_path / "b.edgevlm",
        "--tokens", "4", "--prune", "resize", "--prune-at", "connector-out",
    )  # fmt: skip
    assert ended.status == 2 and ended.code == "EV230" and "resize-image" in ended.err
