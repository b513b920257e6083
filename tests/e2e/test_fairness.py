# SPDX-License-Identifier: Apache-2.0
"""One client cannot keep an event loop to itself, whatever it does without pause."""

import threading

import pytest

from client import Wire, create, download_path, get, request, request_bytes, store, upload_path
from harness import ALICE, seconds, wait_until


class Flood:
    """Sends the same bytes without end and reads what comes back, until it is told to stop."""

    def __init__(self, server, head, block):
        self.wire = Wire(server)
        self.wire.send(head)
        self.stopping = threading.Event()
        self.rounds = 0
        self.threads = [threading.Thread(target=self._send, args=(block,), daemon=True),
                        threading.Thread(target=self._read, daemon=True)]
        for thread in self.threads:
            thread.start()

    def _send(self, block):
        try:
            while not self.stopping.is_set():
                self.wire.socket.sendall(block)
                self.rounds += 1
        except OSError:
            pass  # refused, which is an end too

    def _read(self):
        try:
            while self.wire.socket.recv(1 << 16):
                pass
        except OSError:
            pass

    def stop(self):
        self.stopping.set()
        self.wire.close()
        for thread in self.threads:
            thread.join(timeout=seconds(10))


def test_one_turn_is_not_as_many_large_files_as_somebody_asks_for(start_server):
    """What is hot is sent without ever leaving the loop: the bytes of a turn count across the requests of a connection."""
    server = start_server(http={"threads": 1})
    mxc = store(server, bytes(2 << 20))
    assert get(server, mxc).status == 200
    floods = [Flood(server, b"", request_bytes("GET", download_path(mxc)) * 100) for _ in range(8)]
    try:
        wait_until(lambda: all(flood.rounds > 0 for flood in floods), "the floods to have begun")
        for _ in range(5):
            assert request(server, "GET", "/_matrix/media/v3/config").status == 200
    finally:
        for flood in floods:
            flood.stop()


@pytest.mark.parametrize("what", ["pipelined requests", "tiny chunks", "long chunk extensions"])
def test_others_are_served_during_a_flood(start_server, what):
    server = start_server(http={"threads": 1}, uploads={"max_size": "10GiB"})
    head = b""
    if what == "pipelined requests":
        block = request_bytes("OPTIONS", "/", token=None) * 500
    else:
        head = request_bytes("PUT", upload_path(create(server)), token=ALICE, headers={"Transfer-Encoding": "chunked"})
        block = b"1\r\nA\r\n" * 10_000 if what == "tiny chunks" else (b"1;" + b"x" * 8000 + b"\r\nA\r\n") * 10
    flood = Flood(server, head, block)
    try:
        wait_until(lambda: flood.rounds > 0, "the flood to have begun")
        for _ in range(5):  # each has to come while the flood runs: it ends only afterwards
            assert request(server, "GET", "/_matrix/media/v3/config").status == 200
    finally:
        flood.stop()
    server.wait_metric("sluice_uploads_running", 0)
