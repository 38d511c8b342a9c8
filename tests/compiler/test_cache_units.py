"""Two versions of a model whose caches hold other units are compared in one."""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.cache_units import InUnits, relative_units, scale_units, to_units, units_of
from edgevlm.compiler.exported_model import load_model, save_model

BY = np.array([[2.0, 4.0, 0.5, 1.0]], np.float32)


def scaled(model, *units):
    clone = model.clone()
    for by in units:
        scale_units(clone.parts["decode"], {"value_0": by, "past_value_0": by})
    return clone


def test_units_multiply_and_are_told_apart_from_those_of_another_version(micro_model, tmp_path):
    once, twice = scaled(micro_model, BY), scaled(micro_model, BY, BY)
    assert not relative_units(micro_model, micro_model) and not relative_units(once, once)
    assert np.array_equal(relative_units(micro_model, twice)["value_0"], BY * BY)
    assert np.array_equal(relative_units(once, twice)["value_0"], BY)
    assert np.array_equal(relative_units(twice, once)["value_0"], 1 / BY)
    assert set(relative_units(micro_model, once)) == {"value_0"}
    save_model(once, tmp_path)
    assert np.array_equal(units_of(load_model(tmp_path).parts["decode"])["value_0"], BY)


def test_caches_come_in_and_go_out_in_the_units_of_the_source():
    class Echo:
        def call(self, role, feeds):
            return {"value_0": feeds["past_value_0"], "logits": feeds["x"]}

    rows = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    feeds = {"past_value_0": rows, "x": rows}
    assert np.array_equal(to_units(feeds, {"value_0": BY})["past_value_0"][0, 0], rows[0, 0] / BY)
    out = InUnits(Echo(), {"value_0": BY}).call("decode", feeds)
    assert np.array_equal(out["value_0"], rows) and np.array_equal(out["logits"], rows)
    assert np.array_equal(feeds["past_value_0"], rows)  # what was given stays as it is
