# SPDX-License-Identifier: Apache-2.0
"""Stalled downloads: they wait for an upload to begin, for a bounded time and in a bounded number."""

import os
import resource
import threading
import time

import pytest

from client import (AUTHED, LEGACY, LiveUpload, Reader, Wire, create, download_path, get, in_parallel, put,
                    request_bytes,
                    store)
from harness import BOB, SERVER_NAME, seconds, wait_until

R0, V1 = "/_matrix/media/r0", "/_matrix/media/v1"


@pytest.mark.parametrize("family", [AUTHED, LEGACY, V1, R0])
def test_a_download_waits_for_its_upload(server, family):
    mxc = create(server)
    reader = Reader(server, mxc, family=family, timeout_ms=20000)
    server.wait_stalled(1)
    assert reader.waits
    assert put(server, mxc, b"at last", content_type="text/plain").status == 200
    assert reader.whole() == b"at last"
    assert reader.head.status == 200
    assert reader.head.header("Content-Type") == "text/plain"
    server.wait_stalled(0)


def test_waiting_is_the_default(server):
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    put(server, mxc, b"x")
    assert reader.whole() == b"x"


def test_anyone_with_a_token_may_wait(server):
    mxc = create(server)
    reader = Reader(server, mxc, token=BOB)
    server.wait_stalled(1)
    put(server, mxc, b"x")
    assert reader.whole() == b"x"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_zero_answers_at_once(server, method):
    response = get(server, create(server), method=method, timeout_ms=0)
    assert response.status == 504
    assert method == "HEAD" or response.errcode == "M_NOT_YET_UPLOADED"
    assert response.seconds < seconds(1)


@pytest.mark.parametrize("parameter", ["timeout_ms", "fi.mau.msc2246.timeout_ms"])
@pytest.mark.parametrize("family", [AUTHED, LEGACY])
def test_the_client_says_how_long(server, parameter, family):
    response = get(server, create(server), family=family, **{parameter: 300})
    response.is_error(504, "M_NOT_YET_UPLOADED")
    assert 0.3 <= response.seconds < seconds(2)


def test_without_a_word_from_the_client_the_default_counts(start_server):
    server = start_server(downloads={"default_wait": "250ms"})
    response = get(server, create(server)).is_error(504, "M_NOT_YET_UPLOADED")
    assert 0.25 <= response.seconds < seconds(2)


@pytest.mark.parametrize("asked", [60000, 10**9, 10**25])
def test_the_wait_has_a_cap(start_server, asked):
    server = start_server(downloads={"default_wait": "100ms", "max_wait": "400ms"})
    response = get(server, create(server), timeout_ms=asked)
    if asked < 10**20:  # beyond any integer it may also be called invalid
        response.is_error(504, "M_NOT_YET_UPLOADED")
        assert 0.4 <= response.seconds < seconds(2)
    else:
        assert response.status in (400, 504)


@pytest.mark.parametrize("value", ["-1", "abc", "", "1e3", "0x10", "5.5"])
def test_a_timeout_that_is_no_number_does_not_wait_for_ever(start_server, value):
    server = start_server(downloads={"default_wait": "200ms"})
    assert get(server, create(server), timeout_ms=value).status in (400, 504)


def test_unknown_ids_do_not_wait(server):
    for mxc in (f"mxc://{SERVER_NAME}/neverCreatedNeverCreated00", f"mxc://{SERVER_NAME}/x"):
        response = get(server, mxc, timeout_ms=20000).is_error(404, "M_NOT_FOUND")
        assert response.seconds < seconds(2)


def test_a_waiter_hears_of_the_expiry_at_once(start_server):
    server = start_server(uploads={"unused_expiry": "2s"})
    mxc = create(server)
    readers = [Reader(server, mxc, timeout_ms=20000), Reader(server, mxc, method="HEAD", timeout_ms=20000)]
    server.wait_stalled(2)
    for reader in readers:
        reader.wait_end()
        assert reader.head.status == 404
        assert reader.ended - reader.began < seconds(5)
    assert readers[0].response.errcode == "M_NOT_FOUND"
    get(server, mxc, timeout_ms=20000).is_error(404, "M_NOT_FOUND")


def test_the_connection_lives_on_after_a_504(server):
    mxc, filled = create(server), store(server, b"there")
    with Wire(server) as wire:
        for _ in range(3):
            assert wire.exchange("GET", download_path(mxc, timeout_ms=30)).status == 504
            assert wire.exchange("GET", download_path(filled)).body == b"there"


