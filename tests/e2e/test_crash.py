# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was acknowledged is there, byte for byte; what was not shows nothing partial."""

import hashlib
import os
import random
import threading
import time

import pytest

from client import (BrokenBody, Closed, LiveUpload, Reader, Wire, chunked, create, get, put, request, request_bytes,
                    upload_path)
from harness import wait_until

ROUNDS = 10
WRITERS = 6


class Writer(threading.Thread):
    """Creates and uploads without end, and remembers what the server promised."""

    def __init__(self, server, gate, seed):
        super().__init__(daemon=True)
        self.server, self.gate, self.chance = server, gate, random.Random(seed)
        self.stopping = False
        self.reserved = {}  # mxc -> SHA-256 of what was sent, or None if nothing was
        self.acknowledged = {}  # mxc -> SHA-256
        self.failure = None

    def run(self):
        while not self.stopping:
            self.gate.wait()
            try:
                self.one_upload()
            except (OSError, Closed, BrokenBody):
                pass  # the server was killed
            except Exception as error:
                self.failure = error
                return

    def one_upload(self):
        mxc = create(self.server)
        self.reserved[mxc] = None
        if self.chance.random() < 0.1:
            return
        body = os.urandom(self.chance.choice((0, 1, 1000, 20000, 300000)))
        digest = hashlib.sha256(body).hexdigest()
        self.reserved[mxc] = digest
        is_chunked = self.chance.random() < 0.3
        with Wire(self.server) as wire:
            if is_chunked:
                wire.send(request_bytes("PUT", upload_path(mxc), headers={"Transfer-Encoding": "chunked"}))
                wire.send(chunked(body))
            else:
                wire.send(request_bytes("PUT", upload_path(mxc), body=body))
            response = wire.read_response()
        assert response.status == 200, response
        self.acknowledged[mxc] = digest


@pytest.mark.slow(5)
def test_nothing_acknowledged_is_lost_and_nothing_partial_is_shown(start_server):
    server = start_server()
    gate = threading.Event()
    gate.set()
    writers = [Writer(server, gate, seed) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    chance = random.Random(7)
    for round_number in range(ROUNDS):
        before = sum(len(writer.acknowledged) for writer in writers)
        wait_until(lambda: sum(len(writer.acknowledged) for writer in writers) > before + 3,
                   "the round's first uploads")
        time.sleep(chance.random() * 0.3)
        gate.clear()
        server.kill()
        server.start()
        assert not server.spool_files(), f"round {round_number}: the spool was not swept"
        gate.set()
    for writer in writers:
        writer.stopping = True
    for writer in writers:
        writer.join(30)
        assert writer.failure is None, writer.failure

    acknowledged = {mxc: digest for writer in writers for mxc, digest in writer.acknowledged.items()}
    reserved = {mxc: digest for writer in writers for mxc, digest in writer.reserved.items()}
    assert len(acknowledged) >= ROUNDS * 3
    stored, pending = set(), []
    for mxc, digest in reserved.items():
        response = get(server, mxc, timeout_ms=0)
        if mxc in acknowledged or response.status == 200:
            assert response.status == 200, f"an acknowledged upload is gone: {response}"
            assert hashlib.sha256(response.body).hexdigest() == digest, f"{mxc} came back changed"
            stored.add(digest)
        else:
            response.is_error(504, "M_NOT_YET_UPLOADED")  # a reservation that was acknowledged is still one
            pending.append(mxc)
    # Every blob is whole, and none is there that nothing refers to.
    assert {file.name for file in server.blob_files()} == stored
    assert all(hashlib.sha256(file.read_bytes()).hexdigest() == file.name for file in server.blob_files())
    for mxc in pending[:20]:
        assert put(server, mxc, b"after the crash").status == 200


def test_an_upload_cut_by_a_crash_can_be_made_again(start_server):
    server = start_server()
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=100000)
    upload.send(b"x" * 60000)
    reader = Reader(server, mxc)
    reader.wait_bytes(60000)
    etag = reader.head.header("ETag")
    server.kill()
    assert reader.wait_end().broken
    assert server.spool_files()
    server.start()
    assert not server.spool_files()
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    body = os.urandom(100000)
    assert put(server, mxc, body).status == 200
    resumed = get(server, mxc, headers={"Range": "bytes=60000-", "If-Range": etag})
    assert (resumed.status, resumed.body) == (200, body)  # never joined to the lost attempt


def test_limits_and_ids_survive_a_crash(start_server):
    server = start_server(uploads={"max_pending_per_user": 3})
    mxcs = [create(server) for _ in range(3)]
    server.kill()
    server.start()
    request(server, "POST", "/_matrix/media/v1/create").is_error(429, "M_LIMIT_EXCEEDED")
    assert put(server, mxcs[0], b"x").status == 200
    create(server)
