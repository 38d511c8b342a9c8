"""One program on a device with its files, run once or more, and the files that it wrote.

What is big is copied by digest and stays for the next run until it is removed; the program runs
detached from the link, one at a time (devices/connect/job.py). In the end all of it goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.devices.connect.copying import Item, copy
from edgevlm.devices.connect.job import Job
from edgevlm.devices.connect.session import Device

__all__ = ["There", "item_of"]

MOST_BACK = 60 * 2**20  # bytes of one file; a reply may have no more
LEAVE_S = 5.0  # for a link that is gone while we leave
SAID = 600  # characters of a program's last words

Progress = Callable[[int, int], None]


class There:
    """`with There(device, items) as there`: items by their names in a folder there.

    Raises JobFault EV435, EV436, EV439 as the copy does.
    """

    def __init__(
        self,
        device: Device,
        items: Mapping[str, Item],
        programs: Sequence[str] = (),
        progress: Progress = lambda *_: None,
        keep: bool = False,
    ) -> None:
        self.device, self._keep = device, keep
        digests = "".join(f"{name} {item.sha256}\n" for name, item in sorted(items.items()))
        self.folder = f"pte-{hashlib.sha256(digests.encode()).hexdigest()[:16]}"
        self._items, self._programs, self._progress = items, programs, progress
        self.job = Job(device, self.folder)
        self._ran = False

    def __enter__(self) -> There:
        try:
            copy(self.device, self.folder, self._items, self._progress)
            if self._programs:
                line = f"cd {self._home} && chmod 700 {shlex.join(self._programs)}"
                self.device.must(line, "making a program runnable")
            self.job.put({})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """A link that is gone for good is told already."""
        patience, self.device.patience_s = self.device.patience_s, LEAVE_S
        try:
            with contextlib.suppress(EdgeError):
                self.job.remove(self._keep)
        finally:
            self.device.patience_s = patience

    @property
    def _home(self) -> str:
        return shlex.quote(f"{self.device.facts.root}/{self.folder}")

    def path(self, name: str) -> str:
        """Of an item, as the program sees it."""
        return f"../{self.folder}/{name}"

    def run(self, command: Sequence[str], files: Mapping[str, bytes] | None = None) -> None:
        """To its end, in a folder of its own with `files`. Raises EV437 with its last words.

        What the run before it wrote is gone then.
        """
        if self._ran:
            self.job.remove(keep=True)
            self.job = Job(self.device, self.folder)
        self._ran = True
        self.job.put(files or {})
        self.job.start(command)
        for _ in self.job.follow():
            pass
        status = self._said("cat status").strip()
        if status != "0":
            raise self.failed(status)

    def failed(self, status: str) -> JobFault:
        """What the end of the program means, in its own last words."""
        said = self._said(f"tail -c {SAID} errors; tail -c {SAID} printed")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if status == "137" or not status.isdigit():
            why = "it was killed, most likely for want of memory"
        else:
            why = f"status {status}: {' | '.join(lines[-3:])}" if lines else f"status {status}"
        return JobFault(
            "EV437",
            f"the program on {self.device.address} failed",
            why[-SAID:],
            "run it there by hand with the same .pte; see also its log: adb logcat -s ExecuTorch",
        )

    def file(self, name: str) -> bytes | None:
        """One that the program wrote; None where it did not. Raises EV439 for a huge one."""
        size = self._said(f"[ -f {shlex.quote(name)} ] && wc -c < {shlex.quote(name)}").strip()
        if not size.isdigit():
            return None
        if int(size) > MOST_BACK:
            raise JobFault(
                "EV439",
                f"{name} of {self.device.address} is too large to be fetched",
                f"it has {int(size) >> 20} MB, {MOST_BACK >> 20} MB is the most",
                "fewer runs",
            )
        return self.job.result(name)

    def _said(self, line: str) -> str:
        home = shlex.quote(f"{self.device.facts.root}/{self.job.run}")
        return self.device.ask(f"cd {home} && {line}").text


def item_of(path: Path) -> Item:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Item(path, digest, path.stat().st_size)
