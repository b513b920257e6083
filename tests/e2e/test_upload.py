# SPDX-License-Identifier: Apache-2.0
"""PUT and POST upload: bytes arrive whole, refusals come before the body, broken ones leave nothing."""

import hashlib
import http.client
import os
import time

import pytest

from client import (AUTHED, LEGACY, LiveUpload, Wire, chunked, create, get, in_parallel, put, query_of, request,
                    request_bytes, store, upload_path)
from harness import ADMIN, BOB, SERVER_NAME, seconds, wait_until

R0 = "/_matrix/media/r0"
UNSTABLE = "/_matrix/media/unstable/fi.mau.msc2246"
FAMILIES = [LEGACY, R0, UNSTABLE]
MIB = 1 << 20


def conflict_of(family):
    return "M_CANNOT_OVERRIDE_MEDIA" if family == R0 else "M_CANNOT_OVERWRITE_MEDIA"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_put_fills_a_created_id_on_every_path(server, family, is_chunked):
    body = os.urandom(10000)
    mxc = create(server)
    response = put(server, mxc, body, family=family, is_chunked=is_chunked)
    assert (response.status, response.json()) == (200, {})
    assert get(server, mxc).body == body


@pytest.mark.parametrize("version", ["r0", "v1", "v3"])
@pytest.mark.parametrize("body", [b"", b"plain post"])
def test_post_makes_an_id_and_fills_it(server, version, body):
    response = request(server, "POST", f"/_matrix/media/{version}/upload?filename=a.txt", body=body,
                       headers={"Content-Type": "text/plain"})
    assert response.status == 200
    download = get(server, response.json()["content_uri"])
    assert (download.status, download.body, download.header("Content-Type")) == (200, body, "text/plain")
    assert "a.txt" in download.header("Content-Disposition")


@pytest.mark.parametrize("size", [0, 1, 2, 65535, 65536, 65537, 5 * MIB + 3])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_every_byte_arrives_and_rests_under_its_hash(server, size, is_chunked):
    body = os.urandom(size)
    mxc = store(server, body, is_chunked=is_chunked)
    download = get(server, mxc)
    assert download.status == 200
    assert int(download.header("Content-Length")) == size
    assert hashlib.sha256(download.body).digest() == hashlib.sha256(body).digest()
    digest = hashlib.sha256(body).hexdigest()
    assert (server.data_dir / "blobs" / digest[:2] / digest).read_bytes() == body


def test_chunks_of_any_size_with_extensions_and_trailers(server):
    mxc = create(server)
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(mxc), headers={"Transfer-Encoding": "chunked"}))
        for piece in (b"1\r\na\r\n", b"00A;name=value\r\n0123456789\r\n", b"3", b"\r", b"\nxyz\r", b"\n0;last\r\n",
                      b"Trailer: ignored\r\n", b"\r\n"):
            wire.send(piece)
        assert wire.read_response().status == 200
    assert get(server, mxc).body == b"a0123456789xyz"


def test_a_connection_carries_many_uploads(server):
    with Wire(server) as wire:
        for number in range(10):
            mxc = create(server)
            body = b"%d" % number * 1000
            if number % 2:
                assert wire.exchange("PUT", upload_path(mxc), body=body).status == 200
            else:
                wire.send(request_bytes("PUT", upload_path(mxc), headers={"Transfer-Encoding": "chunked"}))
                wire.send(chunked(body))
                assert wire.read_response().status == 200
            assert get(server, mxc).body == body


@pytest.mark.parametrize("content_type", ["image/png", "text/plain; charset=utf-8",
                                          'application/x-custom+json; profile="a b"; q=1', "x/y"])
def test_content_types_pass_through(server, content_type):
    assert get(server, store(server, b"x", content_type=content_type)).header("Content-Type") == content_type


def test_without_a_content_type_it_is_octet_stream(server):
    assert get(server, store(server, b"x")).header("Content-Type") == "application/octet-stream"


def test_upload_inherits_from_create_what_it_does_not_name(server):
    def created():
        body = b'{"content_type": "video/mp4", "filename": "holiday.mp4"}'
        return request(server, "POST", "/_matrix/media/r0/create", body=body).json()["content_uri"]

    for family in FAMILIES:
        mxc = created()
        assert put(server, mxc, b"x", family=family).status == 200
        download = get(server, mxc)
        assert download.header("Content-Type") == "video/mp4"
        assert "holiday.mp4" in download.header("Content-Disposition")

    mxc = created()
    assert put(server, mxc, b"x", content_type="audio/ogg", filename="song.ogg").status == 200
    download = get(server, mxc)
    assert download.header("Content-Type") == "audio/ogg"
    assert "song.ogg" in download.header("Content-Disposition")
    assert "holiday" not in download.header("Content-Disposition")


# Refusals: only the head is sent, and the answer has to come

