# SPDX-License-Identifier: Apache-2.0
"""Range during the upload: bytes that are there come at once, bytes that are not come when they do."""

import os
import signal

import pytest

from client import LiveUpload, Reader, create, get, put, store
from harness import wait_until

SIZE = 100_000


@pytest.fixture
def half(server):
    """An upload of declared length of which the first half has come, and its body."""
    mxc, body = create(server), os.urandom(SIZE)
    upload = LiveUpload(server, mxc, length=SIZE)
    upload.send(body[:SIZE // 2])
    Reader(server, mxc).wait_bytes(SIZE // 2)
    return mxc, body, upload


def test_present_bytes_come_at_once(server, half):
    mxc, body, upload = half
    response = get(server, mxc, headers={"Range": "bytes=100-1099"})
    assert (response.status, response.body) == (206, body[100:1100])
    assert response.header("Content-Range") == f"bytes 100-1099/{SIZE}"
    assert response.header("Content-Length") == "1000"
    assert upload.finish(body[SIZE // 2:]).status == 200


def test_future_bytes_come_when_they_do(server, half):
    mxc, body, upload = half
    reader = Reader(server, mxc, headers={"Range": "bytes=60000-69999"})
    assert reader.wait_head().status == 206
    assert reader.head.header("Content-Range") == f"bytes 60000-69999/{SIZE}"
    assert not reader.body
    upload.send(body[SIZE // 2:65000])
    assert reader.wait_bytes(5000) == body[60000:65000]
    upload.send(body[65000:80000])
    assert reader.whole() == body[60000:70000]  # long before the upload ends
    assert upload.finish(body[80000:]).status == 200


def test_a_range_across_the_edge(server, half):
    mxc, body, upload = half
    reader = Reader(server, mxc, headers={"Range": "bytes=40000-"})
    assert reader.wait_bytes(10000) == body[40000:50000]
    assert reader.head.header("Content-Range") == f"bytes 40000-{SIZE - 1}/{SIZE}"
    assert upload.finish(body[50000:]).status == 200
    assert reader.whole() == body[40000:]


def test_a_suffix_of_a_declared_length(server, half):
    mxc, body, upload = half
    reader = Reader(server, mxc, headers={"Range": "bytes=-100"})
    reader.wait_head()
    assert upload.finish(body[50000:]).status == 200
    assert reader.whole() == body[-100:]
    assert (reader.head.status, reader.head.header("Content-Range")) == (206, f"bytes {SIZE - 100}-{SIZE - 1}/{SIZE}")


def test_beyond_the_declared_length(server, half):
    mxc, body, upload = half
    response = get(server, mxc, headers={"Range": f"bytes={SIZE}-"})
    assert response.status == 416
    assert response.header("Content-Range") == f"bytes */{SIZE}"
    assert upload.finish(body[50000:]).status == 200


def test_a_range_of_a_broken_upload_is_broken(server, half):
    mxc, body, upload = half
    reader = Reader(server, mxc, headers={"Range": "bytes=40000-59999"})
    reader.wait_bytes(10000)
    whole = Reader(server, mxc, headers={"Range": "bytes=0-9"})
    assert whole.whole() == body[:10]  # these bytes were all there
    upload.break_off()
    assert reader.wait_end().broken
    assert reader.body == body[40000:50000]


def test_a_range_of_a_broken_upload_of_unknown_length_is_not_cut_to_what_came(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(bytes(500))
    Reader(server, mxc).wait_bytes(500)
    reader = Reader(server, mxc, headers={"Range": "bytes=0-999"})
    server.wait_stalled(1)
    upload.break_off()
    assert reader.wait_head().status == 504


def test_a_range_that_waits_is_answered_when_the_server_stops(start_server):
    server = start_server(shutdown_grace="10s")
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(bytes(500))
    Reader(server, mxc).wait_bytes(500)
    reader = Reader(server, mxc, headers={"Range": "bytes=600-999"})
    server.wait_stalled(1)
    server.signal(signal.SIGTERM)
    assert reader.wait_head().status == 504
    assert upload.finish().status == 200
    server.wait()
    server.stop()  # it has ended: only its exit code and log are left to look at


def test_ranges_are_for_get_alone(server):
    mxc = store(server, bytes(1000))
    response = get(server, mxc, method="HEAD", headers={"Range": "bytes=0-9"})
    assert (response.status, response.header("Content-Length")) == (200, "1000")


@pytest.mark.parametrize("spec, part",
                         [("0-", slice(0, None)), ("100-1099", slice(100, 1100)), ("90000-", slice(90000, None)),
                                        ("60000-69999", slice(60000, 70000)), ("-100", slice(-100, None))])
def test_ranges_of_an_unknown_length(server, spec, part):
    """A server may answer with the whole while it cannot know; what it sends has to be what it says."""
    mxc, body = create(server), os.urandom(SIZE)
    upload = LiveUpload(server, mxc)
    upload.send(body[:SIZE // 2])
    Reader(server, mxc).wait_bytes(SIZE // 2)
    reader = Reader(server, mxc, headers={"Range": f"bytes={spec}"})
    wait_until(lambda: reader.done.is_set() or server.metric("sluice_live_followers") == 2, "the reader to follow")
    assert upload.finish(body[SIZE // 2:]).status == 200
    got = reader.whole()
    if reader.head.status == 206:
        assert got == body[part]
        first, last = (part.indices(SIZE)[0], part.indices(SIZE)[1] - 1)
        assert reader.head.header("Content-Range") in (f"bytes {first}-{last}/*", f"bytes {first}-{last}/{SIZE}")
    else:
        assert reader.head.status == 200
        assert got == body


def test_beyond_an_unknown_length(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"0123456789")
    Reader(server, mxc).wait_bytes(10)
    reader = Reader(server, mxc, headers={"Range": "bytes=500-"})
    assert upload.finish().status == 200
    reader.wait_end()
    if reader.head.status == 200:
        assert reader.whole() == b"0123456789"
    else:
        assert reader.head.status == 416 or reader.broken  # never a clean end of bytes that do not exist


# The ETag joins what belongs together

def test_the_etag_is_the_same_live_and_stored(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=10)
    upload.send(b"01234")
    reader = Reader(server, mxc)
    etag = reader.wait_head().header("ETag")
    assert etag.startswith('"') and etag.endswith('"')
    assert get(server, mxc, method="HEAD").header("ETag") == etag
    assert upload.finish(b"56789").status == 200
    assert reader.whole() == b"0123456789"
    assert get(server, mxc).header("ETag") == etag


def test_a_live_download_can_be_resumed(server, half):
    mxc, body, upload = half
    first = Reader(server, mxc)
    first.wait_bytes(SIZE // 2)
    etag = first.head.header("ETag")
    first.close()
    second = Reader(server, mxc, headers={"Range": f"bytes={SIZE // 2}-", "If-Range": etag})
    assert second.wait_head().status == 206
    upload.send(body[SIZE // 2:75000])
    second.wait_bytes(25000)
    second.close()
    assert upload.finish(body[75000:]).status == 200
    third = get(server, mxc, headers={"Range": "bytes=75000-", "If-Range": etag})
    assert (third.status, third.body) == (206, body[75000:])


def test_a_resumption_never_joins_two_attempts(server, half):
    mxc, body, upload = half
    reader = Reader(server, mxc)
    reader.wait_bytes(SIZE // 2)
    etag = reader.head.header("ETag")
    upload.break_off()
    assert reader.wait_end().broken
    resumed = Reader(server, mxc, headers={"Range": f"bytes={SIZE // 2}-", "If-Range": etag})
    server.wait_stalled(1)
    second_body = os.urandom(SIZE)
    assert put(server, mxc, second_body).status == 200
    assert resumed.whole() == second_body  # from its beginning
    assert resumed.head.status == 200
    again = get(server, mxc, headers={"Range": f"bytes={SIZE // 2}-", "If-Range": etag})
    assert (again.status, again.body) == (200, second_body)


def test_attempts_differ_even_after_a_restart(start_server):
    server = start_server()
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=100)
    upload.send(b"a" * 50)
    reader = Reader(server, mxc)
    etag = reader.wait_head().header("ETag")
    upload.break_off()
    reader.wait_end()
    server.stop()
    server.start()
    assert put(server, mxc, b"b" * 100).status == 200
    assert get(server, mxc).header("ETag") != etag
