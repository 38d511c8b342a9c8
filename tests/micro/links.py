"""Links to order: the shell of this machine as a device, and a wire that can be cut.

Here    a connection whose device is a folder; cut after so many bytes, dead for a while, restarted
Wire    a TCP port before another one, that ends its connections after so many bytes
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgevlm.devices.connect.connection import Connection, LinkLost, Reply
from edgevlm.devices.connect.session import BOOT

__all__ = ["Here", "Wire"]


class Here(Connection):
    """The file `boot` in the folder stands for the kernel's own."""

    kind = "here"

    def __init__(self, folder: Path) -> None:
        super().__init__("here")
        self.folder, self.boot = folder, folder / "boot"
        self.home = str(folder / "home")
        self.boot.write_text("first\n")
        self.cut_after: int | None = None  # bytes of what is fed next, once
        self.open_s: float | None = None  # seconds that the next open line lives, once
        self.dead = 0  # lines that find nobody
        self.lines: list[str] = []

    def argv(self, line: str) -> list[str]:
        return ["sh", "-c", line.replace(BOOT, str(self.boot))]

    def complaint(self, said: str) -> LinkLost:
        return LinkLost(said or "the connection was cut")

    def run(self, line: str, feed: Iterable[bytes] = (), **how: Any) -> Reply:
        self.lines.append(line)
        if self.dead:
            self.dead -= 1
            raise LinkLost("nobody answers")
        if self.cut_after is None:
            return super().run(line, feed, **how)
        head, self.cut_after = _head(feed, self.cut_after), None
        super().run(line, head, **how)  # there, what reads sees its end
        raise LinkLost("the connection was cut")

    @contextlib.contextmanager
    def open(self, line: str, within_s: float | None = None) -> Iterator[Any]:
        shorter, self.open_s = self.open_s, None
        with super().open(line, shorter or within_s) as child:
            yield child

    def restart(self) -> None:
        """As a device that lost its power; what ran is gone."""
        self.boot.write_text("second\n")

    def left(self) -> list[str]:
        """Names of what lies in our folder on the device."""
        home = Path(self.home)
        return sorted(p.name for p in home.iterdir()) if home.is_dir() else []

    def forget(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def _head(feed: Iterable[bytes], count: int) -> Iterator[bytes]:
    for piece in feed:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


class Wire:
    """`with Wire(port) as wire`: connect to wire.port."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.cut_after: int | None = None  # bytes towards the device, of one connection, once
        self.made = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.made += 1
                far = socket.create_connection(("127.0.0.1", self._to))
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                carried += len(data)
                limit = self.cut_after if outward else None
                if limit is not None and carried >= limit:
                    self.cut_after = None
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
