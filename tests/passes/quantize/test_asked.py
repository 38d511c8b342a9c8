"""--quant SCHEME[:OPTION=VALUE,...]."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Recipe
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.asked import QUANT_SCHEMES, quant_steps


def options(asked):
    return next(s.options for s in quant_steps(asked) if s.name == "quantize-weights")


@pytest.mark.parametrize("scheme", QUANT_SCHEMES)
def test_every_scheme_can_be_made(scheme):
    steps = quant_steps(scheme)
    assert [p.name for p in make_passes(Recipe("cpu", steps))] == [s.name for s in steps]


def test_options_are_those_of_the_weights():
    assert options("w4a16:block=128,method=vlm-ptq") == {
        "bits": 4, "block": 128, "method": "vlm-ptq",
    }  # fmt: skip
    assert options("w8: embeddings = false , min-elements=7") == {
        "embeddings": False, "min_elements": 7,
    }  # fmt: skip
    assert options("dasq-w4a8:outliers=0.05,form=ell")["outliers"] == 0.05
    assert options("mixed:avg=4.5bit")["average_bits"] == 4.5
    assert quant_steps("w8a8")[0].options == {}


def test_blocks_are_those_of_the_target_unless_asked_for():
    assert quant_steps("w4a16", 128)[0].options["block"] == 128
    assert quant_steps("w4a16:block=64", 128)[0].options["block"] == 64
    assert "block" not in quant_steps("w4a8", 128)[1].options, "a scale a channel has none"


@pytest.mark.parametrize(
    "asked", ["w2", "", "w8:", "w8:bits", "w8:=4", "w8:bits=", "none:bits=4", "W8", "w8,bits=4"]
)
def test_what_cannot_be_read_is_refused(asked):
    if asked == "w8:":
        assert quant_steps(asked) == quant_steps("w8")  # nothing behind the colon
        return
    with pytest.raises(UsageFault) as caught:
        quant_steps(asked)
    assert caught.value.code == "EV202" and "w4a16" in caught.value.why


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("w4a16:block=-1", "block"),
        ("w8:bits=9", "bits"),
        ("w8:method=best", "method"),
        ("w8:colour=red", "colour"),
        ("dasq-w4a8:block=32", "one scale a row"),
        ("dasq-w4a8:bits=7", "2 to 6 bits"),
        ("mixed:avg=9bit", "average_bits"),
        ("mixed:avg=many", "average_bits"),
    ],
)
def test_options_out_of_range_are_refused_by_the_pass(asked, word):
    with pytest.raises(UsageFault) as caught:
        make_passes(Recipe("cpu", quant_steps(asked)))
    assert caught.value.code == "EV202" and word in caught.value.what + caught.value.why
