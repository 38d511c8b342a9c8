"""What the user names becomes an exported model, or an error that says what would have been one."""

from __future__ import annotations

import json

import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import save_model
from edgevlm.models.source import SourceOptions, open_source
from edgevlm.models.zoo import BUNDLED, bundled_folder


@pytest.fixture
def folder(tmp_path, micro_model):
    path = tmp_path / "model"
    path.mkdir()
    save_model(micro_model, path)
    return path


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_name_opens(name):
    model = open_source(name)
    assert (
        model.source.name == name
        and model.probes
        and (bundled_folder(name) / "model.json").is_file()
    )


def test_a_folder_of_that_name_goes_before_the_bundled_model(folder, monkeypatch):
    """What lies here is what is meant: nobody's own model is passed over for ours."""
    monkeypatch.chdir(folder.parent)
    folder.rename("easyvqa-tiny")
    assert open_source("easyvqa-tiny").source.name == "micro"


def test_an_exported_folder_opens_by_any_path(folder, monkeypatch, micro_model):
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "model", "./model/", "../" + folder.parent.name + "/model"):
        model = open_source(name)
        assert model.contract == micro_model.contract
        assert [p.question for p in model.probes] == [p.question for p in micro_model.probes]


def test_a_model_without_probes_gets_drawn_ones(folder):
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**record, "probes": []}))
    model = open_source(str(folder))
    assert len(model.probes) == 4 and all(p.answer is None for p in model.probes)


def test_probes_of_the_user_go_before_its_own(folder):
    options = SourceOptions(probes=folder / "probes")
    model = open_source(str(folder), options)
    assert len(model.probes) == 3 and {p.question for p in model.probes} == {
        "What is in the image?"
    }


@pytest.mark.parametrize("options", [SourceOptions(max_prompt=5), SourceOptions(max_answer=5)])
def test_static_lengths_cannot_be_changed_any_more(folder, options):
    for name in (str(folder), "easyvqa-tiny"):
        with pytest.raises(UsageFault, match="EV115"):
            open_source(name, options)


def test_an_exported_model_goes_before_a_checkpoint_in_the_same_folder(folder):
    (folder / "config.json").write_text('{"model_type": "nonsense"}')
    assert open_source(str(folder)).source.name == "micro"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("easyvqa", "easyvqa-tiny"),
        ("zzz", "easyvqa-tiny"),
        ("", None),
        ("x" * 5000, "easyvqa-tiny"),
    ],
)
def test_nothing_there(tmp_path, monkeypatch, name, near):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageFault, JobFault), match="EV100") as caught:
        open_source(name)
    if near is None:  # the current folder
        assert caught.value.exit_status == 1
    else:
        assert caught.value.exit_status == 2 and near in caught.value.fix
    assert len(caught.value.what) < 250


@pytest.mark.parametrize(
    ("file", "why"),
    [(None, "no model.json and no config.json"), ("manifest.json", "it is a bundle already")],
)
def test_a_folder_that_is_something_else(tmp_path, file, why):
    if file:
        (tmp_path / file).write_text("{}")
    with pytest.raises(JobFault, match="EV100") as caught:
        open_source(str(tmp_path))
    assert why in caught.value.why
    if file:
        assert caught.value.fix == f"edgevlm inspect {tmp_path}"


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").touch()
    with pytest.raises(JobFault, match=r"EV100 .*model\.bin is not a model: it is a file"):
        open_source(str(tmp_path / "model.bin"))
