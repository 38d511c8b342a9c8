"""resize-image: the same model on a smaller grid, and everything that says how large it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import encode_image
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.recipe import Step
from edgevlm.models.answer import image_processor, inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.bicubic import bicubic
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.resize_image import ResizeImage, choose_grid
from edgevlm.passes.tokens.schedule import parse_asked

TOWER = {"layers": 2, "tower": 2, "width": 16, "heads": 4, "kv_heads": 2}


def refused(call, code="EV230"):
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def inputs(model):
    return inputs_of(model)


def fits(model):
    """Every part has the ports that the contract speaks of."""
    for role, part in model.parts.items():
        sides = ((model.contract.inputs, part.graph.inputs), (model.contract.outputs, None))
        for ports, values in sides:
            values = part.graph.outputs if values is None else values
            assert {p.name: p.shape for p in ports(role)} == {
                v.name: tuple(v.shape) for v in values
            }


@given(data=st.data())
def test_the_grid_is_within_the_budget_and_no_larger_one_is_as_near(data):
    whole = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    most = data.draw(st.integers(1, whole[0] * whole[1]))
    grid = choose_grid(whole, most)
    assert 1 <= grid[0] <= whole[0] and 1 <= grid[1] <= whole[1] and math.prod(grid) <= most

    def nearness(g):
        return abs(math.log(g[0] / g[1] / (whole[0] / whole[1])))

    for r in range(1, whole[0] + 1):
        c = min(whole[1], most // r)
        if c:
            better = nearness((r, c)) < nearness(grid) - 1e-6
            same = abs(nearness((r, c)) - nearness(grid)) < 1e-9
            assert not better and not (same and r * c > math.prod(grid))


def test_grids_of_well_known_budgets():
    assert choose_grid((8, 8), 16) == (4, 4) and choose_grid((8, 8), 64) == (8, 8)
    assert choose_grid((8, 8), 15) == (3, 4) and choose_grid((8, 8), 1) == (1, 1)
    assert choose_grid((24, 24), 64) == (8, 8) and choose_grid((4, 9), 9) == (2, 4)
    assert choose_grid((8, 8), 15, same_shape=True) == (3, 3)
    assert choose_grid((4, 6), 23, same_shape=True) == (2, 3)
    assert choose_grid((3, 4), 11, same_shape=True) is None


@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize(("tokens", "grid"), [(12, (3, 4)), (6, (2, 3)), (1, (1, 1))])
def test_it_is_the_model_of_that_grid_with_its_positions_resampled(make_micro, lead, tokens, grid):
    """The miniature built for the smaller grid, given the weights of the larger one."""
    large = make_micro(grid=(4, 5), lead=lead, **TOWER)
    small = make_micro(grid=grid, lead=lead, **TOWER)
    got = ResizeImage(tokens=tokens, position="renumber")(large).model
    assert got.contract == small.contract.model_copy(
        update={"kv_capacity": got.contract.kv_capacity}
    )
    fits(got)
    for role, part in small.parts.items():
        weights = large.parts[role].graph.initializers
        for name, value in part.graph.initializers.items():
            array = weights[name].const_value.numpy()
            if name == "place":
                places = array[0, lead:].reshape(4, 5, -1)
                rows = bicubic(places, grid[0]).transpose(1, 0, 2)
                places = bicubic(rows, grid[1]).transpose(1, 0, 2).reshape(1, math.prod(grid), -1)
                array = np.concatenate([array[:, :lead], places], 1)
            if array.dtype.kind == "f":
                value.const_value = ir.tensor(array, name=name)
    parts, wanted = ReferenceParts(got.parts), ReferenceParts(small.parts)
    for probe in inputs(got):
        a = encode_image(got.contract, parts, probe.pixel_values)
        b = encode_image(small.contract, wanted, probe.pixel_values)
        np.testing.assert_allclose(a.embeds, b.embeds, rtol=1e-4, atol=1e-5)


def test_tokens_stand_for_the_nearest_places_and_words_stay_where_they_were(make_micro):
    large = make_micro(grid=(4, 5), **TOWER)
    made = ResizeImage(tokens=6)(large).model
    fits(made)
    c = made.contract
    assert (c.image_tokens, c.given_tokens, c.kept_image_tokens, c.grid) == (20, 6, 6, (4, 5))
    assert (c.image_height, c.image_width) == (4, 6) and c.image_positions == "original"
    image = encode_image(c, ReferenceParts(made.parts), inputs(made)[0].pixel_values)
    assert image.index.tolist() == [5, 7, 9, 15, 17, 19]
    other = ResizeImage(tokens=6, position="renumber")(large).model
    plain = encode_image(other.contract, ReferenceParts(other.parts), inputs(other)[0].pixel_values)
    assert plain.index.tolist() == [0, 1, 2, 3, 4, 5] and np.array_equal(plain.embeds, image.embeds)


def test_a_step_behind_it_chooses_among_its_tokens(make_micro):
    model = ResizeImage(tokens=12)(make_micro(grid=(4, 5), **TOWER)).model
    for at in ("vision:1", "vision-out", "connector-out", "llm:1"):
        made = KeepTokens(keep=5, method="divprune", at=at)(model).model
        fits(made)
        image = encode_image(
            made.contract, ReferenceParts(made.parts), inputs(made)[0].pixel_values
        )
        places = {5 * r + c for r in (0, 2, 3) for c in (0, 1, 3, 4)}
        assert set(image.index) <= places and len(image.index) == (12 if at == "llm:1" else 5)
    renumbered = ResizeImage(tokens=12, position="renumber")(make_micro(grid=(4, 5), **TOWER)).model
    KeepTokens(keep=5, method="grid-max", at="llm:1")(renumbered)


def test_pictures_keep_their_cut(make_micro):
    model = make_micro(grid=(4, 6), **TOWER)  # pictures of 8 x 12

    def resized(tokens, **settings):
        image = model.processor.image | settings
        given = replace(model, processor=model.processor.model_copy(update={"image": image}))
        made = ResizeImage(tokens=tokens)(given).model
        image_processor(made.contract, made.processor)  # it is one, of the contract's size
        return made.processor.image

    assert [resized(6)[k] for k in ("height", "width")] == [4, 6]
    assert resized(6, resize_to=[10, 14])["resize_to"] == [5, 7]
    assert resized(6, shortest_edge=9)["shortest_edge"] == 4
    assert [resized(23, shortest_edge=9)[k] for k in ("height", "width")] == [4, 6]
    assert "no smaller grid has that shape" in refused(lambda: resized(5, shortest_edge=9)).why
    assert "crops pictures" in refused(lambda: resized(6, do_resize=False)).why


def test_what_it_refuses(make_micro, graph):
    model = make_micro(grid=(4, 5), **TOWER)
    for tokens in (0, 21, -1):
        fault = refused(lambda n=tokens: ResizeImage(tokens=n)(model), "EV203")
        assert "1 to 20" in fault.why
    kept = KeepTokens(keep=9, method="stride")(model).model
    assert "in front of keep-tokens" in refused(lambda: ResizeImage(tokens=5)(kept), "EV205").fix
    dense = model.contract.model_copy(
        update={"kind": "dense", "map_channels": 1, "map_height": 8, "map_width": 10}
    )
    assert "map" in refused(lambda: ResizeImage(tokens=5)(model.with_parts(dense))).why
    size = "[1,3,8,10] pixel_values) => (float[1,20,4] image_features)"
    overlapping = graph(
        f"(float{size} {{ [c] a = Conv<strides = [2, 2], pads = [0, 0, 1, 1]>(pixel_values, w)"
        "[r] b = Reshape(a, to) [t] image_features = Transpose<perm = [0, 2, 1]>(b) }",
        w=np.ones((4, 3, 3, 3), np.float32), to=np.array([1, 4, 20]),
    )  # fmt: skip
    plain = make_micro(grid=(4, 5))
    fault = refused(lambda: ResizeImage(tokens=6)(plain.with_parts(vision=overlapping)))
    assert "not cut into 4 rows of patches side by side" in fault.why


def test_all_tokens_are_all_tokens(make_micro):
    model = make_micro(grid=(4, 5), **TOWER)
    result = ResizeImage(tokens=20)(model)
    assert not result.changed and result.model is model and result.notes[0].kind == "skipped"


def test_the_real_count_is_told(tiny_model):
    why = [n.why for n in ResizeImage(tokens=15)(tiny_model).notes]
    assert any("12 tokens and not 15" in w for w in why) and any("24 x 32" in w for w in why)


def test_from_the_command_line_to_answers(tiny_model, tiny_probes):
    asked = parse_asked("25%", "resize", None)
    recipe = compose("host-cpu", "ort", Flags(asked), tiny_model)
    assert [s.options for s in recipe.steps if s.name == "resize-image"] == [{"tokens": 16}]
    assert not any(s.name == "keep-tokens" for s in recipe.steps)
    model, record, seen = run_passes(tiny_model, make_passes(recipe), inputs)
    assert model.contract.kept_image_tokens == 16 and all(map(len, seen.answers))
    check = next(a.check for a in record if a.name == "resize-image")
    assert check.agree >= 10  # of 12: pictures of one large shape each
    with pytest.raises(JobFault, match="made before") as caught:
        run_passes(tiny_model, make_passes(recipe), tiny_probes)
    assert caught.value.code == "EV501"


def test_it_has_no_site_and_one_budget(tiny_model):
    for asked in (parse_asked("16", "resize", "llm:2"), parse_asked("32,16", "resize", None)):
        assert "resize-image" in refused(lambda a=asked: a.steps(tiny_model, "ort")).why
    fault = refused(lambda: KeepTokens(keep=9, method="resize"))
    assert "a pass of its own, resize-image" in fault.why
    renumber = parse_asked("16", "resize", None, "renumber").steps(tiny_model, "ort")
    assert renumber == [Step("resize-image", {"tokens": 16, "position": "renumber"})]


def test_behind_a_pixel_shuffle_rows_and_columns_go_in_whole_blocks(make_micro, graph):
    """8 x 8 patches, 2 x 2 of them a token; the connector says so by its reshapes alone."""
    rng = np.random.default_rng(0)
    base = make_micro(grid=(4, 4))
    vision = graph(
        "(float[1,3,16,16] pixel_values) => (float[1,64,4] image_features) {"
        "[c] a = Conv<strides = [2, 2]>(pixel_values, w) [r] b = Reshape(a, to)"
        "[t] image_features = Transpose<perm = [0, 2, 1]>(b) }",
        w=rng.normal(size=(4, 3, 2, 2)).astype(np.float32), to=np.array([1, 4, 64]),
    )  # fmt: skip
    connector = graph(
        "(float[1,64,4] image_features) => (float[1,16,8] image_embeds) {"
        "[a] a = Reshape(image_features, cut) [b] b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a)"
        "[c] c = Reshape(b, join) [m] image_embeds = MatMul(c, w) }",
        cut=np.array([1, 4, 2, 4, 2, 4]), join=np.array([1, 16, 16]),
        w=rng.normal(size=(16, 8)).astype(np.float32),
    )  # fmt: skip
    contract = base.contract.model_copy(
        update={"image_height": 16, "image_width": 16, "vision_tokens": 64}
    )
    image = base.processor.image | {"height": 16, "width": 16}
    model = replace(
        base.with_parts(contract, vision=vision, connector=connector),
        processor=base.processor.model_copy(update={"image": image}),
    )
    made = ResizeImage(tokens=6)(model).model
    fits(made)
    c = made.contract
    assert (c.image_height, c.image_width, c.vision_tokens) == (8, 12, 24)
    picture = rng.normal(size=(1, 3, 8, 12)).astype(np.float32)
    image = encode_image(c, ReferenceParts(made.parts), picture)
    whole = np.zeros((1, 3, 16, 16), np.float32)
    whole[:, :, :8, :12] = picture
    every = encode_image(contract, ReferenceParts(model.parts), whole)
    corner = every.embeds.reshape(4, 4, 8)[:2, :3].reshape(6, 8)
    np.testing.assert_allclose(image.embeds[0], corner, rtol=1e-5)