def test_head_waits_and_tells_of_what_comes(server):
    mxc = create(server)
    reader = Reader(server, mxc, method="HEAD")
    server.wait_stalled(1)
    assert put(server, mxc, b"12345", content_type="image/png").status == 200
    reader.wait_end()
    assert (reader.head.status, reader.head.header("Content-Type")) == (200, "image/png")
    assert reader.head.header("Content-Length") == "5"


def test_head_is_answered_when_the_upload_begins(server):
    mxc = create(server)
    reader = Reader(server, mxc, method="HEAD")
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=1000, content_type="image/png")
    upload.send(b"a")
    reader.wait_end()
    assert (reader.head.status, reader.head.header("Content-Length")) == (200, "1000")
    assert upload.finish(b"b" * 999).status == 200


def test_a_range_of_a_pending_id_waits(server):
    mxc = create(server)
    reader = Reader(server, mxc, headers={"Range": "bytes=2-4"})
    server.wait_stalled(1)
    put(server, mxc, b"0123456789")
    assert reader.whole() == b"234"
    assert (reader.head.status, reader.head.header("Content-Range")) == (206, "bytes 2-4/10")


def test_the_deadline_does_not_cut_a_transfer_that_began(server):
    mxc = create(server)
    reader = Reader(server, mxc, timeout_ms=300)
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=4)
    upload.send(b"ab")
    reader.wait_bytes(2)
    time.sleep(0.6)
    assert reader.broken is None
    assert upload.finish(b"cd").status == 200
    assert reader.whole() == b"abcd"


def test_waiters_of_one_id_have_their_own_deadlines(server):
    mxc = create(server)
    short = Reader(server, mxc, timeout_ms=200)
    long = Reader(server, mxc, timeout_ms=20000)
    assert short.wait_end().head.status == 504
    server.wait_stalled(1)
    assert long.waits
    put(server, mxc, b"x")
    assert long.whole() == b"x"


def test_ids_wake_only_their_own_waiters(server):
    first, second = create(server), create(server)
    readers = [Reader(server, first), Reader(server, second)]
    server.wait_stalled(2)
    put(server, first, b"one")
    assert readers[0].whole() == b"one"
    server.wait_stalled(1)
    assert readers[1].waits
    put(server, second, b"two")
    assert readers[1].whole() == b"two"


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("count", [1, 50])
def test_a_waiter_that_leaves_is_dropped_at_once(server, reset, count):
    mxc = create(server)
    wires = []
    for _ in range(count):
        wires.append(Wire(server))
        wires[-1].send(request_bytes("GET", download_path(mxc, timeout_ms=60000)))
    server.wait_stalled(count)
    for wire in wires:
        wire.reset() if reset else wire.close()
    server.wait_stalled(0, timeout=5)


# Bounds

def test_a_waiter_that_talks_on_and_leaves_is_dropped_at_once(server):
    mxc = create(server)
    wire = Wire(server)
    wire.send(request_bytes("GET", download_path(mxc, timeout_ms=60000)) + request_bytes("GET", "/health") * 200)
    wire.close()
    server.wait_stalled(0)
    wait_until(lambda: mxc in server.log(), "the log line of the one that left", timeout=5)


def test_who_leaves_is_not_refused(start_server):
    server = start_server()
    mxc = create(server)
    wire = Wire(server)
    wire.send(request_bytes("GET", download_path(mxc, timeout_ms=60000)))
    server.wait_stalled(1)
    wire.close()
    server.wait_metric("sluice_requests_total", 1, status="499")
    assert server.metric("sluice_refusals_total") == 0


