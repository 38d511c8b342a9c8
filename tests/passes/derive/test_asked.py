"""What the command line asks for as steps of a recipe, and what is refused."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.derive.asked import DERIVE_STEPS, parse_derived
from edgevlm.passes.pipelines import Flags, compose


def asked(**options):
    known = {"classes": None, "alpha": None, "latency": None}
    return parse_derived(**known | options)


def steps(kind="classifier", **options):
    return [(s.name, s.options) for s in asked(**options).steps(kind)]


def test_nothing_asked_is_nothing():
    assert asked() is None


def test_each_option_is_a_step():
    assert steps(classes="cat, dog") == [("keep-classes", {"classes": ["cat", "dog"]})]
    assert steps(alpha=0.6) == [("narrow-encoder", {"alpha": 0.6})]
    assert steps(classes="a,b", alpha=0.6, purify=50, recover=70) == [
        ("keep-classes", {"classes": ["a", "b"]}),
        ("purify-units", {"steps": 50}),
        ("narrow-encoder", {"alpha": 0.6}),
        ("recover-encoder", {"steps": 70}),
    ]
    assert steps("vlm", domain="x", alpha=0.6, purify=9)[0][1] == {"steps": 9, "by": "lm"}
    assert steps("vlm", alpha=0.6, purify=9)[0][1] == {"steps": 9, "by": "features"}


def test_a_recipe_has_them_in_the_order_of_the_pipeline(micro_model):
    derived = asked(alpha=0.6, purify=50, recover=70)
    recipe = compose("host-cpu", "ort", Flags(derived=derived), micro_model)
    found = [s.name for s in recipe.steps if s.name in DERIVE_STEPS]
    assert found == ["purify-units", "narrow-encoder", "recover-encoder"]
    assert {s.options.get("by") for s in recipe.steps if s.name == "purify-units"} == {"features"}


def test_widths_are_rounded_to_what_the_device_file_says(micro_model):
    flags = Flags(derived=asked(alpha=0.6, recover=70))
    for multiple, options in ((None, {"alpha": 0.6}), (16, {"alpha": 0.6, "multiple": 16})):
        recipe = compose("host-cpu", "ort", flags, micro_model, multiple)
        (narrow,) = [s.options for s in recipe.steps if s.name == "narrow-encoder"]
        assert narrow == options
        assert not any("multiple" in s.options for s in recipe.steps if s.name != "narrow-encoder")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"purify": 5}, "EV220", "--purify by itself"),
        ({"recover": 5}, "EV220", "--recover by itself"),
        ({"recover": 5, "classes": "a,b"}, "EV220", "nothing takes anything away"),
        ({"domain": "x"}, "EV220", "nothing is fitted to it"),
        ({"domain": "x", "recover": 5}, "EV220", "nothing takes anything away"),
        ({"domain": "x", "classes": "a,b", "alpha": 0.5}, "EV220", "--domain with --classes"),
        ({"alpha": 0.5, "latency": "5ms"}, "EV220", "--latency-budget"),
        *(({"alpha": a}, "EV250", "between 0 and 1") for a in (0.0, 1.0, -1.0, float("nan"), 7.0)),
        *(({"latency": t}, "EV250", "a time with its unit") for t in ("5", "0ms", "-1ms", "x", "")),
    ],
)
def test_what_would_do_nothing_is_refused(options, code, said):
    with pytest.raises(UsageFault) as caught:
        asked(**options)
    fault = caught.value
    assert fault.code == code and said in f"{fault.what}; {fault.why}" and fault.fix
