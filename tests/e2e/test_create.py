# SPDX-License-Identifier: Apache-2.0
"""POST create: an MXC URI before its content, and how many of them one user may hold."""

import json
import re
import sqlite3
import time

import pytest

from client import create, get, in_parallel, put, request
from harness import ALICE, BOB, seconds, wait_until

V1 = "/_matrix/media/v1/create"
R0 = "/_matrix/media/r0/create"
UNSTABLE = "/_matrix/media/unstable/fi.mau.msc2246/create"
PATHS = [V1, R0, UNSTABLE]


@pytest.mark.parametrize("path", PATHS)
def test_create_answers_with_a_uri_and_its_expiry(server, path):
    before = time.time() * 1000
    response = request(server, "POST", path)
    after = time.time() * 1000
    assert response.status == 200
    answer = response.json()
    assert re.fullmatch(r"mxc://example\.org/[A-Za-z0-9_-]{24,255}", answer["content_uri"])
    assert isinstance(answer["unused_expires_at"], int)
    day = 24 * 3600 * 1000
    assert before + day - 1000 <= answer["unused_expires_at"] <= after + day + 1000


def test_media_id_is_in_the_seeds_form_only(server):
    answer = request(server, "POST", R0).json()
    assert answer["content_uri"] == "mxc://example.org/" + answer["media_id"]
    for path in (V1, UNSTABLE):
        assert set(request(server, "POST", path).json()) == {"content_uri", "unused_expires_at"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [None, b"", b"{}", b' {"unknown": [1, {"a": null}]} ',
                                  b'{"content_type": "video/mp4", "filename": "\xc3\xa4.mp4"}'])
def test_create_takes_no_body_or_an_object(server, path, body):
    assert request(server, "POST", path, body=body).status == 200


def test_create_takes_a_chunked_body(server):
    from client import Wire, chunked, request_bytes
    with Wire(server) as wire:
        wire.send(request_bytes("POST", R0, headers={"Transfer-Encoding": "chunked"}) + chunked(b'{"filename": "a"}'))
        assert wire.read_response().status == 200


@pytest.mark.parametrize("body", [b"{", b"not json", b'{"filename": }', b'{"filename": "\xff"}', b"{} {}", b"\x00"])
def test_a_body_that_is_no_json_is_refused(server, body):
    request(server, "POST", R0, body=body).is_error(400, "M_NOT_JSON")


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"17", b"null", b'{"filename": 5}', b'{"content_type": ["a"]}'])
def test_a_body_that_is_no_object_of_the_right_shape_is_refused(server, body):
    request(server, "POST", R0, body=body).is_error(400, "M_BAD_JSON")


def test_an_enormous_or_deeply_nested_body_is_refused(server):
    assert request(server, "POST", R0, body=b'{"filename": "' + b"a" * (4 << 20) + b'"}').status in (400, 413)
    assert request(server, "POST", R0, body=b"[" * 50000).status in (400, 413)


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: b", "a\x00b", "a\nb"])
def test_control_characters_in_the_inherited_filename_are_refused(server, name):
    assert request(server, "POST", R0, body=json.dumps({"filename": name}).encode()).status == 400
    assert request(server, "POST", R0, body=json.dumps({"content_type": name}).encode()).status == 400


def test_ids_are_unique_and_use_the_whole_alphabet(server):
    ids = {create(server).rsplit("/", 1)[1] for _ in range(300)}
    assert len(ids) == 300
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{24,}", media_id) for media_id in ids)
    # First the time, then chance: with 300 draws, a position that is truly random shows far more than 20 of its 64 letters.
    shortest = min(map(len, ids))
    for position in range(8, 32):
        assert len({media_id[position] for media_id in ids}) > 20, f"position {position} of {shortest} hardly varies"


def test_create_needs_a_token_and_the_right_method(server):
    for path in PATHS:
        request(server, "POST", path, token=None).is_error(401, "M_MISSING_TOKEN")
        request(server, "POST", path, token="tok_nobody").is_error(401, "M_UNKNOWN_TOKEN")
        request(server, "GET", path).is_error(405, "M_UNRECOGNIZED")


