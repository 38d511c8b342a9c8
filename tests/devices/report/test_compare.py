"""Several bundles: only what can be compared shares a plot, and predictions make no front."""

from __future__ import annotations

from micro.subject import make_eval, make_profile, make_subject

from edgevlm.commands.pareto import front
from edgevlm.devices.report.compare import compare_notes, compare_plots, compare_rows, wait_title


def subject(name, ms=10.0, right=90, mb=2.0, how="measured-host", **more):
    told = {
        "bytes": int(mb * 1e6),
        "profiles": [make_profile(ms, how)],
        "evals": [make_eval(right)],
    }
    return make_subject(f"{name}.edgevlm", **(told | more))


def spots(plot):
    return {s["label"]: s for s in plot["spots"]}


def test_two_bundles_have_a_plot_of_time_and_one_of_size():
    plots = compare_plots([subject("a", 10, 80, 2), subject("b", 20, 90, 1)], front)
    assert [p["x_title"] for p in plots] == ["time to first token, ms", "MB on disk"]
    assert plots[0]["caption"].endswith("time to first token on Made Up 9000, 4 cores")
    time, size = map(spots, plots)
    assert time["a"]["best"] and time["b"]["best"]
    assert size["b"]["best"] and not size["a"]["best"]


def test_joules_have_a_plot_where_two_were_measured():
    both = [subject(n, profiles=[make_profile(energy_j_per_answer=0.2)]) for n in "ab"]
    assert [p["x_title"] for p in compare_plots(both, front)][-1] == "J an answer, idle included"


def test_other_questions_other_machines_and_other_kinds_share_no_plot():
    a = subject("a")
    assert compare_plots([a, subject("b", evals=[make_eval(dataset="scenes")])], front) == []
    assert compare_plots([a, subject("b", kind="classifier")], front) == []
    other = make_profile(host={"cpu_model": "another"})
    assert [p["x_title"] for p in compare_plots([a, subject("b", profiles=[other])], front)] == [
        "MB on disk"
    ]


def test_nothing_known_no_plot():
    bare = [subject(n, profiles=[], evals=[]) for n in "ab"]
    assert compare_plots(bare, front) == []
    assert [row["wait"] for row in compare_rows(bare)] == ["–", "–"]
    assert [row["how"] for row in compare_rows(bare)] == ["not measured"] * 2


def test_a_prediction_is_hollow_says_so_and_is_never_the_best():
    fast = subject("fast", 1.0, 99, profiles=[make_profile(1.0, "predicted", device={"name": "J"})])
    slow = subject("slow", 9.0, 80, profiles=[
        make_profile(9.0, "measured-device", device={"name": "J", "reached": "ssh"})
    ])  # fmt: skip
    time = spots(compare_plots([fast, slow], front)[0])
    assert not time["fast, predicted"]["sure"] and not time["fast, predicted"]["best"]
    assert time["slow"]["sure"] and time["slow"]["best"]
    assert "predicted" in time["fast, predicted"]["title"]
    rows = compare_rows([fast, slow])
    assert [(r["how"], r["sort"]) for r in rows] == [
        ("predicted", "guess"), ("measured on the device", "sure"),
    ]  # fmt: skip


def test_a_row_for_each_place():
    both = [make_profile(), make_profile(device={"name": "J", "reached": "ssh"})]
    rows = compare_rows([subject("a", profiles=both), subject("b")])
    assert [r["name"] for r in rows] == ["a.edgevlm", "a.edgevlm", "b.edgevlm"]
    assert [r["anchor"] for r in rows] == ["b1", "b1", "b2"]
    assert [r["place"] for r in rows] == ["Made Up 9000, 4 cores", "J", "Made Up 9000, 4 cores"]
    assert [r["place"] for r in compare_rows([subject("a"), subject("b")])] == ["", ""]


def test_notes_say_what_columns_do_not_share():
    a, b = subject("a"), subject("b", evals=[make_eval(90, 500)])
    assert "different questions" in compare_notes([a, b])[0]
    assert compare_notes([a, a])[0] == "Right answers are on shapes test, n = 100."
    assert any(note.startswith("Energy: not measured") for note in compare_notes([a, b]))


def test_the_column_of_times_says_of_what():
    vlm, classifier = subject("a"), subject("b", kind="classifier")
    assert wait_title([vlm]) == "first token ms" and wait_title([classifier]) == "picture ms"
    assert wait_title([vlm, classifier]) == "first token or picture ms"
