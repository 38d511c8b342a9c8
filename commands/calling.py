"""What all verbs share: their common options, the examples in their help, and how a call ends.

0        done
1        the job failed (JobFault), or we did (EV500)
2        the call was wrong (UsageFault, EV001)
128 + n  stopped by signal n, such as 130 for Ctrl-C; nothing is left half-written
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from edgevlm.commands.output import Speaker
from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault

__all__ = ["DEBUG", "Stopped", "call", "examples", "fault_of", "speaks"]

DEBUG = "EDGEVLM_DEBUG"  # environment variable: show the traceback of every error
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROOT = Path(__file__).resolve().parents[1]


class Stopped(BaseException):
    """A signal asked us to end. No `except Exception` on the way holds it up."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def speaks(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the shared options; its first argument is then a Speaker.

    `edgevlm passes --json list` is `edgevlm passes list --json`: a group hands its options down.
    """

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option("--quiet", is_flag=True, help="No progress, no tables; errors still show.")
    @click.option("--color/--no-color", "colour", default=True, help="Colours on stderr.")
    @functools.wraps(verb)
    def wrapped(*args: Any, as_json: bool, quiet: bool, colour: bool, **kwargs: Any) -> None:
        group = click.get_current_context().parent
        above = group.params if group else {}
        speaker = Speaker(
            as_json or above.get("as_json", False),
            quiet or above.get("quiet", False),
            colour and above.get("colour", True),
        )
        try:
            verb(speaker, *args, **kwargs)
        except BrokenPipeError:  # the reader has seen enough: `edgevlm ... | head`
            raise Stopped(signal.SIGPIPE) from None

    return wrapped


def examples(*lines: str) -> str:
    """The end of a verb's help: two real calls."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def call(program: click.Group) -> int:
    """Run the command line in `sys.argv`; whatever happens becomes lines and an exit status."""
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    speaker = Speaker("--json" in own, colour="--no-color" not in own)
    _standard_streams()
    status = 0
    try:
        with _stoppable() as stops, warnings.catch_warnings():
            if not sys.warnoptions and not os.environ.get(DEBUG):
                # what libraries say to their developers is not for our users
                warnings.simplefilter("ignore")
                logging.lastResort = logging.NullHandler()
            try:
                status = program.main(prog_name="edgevlm", standalone_mode=False) or 0
            except SystemExit as done:
                status = done.code if isinstance(done.code, int) else int(done.code is not None)
            except Exception as error:
                if stops:  # what was interrupted made its own error of it, as half an import does
                    raise Stopped(stops[0]) from None
                status = _tell(speaker, error)
            sys.stdout.flush()
    except Stopped as stop:
        status = 128 + stop.number
        if stop.number == signal.SIGPIPE:
            _silence_stdout()
        else:
            print(f"edgevlm: stopped by {stop}; nothing is left half-written", file=sys.stderr)
    except BrokenPipeError:
        _silence_stdout()
        status = 128 + signal.SIGPIPE
    except OSError as error:  # stdout on a full disk
        _silence_stdout()
        status = 1 if speaker.told else _tell(Speaker(colour=speaker.colour), error)
    return status


def _tell(speaker: Speaker, error: Exception) -> int:
    fault = fault_of(error)
    speaker.fault(fault.lines(), fault.as_json())
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    return fault.exit_status


def fault_of(error: Exception) -> EdgeError:
    """Any exception as the three lines a person can use."""
    if isinstance(error, EdgeError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "edgevlm"
        usage = context.get_usage() if context else f"Usage: {path} [OPTIONS]"
        what = " ".join(error.format_message().split()).removesuffix(".")
        called = usage.removeprefix("Usage: ")
        return UsageFault("EV001", f"{path}: {what}", f"the call is: {called}", f"{path} --help")
    again = f"{DEBUG}=1 {shlex.join(['edgevlm', *sys.argv[1:]])}"
    if isinstance(error, MemoryError):
        return JobFault(
            "EV404",
            f"this machine ran out of memory in {_place(error)}",
            str(error) or "no more could be had",
            "close other programs or take a larger machine (edgevlm doctor says how much it has)",
        )
    if isinstance(error, OSError) and error.strerror:
        named = f" {error.filename}" if error.filename else ""
        return JobFault(
            "EV405",
            f"the operating system refused{named} in {_place(error)}",
            f"{type(error).__name__}: {error.strerror}",
            f"check that file and its permissions ({again} shows more)",
        )
    return JobFault(
        "EV500",
        f"unexpected {type(error).__name__} in {_place(error)}",
        str(error)[:300] or "it says no more",
        f"please report this, with what this prints: {again}",
    )


def _place(error: Exception) -> str:
    """File, line and function of ours that were nearest."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(ROOT) and "site-packages" not in path.relative_to(ROOT).parts:
            return f"{path.relative_to(ROOT)}:{frame.lineno} ({frame.name})"
    return "edgevlm"


@contextlib.contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Ctrl-C, kill and a closed terminal unwind what runs, so that drafts are removed.

    Yields the list of the signals that came.
    """
    came: list[int] = []

    def stop(number: int, _: object) -> None:
        came.append(number)
        raise Stopped(number)

    before = {}
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup stays nohup
            before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _standard_streams() -> None:
    """Where one of the three was closed by the caller, no file of ours may take its number."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (till the end)
        elif hasattr(stream, "reconfigure"):  # a terminal that lacks a letter shows its code
            stream.reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """So that Python does not try again, and complain, when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
