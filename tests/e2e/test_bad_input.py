# SPDX-License-Identifier: Apache-2.0
"""Hostile requests: a 4xx or a closed connection, never a crash, never another request's data."""

import contextlib
import random

import pytest

from client import (AUTHED, LEGACY, Closed, Wire, create, download_path, get, put, request, request_bytes, store,
                    upload_path)
from harness import ALICE, SERVER_NAME, seconds

SECRET = b"the content of somebody else"
AUTH = f"Authorization: Bearer {ALICE}\r\n".encode()


@pytest.fixture(autouse=True)
def still_healthy(server):
    """Whatever a test sends: afterwards the same process serves as before."""
    pid, mxc = server.pid, store(server, SECRET)
    yield
    assert server.pid == pid and server.alive
    assert get(server, mxc).body == SECRET
    assert request(server, "GET", "/health", token=None).status == 200


def answer_to(server, raw, half_close=False):
    """The final response to raw bytes, or None if the server just closes."""
    with Wire(server) as wire:
        try:
            wire.send(raw)
            if half_close:
                wire.half_close()
        except OSError:
            pass
        try:
            return wire.read_response()
        except Closed:
            return None


def is_refused(response, *statuses):
    assert response is None or 400 <= response.status < 500, response
    if response is not None and statuses:
        assert response.status in statuses, response
    return True


# Ids and server names

EVIL_PARTS = ["..", ".", "%2e%2e", "%2E.", "..%2f..%2fcatalog.sqlite", "%2e%2e%2f%2e%2e%2ftoken", "%00", "a%00b",
              "a%2fb", "a%5cb", "%", "%2", "%zz", "%25%32%65", "a%20b", "a b", "a+b",
              "\u00e9".encode().decode("latin-1"), "%ff%fe",
              "%c0%ae%c0%ae", "a;b", "a'b", 'a"b', "a%0d%0ab", "~", "a*", "$(id)", "x" * 256, "x" * 5000]


@pytest.mark.parametrize("part", EVIL_PARTS, ids=lambda p: p[:20])
def test_tricks_in_ids_and_server_names(server, part):
    for family in (AUTHED, LEGACY):
        for tail in (f"{SERVER_NAME}/{part}", f"{part}/abc", f"{part}/{part}", f"{SERVER_NAME}/{part}/name",
                     f"{part}/../{SERVER_NAME}/x"):
            raw = f"GET {family}/download/{tail}?timeout_ms=0 HTTP/1.1\r\nHost: h\r\n".encode("latin-1")
            assert is_refused(answer_to(server, raw + AUTH + b"\r\n"), 400, 404, 414)
    raw = f"PUT {LEGACY}/upload/{SERVER_NAME}/{part} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n".encode("latin-1")
    assert is_refused(answer_to(server, raw + AUTH + b"\r\nx"), 400, 404)
    raw = f"PUT /_matrix/media/r0/upload/{part} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n".encode("latin-1")
    assert is_refused(answer_to(server, raw + AUTH + b"\r\nx"), 400, 404)


@pytest.mark.parametrize("target", [
    "/../../../../etc/passwd", "/_matrix/media/v3/download/../../../../etc/passwd", "//etc/passwd", "/./health/..",
    "/_matrix/media/v3/download/example.org/..", "/_matrix//media/v3/config", "http://", "*", "", "?", "health",
    "/%5F%6Datrix/media/v3/config%00", "/_matrix/media/v3/download/example.org//"])
def test_strange_targets(server, target):
    raw = f"GET {target} HTTP/1.1\r\nHost: h\r\n".encode() + AUTH + b"\r\n"
    response = answer_to(server, raw)
    assert is_refused(response)
    assert response is None or b"root:" not in response.body


def test_a_name_that_cannot_be_an_id_is_not_found(server):
    for tail in ("example.org/..%2fx", "example.org/%2e%2e", "bad_server!/abc", "example.org/" + "x" * 256):
        request(server, "GET", f"{AUTHED}/download/{tail}").is_error(404, "M_NOT_FOUND")


@pytest.mark.parametrize("target",
                         ["http://localhost/_matrix/media/v3/config", "HTTP://example.org:80/_matrix/media/v3/config"])
def test_absolute_targets_are_understood(server, target):
    assert request(server, "GET", target).status == 200


# Heads too long, too many, too odd

def test_targets_too_long(server):
    for length in (9000, 20000, 200000):
        raw = b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: h\r\n\r\n"
        assert is_refused(answer_to(server, raw), 414, 431)
        raw = b"GET /_matrix/media/v3/config?" + b"a" * length + b" HTTP/1.1\r\nHost: h\r\n\r\n"
        assert is_refused(answer_to(server, raw), 414, 431)


