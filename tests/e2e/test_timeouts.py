# SPDX-License-Identifier: Apache-2.0
"""Requests that never end: heads and bodies have a time, bodies a least rate, readers a patience."""

import os
import time

import pytest

from client import LiveUpload, Reader, Wire, create, download_path, get, put, request_bytes, store
from harness import seconds, wait_until


def ends_between(wire, least, most):
    began = time.monotonic()
    assert wire.ends(timeout=most + 5)
    assert least <= time.monotonic() - began < seconds(most)


@pytest.mark.parametrize("beginning", [b"", b"GET /_matrix/media/v3/con", b"GET /health HTTP/1.1\r\nHost: h\r\nX: "])
def test_a_head_that_does_not_end_is_cut(start_server, beginning):
    server = start_server(http={"header_timeout": "400ms", "idle_timeout": "400ms"})
    wire = Wire(server)
    wire.send(beginning)
    ends_between(wire, 0.2, 3)


def test_a_head_that_drips_is_cut(start_server):
    """The time is for the whole head: a byte now and then does not renew it."""
    server = start_server(http={"header_timeout": "600ms"})
    wire = Wire(server)
    began = time.monotonic()
    wire.send(b"GET /health HTTP/1.1\r\nX: ")
    while wire.is_silent(0.05) and time.monotonic() - began < seconds(6):
        wire.send(b"a")
    assert wire.read_response().status == 408
    assert 0.6 <= time.monotonic() - began < seconds(4)


def test_an_idle_connection_is_closed(start_server):
    server = start_server(http={"idle_timeout": "400ms"})
    wire = Wire(server)
    assert wire.exchange("GET", "/health").status == 200
    ends_between(wire, 0.2, 3)


def test_a_body_below_the_least_rate_is_cut_and_its_readers_know(start_server):
    server = start_server(http={"body_timeout": "500ms", "min_body_rate": "1kB"})
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=100000)
    upload.send(b"x" * 2000)
    reader = Reader(server, mxc)
    reader.wait_bytes(2000)
    began = time.monotonic()
    while upload.wire.is_silent(0.05) and time.monotonic() - began < seconds(8):
        upload.send(b"y")
    assert upload.wire.read_response().status == 408
    assert time.monotonic() - began < seconds(6)
    assert reader.wait_end().broken
    server.wait_metric("sluice_uploads_running", 0)
    assert put(server, mxc, b"faster").status == 200
    assert get(server, mxc).body == b"faster"


def test_a_body_that_stops_is_answered_with_408(start_server):
    server = start_server(http={"body_timeout": "400ms"})
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=1000)
    upload.send(b"x" * 10)
    response = upload.wire.read_response()
    assert response.status == 408
    wait_until(lambda: not server.spool_files(), "the spool file to go")
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


def test_a_body_above_the_least_rate_may_take_its_time(start_server):
    server = start_server(http={"body_timeout": "300ms", "min_body_rate": "100B"})
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    began = time.monotonic()
    body = b""
    while time.monotonic() - began < 1.2:
        piece = os.urandom(200)
        upload.send(piece)
        body += piece
        time.sleep(0.05)
    assert upload.finish().status == 200
    assert get(server, mxc).body == body


def test_a_stalled_download_is_not_idle(start_server):
    server = start_server(http={"idle_timeout": "300ms", "header_timeout": "300ms", "body_timeout": "300ms",
                                "write_timeout": "300ms"})
    mxc = create(server)
    reader = Reader(server, mxc, timeout_ms=10000)
    server.wait_stalled(1)
    time.sleep(0.8)
    assert reader.waits
    assert put(server, mxc, b"x").status == 200
    assert reader.whole() == b"x"


def test_a_live_download_may_rest_as_long_as_its_upload(start_server):
    server = start_server(http={"idle_timeout": "300ms", "write_timeout": "300ms", "header_timeout": "300ms"})
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=4)
    upload.send(b"ab")
    reader = Reader(server, mxc)
    reader.wait_bytes(2)
    time.sleep(0.8)
    assert upload.finish(b"cd").status == 200
    assert reader.whole() == b"abcd"


def test_a_reader_that_takes_nothing_is_cut(start_server):
    server = start_server(http={"write_timeout": "500ms"})
    mxc = store(server, os.urandom(16 << 20))
    stuck = Wire(server, receive_buffer=4096)
    stuck.send(request_bytes("GET", download_path(mxc)))
    assert stuck.read_head().status == 200
    server.wait_metric("sluice_connections", 0, timeout=5)  # it still holds its end open
    assert get(server, mxc).status == 200


def test_a_reader_that_takes_little_at_a_time_is_not_cut(start_server):
    """The kernel speaks of room only when a good part of its buffer is free, which takes a slow reader far longer."""
    server = start_server(http={"write_timeout": "400ms"})
    body = os.urandom(16 << 20)
    slow = Wire(server, receive_buffer=4096)
    slow.send(request_bytes("GET", download_path(store(server, body))))
    head = slow.read_head()
    received = bytearray()
    pieces = slow.body_pieces(head)
    until = time.monotonic() + seconds(2)
    while time.monotonic() < until:
        received += next(pieces)
        time.sleep(0.05)
    for piece in pieces:
        received += piece
    assert received == body


def refused_upload(server):
    upload = LiveUpload(server, create(server), length=1 << 40)
    assert upload.wire.read_response().status == 413
    return upload


@pytest.mark.slow(5)
def test_a_refused_client_that_falls_silent_is_let_go(start_server):
    server = start_server(uploads={"max_size": "1KiB"})
    upload = refused_upload(server)
    server.wait_metric("sluice_connections", 0, timeout=10)
    upload.wire.close()


@pytest.mark.slow(30)
def test_a_refused_client_that_goes_on_sending_is_let_go(start_server):
    """The courtesy that lets a client read its 413 has an end."""
    server = start_server(uploads={"max_size": "1KiB"})
    upload = refused_upload(server)
    began = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() - began < seconds(40):
            upload.send(b"x" * 1000)
            time.sleep(0.2)