def refusal(server, target, length=50 * MIB, method="PUT", **options):
    with Wire(server) as wire:
        headers = {"Content-Length": str(length), **options.pop("headers", {})}
        began = time.monotonic()
        wire.send(request_bytes(method, target, headers=headers, **options))
        response = wire.read_response()
        assert time.monotonic() - began < seconds(2)
        return response


@pytest.mark.parametrize("family", FAMILIES)
def test_refusals_come_before_the_body(server, family):
    pending, filled = create(server), store(server, b"there")
    refusal(server, upload_path(pending, family), token=None).is_error(401, "M_MISSING_TOKEN")
    refusal(server, upload_path(pending, family), token="tok_nobody").is_error(401, "M_UNKNOWN_TOKEN")
    refusal(server, upload_path(pending, family), token=BOB).is_error(403, "M_FORBIDDEN")
    refusal(server, upload_path(filled, family)).is_error(409, conflict_of(family))
    refusal(server, upload_path(pending, family), length=100 * MIB + 1).is_error(413, "M_TOO_LARGE")
    refusal(server, upload_path(pending, family), length=1 << 62).is_error(413, "M_TOO_LARGE")
    unknown = f"mxc://{SERVER_NAME}/neverCreatedNeverCreated00"
    refusal(server, upload_path(unknown, family)).is_error(404, "M_NOT_FOUND")
    assert put(server, pending, b"still free", family=family).status == 200
    assert get(server, filled).body == b"there"


def test_refusals_of_post(server):
    target = LEGACY + "/upload"
    refusal(server, target, method="POST", token=None).is_error(401, "M_MISSING_TOKEN")
    refusal(server, target, method="POST", length=100 * MIB + 1).is_error(413, "M_TOO_LARGE")


def test_an_admin_may_not_fill_anothers_id(server):
    refusal(server, upload_path(create(server)), token=ADMIN).is_error(403, "M_FORBIDDEN")


@pytest.mark.parametrize("family", [LEGACY, UNSTABLE])
def test_ids_of_other_servers_are_unknown_here(server, family):
    local = create(server)
    foreign = local.replace(SERVER_NAME, "elsewhere.org")
    refusal(server, upload_path(foreign, family)).is_error(404, "M_NOT_FOUND")


def test_an_expired_id_is_unknown(start_server):
    server = start_server(uploads={"unused_expiry": "300ms"})
    mxc = create(server)
    wait_until(lambda: get(server, mxc, timeout_ms=0).status == 404, "the id to expire")
    for family in FAMILIES:
        refusal(server, upload_path(mxc, family)).is_error(404, "M_NOT_FOUND")


def test_an_upload_that_began_in_time_may_end_after_the_expiry(start_server):
    server = start_server(uploads={"unused_expiry": "500ms"})
    response = request(server, "POST", "/_matrix/media/v1/create").json()
    upload = LiveUpload(server, response["content_uri"], length=4)
    upload.send(b"ab")
    time.sleep(max(0.0, response["unused_expires_at"] / 1000 - time.time()) + 0.05)
    assert upload.finish(b"cd").status in (200, 404)  # the specification lets a server decide; it must only be clear
    assert get(server, response["content_uri"], timeout_ms=0).status in (200, 404)


@pytest.mark.parametrize("size", [2 * MIB, 24 * MIB])
def test_a_client_that_sends_everything_first_can_read_its_413(start_server, size):
    server = start_server(uploads={"max_size": "1MiB"})
    mxc = create(server)
    connection = http.client.HTTPConnection(*server.address, timeout=seconds(20))
    connection.request("PUT", upload_path(mxc), body=os.urandom(size),
                       headers={"Authorization": "Bearer tok_alice_7f3a91c2d4"})
    response = connection.getresponse()
    assert response.status == 413
    assert b"M_TOO_LARGE" in response.read()
    connection.close()
    assert put(server, mxc, b"a smaller one").status == 200


def test_a_chunked_body_that_grows_too_large_is_refused_on_its_way(start_server):
    server = start_server(uploads={"max_size": "1MiB"})
    mxc = create(server)
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(mxc), headers={"Transfer-Encoding": "chunked"}))
        wire.send(chunked(os.urandom(3 * MIB)))
        wire.read_response().is_error(413, "M_TOO_LARGE")
    assert put(server, mxc, b"x" * MIB).status == 200  # exactly the limit


def test_sizes_around_the_limit(start_server):
    server = start_server(uploads={"max_size": "1000B"})
    for is_chunked in (False, True):
        mxc = create(server)
        put(server, mxc, b"x" * 1001, is_chunked=is_chunked).is_error(413, "M_TOO_LARGE")
        assert put(server, mxc, b"x" * 1000, is_chunked=is_chunked).status == 200


def test_expect_continue_is_honoured(server):
    mxc = create(server)
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(mxc), headers={"Expect": "100-continue", "Content-Length": "5"}))
        assert wire.read_head().status == 100
        wire.send(b"hello")
        assert wire.read_response().status == 200
    assert get(server, mxc).body == b"hello"


