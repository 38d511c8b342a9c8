"""Ctrl-C that comes while TensorRT runs."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from edgevlm.runtimes.tensorrt.on_device.unbroken import Unbroken, progress_monitor


def test_it_is_acted_on_at_the_end():
    reached = []
    with pytest.raises(KeyboardInterrupt), Unbroken() as keeper:
        assert not keeper.asked
        signal.raise_signal(signal.SIGINT)
        reached.append(keeper.asked)
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_error_goes_before_it():
    with pytest.raises(ValueError), Unbroken():
        signal.raise_signal(signal.SIGINT)
        raise ValueError


def test_a_second_one_ends_the_process(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(KeyboardInterrupt), Unbroken():
        signal.raise_signal(signal.SIGINT)
        assert ended == []
        signal.raise_signal(signal.SIGINT)
    assert ended == [130]


def test_other_threads_have_no_say_in_signals():
    failed = []

    def work():
        try:
            with Unbroken() as keeper:
                assert not keeper.asked
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


class Monitor:
    pass


def test_a_monitor_ends_a_build_after_it():
    keeper = Unbroken()
    monitor = progress_monitor(SimpleNamespace(IProgressMonitor=Monitor), keeper)
    monitor.phase_start("all", None, 3)
    assert monitor.step_complete("all", 0)
    keeper.asked = True
    assert not monitor.step_complete("all", 1)
    monitor.phase_finish("all")


def test_an_older_tensorrt_has_no_monitor():
    assert progress_monitor(SimpleNamespace(), Unbroken()) is None
