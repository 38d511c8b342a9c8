"""The page in a real browser: light, dark and on a phone, and it asks the network for nothing."""

from __future__ import annotations

import numpy as np
import pytest
from micro.browser import INSTALL, find_browser, open_page
from micro.subject import make_eval, make_profile, make_record, make_subject

from edgevlm.commands.pareto import front
from edgevlm.devices.report.page import render

LAYERS = [
    {"role": role, "node": f"blocks.{i}", "op": op, "unit": "CPU", "ms": ms, "how": "measured-host"}
    for role in ("vision", "prefill")
    for i in range(40)
    for op, ms in (("MatMul", 0.3), ("Attention", 0.2), ("Add", 0.01))
]
HEAT = [{"at_s": t, "celsius": 40 + t / 9, "zone": z} for t in range(99) for z in ("gpu", "cpu")]
OVERFLOWS = """[...document.body.querySelectorAll('*')].filter(
  e => !e.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > innerWidth + 1
).map(e => e.tagName + '.' + e.className).slice(0, 9)"""


@pytest.fixture(scope="module")
def browser():
    program = find_browser()
    if program is None:
        pytest.skip(f"looking at the page needs a browser: {INSTALL}")
    with open_page(program) as page:
        yield page


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """name -> file of a page."""
    profile = make_profile(layers=LAYERS, thermal={"series": HEAT, "throttled": True})
    subjects = [
        make_subject(
            f"cat-{i}.edgevlm", bytes=10**6 * (i + 1), evals=[make_eval(80 + 4 * i)],
            profiles=[make_profile(10 + i)] if i else [profile],
        )
        for i in range(4)
    ]  # fmt: skip
    long = "an_unbroken_name_" * 20
    layer = LAYERS[0] | {"node": long, "op": long, "role": long, "unit": long}
    hostile = make_subject(
        long, source=long, device=long, recipe=f'name = "{long * 9}"', changed_files=[long * 9],
        record=make_record(passes=[{"name": long, "options": {long: long}}], notes=[long]),
        profiles=[make_profile(layers=[layer], energy_note=long, host={"cpu_model": long})],
        evals=[make_eval(dataset=long)],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pages")
    found = {"one": subjects[:1], "several": subjects, "hostile": [hostile, *subjects[:1]]}
    for name, of in found.items():
        (folder / f"{name}.html").write_bytes(render(of, front))
    return {name: folder / f"{name}.html" for name in found}


def grey(image):
    return np.asarray(image.convert("L"), dtype=float)


@pytest.mark.parametrize("name", ["one", "several", "hostile"])
def test_light_and_dark_are_there_and_not_blank(browser, reports, tmp_path, name):
    seen = {}
    for dark in (False, True):
        browser.show(reports[name], dark=dark)
        shot = browser.shot(tmp_path / f"{name}-{'dark' if dark else 'light'}.png")
        assert shot.size == (1200, 900)
        seen[dark] = grey(shot)
        assert seen[dark].std() > 8 and len(np.unique(seen[dark])) > 50
    assert seen[False].mean() > 200 and seen[True].mean() < 80
    ink = [np.percentile(seen[dark], 0.3 if not dark else 99.7) for dark in (False, True)]
    assert ink[0] < 90 and ink[1] > 160  # text stands out in both


@pytest.mark.parametrize("wide", [320, 360, 768, 1200])
@pytest.mark.parametrize("name", ["one", "several", "hostile"])
def test_the_page_is_never_wider_than_the_window(browser, reports, tmp_path, name, wide):
    browser.show(reports[name], wide=wide)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.ask("innerWidth") == wide
    assert browser.ask("document.documentElement.scrollWidth") == wide
    assert browser.ask(OVERFLOWS) == []
    if wide == 360:
        phone = grey(browser.shot(tmp_path / f"{name}-phone.png"))
        assert phone.shape[1] == 360 and phone.std() > 8


def test_letters_in_plots_can_be_read_on_a_phone(browser, reports):
    browser.show(reports["several"], wide=360)
    sizes = browser.ask(
        """[...document.querySelectorAll('svg text')].map(t => {
        const svg = t.ownerSVGElement;
        return parseFloat(getComputedStyle(t).fontSize)
          * svg.clientWidth / svg.viewBox.baseVal.width; })"""
    )
    assert len(sizes) > 20 and min(sizes) >= 9


@pytest.mark.parametrize("name", ["one", "several", "hostile"])
def test_it_asks_for_nothing_but_itself_and_the_browser_has_no_complaint(browser, reports, name):
    browser.show(reports[name])
    assert browser.requests == [reports[name].as_uri()]
    assert browser.complaints == []
    assert browser.ask("document.scripts.length") == 0


def test_the_policy_stops_what_would_lead_out(browser, reports, tmp_path):
    """And the two questions above would have noticed."""
    page = reports["one"].read_bytes()
    for i, evil in enumerate(
        (
            b"<img src='http://127.0.0.1:9/x.png'>",
            b"<link rel=stylesheet href='http://127.0.0.1:9/x.css'>",
            b"<script>document.title = 'run'</script>",
        )
    ):
        path = tmp_path / f"{i}.html"
        path.write_bytes(page.replace(b"<main>", b"<main>" + evil))
        browser.show(path)
        assert any("Content Security Policy" in text for text in browser.complaints), evil
        assert browser.ask("document.title") != "run"


def test_every_picture_is_decoded(browser, reports):
    browser.show(reports["several"])
    widths = browser.ask("[...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 4 and min(widths) > 0


def test_paper_shows_what_is_folded_away(browser, reports):
    browser.show(reports["one"])
    height = "document.documentElement.scrollHeight"
    screen = browser.ask(height)
    assert browser.ask("document.querySelectorAll('details[open]').length") == 0
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.ask(height) > 1.5 * screen
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
