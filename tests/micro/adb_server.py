"""A stand-in for the server that `adb` talks to, with one device whose shell is this machine's.

It speaks what adb's client speaks (smart sockets, shell protocol 2), so the real client is tested
against it. The folder /data/local/tmp is one of the test's. Faults to order: a device that is
offline or has not allowed this computer, and a link that breaks after so many bytes of stdin.

https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt
https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/shell_protocol.h
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import subprocess
import threading
from pathlib import Path

__all__ = ["AdbServer"]

VERSION = 41  # of the protocol between client and server; another one makes the client kill us
FEATURES = b"shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class AdbServer:
    """`with AdbServer(folder, serial) as server`, then ANDROID_ADB_SERVER_PORT=server.port."""

    def __init__(self, folder: Path, serial: str = "FAKE01") -> None:
        self.folder, self.serial = folder, serial
        self.state = "device"  # or offline, unauthorized
        self.cut_after: int | None = None  # bytes of stdin, once
        self.asked: list[str] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> AdbServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, EOFError):
                    _Client(server, self.request).serve()

        return Handler


class _Client:
    def __init__(self, server: AdbServer, link: socket.socket) -> None:
        self.server, self.link = server, link

    def serve(self) -> None:
        while True:
            asked = self._read(int(self._read(4), 16)).decode()
            self.server.asked.append(asked)
            if asked == "host:version":
                self._okay(f"{VERSION:04x}".encode())
                return
            if asked.startswith("host:devices"):
                self._okay(f"{self.server.serial}\t{self.server.state}\n".encode())
                return
            if asked.endswith(":features") or asked == "host:host-features":
                if self._reachable(asked):
                    self._okay(FEATURES)
                return
            if asked.startswith(("host:tport:", "host:transport")):
                if not self._reachable(asked):
                    return
                self.link.sendall(b"OKAY")
                if asked.startswith("host:tport:"):
                    self.link.sendall(struct.pack("<Q", 1))
                continue
            if asked.startswith("shell,v2"):
                self.link.sendall(b"OKAY")
                self._shell(asked.partition(":")[2])
                return
            self._fail(f"unknown service {asked}")
            return

    def _reachable(self, asked: str) -> bool:
        named = ":any" in asked or asked.endswith("-any") or asked.startswith("host:features")
        if not named and self.server.serial not in asked:
            serial = asked.split(":")[1 if asked.startswith("host-serial") else -1]
            return self._fail(f"device '{serial}' not found")
        if self.server.state == "unauthorized":
            return self._fail("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set")
        if self.server.state == "offline":
            return self._fail("device offline")
        return True

    def _shell(self, line: str) -> None:
        line = line.replace("/data/local/tmp", str(self.server.folder))
        child = subprocess.Popen(
            ["sh", "-c", line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        sending = threading.Lock()

        def forward(pipe, kind: int) -> None:
            while piece := pipe.read1(4096):
                with sending, contextlib.suppress(OSError):
                    self.link.sendall(struct.pack("<BI", kind, len(piece)) + piece)

        threads = [
            threading.Thread(target=forward, args=each, daemon=True)
            for each in ((child.stdout, STDOUT), (child.stderr, STDERR))
        ]
        for each in threads:
            each.start()
        threading.Thread(target=self._feed, args=(child,), daemon=True).start()
        for each in threads:
            each.join()
        status = child.wait()
        with sending:
            self.link.sendall(struct.pack("<BIB", EXIT, 1, status & 0xFF))

    def _feed(self, child: subprocess.Popen[bytes]) -> None:
        given = 0
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                kind, size = struct.unpack("<BI", self._read(5))
                data = self._read(size)
                if kind == CLOSE_STDIN:
                    child.stdin.close()
                elif kind == STDIN:
                    child.stdin.write(data)
                    child.stdin.flush()
                    given += size
                    if self.server.cut_after is not None and given >= self.server.cut_after:
                        self.server.cut_after = None
                        self.link.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            child.stdin.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.link.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _okay(self, data: bytes) -> None:
        self.link.sendall(b"OKAY" + f"{len(data):04x}".encode() + data)

    def _fail(self, why: str) -> bool:
        data = why.encode()
        self.link.sendall(b"FAIL" + f"{len(data):04x}".encode() + data)
        return False
