# SPDX-License-Identifier: Apache-2.0
"""Live downloads: a download streams while its upload still runs, and only a whole file ever ends cleanly."""

import os
import statistics
import time

import pytest

from client import BrokenBody, LiveUpload, Reader, Wire, create, download_path, get, put, request_bytes
from harness import BOB, seconds

MIB = 1 << 20


@pytest.fixture(params=["declared", "unknown"])
def length_of(request):
    """Turns a size into what the upload declares: the size, or nothing and a chunked body."""
    return (lambda size: size) if request.param == "declared" else (lambda size: None)


def test_the_first_byte_wakes_and_every_slice_follows(server, length_of):
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=length_of(100), content_type="video/mp4", filename="v.mp4")
    server.wait_metric("sluice_uploads_running", 1)
    assert reader.waits, "the head of an upload is not its first byte"
    upload.send(b"a")
    reader.wait_bytes(1)
    assert reader.head.status == 200
    assert reader.head.header("Content-Type") == "video/mp4"
    assert "v.mp4" in reader.head.header("Content-Disposition")
    assert "no-cache" in reader.head.header("Cache-Control")
    server.wait_metric("sluice_live_followers", 1)
    server.wait_stalled(0)
    sent = b"a"
    for size in (1, 2, 30, 50):
        piece = os.urandom(size)
        upload.send(piece)
        sent += piece
        assert reader.wait_bytes(len(sent)) == sent
    rest = os.urandom(16)
    assert upload.finish(rest).status == 200
    assert reader.whole() == sent + rest
    server.wait_metric("sluice_live_followers", 0)


def test_a_declared_length_is_the_downloads_length(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=10)
    upload.send(b"01234")
    reader = Reader(server, mxc)
    assert reader.wait_head().header("Content-Length") == "10"
    assert reader.head.header("Transfer-Encoding") is None
    assert upload.finish(b"56789").status == 200
    assert reader.whole() == b"0123456789"


def test_an_unknown_length_is_sent_chunked(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"01234")
    reader = Reader(server, mxc)
    assert reader.wait_head().header("Transfer-Encoding") == "chunked"
    assert reader.head.header("Content-Length") is None
    assert upload.finish(b"56789").status == 200
    assert reader.whole() == b"0123456789"


def test_a_late_reader_first_gets_what_is_there(server, length_of):
    body = os.urandom(3 * MIB)
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length_of(len(body)))
    upload.send(body[:2 * MIB])
    first = Reader(server, mxc)
    assert first.wait_bytes(2 * MIB) == body[:2 * MIB]
    late = Reader(server, mxc, token=BOB, timeout_ms=0)  # nothing to wait for: it has begun
    assert late.wait_bytes(2 * MIB) == body[:2 * MIB]
    assert upload.finish(body[2 * MIB:]).status == 200
    assert first.whole() == late.whole() == body


def test_many_readers_at_different_places(server, length_of):
    body = os.urandom(MIB)
    mxc = create(server)
    readers = [Reader(server, mxc) for _ in range(5)]
    server.wait_stalled(5)
    upload = LiveUpload(server, mxc, length=length_of(len(body)))
    step = len(body) // 16
    for start in range(0, len(body) - step, step):
        upload.send(body[start:start + step])
        readers.append(Reader(server, mxc))
    assert upload.finish(body[len(body) - step:]).status == 200
    assert all(reader.whole() == body for reader in readers)


def test_bytes_pass_within_milliseconds(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"x" * 100)
    reader = Reader(server, mxc)
    reader.wait_bytes(100)
    delays = []
    for turn in range(100):
        sent_at = time.monotonic()
        upload.send(b"y" * 100)
        reader.wait_bytes(100 * (turn + 2))
        delays.append(next(at for at, count in reader.arrivals if count >= 100 * (turn + 2)) - sent_at)
    assert statistics.median(delays) < seconds(0.05), f"median delay {statistics.median(delays) * 1000:.1f} ms"
    assert upload.finish().status == 200
    reader.whole()


