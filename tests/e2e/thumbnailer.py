# SPDX-License-Identifier: Apache-2.0
"""Drives `sluice-thumbnailer` over its socket, as the server does (src/thumbnails/job.h)."""

import os
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass

from harness import BINARY, seconds

WORKER = BINARY.with_name("sluice-thumbnailer")
SOCKET = 3
MEMORY_BYTES = 1 << 30
MAX_PIXELS = 64_000_000
LAYERS = 0b1111
MEMORY = 0b1000  # of these

HELLO = struct.Struct("=II")
JOB = struct.Struct("@BBBBIIIQ")
REPLY = struct.Struct("@BBBBIIIIQQ48s")

OUTCOMES = ["made", "original", "described", "unsupported", "broken", "too many pixels"]
FORMATS = ["unknown", "jpeg", "png", "apng", "gif", "webp", "avif", "heic", "jxl", "tiff", "bmp", "svg", "pdf", "video",
           "audio"]


@dataclass
class Reply:
    outcome: str
    format: str
    source_format: str
    is_animated: bool
    size: tuple
    source_size: tuple
    duration_ms: int
    blurhash: str
    result: bytes


class Died(Exception):
    """The worker has ended instead of answering."""


class Thumbnailer:
    def __init__(self, memory_bytes=MEMORY_BYTES):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(seconds(60))
        self.process = subprocess.Popen(
            [str(WORKER), "--memory", str(memory_bytes)], preexec_fn=lambda: os.dup2(theirs.fileno(), SOCKET),
            pass_fds=[SOCKET], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
        theirs.close()
        said = self.socket.recv(HELLO.size + 1)
        assert said, self.process.communicate()[1].decode()
        self.version, self.layers = HELLO.unpack(said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Closes the socket; the exit status."""
        self.socket.close()
        _, said = self.process.communicate(timeout=seconds(30))
        assert b"Sanitizer" not in said, said.decode()
        return self.process.returncode

    def send(self, path, width=320, height=240, method="scale", animated=False, describe=False, max_frames=1000,
             max_pixels=MAX_PIXELS):
        """A reply, or Died."""
        job = JOB.pack(describe, method == "crop", animated, 0, width, height, max_frames, max_pixels)
        with open(path, "rb") as source, tempfile.TemporaryFile() as result:
            try:
                socket.send_fds(self.socket, [job], [source.fileno(), result.fileno()])
                said = self.socket.recv(REPLY.size + 1)
            except ConnectionError:
                said = b""
            if not said:
                raise Died
            outcome, kind, source_kind, is_animated, *sizes, duration, length, blurhash = REPLY.unpack(said)
            assert os.fstat(result.fileno()).st_size == length
            result.seek(0)
            return Reply(OUTCOMES[outcome], FORMATS[kind], FORMATS[source_kind], bool(is_animated), tuple(sizes[:2]),
                         tuple(sizes[2:]), duration, blurhash.rstrip(b"\0").decode(), result.read())

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def environment():
    """Nothing but what a sanitizer reads: the server passes nothing on."""
    return {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}