def test_fields_too_long_or_too_many(server):
    for fields in (b"X-Long: " + b"a" * 20000 + b"\r\n", b"a" * 20000 + b": x\r\n", b"X: y\r\n" * 1000,
                   b"".join(b"X-%d: %s\r\n" % (n, b"v" * 100) for n in range(1000)),
                   b"X: " + b"a" * 2_000_000 + b"\r\n"):
        raw = b"GET /_matrix/media/v3/config HTTP/1.1\r\nHost: h\r\n" + AUTH + fields + b"\r\n"
        assert is_refused(answer_to(server, raw), 431)


@pytest.mark.parametrize("line", [
    b"GET\r\n", b"GET /\r\n", b"GET / HTTP/9.9\r\n", b"GET / HTTP/2.0\r\n", b"GET / HTTP/1.11\r\n",
    b"GET / http/1.1\r\n", b" GET / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.1 \r\n",
    b"GET /a b HTTP/1.1\r\n", b"G\x00T / HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n", b"GET /\x7f HTTP/1.1\r\n",
    b"G{}T / HTTP/1.1\r\n", b"GET\t/\tHTTP/1.1\r\n", b"\r\n\r\n\r\n", b"GET / HTTP/1.1\r",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200])
def test_odd_request_lines(server, line):
    assert is_refused(answer_to(server, line + b"Host: h\r\n\r\n", half_close=True))


@pytest.mark.parametrize("field", [
    b"Name\r\n", b": value\r\n", b"Na me: value\r\n", b"Name : value\r\n", b" Name: value\r\n", b"Name: a\x00b\r\n",
    b"Name: a\rb\r\n", b"Na\x00me: x\r\n", b"N\xc3\xa4me: x\r\n", b"X: a\r\n folded\r\n", b"X: \x01\r\n",
    b"Host: second\r\n"])
def test_odd_fields(server, field):
    raw = b"GET /_matrix/media/v3/config HTTP/1.1\r\nHost: h\r\n" + AUTH + field + b"\r\n"
    assert is_refused(answer_to(server, raw), 400)


def test_no_host_in_http_1_1(server):
    assert is_refused(answer_to(server, b"GET /health HTTP/1.1\r\n\r\n"), 400)


@pytest.mark.parametrize("seed", range(4))
def test_binary_noise(server, seed):
    noise = random.Random(seed)
    for _ in range(20):
        assert is_refused(answer_to(server, noise.randbytes(noise.choice((1, 10, 500, 5000))), half_close=True))


@pytest.mark.parametrize("seed", range(3))
def test_mutated_requests(server, seed):
    """A good request with a few bytes changed gets some answer or a closed connection."""
    chance = random.Random(seed)
    mxc, secret = create(server), store(server, SECRET)
    good = [request_bytes("GET", download_path(secret), headers={"Range": "bytes=2-9", "If-Range": '"x"'}),
            request_bytes("PUT", upload_path(mxc, filename="a b.txt"), headers={"Content-Type": "text/plain"},
                          body=b"x" * 20),
            request_bytes("PUT", upload_path(mxc),
                          headers={"Transfer-Encoding": "chunked"}) + b"5\r\nabcde\r\n0\r\n\r\n",
            request_bytes("POST", "/_matrix/media/r0/create", body=b'{"filename": "a"}')]
    for _ in range(150):
        raw = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            action = chance.randrange(4)
            if action == 0:
                raw[at] = chance.randrange(256)
            elif action == 1:
                del raw[at:at + chance.randint(1, 8)]
            elif action == 2:
                raw[at:at] = chance.choice((b"\r\n", b"\x00", b"%", b"/../", b"\r\n\r\n", b":", b"\xff", b"9" * 30))
            else:
                raw[at] ^= 1 << chance.randrange(8)
            if not raw:
                break
        answer_to(server, bytes(raw), half_close=True)


# Framing

def put_raw(server, mxc, framing, body=b"", half_close=True):
    head = f"PUT {upload_path(mxc)} HTTP/1.1\r\nHost: h\r\n".encode() + AUTH + framing + b"\r\n"
    return answer_to(server, head + body, half_close)


@pytest.mark.parametrize("framing", [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: +5\r\n", b"Content-Length: 0x5\r\n",
    b"Content-Length: 5 5\r\n", b"Content-Length: five\r\n", b"Content-Length: 5.0\r\n", b"Content-Length: 1e1\r\n",
    b"Content-Length:\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\r\n", b"Transfer-Encoding: \x0bchunked\r\n", b"Transfer-Encoding: chunked\x00\r\n",
    b"Transfer-Encoding : chunked\r\n"])