def test_those_who_wait_for_a_small_file_share_a_descriptor(start_server):
    """It is stored before they look, so none of them follows: each opens the file at rest."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (700, 700))

    server = start_server(preexec=limit, downloads={"max_waiting_per_address": 1000})
    mxc = create(server)
    readers = [Reader(server, mxc, timeout_ms=60000) for _ in range(400)]
    server.wait_stalled(400)
    assert put(server, mxc, b"x").status == 200
    assert [reader.whole() for reader in readers] == [b"x"] * 400


def test_waiters_in_all_are_bounded(start_server):
    server = start_server(downloads={"max_waiting": 3})
    mxc, other = create(server), create(server)
    readers = [Reader(server, mxc) for _ in range(2)] + [Reader(server, other)]
    server.wait_stalled(3)
    for full in (mxc, other):
        response = get(server, full, timeout_ms=20000).is_error(504, "M_NOT_YET_UPLOADED")
        assert response.seconds < seconds(1)
    readers[0].close()
    server.wait_stalled(2)
    readers[0] = Reader(server, mxc)  # a place that became free
    server.wait_stalled(3)
    put(server, mxc, b"one")
    put(server, other, b"two")
    assert [reader.whole() for reader in readers] == [b"one", b"one", b"two"]


def test_waiters_per_media_are_bounded(start_server):
    server = start_server(downloads={"max_waiting_per_media": 2})
    mxc, other = create(server), create(server)
    readers = [Reader(server, mxc) for _ in range(2)]
    server.wait_stalled(2)
    response = get(server, mxc, timeout_ms=20000).is_error(504, "M_NOT_YET_UPLOADED")
    assert response.seconds < seconds(1)
    readers.append(Reader(server, other))
    server.wait_stalled(3)
    put(server, mxc, b"one")
    put(server, other, b"two")
    assert [reader.whole() for reader in readers] == [b"one", b"one", b"two"]


def test_waiters_per_address_are_bounded(start_server):
    server = start_server(downloads={"max_waiting_per_address": 2})
    mxc = create(server)

    def waiter(forwarded_for):
        return Reader(server, mxc, headers={"X-Forwarded-For": forwarded_for} if forwarded_for else {})

    def is_refused_at_once(forwarded_for):
        response = get(server, mxc, headers={"X-Forwarded-For": forwarded_for}, timeout_ms=20000)
        response.is_error(504, "M_NOT_YET_UPLOADED")
        return response.seconds < seconds(1)

    readers = [waiter("203.0.113.7"), waiter("198.51.100.1, 203.0.113.7")]
    server.wait_stalled(2)
    assert is_refused_at_once("203.0.113.7")
    assert is_refused_at_once("192.0.2.99, 203.0.113.7")  # what the client itself claims does not count
    assert is_refused_at_once("203.0.113.7, 127.0.0.1")  # nor does a second proxy of ours
    readers += [waiter("203.0.113.8"), waiter("2001:db8::1"), waiter(None), waiter(None), waiter(None)]
    server.wait_stalled(7)
    put(server, mxc, b"x")
    assert [reader.whole() for reader in readers] == [b"x"] * 7


def test_forwarded_addresses_of_strangers_are_not_believed(start_server):
    server = start_server(downloads={"max_waiting_per_address": 2}, http={"trusted_proxies": []})
    mxc = create(server)
    readers = [Reader(server, mxc, headers={"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(2)]
    server.wait_stalled(2)
    get(server, mxc, headers={"X-Forwarded-For": "203.0.113.9"}, timeout_ms=20000).is_error(504, "M_NOT_YET_UPLOADED")
    readers.append(Reader(server, mxc, source="127.0.0.2"))
    server.wait_stalled(3)
    put(server, mxc, b"x")
    assert [reader.whole() for reader in readers] == [b"x"] * 3


# Crowds and races

def test_a_thousand_waiters_are_all_served(server):
    mxc, body = create(server), os.urandom(2000)
    wires = []
    for _ in range(1000):
        wires.append(Wire(server))
        wires[-1].send(request_bytes("GET", download_path(mxc, timeout_ms=60000)))
    server.wait_stalled(1000, timeout=20)
    began = time.monotonic()
    assert put(server, mxc, body).status == 200
    assert all(wire.read_response().body == body for wire in wires)
    assert time.monotonic() - began < seconds(10)
    server.wait_stalled(0)


def test_no_wake_up_is_lost_when_a_download_meets_its_upload(server):
    """Both at the same moment, many times and shifted against each other: whichever comes first, the bytes come."""
    for turn in range(60):
        mxc = create(server)
        wire = Wire(server)
        head = request_bytes("GET", download_path(mxc, timeout_ms=20000))
        go = threading.Barrier(2)

        def download():
            go.wait()
            time.sleep((turn % 10) * 0.0001)
            wire.send(head)
            return wire.read_response()

        def upload():
            go.wait()
            return put(server, mxc, b"met")

        began = time.monotonic()
        responses = in_parallel(2, lambda n: (download, upload)[n]())
        assert [r.status for r in responses] == [200, 200]
        assert responses[0].body == b"met"
        assert time.monotonic() - began < seconds(5)
        wire.close()


def test_waits_are_measured(start_server):
    server = start_server()
    mxc = create(server)
    reader = Reader(server, mxc)
    server.wait_stalled(1)
    put(server, mxc, b"x")
    reader.whole()
    server.wait_metric("sluice_wait_seconds_count", 1)