def test_the_last_promised_byte_waits_for_the_seal(server):
    """Until the upload is sealed the last byte is kept back, so that a counted body is a stored body."""
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=100)
    upload.send(b"x" * 99)
    reader = Reader(server, mxc)
    reader.wait_bytes(99)
    upload.break_off()
    assert reader.wait_end().broken
    assert reader.body == b"x" * 99


def test_live_downloads_are_counted(server):
    before = server.metrics()
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=1000)
    upload.send(b"x" * 500)
    reader = Reader(server, mxc)
    reader.wait_bytes(500)
    upload.finish(b"x" * 500)
    reader.whole()
    get(server, mxc)

    def grown(name, **labels):
        return before.value(name, **labels) + 1

    server.wait_metric("sluice_downloads_total", grown("sluice_downloads_total", kind="live"), kind="live")
    server.wait_metric("sluice_downloads_total", grown("sluice_downloads_total", kind="stored"), kind="stored")
    server.wait_metric("sluice_uploads_total", grown("sluice_uploads_total", result="stored"), result="stored")


def test_an_empty_upload_wakes_its_waiters_at_its_end(server, length_of):
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=length_of(0))
    assert upload.finish().status == 200
    assert reader.whole() == b""
    assert reader.head.status == 200


# Broken uploads

@pytest.mark.parametrize("reset", [True, False])
def test_a_broken_upload_is_a_broken_download(server, length_of, reset):
    mxc = create(server)
    waiting = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=length_of(100000))
    body = os.urandom(50000)
    upload.send(body)
    late = Reader(server, mxc)
    waiting.wait_bytes(len(body))
    late.wait_bytes(len(body))
    upload.break_off(reset)
    for reader in (waiting, late):
        assert reader.wait_end().broken, "a broken upload ended like a whole one"
        assert reader.body == body
    server.wait_metric("sluice_live_followers", 0)
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


def test_a_malformed_body_breaks_its_readers(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"good")
    reader = Reader(server, mxc)
    reader.wait_bytes(4)
    upload.wire.send(b"not a chunk\r\n")
    assert upload.wire.read_response().status == 400
    assert reader.wait_end().broken


def test_growing_beyond_the_limit_breaks_its_readers(start_server):
    server = start_server(uploads={"max_size": "1MiB"})
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"x" * 1000)
    reader = Reader(server, mxc)
    reader.wait_bytes(1000)
    for _ in range(17):
        upload.send(b"x" * 65536)
    upload.wire.read_response().is_error(413, "M_TOO_LARGE")
    assert reader.wait_end().broken


def test_a_second_attempt_has_its_own_readers_and_etag(server, length_of):
    mxc = create(server)
    first = LiveUpload(server, mxc, length=length_of(1000))
    first.send(b"1" * 500)
    early = Reader(server, mxc)
    early.wait_bytes(500)
    first.break_off()
    assert early.wait_end().broken
    waiting = Reader(server, mxc)
    server.wait_stalled(1)
    second = LiveUpload(server, mxc, length=length_of(800))
    second.send(b"2" * 400)
    assert waiting.wait_bytes(400) == b"2" * 400
    assert waiting.head.header("ETag") != early.head.header("ETag")
    assert second.finish(b"2" * 400).status == 200
    assert waiting.whole() == b"2" * 800
    assert get(server, mxc).body == b"2" * 800


def test_waiters_of_an_upload_that_broke_before_its_first_byte_go_on_waiting(server):
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=10)
    server.wait_metric("sluice_uploads_running", 1)
    upload.break_off()
    server.wait_metric("sluice_uploads_running", 0)
    assert reader.waits
    assert put(server, mxc, b"second").status == 200
    assert reader.whole() == b"second"


# Readers of every kind

def test_a_slow_reader_slows_neither_the_upload_nor_the_others(server, length_of):
    body = os.urandom(16 * MIB)
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length_of(len(body)))
    upload.send(body[:1000])
    slow = Wire(server, receive_buffer=4096)  # and it does not read
    slow.send(request_bytes("GET", download_path(mxc)))
    fast = Reader(server, mxc)
    fast.wait_bytes(1000)
    server.wait_metric("sluice_live_followers", 2)
    began = time.monotonic()
    for start in range(1000, len(body), MIB):
        upload.send(body[start:start + MIB])
    assert upload.finish().status == 200
    assert fast.whole() == body
    assert time.monotonic() - began < seconds(15)
    assert slow.read_response().body == body  # it missed nothing


