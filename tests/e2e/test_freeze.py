# SPDX-License-Identifier: Apache-2.0
"""Without a token: allow, frozen, deny. Source: client-server API, "GET /_matrix/media/v3/download", changed in v1.11."""

import datetime
import time

import pytest

from client import AUTHED, LEGACY, LiveUpload, Reader, create, get, put, request, store
from harness import BASE_CONFIG, seconds, wait_until

OLD_PATHS = ["/_matrix/media/r0", "/_matrix/media/v1", LEGACY]
METHODS = ["GET", "HEAD"]
BODY = b"some bytes"


def moment(from_now):
    """So many seconds from now, as the configuration writes it."""
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=from_now)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def freeze_now(server):
    """What has been stored is older, what comes is newer."""
    since = time.time() + 0.01
    server.reload(downloads={"unauthenticated": "frozen", "frozen_since": moment(0.01)})
    wait_until(lambda: time.time() > since, "the freeze")


def is_not_found(response, method):
    if method == "HEAD":
        return response.status == 404
    response.is_error(404, "M_NOT_FOUND")
    return True


def test_by_default_all_is_frozen(server):
    mxc = store(server, BODY)
    for family in OLD_PATHS:
        get(server, mxc, family=family, token=None).is_error(404, "M_NOT_FOUND")
        assert get(server, mxc, family=family).body == BODY  # a valid token opens every path
    response = get(server, create(server), family=LEGACY, token=None, timeout_ms=20000)
    assert (response.status, response.seconds < seconds(5)) == (404, True)


def test_allow(start_server):
    server = start_server(downloads={"unauthenticated": "allow"})
    mxc = store(server, BODY)
    for family in OLD_PATHS:
        assert get(server, mxc, family=family, token=None).body == BODY
    get(server, mxc, token=None).is_error(401, "M_MISSING_TOKEN")
    request(server, "GET", LEGACY + "/config", token=None).is_error(401, "M_MISSING_TOKEN")


@pytest.fixture
def frozen(start_server):
    """A server with media of before the freeze and of after it, and an id that waits."""
    server = start_server(downloads={"unauthenticated": "allow"})
    server.old = store(server, BODY, content_type="image/png")
    freeze_now(server)
    server.new = store(server, BODY)
    server.pending = create(server)
    return server


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [None, "cat.png"])
@pytest.mark.parametrize("family", OLD_PATHS)
def test_old_media_stays_and_newer_needs_a_token(frozen, family, name, method):
    def ask(mxc, **options):
        return get(frozen, mxc, method=method, family=family, name=name, **options)

    for _ in range(2):  # the second time its file is at hand
        old = ask(frozen.old, token=None)
        assert (old.status, old.header("Content-Length")) == (200, str(len(BODY)))
        assert old.header("Cache-Control").startswith("public")
        assert ask(frozen.new).status == 200
        assert is_not_found(ask(frozen.new, token=None), method)
    pending = ask(frozen.pending, token=None, timeout_ms=20000)
    assert is_not_found(pending, method) and pending.seconds < seconds(5)  # nothing that comes will be old


def test_conditions_and_ranges_do_not_tell_what_is_hidden(frozen):
    etag = get(frozen, frozen.new).header("ETag")
    for headers in ({"If-None-Match": etag}, {"Range": "bytes=0-1"}, {"Range": "bytes=1000-"},
                    {"Range": "bytes=0-1", "If-Range": etag}):
        hidden = get(frozen, frozen.new, family=LEGACY, token=None, headers=headers).is_error(404, "M_NOT_FOUND")
        unknown = get(frozen, "mxc://example.org/nothing", family=LEGACY, token=None, headers=headers)
        assert hidden.body == unknown.body  # as if it did not exist
        assert hidden.header("Cache-Control") == "no-store"
    part = get(frozen, frozen.old, family=LEGACY, token=None, headers={"Range": "bytes=5-"})
    assert (part.status, part.body) == (206, BODY[5:])


def test_the_paths_with_a_token_are_not_frozen(frozen):
    for mxc in (frozen.old, frozen.new):
        assert get(frozen, mxc, family=AUTHED).body == BODY
        get(frozen, mxc, family=AUTHED, token=None).is_error(401, "M_MISSING_TOKEN")
        get(frozen, mxc, family=LEGACY, token="tok_nobody").is_error(401, "M_UNKNOWN_TOKEN")