def test_framings_that_two_servers_could_read_differently(server, framing):
    mxc = create(server)
    response = put_raw(server, mxc, framing, b"5\r\nhello\r\n0\r\n\r\n", half_close=False)
    assert response is None or response.status in (400, 501), response
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    assert put(server, mxc, b"free").status == 200


@pytest.mark.parametrize("length", ["18446744073709551615", "18446744073709551616", "9223372036854775808", "9" * 40])
def test_absurd_lengths(server, length):
    mxc = create(server)
    assert is_refused(put_raw(server, mxc, f"Content-Length: {length}\r\n".encode(), half_close=False), 400, 413)
    assert put(server, mxc, b"free").status == 200


@pytest.mark.parametrize("body", [
    b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n", b"5\nhello\n0\n\n", b"\r\nhello\r\n0\r\n\r\n", b"5 5\r\nhello\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n", b"fffffffffffffffff\r\nhello", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n" + b"T: v\r\n" * 100_000 + b"\r\n",
    b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n", b"5\r\nhel", b"5\r\nhello", b"5",
    b"5\r\nhello\r\n0\r\n", b"5\r\nhello\r\n", b"",
    b"5\r\nhello\r\n00000000000000000000000000000000000000005\r\nhello\r\n0"],
    ids=lambda b: repr(b[:20]))
def test_broken_chunks(server, body):
    mxc = create(server)
    assert is_refused(put_raw(server, mxc, b"Transfer-Encoding: chunked\r\n", body))
    server.wait_metric("sluice_uploads_running", 0)
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    assert put(server, mxc, b"free").status == 200


@pytest.mark.parametrize("beginning, endless", [(b"5;", b"x" * 1024), (b"5\r\nhello\r\n0\r\n", b"T: v\r\n" * 150),
                                                (b"0" * 1024, b"0" * 1024)], ids=["extension", "trailer", "size"])
def test_what_stands_around_chunks_is_bounded(server, beginning, endless):
    """None of it is content, so none of it may be collected: the refusal comes while it is still being sent."""
    mxc = create(server)
    wire = Wire(server)
    wire.send(request_bytes("PUT", upload_path(mxc), headers={"Transfer-Encoding": "chunked"}) + beginning)
    with contextlib.suppress(OSError):
        wire.send(endless * 1024)
    assert not wire.is_silent(seconds(3)), "a megabyte around the chunks, and no refusal"
    assert is_refused(wire.read_response(), 400, 413, 431)
    wire.close()
    server.wait_metric("sluice_uploads_running", 0)
    assert put(server, mxc, b"free").status == 200


def test_a_chunk_of_absurd_size_is_too_large(server):
    for size in (b"7fffffffffffffff", b"ffffffffffffffff", b"fffffffff"):
        mxc = create(server)
        assert is_refused(put_raw(server, mxc, b"Transfer-Encoding: chunked\r\n", size + b"\r\nhello"), 400, 413)
        assert put(server, mxc, b"free").status == 200


def test_a_body_shorter_than_its_length(server):
    mxc = create(server)
    assert is_refused(put_raw(server, mxc, b"Content-Length: 10\r\n", b"short"))
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


def test_an_upload_without_any_framing_is_empty_or_refused(server):
    mxc = create(server)
    response = put_raw(server, mxc, b"", b"")
    assert response.status in (200, 411)
    if response.status == 200:
        assert get(server, mxc).body == b""


# Requests in a row

def test_pipelined_requests_are_answered_in_order(server):
    bodies = [b"body %d" % n for n in range(10)]
    mxcs = [store(server, body) for body in bodies]
    with Wire(server) as wire:
        wire.send(b"".join(request_bytes("GET", download_path(mxc)) for mxc in mxcs))
        assert [wire.read_response().body for _ in mxcs] == bodies