@pytest.mark.parametrize("reset", [True, False])
def test_a_reader_that_leaves_is_dropped_while_nothing_flows(server, reset):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=100)
    upload.send(b"x" * 50)
    stays, leaves = Reader(server, mxc), Wire(server)
    leaves.send(request_bytes("GET", download_path(mxc)))
    stays.wait_bytes(50)
    assert leaves.read_head().status == 200
    server.wait_metric("sluice_live_followers", 2)
    leaves.reset() if reset else leaves.close()
    server.wait_metric("sluice_live_followers", 1, timeout=5)
    assert upload.finish(b"x" * 50).status == 200
    assert stays.whole() == b"x" * 100


def test_a_head_of_a_running_upload(server, length_of):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length_of(100), content_type="image/png")
    upload.send(b"x" * 50)
    Reader(server, mxc).wait_bytes(50)
    response = get(server, mxc, method="HEAD")
    assert (response.status, response.header("Content-Type")) == (200, "image/png")
    assert response.header("Content-Length") == (None if length_of(1) is None else "100")
    assert upload.finish(b"x" * 50).status == 200


def test_an_http_1_0_reader_of_an_unknown_length(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"01234")
    reader = Reader(server, mxc, version="1.0")
    reader.wait_bytes(5)
    assert reader.head.header("Transfer-Encoding") is None
    assert upload.finish(b"56789").status == 200
    assert reader.whole() == b"0123456789"


def test_an_http_1_0_reader_hears_of_the_break(server, length_of):
    """Without a length and without chunks, only a reset tells a broken body from a whole one."""
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length_of(10))
    upload.send(b"01234")
    reader = Reader(server, mxc, version="1.0")
    reader.wait_bytes(5)
    upload.break_off()
    assert reader.wait_end().broken, "a broken upload ended like a whole one"


def test_the_connection_lives_on_after_a_live_download(server, length_of):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length_of(10))
    upload.send(b"01234")
    with Wire(server) as wire:
        wire.send(request_bytes("GET", download_path(mxc)))
        head = wire.read_head()
        assert head.status == 200
        assert upload.finish(b"56789").status == 200
        assert b"".join(wire.body_pieces(head)) == b"0123456789"
        assert wire.exchange("GET", download_path(mxc)).body == b"0123456789"


# Without streaming

def test_without_live_readers_wait_for_the_whole(start_server):
    server = start_server(downloads={"live": False})
    mxc = create(server)
    early = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=100)
    upload.send(b"x" * 99)
    late = Reader(server, mxc)
    server.wait_stalled(2)
    response = get(server, mxc, timeout_ms=200).is_error(504, "M_NOT_YET_UPLOADED")
    assert response.seconds >= 0.2
    assert early.waits and late.waits
    assert upload.finish(b"x").status == 200
    for reader in (early, late):
        assert reader.whole() == b"x" * 100
        assert reader.head.header("Content-Length") == "100"
    assert server.metric("sluice_downloads_total", kind="live") == 0


def test_without_live_a_broken_upload_is_never_seen(start_server):
    server = start_server(downloads={"live": False})
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc)
    upload.send(b"broken")
    server.wait_metric("sluice_uploads_running", 1)
    upload.break_off()
    server.wait_metric("sluice_uploads_running", 0)
    assert reader.waits
    put(server, mxc, b"whole")
    assert reader.whole() == b"whole"


def test_a_broken_body_is_recognised_by_this_suite():
    """The witness itself: a body that ends early is BrokenBody in every framing."""
    import socket
    import threading
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
                   b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd",
                   b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"):
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            peer, _ = listener.accept()
            peer.sendall(answer)
            peer.close()

        threading.Thread(target=serve, daemon=True).start()
        with Wire(listener.getsockname()) as wire, pytest.raises(BrokenBody) as caught:
            wire.read_response()
        assert caught.value.body == b"abcd"
        listener.close()