def test_a_running_upload_is_new(frozen):
    upload = LiveUpload(frozen, frozen.pending, length=10)
    upload.send(b"01234")
    follower = Reader(frozen, frozen.pending, family=LEGACY)  # with a token
    assert follower.wait_bytes(5) == b"01234"
    get(frozen, frozen.pending, family=LEGACY, token=None).is_error(404, "M_NOT_FOUND")
    assert upload.finish(b"56789").status == 200
    assert follower.whole() == b"0123456789"


def test_an_id_of_before_that_is_filled_after_the_freeze_is_new(start_server):
    server = start_server(downloads={"unauthenticated": "allow"})
    mxc = create(server)
    freeze_now(server)
    put(server, mxc, BODY)
    get(server, mxc, family=LEGACY, token=None).is_error(404, "M_NOT_FOUND")


@pytest.mark.parametrize("live", [True, False])
def test_media_that_becomes_frozen_while_it_is_waited_for(start_server, live):
    server = start_server(downloads={"unauthenticated": "allow", "live": live})
    mxc = create(server)
    nobody = Reader(server, mxc, family=LEGACY, token=None, timeout_ms=60000)
    somebody = Reader(server, mxc, timeout_ms=60000)
    server.wait_stalled(2)
    server.reload(downloads={"unauthenticated": "frozen"})
    put(server, mxc, BODY)
    assert somebody.whole() == BODY
    nobody.wait_end()
    nobody.response.is_error(404, "M_NOT_FOUND")


def test_the_wait_ends_when_the_freeze_comes(start_server):
    server = start_server(downloads={"unauthenticated": "frozen", "frozen_since": moment(60)})
    mxc = create(server)
    server.reload(downloads={"frozen_since": moment(seconds(1))})
    began = time.monotonic()
    response = get(server, mxc, family=LEGACY, token=None, timeout_ms=60000).is_error(404, "M_NOT_FOUND")
    assert response.seconds > 0.01 and time.monotonic() - began < seconds(10)


def test_a_range_that_is_waited_for_is_checked_again(start_server):
    """Of an upload without a length, a range with both ends waits for its last byte."""
    server = start_server(downloads={"unauthenticated": "allow"})
    mxc = create(server)
    upload = LiveUpload(server, mxc)
    upload.send(b"01234")
    server.wait_metric("sluice_uploads_running", 1)
    headers = {"Range": "bytes=2-7"}
    nobody = Reader(server, mxc, family=LEGACY, token=None, headers=headers, timeout_ms=60000)
    somebody = Reader(server, mxc, headers=headers, timeout_ms=60000)
    server.wait_stalled(2)
    server.reload(downloads={"unauthenticated": "frozen"})
    upload.send(b"56789")
    assert somebody.whole() == b"234567"
    nobody.wait_end()
    nobody.response.is_error(404, "M_NOT_FOUND")
    assert upload.finish().status == 200


def test_what_was_begun_before_the_freeze_goes_on(start_server):
    server = start_server(downloads={"unauthenticated": "allow"})
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=10)
    upload.send(b"01234")
    reader = Reader(server, mxc, family=LEGACY, token=None)
    reader.wait_bytes(5)
    server.reload(downloads={"unauthenticated": "frozen"})
    assert upload.finish(b"56789").status == 200
    assert reader.whole() == b"0123456789"
    get(server, mxc, family=LEGACY, token=None).is_error(404, "M_NOT_FOUND")


@pytest.mark.parametrize("method", METHODS)
def test_deny(start_server, method):
    server = start_server(downloads={"unauthenticated": "deny"})
    mxc = store(server, BODY)
    for asked in (mxc, create(server), "mxc://example.org/unknown", "mxc://elsewhere.org/unknown"):
        for family in OLD_PATHS:
            response = get(server, asked, method=method, family=family, token=None, timeout_ms=20000)
            assert (response.status, response.seconds < seconds(5)) == (401, True)
    assert get(server, mxc, family=LEGACY).body == BODY


def test_each_homeserver_has_its_own_freeze(start_server):
    """Whose media it is decides, not under which name it is asked for."""
    server = start_server(
        downloads={"unauthenticated": "allow"},
        homeservers=BASE_CONFIG["homeservers"] + [
            {"server_name": "second.org", "downloads": {"unauthenticated": "deny"},
             "tokens": [{"token": "tok_second_8812", "user": "@dave:second.org"}]}])
    first = store(server, BODY)
    response = request(server, "POST", LEGACY + "/upload", token="tok_second_8812", host="second.org", body=BODY)
    second = response.json()["content_uri"]
    for host in ("example.org", "second.org"):
        for mxc, status in ((first, 200), (second, 401)):
            path = LEGACY + "/download/" + mxc.removeprefix("mxc://")
            assert request(server, "GET", path, token=None, host=host).status == status