def test_pipelined_requests_of_every_kind(server):
    stored, pending, fresh = store(server, SECRET), create(server), create(server)
    with Wire(server) as wire:
        wire.send(request_bytes("PUT", upload_path(fresh), body=b"uploaded")
                  + request_bytes("GET", download_path(pending, timeout_ms=200))
                  + request_bytes("HEAD", download_path(stored))
                  + request_bytes("PUT", upload_path(pending),
                                  headers={"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\n0\r\n\r\n"
                  + request_bytes("GET", download_path(pending))
                  + request_bytes("GET", download_path(fresh)) + request_bytes("GET", "/_matrix/nothing"))
        answers = [wire.read_response(method) for method in ("PUT", "GET", "HEAD", "PUT", "GET", "GET", "GET")]
    assert [a.status for a in answers] == [200, 504, 200, 200, 200, 200, 404]
    assert (answers[4].body, answers[5].body) == (b"abc", b"uploaded")


@pytest.mark.parametrize("refusal", ["unauthorised", "conflict", "unknown path", "get with a body", "wrong method"])
@pytest.mark.parametrize("chunks", [False, True])
def test_a_refused_body_is_never_read_as_a_request(server, refusal, chunks):
    """After a refusal the connection ends, or goes on behind the body: nothing inside it is answered."""
    stored, victim = store(server, SECRET), create(server)
    hidden = request_bytes("PUT", upload_path(victim), body=b"smuggled") + request_bytes("GET", download_path(stored))
    method, target, token = {
        "unauthorised": ("PUT", upload_path(create(server)), "tok_nobody"),
        "conflict": ("PUT", upload_path(stored), ALICE), "unknown path": ("POST", "/_matrix/nothing", ALICE),
        "get with a body": ("GET", "/health", ALICE), "wrong method": ("PUT", download_path(stored), ALICE)}[refusal]
    if chunks:
        body = b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n"
        first = request_bytes(method, target, token=token, headers={"Transfer-Encoding": "chunked"}) + body
    else:
        first = request_bytes(method, target, token=token, body=hidden)
    with Wire(server) as wire:
        wire.send(first + request_bytes("GET", AUTHED + "/config"))
        answers = []
        try:
            while len(answers) < 4:
                answers.append(wire.read_response())
                if len(answers) == 2:
                    wire.half_close()
        except (Closed, OSError):
            pass
    assert 1 <= len(answers) <= 2
    assert all(SECRET not in answer.body for answer in answers)
    if len(answers) == 2:
        assert "m.upload.size" in answers[1].json()
    get(server, victim, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")


def test_bytes_after_a_malformed_request_are_not_served(server):
    stored = store(server, SECRET)
    with Wire(server) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nBad Field: x\r\n\r\n" + request_bytes("GET", download_path(stored)))
        assert wire.read_response().status == 400
        assert wire.ends(timeout=seconds(5))


# Header injection and odd parameters

@pytest.mark.parametrize("name", ["a%0d%0aSet-Cookie:%20x", "a%0ab", "a%0db", "a%00b", "a%1bb", "a%7fb"])
def test_control_characters_in_file_names_are_refused(server, name):
    mxc = create(server)
    target = f"{upload_path(mxc)}?filename={name}"
    assert request(server, "PUT", target, body=b"x").status == 400
    assert request(server, "POST", f"{LEGACY}/upload?filename={name}", body=b"x").status == 400
    assert put(server, mxc, b"x").status == 200
    response = request(server, "GET", f"{download_path(mxc)}/{name}")
    assert response.status == 400
    assert response.header("Set-Cookie") is None


@pytest.mark.parametrize("name", ["%ff%fe", "%c3%28", "%", "%zz", "x" * 4000, "%e2%80%ae" * 300])
def test_file_names_that_are_no_text(server, name):
    mxc = create(server)
    response = request(server, "PUT", f"{upload_path(mxc)}?filename={name}", body=b"x")
    assert response.status in (200, 400)
    if response.status == 200:
        assert get(server, mxc).status == 200


@pytest.mark.parametrize("value", ["text/html\x00", "te\rxt/html", "\x01/\x02"])
def test_control_characters_in_content_types_are_refused(server, value):
    mxc = create(server)
    assert is_refused(put_raw(server, mxc, f"Content-Type: {value}\r\nContent-Length: 1\r\n".encode("latin-1"), b"x"),
                      400)


@pytest.mark.parametrize("value",
                         ["\u00fcber/typ", "no slash", "a/b\tc", "", "x" * 3000, "a/b; c=\"", "text/html, text/plain"])
def test_odd_content_types_come_back_harmless(server, value):
    mxc = create(server)
    response = put_raw(server, mxc, f"Content-Type: {value}\r\nContent-Length: 1\r\n".encode("latin-1", "replace"),
                       b"x")
    assert response.status in (200, 400)
    if response.status == 200:
        assert get(server, mxc).header("Content-Type")
        assert get(server, mxc, method="HEAD").header("Content-Disposition").startswith("attachment")


@pytest.mark.parametrize("query",
                         ["?timeout_ms=0&timeout_ms=1", "?access_token=%00", "?access_token=" + "a" * 4000, "?&&&=&==",
                                   "?filename", "?%00=%00", "?user_id=%0d%0a", "?user_id=@a:b&timeout_ms=0",
                                   "?" + "a=b&" * 1500])
def test_odd_queries(server, query):
    mxc = store(server, SECRET)
    assert get(server, mxc).status == 200
    response = request(server, "GET", download_path(mxc) + query)
    assert response.status < 500
