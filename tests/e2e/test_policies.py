# SPDX-License-Identifier: Apache-2.0
"""What may be uploaded, how fast may be downloaded, and what a homeserver rules for itself."""

import json
import time

import pytest

from client import (AUTHED, LEGACY, LiveUpload, Reader, Wire, create, get, put, request, request_bytes, split_mxc,
                    store, upload_path)
from harness import ALICE, BASE_CONFIG, BOB, wait_until

CREATE = "/_matrix/media/v1/create"
SEED_CREATE = "/_matrix/media/r0/create"
DAVE = "tok_second_8812"


# Content types

@pytest.fixture(scope="module")
def pictures_only():
    return {"content_types": {"allow": ["image/*", "text/plain"], "deny": ["image/svg+xml"]}}


REFUSED = ["text/html", "image/svg+xml", "IMAGE/SVG+XML; charset=utf-8", "image", "imagery/png", None, "",
           "image/png, text/html", "text/plain,"]
ACCEPTED = ["image/png", "Image/JPEG", "text/plain; charset=utf-8"]


@pytest.mark.parametrize("family", [LEGACY, "/_matrix/media/r0", "/_matrix/media/unstable/fi.mau.msc2246"])
def test_types_that_are_not_allowed_are_refused_before_the_body(start_server, pictures_only, family):
    server = start_server(uploads=pictures_only)
    mxc = create(server)
    for content_type in REFUSED:
        headers = {"Content-Length": "1000000", "Expect": "100-continue"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        with Wire(server) as wire:
            wire.send(request_bytes("PUT", upload_path(mxc, family), headers=headers))
            head = wire.read_head()  # no 100 Continue before it
            assert head.status == 403, content_type
            assert json.loads(b"".join(wire.body_pieces(head)))["errcode"] == "M_FORBIDDEN"
    for content_type in ACCEPTED:
        mxc = create(server)
        assert put(server, mxc, b"x", content_type=content_type, family=family).status == 200
        assert get(server, mxc).header("Content-Type") == content_type
    refused = server.metric("sluice_uploads_total", result="refused")
    assert (refused, server.metric("sluice_uploads_total", result="broken")) == (len(REFUSED), 0)


@pytest.mark.parametrize("version", ["r0", "v1", "v3"])
def test_uploads_in_one_step_are_ruled_too(start_server, pictures_only, version):
    server = start_server(uploads=pictures_only)
    path = f"/_matrix/media/{version}/upload"
    request(server, "POST", path, body=b"<p>", headers={"Content-Type": "text/html"}).is_error(403, "M_FORBIDDEN")
    request(server, "POST", path, body=b"x").is_error(403, "M_FORBIDDEN")
    assert request(server, "POST", path, body=b"x", headers={"Content-Type": "image/png"}).status == 200


def test_create_is_refused_where_it_names_a_type(start_server, pictures_only):
    server = start_server(uploads=pictures_only)
    for path in (SEED_CREATE, CREATE):
        request(server, "POST", path, body=b'{"content_type": "text/html"}').is_error(403, "M_FORBIDDEN")
        assert request(server, "POST", path, body=b'{"content_type": "image/png"}').status == 200
        assert request(server, "POST", path, body=b"{}").status == 200
    mxc = create(server, path=SEED_CREATE, body=b'{"content_type": "image/png"}')
    assert put(server, mxc, b"x").status == 200  # inherited
    assert get(server, mxc).header("Content-Type") == "image/png"
    mxc = create(server, path=SEED_CREATE, body=b'{"content_type": "image/png"}')
    put(server, mxc, b"x", content_type="text/html").is_error(403, "M_FORBIDDEN")


def test_a_type_that_was_named_before_it_was_denied(start_server):
    server = start_server()
    mxc = create(server, path=SEED_CREATE, body=b'{"content_type": "text/html"}')
    upload = LiveUpload(server, create(server), length=4, content_type="text/html")
    upload.send(b"<p")
    server.wait_metric("sluice_uploads_running", 1)
    server.reload(uploads={"content_types": {"deny": ["text/html"]}})
    put(server, mxc, b"<p>").is_error(403, "M_FORBIDDEN")
    assert upload.finish(b">x").status == 200  # it had begun
    assert put(server, mxc, b"text", content_type="text/plain").status == 200  # the id is still there


# How fast may be downloaded

RATE = {"bytes_per_second": "1000B", "burst": "100kB"}


def is_slowed_down(response):
    response.is_error(429, "M_LIMIT_EXCEEDED")
    wait = response.json()["retry_after_ms"]
    assert int(response.header("Retry-After")) == -(-wait // 1000)
    return wait / 1000


def test_a_user_in_debt_has_to_wait(start_server):
    server = start_server(downloads={"rate": {"per_user": RATE}})
    large = store(server, b"x" * 150_000)
    assert len(get(server, large).body) == 150_000  # more than the burst, and still whole
    assert 40 < is_slowed_down(get(server, large)) <= 51
    assert is_slowed_down(get(server, create(server), timeout_ms=60000))  # before it waits for anything
    assert get(server, large, token=BOB).status == 200
    assert request(server, "GET", AUTHED + "/config").status == 200  # nothing but content is counted
    wait_until(lambda: server.metric("sluice_refusals_total", errcode="M_LIMIT_EXCEEDED") == 2, "both to be counted")


def test_debts_are_paid_with_time(start_server):
    server = start_server(downloads={"rate": {"per_user": {"bytes_per_second": "10kB", "burst": "1kB"}}})
    mxc = store(server, b"x" * 11_000)
    assert get(server, mxc).status == 200
    began = time.monotonic()
    wait_until(lambda: get(server, mxc).status == 200, "the debt to be paid")
    assert time.monotonic() - began > 0.5


def test_only_what_was_sent_is_charged(start_server):
    server = start_server(downloads={"rate": {"per_user": RATE}})
    mxc = store(server, b"x" * 20_000_000)
    for _ in range(20):
        part = get(server, mxc, headers={"Range": "bytes=0-9"})
        assert (part.status, len(part.body)) == (206, 10)
        assert get(server, mxc, method="HEAD").header("Content-Length") == "20000000"
        etag = part.header("ETag")
        assert get(server, mxc, headers={"If-None-Match": etag}).status == 304


def test_who_leaves_gets_back_what_was_not_sent(start_server):
    rate = {"bytes_per_second": "1kB", "burst": "20MB"}
    server = start_server(downloads={"rate": {"per_user": rate}})
    mxc = store(server, b"x" * 60_000_000)
    player = Reader(server, mxc, receive_buffer=4096)
    player.wait_bytes(1)
    is_slowed_down(get(server, mxc))  # all of it is charged while it is being sent
    player.wire.reset()
    wait_until(lambda: get(server, mxc, headers={"Range": "bytes=0-0"}).status == 206, "the rest to be given back")


def test_live_downloads_are_charged(start_server):
    server = start_server(downloads={"rate": {"per_user": {"bytes_per_second": "1B", "burst": "100B"}}})
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"x" * 5000)
    server.wait_metric("sluice_uploads_running", 1)
    reader = Reader(server, mxc)
    reader.wait_bytes(5000)
    assert upload.finish(b"y").status == 200
    assert len(reader.whole()) == 5001
    wait_until(lambda: get(server, mxc).status == 429, "it to be charged")


def forwarded(address):
    return {"X-Forwarded-For": address}


def test_addresses_are_what_trusted_proxies_say(start_server):
    server = start_server(downloads={"unauthenticated": "allow", "rate": {"per_address": RATE}})
    mxc = store(server, b"x" * 150_000)

    def ask(address, token=None):
        return get(server, mxc, family=LEGACY, token=token, headers=forwarded(address))

    assert ask("192.0.2.1").status == 200
    is_slowed_down(ask("192.0.2.1"))
    is_slowed_down(ask("192.0.2.1", token=ALICE))  # here nobody is asked who they are
    assert ask("192.0.2.2").status == 200
    assert ask("2001:db8::1").status == 200
    is_slowed_down(ask("2001:db8::2"))  # one customer
    assert ask("2001:db8:0:1::1").status == 200
    for _ in range(3):
        assert get(server, mxc, family=LEGACY, token=None).status == 200  # the proxy did not say


def test_a_user_is_not_counted_by_address(start_server):
    server = start_server(downloads={"unauthenticated": "allow", "rate": {"per_address": RATE, "per_user": RATE}})
    mxc = store(server, b"x" * 150_000)
    assert get(server, mxc, family=LEGACY, token=None, headers=forwarded("192.0.2.1")).status == 200
    assert get(server, mxc, headers=forwarded("192.0.2.1")).status == 200
    is_slowed_down(get(server, mxc, headers=forwarded("192.0.2.2")))


def test_the_rate_follows_a_reload(start_server):
    server = start_server()
    mxc = store(server, b"x" * 150_000)
    for _ in range(5):
        assert get(server, mxc).status == 200
    server.reload(downloads={"rate": {"per_user": RATE}})
    assert get(server, mxc).status == 200
    is_slowed_down(get(server, mxc))
    server.reload(downloads={"rate": {"per_user": {"bytes_per_second": "0B"}}})
    assert get(server, mxc).status == 200


# What a homeserver has of its own

@pytest.fixture
def two(start_server):
    return start_server(
        uploads={"max_size": "1000B"},
        downloads={"rate": {"per_user": RATE}},
        homeservers=BASE_CONFIG["homeservers"] + [
            {"server_name": "second.org", "tokens": [{"token": DAVE, "user": "@dave:second.org"}],
             "uploads": {"max_size": "300kB", "max_pending_per_user": 1, "content_types": {"deny": ["text/html"]},
                         "create_rate": {"per_second": 0.001, "burst": 3}},
             "downloads": {"rate": {"per_user": {"bytes_per_second": "0B"}}}}])


def test_each_homeserver_tells_its_own_size(two):
    for path in (AUTHED + "/config", LEGACY + "/config"):
        assert request(two, "GET", path).json() == {"m.upload.size": 1000}
        assert request(two, "GET", path, token=DAVE, host="second.org").json() == {"m.upload.size": 300_000}


def test_each_homeserver_has_its_own_limits(two):
    upload = LEGACY + "/upload"
    there = {"token": DAVE, "host": "second.org"}
    request(two, "POST", upload, body=b"x" * 1001).is_error(413, "M_TOO_LARGE")
    large = request(two, "POST", upload, body=b"x" * 200_000, **there)
    html = {"Content-Type": "text/html"}
    assert request(two, "POST", upload, body=b"<p>", headers=html).status == 200
    request(two, "POST", upload, body=b"<p>", headers=html, **there).is_error(403, "M_FORBIDDEN")

    path = AUTHED + "/download/" + "/".join(split_mxc(large.json()["content_uri"]))
    for _ in range(3):
        assert request(two, "GET", path, **there).status == 200  # no rate

    assert request(two, "POST", CREATE, **there).status == 200
    request(two, "POST", CREATE, **there).is_error(429, "M_LIMIT_EXCEEDED")  # one is pending
    for _ in range(20):
        assert request(two, "POST", CREATE).status == 200
    refused = [request(two, "POST", CREATE, **there).is_error(429, "M_LIMIT_EXCEEDED") for _ in range(2)]
    assert refused[-1].json()["retry_after_ms"] > 60_000  # the burst is used up
