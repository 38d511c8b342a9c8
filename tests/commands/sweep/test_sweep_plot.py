"""The plot: all there is, no number on top of another, and no matplotlib needed elsewhere."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from edgevlm.commands import sweep_plot
from edgevlm.commands.sweep_plot import COLOURS, MARKERS, draw

BUDGETS = {"50%": 32, "25%": 16, "12.5%": 8}


@pytest.fixture
def plotting():
    reason = "the plot needs: pip install 'edgevlm[report]'"
    return pytest.importorskip("matplotlib", reason=reason)


@pytest.fixture
def crowd(cell, record):
    """A sweep of as many methods, some so close that their points touch."""

    def make(methods: int):
        cells = [cell("baseline", kept=64)]
        for m in range(methods):
            for i, (budget, kept) in enumerate(BUDGETS.items()):
                x, right = 0.9 - 0.2 * i + 0.013 * m, 100 - (m % 3) - 3 * i
                cells.append(cell(f"prune=m{m} tokens={budget}", x=x, right=right, kept=kept))
        return record(*cells, cell("prune=m0 tokens=99", fault="EV203"))

    return make


def test_what_is_in_it(plotting, tmp_path, crowd):
    assert draw(crowd(3), tmp_path) == ["pareto.png", "pareto.svg"]
    with Image.open(tmp_path / "pareto.png") as image:
        assert image.format == "PNG" and image.size == (1350, 840)
        assert len(image.convert("RGB").getcolors(10**6)) > 50
    text = " ".join(ET.parse(tmp_path / "pareto.svg").getroot().itertext())
    for said in ("m0", "m1", "m2", "baseline", "Pareto front", "Wilson 95 %", "× its 2.00 ms"):
        assert said in text
    assert "d test, 100 questions" in text
    assert "refused, EV203 a budget: prune=m0 tokens=99" in text
    assert text.split().count("16") >= 3 and "64" in text.split()


def test_the_same_sweep_gives_the_same_picture(plotting, tmp_path, crowd):
    (tmp_path / "again").mkdir()
    draw(crowd(2), tmp_path)
    draw(crowd(2), tmp_path / "again")
    for name in ("pareto.svg", "pareto.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("methods", [1, 4, 8])
def test_no_number_covers_another(plotting, crowd, methods):
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    record = crowd(methods)
    figure = Figure(figsize=sweep_plot.SIZE, layout="constrained")
    sweep_plot._fill(figure, record)
    figure.draw_without_rendering()
    texts = [t for t in figure.axes[0].get_children() if isinstance(t, Annotation)]
    boxes = [t.get_window_extent() for t in texts]
    drawn = sorted(t.get_text() for t in texts)
    must = [c for c in record.cells if c.on_front or c.baseline]
    assert len(must) <= len(drawn) <= methods * len(BUDGETS) + 1 and "64" in drawn
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), drawn


def test_the_front_is_a_step_through_its_points(plotting, crowd):
    from matplotlib.figure import Figure

    record = crowd(3)
    figure = Figure()
    sweep_plot._fill(figure, record)
    line = next(one for one in figure.axes[0].lines if one.get_label() == "Pareto front")
    best = sorted((c.x_ms, 100 * c.accuracy.accuracy) for c in record.cells if c.on_front)
    assert list(zip(*line.get_data(), strict=True)) == best and line.get_drawstyle() == "steps-post"


def test_a_wide_interval_does_not_squeeze_the_points(plotting, cell, record):
    from matplotlib.figure import Figure

    cells = [cell("baseline", kept=64), cell("tokens=16", x=0.8), cell("tokens=8", x=0.7)]
    timing = cells[1].timing.model_copy(update={"low": 0.1, "high": 9.0})
    cells[1] = cells[1].model_copy(update={"timing": timing})
    figure = Figure()
    sweep_plot._fill(figure, record(*cells))
    left, right = figure.axes[0].get_xlim()
    assert left > 1.2 and right < 2.2  # the points are at 1.4, 1.6 and 2.0 ms


def test_one_colour_a_method_and_no_look_twice(cell):
    cells = [cell("baseline")]
    cells += [cell(f"prune=random:seed={s} tokens={b}") for s in range(3) for b in BUDGETS]
    cells += [cell(f"prune=m{m} tokens=25%") for m in range(2 * len(COLOURS))]
    looks = sweep_plot._looks(cells)
    seeds = set(looks[1:10])
    assert len(seeds) == 3 and {look.colour for look in seeds} == {COLOURS[0]}
    distinct = {(look.colour, look.marker) for look in looks}
    assert len(distinct) == 1 + 3 + 2 * len(COLOURS)
    assert all(look.marker in MARKERS for look in looks[1:])
    assert looks[0].name == "baseline" and looks[1].name == "random:seed=0"


def test_options_that_do_not_vary_are_left_out_of_the_names(cell):
    cells = [cell(f"prune=dart prune-at={at} quant=w8 tokens=16") for at in ("llm:2", "llm:4")]
    assert [look.name for look in sweep_plot._looks(cells)] == [
        "dart prune-at=llm:2",
        "dart prune-at=llm:4",
    ]


def test_nothing_but_refusals_is_a_plot_too(plotting, tmp_path, cell, record):
    assert draw(record(cell("tokens=99", fault="EV203")), tmp_path)
    text = " ".join(ET.parse(tmp_path / "pareto.svg").getroot().itertext())
    assert "refused, EV203" in text


def test_without_matplotlib_there_is_no_plot_and_no_error(tmp_path, crowd, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw(crowd(1), tmp_path) == [] and list(tmp_path.iterdir()) == []
