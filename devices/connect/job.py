"""One program on a device, cut loose from the link that started it.

It runs in a session of its own and writes down how far it is, a line of JSON at a time, and what
came out. Whoever follows reads those lines; when the link breaks the program does not notice, and
the reading goes on behind the last whole line. One such program at a time: two would spoil each
other's figures.
"""

from __future__ import annotations

import json
import queue
import secrets
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import MOST_LINE, LinkLost
from edgevlm.devices.connect.copying import TAR_END, tar_of
from edgevlm.devices.connect.session import Device

__all__ = ["Job"]

QUIET_S = 20.0  # without a line, then it is asked whether the program still runs
BUSY = 9

# One that ended and whose parent has not looked yet can still be sent signals.
ALIVE = """alive() { kill -0 "$1" 2>/dev/null || return 1
case "$(cat "/proc/$1/stat" 2>/dev/null)" in *") Z "*) return 1;; esac; }
"""
# The first `if`: the link broke behind a start that went well. A lock is stale when the device was
# started anew since, or its process is gone.
START = """{alive}cd {root} || exit 1
if ! mkdir lock 2>/dev/null; then
  read -r pid boot run uses < lock/owner
  [ "$run" = {run} ] && exit 0
  [ "$boot" = {boot} ] && alive "$pid" && exit {busy}
  rm -rf lock && mkdir lock || exit 1
fi
echo "$$" {boot} {run} {uses} > lock/owner
cd {run} || exit 1
setsid sh -c {program} </dev/null >/dev/null 2>&1 &
"""
# Libraries leave files in the cache folder of the account: this run has one of its own.
PROGRAM = """echo "$$" > pid; echo "$$" {boot} {run} {uses} > ../lock/owner
XDG_CACHE_HOME=$PWD/cache {command} > printed 2> errors
status=$?
echo "$status" > status.part && mv status.part status
rm -rf ../lock
echo "{{\\"event\\": \\"exit\\", \\"status\\": $status}}" >> progress"""
FOLLOW = """cd {home} && : >> progress || exit 1
tail -n +{first} -f progress & echo "$!" >> tails; wait"""
STATE = """{alive}cd {home} || exit 1
if [ -f status ]; then echo ended; elif alive "$(cat pid)"; then echo runs
else echo gone; fi"""
REMOVE = """cd {root} || exit 0
if [ -f {run}/pid ] && [ ! -f {run}/status ]; then kill -9 -"$(cat {run}/pid)" 2>/dev/null; fi
if [ -f {run}/tails ]; then while read -r each; do kill "$each" 2>/dev/null; done < {run}/tails; fi
uses=; if [ -f lock/owner ]; then read -r pid boot run uses < lock/owner
  if [ "$run" = {run} ]; then rm -rf lock; uses=; fi; fi
rm -rf {run}; for each in {gone}; do [ "${{each%.engines}}" = "$uses" ] || rm -rf "$each"; done
cd / && rmdir {root} 2>/dev/null; true"""


class Job:
    """Its folder on the device; `remove` it in the end, whatever happened.

    uses: the folder beside it that it reads, which nobody else takes away meanwhile.
    """

    def __init__(self, device: Device, uses: str = "-") -> None:
        self.device, self._uses = device, uses
        self.run = f"run-{secrets.token_hex(6)}"
        self._home = shlex.quote(f"{device.facts.root}/{self.run}")
        self._names = {
            "root": shlex.quote(device.facts.root),
            "run": self.run,
            "home": self._home,
            "boot": shlex.quote(device.facts.boot or "-"),
            "uses": shlex.quote(uses),
            "alive": ALIVE,
        }

    def put(self, files: Mapping[str, bytes]) -> None:
        """Small files into its folder. Raises as `Device.must`."""
        packed = [piece for each in files.items() for piece in tar_of(*each)] + [TAR_END]
        line = f"mkdir -p {self._home} && cd {self._home} && tar -xf -"
        self.device.must(line, "copying the order", lambda: packed)

    def start(self, command: Sequence[str]) -> None:
        """Begin, in its folder. Raises EV438 where another one runs; as `Device.must`."""
        program = PROGRAM.format(command=shlex.join(command), **self._names)
        line = START.format(program=shlex.quote(program), busy=BUSY, **self._names)
        reply = self.device.ask(line)
        if reply.status == BUSY:
            raise JobFault(
                "EV438",
                f"{self.device.address} is measuring for somebody else",
                "two at once would spoil each other's figures",
                "wait for the other one, then the same call",
            )
        self.device.succeeded(reply, "starting the program")

    def follow(self) -> Iterator[dict[str, Any]]:
        """What it writes down, until it ends. Raises EV436 (link), EV437 (it is gone)."""
        seen = 0
        while True:
            try:
                for line in self._lines(seen):
                    seen += 1
                    event = _event(line)
                    if event.get("event") == "exit":
                        return
                    yield event
            except LinkLost as lost:
                self.device.back(lost)

    def result(self, name: str) -> bytes:
        """A file that it wrote whole. Raises EV437 where there is none."""
        reply = self.device.ask(f"cd {self._home} && cat {shlex.quote(name)}")
        if reply.status:
            said = self.device.ask(f"cd {self._home} && cat status; tail -c 2000 errors").text
            raise self._gone(said)
        return reply.out

    def remove(self, keep: bool = False) -> None:
        """End what still runs, and leave nothing of it there; keep: but the folder that it used.

        A folder that another job uses stays, and our folder goes when nothing is left in it.
        Raises as `Device.ask`.
        """
        uses = self._names["uses"]
        gone = "" if keep or self._uses == "-" else f"{uses} {uses}.engines"
        self.device.ask(REMOVE.format(gone=gone, **self._names))

    def _lines(self, seen: int) -> Iterator[bytes]:
        """Behind the first `seen` ones. Raises LinkLost."""
        line = FOLLOW.format(home=self._home, first=seen + 1)
        with self.device.connection.open(line) as child:
            waiting: queue.Queue[bytes | None] = queue.Queue()
            threading.Thread(target=_read, args=(child.stdout, waiting), daemon=True).start()
            while True:
                try:
                    found = waiting.get(timeout=QUIET_S)
                except queue.Empty:
                    if self._state() == "ended":  # its last lines are there; this link is dead
                        raise LinkLost("nothing came any more") from None
                    continue
                if found is None:
                    self._state()
                    raise LinkLost("the connection was cut")
                yield found

    def _state(self) -> str:
        """ended or runs. Raises EV437 where it is gone."""
        state = self.device.must(STATE.format(**self._names), "looking after it").text.strip()
        if state == "gone":
            said = self.device.ask(f"cd {self._home} && tail -c 2000 errors").text
            raise self._gone(said)
        return state

    def _gone(self, said: str) -> JobFault:
        lines = [line for line in said.splitlines() if line.strip()]
        killed = bool(lines) and lines[0].strip() == "137"
        why = "it was killed, most likely for want of memory" if killed else None
        return JobFault(
            "EV437",
            f"the run on {self.device.address} ended without a result",
            why or (lines[-1][-300:] if lines else "it left no word"),
            f"edgevlm doctor --device {self.device.address}",
        )


def _read(pipe: IO[bytes], waiting: queue.Queue[bytes | None]) -> None:
    try:
        while (line := pipe.readline(MOST_LINE)).endswith(b"\n") or len(line) == MOST_LINE:
            waiting.put(line)
    except (OSError, ValueError):
        pass  # the block that opened it has ended
    waiting.put(None)


def _event(line: bytes) -> dict[str, Any]:
    """A line that is no JSON object says nothing."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
