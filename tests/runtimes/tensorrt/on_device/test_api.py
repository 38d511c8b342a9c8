"""Which TensorRT is found, and what is asked of each."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device import api as module
from edgevlm.runtimes.tensorrt.on_device.api import Api, find_api


def stand_in(name: str, version: str, strongly_typed: bool = True) -> ModuleType:
    trt = ModuleType(name)
    trt.__version__ = version
    trt.Builder = object
    members = {"STRONGLY_TYPED": 1} if strongly_typed else {}
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(__members__=members)
    return trt


class Builder:
    def create_network(self, flags):
        return flags


def test_full_tensorrt_goes_before_rtx(monkeypatch):
    for library in module.LIBRARIES:
        monkeypatch.setitem(sys.modules, library, stand_in(library, "10.3.0"))
    assert find_api().name == "tensorrt"
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # as if it were not installed
    assert find_api().name == "tensorrt_rtx"


def test_the_one_named_is_taken(monkeypatch):
    for library in module.LIBRARIES:
        monkeypatch.setitem(sys.modules, library, stand_in(library, "10.3.0"))
    assert find_api("tensorrt_rtx_bindings").name == "tensorrt_rtx_bindings"


def test_without_any_the_package_of_jetpack_is_named(monkeypatch):
    for library in module.LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(JobFault) as caught:
        find_api()
    assert caught.value.code == "EV355" and "python3-libnvinfer" in caught.value.fix


def test_an_empty_folder_of_that_name_is_no_tensorrt(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(JobFault, match="no Builder"):
        find_api("tensorrt")


@pytest.mark.parametrize("version, numbers", [("10.3.0", (10, 3, 0)), ("11.4.1a1", (11, 4))])
def test_a_version_is_compared_as_numbers(version, numbers):
    assert Api(stand_in("tensorrt", version)).numbers == numbers


def test_strong_typing_is_asked_for_where_it_is_a_flag():
    assert Api(stand_in("tensorrt", "10.3.0")).network(Builder()) == 2
    assert Api(stand_in("tensorrt", "11.4.1", strongly_typed=False)).network(Builder()) == 0


def test_only_rtx_builds_for_another_gpu():
    with pytest.raises(ValueError, match="only the GPU that is there"):
        Api(stand_in("tensorrt", "10.3.0")).aim_at(None, "SM86")


def test_rtx_builds_for_these(rtx):
    assert "SM86" in rtx.capabilities and "SM87" not in rtx.capabilities
    assert rtx.is_rtx and rtx.numbers >= (1, 7)


def test_of_what_is_verbose_only_layers_are_kept(rtx):
    log = rtx.log()
    kinds = rtx.trt.ILogger
    for severity, text in (
        (kinds.VERBOSE, "timing one of many kernels"),
        (kinds.VERBOSE, "Layers:\nName: a, LayerType: gemm, Inputs: []"),
        (kinds.WARNING, "beware"),
    ):
        log.log(severity, text)
    assert [text[:6] for _, text in log.lines] == ["Layers", "beware"]


def test_warnings_are_shown_when_asked_for(rtx, capsys):
    log = rtx.log(loud=True)
    log.log(rtx.trt.ILogger.WARNING, "beware")
    log.log(rtx.trt.ILogger.INFO, "by the way")
    told = capsys.readouterr()
    assert told.err == "tensorrt: beware\n" and told.out == ""