def test_the_pending_limit_is_exact_when_creates_race(start_server):
    server = start_server(uploads={"max_pending_per_user": 5})
    responses = in_parallel(40, lambda _: request(server, "POST", V1))
    assert sorted(r.status for r in responses) == [200] * 5 + [429] * 35
    for response in responses:
        if response.status == 429:
            assert response.errcode == "M_LIMIT_EXCEEDED"
            assert int(response.header("Retry-After")) >= 1
    assert len({r.json()["content_uri"] for r in responses if r.status == 200}) == 5
    create(server, token=BOB)  # another user has a limit of their own


def test_an_upload_makes_room_for_another_create(start_server):
    server = start_server(uploads={"max_pending_per_user": 2})
    first = create(server)
    create(server)
    request(server, "POST", V1).is_error(429, "M_LIMIT_EXCEEDED")
    assert put(server, first, b"content").status == 200
    create(server)
    request(server, "POST", V1).is_error(429, "M_LIMIT_EXCEEDED")


def test_expired_ids_stop_counting_at_once(start_server):
    server = start_server(uploads={"max_pending_per_user": 2, "unused_expiry": "1s"})
    request(server, "POST", V1)
    last = request(server, "POST", V1).json()
    refusal = request(server, "POST", V1).is_error(429, "M_LIMIT_EXCEEDED")
    assert int(refusal.header("Retry-After")) == 1
    time.sleep(max(0.0, last["unused_expires_at"] / 1000 - time.time()) + 0.01)
    create(server)
    create(server)
    request(server, "POST", V1).is_error(429, "M_LIMIT_EXCEEDED")


@pytest.mark.slow(30)
def test_expired_ids_are_forgotten(start_server):
    server = start_server(uploads={"unused_expiry": "200ms"})
    mxcs = [create(server) for _ in range(5)]
    wait_until(lambda: get(server, mxcs[-1], timeout_ms=0).status == 404, "the ids to expire")

    def rows():
        """Rows of any table that hold one of the ids: what the file holds is the only witness from outside."""
        with sqlite3.connect(f"file:{server.data_dir}/catalog.sqlite?mode=ro", uri=True, timeout=5) as catalog:
            tables = [name for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            text = repr([catalog.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables])
        return [mxc for mxc in mxcs if mxc.rsplit("/", 1)[1] in text]

    wait_until(lambda: not rows(), "expired ids to be reaped", timeout=40)
    get(server, mxcs[0], timeout_ms=0).is_error(404, "M_NOT_FOUND")


def test_creates_are_rate_limited_per_user(start_server):
    server = start_server(uploads={"create_rate": {"per_second": 1, "burst": 3}})
    began = time.monotonic()
    responses = [request(server, "POST", V1) for _ in range(6)]
    if time.monotonic() - began < 0.9:  # a machine so slow that the bucket refills meanwhile proves nothing
        assert [r.status for r in responses] == [200] * 3 + [429] * 3
    refusal = responses[-1].is_error(429, "M_LIMIT_EXCEEDED")
    assert 1 <= int(refusal.header("Retry-After")) <= 2
    assert request(server, "POST", V1, token=BOB).status == 200
    time.sleep(int(refusal.header("Retry-After")))
    assert request(server, "POST", V1, token=ALICE).status == 200


def test_the_rate_limit_does_not_slow_uploads_and_downloads(start_server):
    server = start_server(uploads={"create_rate": {"per_second": 0.1, "burst": 1}})
    mxc = create(server)
    request(server, "POST", V1).is_error(429, "M_LIMIT_EXCEEDED")
    began = time.monotonic()
    assert put(server, mxc, b"x").status == 200
    assert all(get(server, mxc).status == 200 for _ in range(20))
    assert time.monotonic() - began < seconds(5)
