"""The page as a file: whole by itself, the same twice, readable; no stranger's text is markup."""

from __future__ import annotations

import html
import re

import pytest
from micro.page import elements, visible
from micro.subject import make_eval, make_profile, make_record, make_subject, png

from edgevlm.commands.pareto import front
from edgevlm.devices.report.page import render
from edgevlm.devices.report.recorded import Record
from edgevlm.devices.report.subject import Probe

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}\u202e\x00</style>"
LAYERS = [
    {"role": "vision", "node": f"n{i}", "op": op, "unit": unit, "ms": 0.5, "how": "measured-host"}
    for i, (op, unit) in enumerate([("Conv", "CPU"), ("Attention", "CPU"), ("TopK", "GPU")])
]
THERMAL = {
    "series": [{"at_s": t, "celsius": 40 + t % 7, "zone": z} for t in range(400) for z in "ab"],
    "throttled": False,
    "why": "clocks stayed",
}
POWER = {"meter": "rapl", "how": "measured-host", "watts": 11.0, "idle_w_before": 5.0}


def full(name="cat.edgevlm", **more):
    profile = make_profile(
        layers=LAYERS, thermal=THERMAL, power=POWER, energy_j_per_answer=0.2,
        energy_note="the CPU package",
        state={"before": {"units_mhz": {"gpu": 1020}}, "after": {"units_mhz": {"gpu": 918}}},
    )  # fmt: skip
    told = {"profiles": [profile, make_profile(how="predicted", device={"name": "J"})]}
    return make_subject(name, **(told | more))


PAGES = {
    "one": [full()],
    "several": [full(), make_subject("b.edgevlm", bytes=10**6, evals=[make_eval(95)])],
    "never measured": [make_subject(profiles=[], evals=[], record=Record())],
    "a classifier": [make_subject(kind="classifier", profiles=[make_profile(ttft_ms=None)])],
}


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    return render(PAGES[request.param], front)


def test_nothing_on_the_page_leads_out_of_it(page):
    for element in elements(page):
        for name, value in element.attrs.items():
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                inside = value.startswith("#") or value.startswith("data:image/png;base64,")
                assert inside, (element.tag, name, value[:80])
        assert element.tag not in (
            "script", "iframe", "object", "embed", "link", "form", "base", "audio", "video",
        )  # fmt: skip
        assert not any(name.startswith("on") for name in element.attrs)
    assert b"url(" not in page and b"@import" not in page and b"http:" not in page
    assert page.count(b"https:") == 0


def test_the_policy_forbids_to_load_anything_and_comes_first(page):
    metas = [e.attrs for e in elements(page) if e.tag == "meta"]
    (policy,) = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.split("; ")[:3] == [
        "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'",
    ]  # fmt: skip
    assert page.index(b"Content-Security-Policy") < page.index(b"<style")


def test_every_link_inside_the_page_arrives(page):
    found = elements(page)
    ids = [e.attrs["id"] for e in found if "id" in e.attrs]
    assert len(ids) == len(set(ids))
    for element in found:
        if element.attrs.get("href", "").startswith("#"):
            assert element.attrs["href"][1:] in ids


def test_who_cannot_see_it_is_told_the_same(page):
    found = elements(page)
    assert next(e for e in found if e.tag == "html").attrs["lang"] == "en"
    assert all(e.attrs.get("alt") for e in found if e.tag == "img")
    for svg in (e for e in found if e.tag == "svg"):
        told = svg.attrs.get("role") == "img" and svg.attrs.get("aria-label")
        assert told or svg.attrs.get("aria-hidden") == "true"
    assert all(e.attrs.get("scope") in ("col", "row") for e in found if e.tag == "th")
    tables = [e for e in found if e.tag == "table"]
    assert len(tables) > 1 and all(e.above[-1] == "div" for e in tables)  # its own box scrolls
    heads = [int(e.tag[1]) for e in found if re.fullmatch("h[1-6]", e.tag)]
    assert heads[0] == 1 and heads.count(1) == 1


def test_the_same_data_give_the_same_bytes():
    assert render([full()], front) == render([full()], front)


def test_no_clock_is_read(monkeypatch):
    import time

    before = render([full()], front)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert render([full()], front) == before
    assert "2026-03-04 05:06:07 UTC" in visible(before)


def test_the_sections_of_a_bundle_are_all_there():
    text = visible(render([full()], front))
    for part in (
        "Speed and energy", "What the first token waits for", "Temperature", "Where the time goes",
        "Which unit ran each op", "1 of 3 nodes ran elsewhere than on the CPU", "918",
        "Against no pruning", "Accuracy", "Passes, and how far each moved the numbers",
        "keep-tokens",
        "Nothing to do for fuse-gelu", "16 of 64 by dart", "What was proven, and what was not",
        'target = "host-cpu"', "onnxruntime", "a" * 64, "what colour is it?", "red", "predicted",
        "measured since, see speed and energy", "It did not throttle: clocks stayed.",
    ):  # fmt: skip
        assert part in text, part