def test_expect_continue_of_a_refused_upload_is_answered_at_once(server):
    filled = store(server, b"there")
    for token, status in ((None, 401), (BOB, 403), ("tok_alice_7f3a91c2d4", 409)):
        with Wire(server) as wire:
            wire.send(request_bytes("PUT", upload_path(filled), token=token,
                                    headers={"Expect": "100-continue", "Content-Length": "5"}))
            assert wire.read_head().status == status


def test_expect_continue_with_a_body_that_comes_without_waiting(server):
    mxc = create(server)
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(mxc), headers={"Expect": "100-continue"}, body=b"eager"))
        assert wire.read_response().status == 200
    assert get(server, mxc).body == b"eager"


def test_an_unknown_expectation_is_refused(server):
    mxc = create(server)
    assert request(server, "PUT", upload_path(mxc), headers={"Expect": "miracles"}, body=b"x").status == 417


# Several at once, broken ones, equal ones

@pytest.mark.parametrize("family", FAMILIES)
def test_several_puts_at_once_have_one_winner(server, family):
    for _ in range(5):
        mxc = create(server)
        bodies = [os.urandom(50000) for _ in range(8)]
        responses = in_parallel(8, lambda n: put(server, mxc, bodies[n], family=family, is_chunked=bool(n % 2)))
        winners = [n for n, response in enumerate(responses) if response.status == 200]
        assert len(winners) == 1, [r.status for r in responses]
        for n, response in enumerate(responses):
            if n != winners[0]:
                response.is_error(409, conflict_of(family))
        assert get(server, mxc).body == bodies[winners[0]]


def test_a_second_put_is_refused_while_the_first_runs(server):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=10)
    upload.send(b"01234")
    server.wait_metric("sluice_uploads_running", 1)
    refusal(server, upload_path(mxc), length=10).is_error(409, "M_CANNOT_OVERWRITE_MEDIA")
    refusal(server, upload_path(mxc, R0), length=10).is_error(409, "M_CANNOT_OVERRIDE_MEDIA")
    refusal(server, upload_path(mxc), length=10, token=BOB).is_error(403, "M_FORBIDDEN")
    assert upload.finish(b"56789").status == 200
    assert get(server, mxc).body == b"0123456789"


@pytest.mark.parametrize("length", [1000, None])
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("sent", [0, 500])
def test_an_upload_that_breaks_off_leaves_no_file_and_a_free_id(server, length, reset, sent):
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=length)
    if sent:
        upload.send(os.urandom(sent))
    server.wait_metric("sluice_uploads_running", 1)
    broken = server.metric("sluice_uploads_total", result="broken")
    upload.break_off(reset)
    server.wait_metric("sluice_uploads_running", 0)
    wait_until(lambda: not server.spool_files(), "the spool file to go")
    # Counted when the request is over, which is after its upload is.
    wait_until(lambda: server.metric("sluice_uploads_total", result="broken") > broken, "the upload to be counted")
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    assert put(server, mxc, b"second try").status == 200
    assert get(server, mxc).body == b"second try"


def test_equal_content_is_stored_once(server):
    body = os.urandom(100000)
    before = len(server.blob_files())
    mxcs = [store(server, body, content_type="text/plain"), store(server, body, content_type="image/png", token=BOB),
            *in_parallel(4, lambda _: store(server, body))]
    assert len(set(mxcs)) == 6
    assert len(server.blob_files()) == before + 1
    assert all(get(server, mxc).body == body for mxc in mxcs)
    assert get(server, mxcs[0]).header("Content-Type") == "text/plain"
    assert get(server, mxcs[1]).header("Content-Type") == "image/png"


def test_stored_media_survives_a_restart(start_server):
    server = start_server()
    mxc = store(server, b"durable", content_type="text/plain", filename="d.txt")
    pending = create(server)
    before = get(server, mxc)
    server.stop()
    server.start()
    after = get(server, mxc)
    assert after.body == b"durable"
    assert after.header("ETag") == before.header("ETag")
    assert after.header("Content-Disposition") == before.header("Content-Disposition")
    assert put(server, pending, b"later").status == 200


@pytest.mark.parametrize("name",
                         ["r\u00e9sum\u00e9.pdf", "\u6771\u4eac.png", "\u041c\u043e\u0441\u043a\u0432\u0430 1.txt",
                                  "\u05e9\u05dc\u05d5\u05dd.txt", "\U0001f600.gif", "plus+and space.txt"])
def test_filenames_in_any_script(server, name):
    from test_serving import disposition_of
    mxc = store(server, b"x", filename=name)
    assert disposition_of(get(server, mxc))[1] == name
    assert disposition_of(get(server, mxc, family=LEGACY))[1] == name
    response = request(server, "POST", LEGACY + "/upload" + query_of({"filename": name}), body=b"x")
    assert disposition_of(get(server, response.json()["content_uri"], family=AUTHED))[1] == name
