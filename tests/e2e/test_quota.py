# SPDX-License-Identifier: Apache-2.0
"""Quotas: refused before the body where that can be, and never passed, however many come at once."""

import os

from client import (LiveUpload, Wire, create, get, in_parallel, put, request, request_bytes, split_mxc,
                    store, upload_path)
from harness import ALICE, BOB, wait_until

USAGE = "/_matrix/media/unstable/org.matrix.msc4034/usage"


def usage(server, token=ALICE):
    told = request(server, "GET", USAGE, token=token).json()
    return told["org.matrix.msc4034.storage.files"], told["org.matrix.msc4034.storage.used"]


def refused_before_the_body(server, mxc, length):
    """The answer to a head whose body is never sent."""
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(mxc), headers={"Content-Length": str(length)}))
        return wire.read_response()


def test_of_bytes(start_server):
    server = start_server(quotas=[{"users": "@alice:*", "max_bytes": 10000}])
    first = store(server, b"x" * 6000)
    refused_before_the_body(server, create(server), 4001).is_error(403, "M_FORBIDDEN")
    store(server, b"x" * 4000)
    assert usage(server) == (2, 10000)
    store(server, b"x" * 20000, token=BOB)
    config = request(server, "GET", "/_matrix/client/v1/media/config").json()
    assert config["org.matrix.msc4034.storage.size"] == 10000
    server_name, media_id = split_mxc(first)
    path = f"/_matrix/media/unstable/download/{server_name}/{media_id}"
    assert request(server, "DELETE", path).status == 200
    assert usage(server) == (1, 4000)
    store(server, b"x" * 6000)
    server.kill()
    server.start()
    assert usage(server) == (2, 10000)
    refused_before_the_body(server, create(server), 1).is_error(403, "M_FORBIDDEN")


def test_of_files(start_server):
    server = start_server(quotas=[{"max_files": 2}])
    store(server, b"")
    store(server, b"")
    refused_before_the_body(server, create(server), 0).is_error(403, "M_FORBIDDEN")


def test_a_chunked_upload_is_broken_off_where_it_ends(start_server):
    server = start_server(quotas=[{"max_bytes": 100000}])
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"x" * 100000)
    wait_until(lambda: get(server, mxc, method="HEAD").status == 200, "the upload to begin")
    upload.send(b"x")
    upload.wire.read_response().is_error(403, "M_FORBIDDEN")
    assert put(server, mxc, b"less").status == 200


def test_uploads_at_the_same_time_cannot_pass_it_together(start_server):
    server = start_server(quotas=[{"max_bytes": 100000}])
    body = os.urandom(30000)
    for is_chunked in (False, True):
        mxcs = [create(server) for _ in range(12)]
        in_parallel(12, lambda index: put(server, mxcs[index], body, is_chunked=is_chunked))
        files, used = usage(server)
        assert used <= 100000 and used == files * 30000
        statuses = [get(server, mxc, timeout_ms=0).status for mxc in mxcs]
        assert files >= 1 and statuses.count(200) <= 3
    wait_until(lambda: not server.unfinished_files(), "what was refused to go")


def test_of_a_window(start_server):
    server = start_server(quotas=[{"window": {"bytes": 10000, "per": "3s"}}])
    store(server, b"x" * 6000)
    mxc = create(server)
    refused = refused_before_the_body(server, mxc, 5000)
    refused.is_error(429, "M_LIMIT_EXCEEDED")
    assert 1 <= int(refused.header("Retry-After")) <= 3
    refused_before_the_body(server, mxc, 10001).is_error(403, "M_FORBIDDEN")
    wait_until(lambda: put(server, mxc, b"x" * 5000).status == 200, "the window to open")