def test_a_bundle_never_measured_says_what_is_missing_and_what_brings_it():
    text = visible(render(PAGES["never measured"], front))
    assert "edgevlm profile cat.edgevlm --ops" in text and "edgevlm eval cat.edgevlm" in text
    assert "edgevlm profile BUNDLE measures it" in text  # as the manifest says, still open
    assert "nan" not in text.lower() and "None" not in text


def test_one_bundle_is_not_compared_with_itself():
    assert "Pareto" not in visible(render(PAGES["one"], front))
    assert "Pareto" in visible(render(PAGES["several"], front))


def test_two_that_share_no_questions_say_so():
    bare = [make_subject(n, profiles=[], evals=[]) for n in ("a", "b")]
    assert "There are no plots of accuracy against cost" in visible(render(bare, front))


def evil_subject():
    drift = {"sqnr_db": 1.0, "tensor": EVIL, "against": EVIL}
    layer = {"role": EVIL, "node": EVIL, "op": EVIL, "unit": EVIL, "ms": 1.0, "how": "predicted"}
    heat = [{"at_s": t, "celsius": 40, "zone": EVIL} for t in range(3)]
    profile = make_profile(
        device={"name": EVIL, "reached": EVIL}, host={"cpu_model": EVIL, "os": EVIL},
        layers=[layer], thermal={"series": heat, "why": EVIL}, tools={EVIL: EVIL},
        energy_note=EVIL, notes=[EVIL], confidence=EVIL,
        state={"before": {"governor": EVIL, "units_mhz": {EVIL: 1}}},
    )  # fmt: skip
    record = make_record(
        parts=[{"role": EVIL, "drift": drift}], notes=[EVIL],
        quant={"scheme": EVIL, "bits": 8},
        passes=[{"name": EVIL, "effect": EVIL, "options": {EVIL: EVIL}, "notes": [
            {"kind": EVIL, "where": EVIL, "why": EVIL}], "check": {"parts": {EVIL: drift}}}],
    )  # fmt: skip
    return make_subject(
        EVIL, source=EVIL, licence=EVIL, device=EVIL, runtime=EVIL, edgevlm=EVIL, recipe=EVIL,
        toolchain={EVIL: EVIL}, verified={EVIL: EVIL}, not_verified={EVIL: EVIL},
        files={EVIL: (1, EVIL)}, changed_files=[EVIL], record=record, profiles=[profile],
        evals=[make_eval(dataset=EVIL, split=EVIL, metric=EVIL)], answered=EVIL,
        probes=[Probe(png(), (9, 9), EVIL, EVIL), Probe(None, (0, 0), EVIL, EVIL, EVIL)],
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_no_text_of_a_stranger_becomes_markup(count):
    page = render([evil_subject() for _ in range(count)], front)
    found = elements(page)  # and every element ends where it should
    assert not [e for e in found if e.tag == "script" or "onerror" in e.attrs]
    assert all(e.attrs["src"].startswith("data:image/png;base64,") for e in found if e.tag == "img")
    assert page.count(b"</style>") == 1
    text = visible(page)
    assert text.count("<script>alert(1)</script>") > 20 and "{{7*7}}" in text
    assert "\u202e" not in page.decode() and "\\u202e\\x00" in text


def test_very_long_names_do_not_make_a_very_long_page():
    name = "x" * 400
    layer = {"role": name, "node": name, "op": name, "ms": 1.0, "how": "measured-host"}
    short = len(render([make_subject(profiles=[make_profile(layers=[layer])])], front))
    many = make_profile(layers=[layer | {"role": f"r{i % 5}"} for i in range(50_000)])
    subject = make_subject(
        name, profiles=[many], recipe="y" * 10**6, probes=[Probe(None, (0, 0), "z" * 4096, name)]
    )
    assert len(render([subject], front)) < short + 3_000_000


def test_a_bundle_without_probes_says_so():
    text = visible(render([make_subject(probes=[])], front))
    assert "This bundle carries no probes." in text


def test_a_recipe_can_be_copied_from_the_page():
    recipe = 'target = "host-cpu"\n\n\n[[pass]]  \nname = "a<b"\n'
    page = render([make_subject(recipe=recipe)], front).decode()
    assert html.unescape(page.partition("<pre><code>")[2].partition("</code></pre>")[0]) == recipe


def test_a_recipe_is_not_cut_off():
    recipe = "".join(f'[[pass]]\nname = "p{i}"\n' for i in range(900))
    assert 'name = "p899"' in visible(render([make_subject(recipe=recipe)], front))
