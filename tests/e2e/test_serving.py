# SPDX-License-Identifier: Apache-2.0
"""Serving stored media: ranges, validators, names, and the fields that keep a browser safe."""

import os
import re
import urllib.parse

import pytest

from client import AUTHED, LEGACY, Wire, create, download_path, get, request, request_bytes, store
from harness import SERVER_NAME

BODY = bytes(range(256)) * 40  # 10240 bytes that tell where they are from
SIZE = len(BODY)
DOWNLOADS = [AUTHED, LEGACY, "/_matrix/media/v1", "/_matrix/media/r0"]


@pytest.fixture
def mxc(server):
    return store(server, BODY, content_type="image/png", filename="picture.png")


def disposition_of(response):
    """(disposition type, file name or None) as a strict recipient reads them (RFC 6266, RFC 8187)."""
    value = response.header("Content-Disposition")
    kind, _, rest = value.partition(";")
    parameters = {}
    rest = rest.strip()
    while rest:
        match = re.match(r"""([a-zA-Z]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))\s*(?:;\s*|$)""", rest)
        assert match, f"cannot be read: {value!r}"
        name = match[1].lower()
        assert name not in parameters, value
        parameters[name] = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        rest = rest[match.end():]
    if "filename*" in parameters:
        encoding, _, text = parameters["filename*"].split("'", 2)
        assert encoding.upper() == "UTF-8"
        return kind.strip(), urllib.parse.unquote(text, errors="strict")
    return kind.strip(), parameters.get("filename")


@pytest.mark.parametrize("family", DOWNLOADS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_path_serves_the_whole(server, mxc, family, method):
    response = get(server, mxc, method=method, family=family)
    assert response.status == 200
    assert response.header("Content-Length") == str(SIZE)
    assert response.header("Content-Type") == "image/png"
    assert response.header("Accept-Ranges") == "bytes"
    assert response.body == (BODY if method == "GET" else b"")


@pytest.mark.parametrize("spec, first, last", [
    ("0-0", 0, 0), ("0-99", 0, 99), ("100-", 100, SIZE - 1), ("-1", SIZE - 1, SIZE - 1), ("-500", SIZE - 500, SIZE - 1),
    (f"-{SIZE + 5}", 0, SIZE - 1), (f"{SIZE - 1}-", SIZE - 1, SIZE - 1), (f"10-{SIZE + 100}", 10, SIZE - 1),
    ("10-99999999999999999999999999", 10, SIZE - 1), ("0-", 0, SIZE - 1)])
def test_single_ranges(server, mxc, spec, first, last):
    response = get(server, mxc, headers={"Range": f"bytes={spec}"})
    assert response.status == 206
    assert response.header("Content-Range") == f"bytes {first}-{last}/{SIZE}"
    assert response.header("Content-Length") == str(last - first + 1)
    assert response.body == BODY[first:last + 1]
    assert response.header("Content-Type") == "image/png"


@pytest.mark.parametrize("spec", [f"{SIZE}-", f"{SIZE}-{SIZE + 5}", "99999999999999999999-", "-0"])
def test_ranges_beyond_the_end(server, mxc, spec):
    response = get(server, mxc, headers={"Range": f"bytes={spec}"})
    assert response.status == 416
    assert response.header("Content-Range") == f"bytes */{SIZE}"
    assert "immutable" not in (response.header("Cache-Control") or "")


@pytest.mark.parametrize("value",
                         ["bytes=5-2", "bytes=", "bytes=-", "bytes=a-b", "items=0-5", "bytes 0-5", "bytes=0-5x",
                                   "bytes=--5", "bytes=1-2-3", "bytes=+1-5", "bytes=0x1-5", "=", "bytes=1.5-2", ","])
def test_ranges_that_cannot_be_read_are_ignored(server, mxc, value):
    response = get(server, mxc, headers={"Range": value})
    assert (response.status, response.body) == (200, BODY)


@pytest.mark.parametrize("value", ["bytes=0-0,2-2", "bytes=0-9, 5-14", "bytes=" + ",".join(["0-"] * 500)])
def test_several_ranges_are_answered_within_bounds(server, mxc, value):
    response = get(server, mxc, headers={"Range": value})
    if response.status == 200:
        assert response.body == BODY
    else:
        assert response.status == 206
        assert response.header("Content-Type").startswith("multipart/byteranges")
    assert len(response.body) <= 2 * SIZE  # no amplification


def test_ranges_of_an_empty_file(server):
    mxc = store(server, b"")
    for spec in ("0-", "0-0", "-5"):
        response = get(server, mxc, headers={"Range": f"bytes={spec}"})
        assert (response.status, response.body) == (200, b"") or response.status == 416


def test_a_head_ignores_range_or_describes_it(server, mxc):
    response = get(server, mxc, method="HEAD", headers={"Range": "bytes=0-9"})
    assert (response.status, response.header("Content-Length")) in ((200, str(SIZE)), (206, "10"))


# Validators

def test_if_range(server, mxc):
    etag = get(server, mxc).header("ETag")
    for validator, status in ((etag, 206), ('"something else"', 200), ("W/" + etag, 200),
                              ("Wed, 21 Oct 2015 07:28:00 GMT", 200), ("", 200)):
        response = get(server, mxc, headers={"Range": "bytes=0-9", "If-Range": validator})
        assert (response.status, len(response.body)) == (status, 10 if status == 206 else SIZE), validator


@pytest.mark.parametrize("form", ["{}", "W/{}", "*", '"a", {}, "b"', '"a",{}', 'W/"x" , W/{}'])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_gives_304(server, mxc, form, method):
    etag = get(server, mxc).header("ETag")
    response = get(server, mxc, method=method, headers={"If-None-Match": form.format(etag), "Range": "bytes=0-9"})
    assert (response.status, response.body) == (304, b"")
    assert response.header("ETag") == etag
    assert "immutable" in response.header("Cache-Control")


@pytest.mark.parametrize("value", ['"other"', 'W/"other"', "other", '"a", "b"', '"', ","])
def test_another_etag_gives_the_body(server, mxc, value):
    assert get(server, mxc, headers={"If-None-Match": value}).body == BODY


def test_etags_are_strong_and_differ_between_ids(server, mxc):
    etag = get(server, mxc).header("ETag")
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', etag)
    assert get(server, store(server, BODY)).header("ETag") != etag


def test_a_connection_stays_in_step_over_bodyless_answers(server, mxc):
    etag = get(server, mxc).header("ETag")
    with Wire(server) as wire:
        for _ in range(3):
            assert wire.exchange("HEAD", download_path(mxc)).status == 200
            assert wire.exchange("GET", download_path(mxc), headers={"If-None-Match": etag}).status == 304
            assert wire.exchange("GET", download_path(mxc), headers={"Range": f"bytes={SIZE}-"}).status == 416
            assert wire.exchange("GET", download_path(mxc)).body == BODY
            assert wire.exchange("HEAD", download_path(f"mxc://{SERVER_NAME}/nothing")).status == 404
            assert wire.exchange("OPTIONS", download_path(mxc)).status in (200, 204)


def test_a_reader_that_leaves_in_the_middle_harms_nobody(server):
    mxc = store(server, os.urandom(20 << 20))
    for reset in (True, False):
        wire = Wire(server, receive_buffer=4096)
        wire.send(request_bytes("GET", download_path(mxc)))
        assert wire.read_head().status == 200
        wire.reset() if reset else wire.close()
    assert get(server, mxc, headers={"Range": "bytes=0-9"}).status == 206


# Names and types

@pytest.mark.parametrize("name",
                         ["report.txt", "two words.txt", 'a "quoted" name.txt', "back\\slash.txt", "semi;colon.txt",
                                  "100%.txt", "a%20b.txt", "a'b.txt", "\u20ac rates.txt", "na\u00efve.txt",
                                  "\u6771\u4eac.txt", "\U0001f600.gif", "filename*=x.txt", "." * 3 + "x", "a=b,c.txt"])
def test_filenames_are_told_so_that_everyone_reads_them_alike(server, name):
    mxc = store(server, b"x", content_type="text/plain", filename=name)
    for family in DOWNLOADS:
        response = get(server, mxc, family=family)
        assert disposition_of(response) == ("inline", name)
        assert all(" " <= c <= "~" for c in response.header("Content-Disposition"))


def test_without_a_filename_none_is_told(server):
    assert disposition_of(get(server, store(server, b"x"))) == ("attachment", None)


@pytest.mark.parametrize("name", ["other.txt", "\u00fcber \u6771.txt", 'q"uote.txt', "..a"])
@pytest.mark.parametrize("family", DOWNLOADS)
def test_the_path_overrides_the_filename(server, mxc, name, family):
    response = get(server, mxc, family=family, name=name)
    assert (response.status, response.body) == (200, BODY)
    assert disposition_of(response) == ("inline", name)


# Source: client-server API, "Serving inline content".
INLINE = """text/css text/plain text/csv application/json application/ld+json image/jpeg image/gif image/png image/apng
    image/webp image/avif video/mp4 video/webm video/ogg video/quicktime audio/mp4 audio/webm audio/aac audio/mpeg
    audio/ogg audio/wave audio/wav audio/x-wav audio/x-pn-wav audio/flac audio/x-flac""".split()


def test_only_harmless_types_are_inline(server):
    for content_type in [*INLINE, "text/plain; charset=utf-8"]:
        assert disposition_of(get(server, store(server, b"x", content_type=content_type)))[0] == "inline", content_type
    for content_type in ("text/html", "image/svg+xml", "application/pdf", "application/xhtml+xml", "text/xml",
                         "application/javascript", "application/octet-stream", "text/html; text/plain", "unheard/of",
                         "text/plainly"):
        assert disposition_of(get(server,
                                  store(server, b"x", content_type=content_type)))[0] == "attachment", content_type


# Safety and caches

def test_content_cannot_act_in_its_origin(server, mxc):
    for family in DOWNLOADS:
        for headers in ({}, {"Range": "bytes=0-9"}):
            response = get(server, mxc, family=family, headers=headers)
            policy = response.header("Content-Security-Policy")
            for directive in ("sandbox", "default-src 'none'", "script-src 'none'"):
                assert directive in policy
            assert response.header("Cross-Origin-Resource-Policy") == "cross-origin"
            assert response.header("X-Content-Type-Options") == "nosniff"


def test_stored_media_is_immutable_to_caches(server, mxc):
    value = get(server, mxc).header("Cache-Control")
    assert "immutable" in value
    assert int(re.search(r"max-age=(\d+)", value)[1]) >= 24 * 3600


def test_errors_are_not_cached_for_ever(server):
    for response in (get(server, create(server), timeout_ms=0), get(server, f"mxc://{SERVER_NAME}/nothing")):
        assert "immutable" not in (response.header("Cache-Control") or "")


def test_cors_is_on_every_response(server, mxc):
    responses = [
        get(server, mxc), get(server, mxc, method="HEAD"), get(server, mxc, headers={"Range": "bytes=0-1"}),
        get(server, mxc, headers={"Range": f"bytes={SIZE}-"}), get(server, mxc, headers={"If-None-Match": "*"}),
        get(server, mxc, token=None), get(server, mxc, family=LEGACY, token=None),
        get(server, f"mxc://{SERVER_NAME}/nothing"), get(server, create(server), timeout_ms=0),
        request(server, "POST", "/_matrix/media/v1/create"), request(server, "POST", LEGACY + "/upload", body=b"x"),
        request(server, "GET", AUTHED + "/config"), request(server, "GET", "/_matrix/nothing"),
        request(server, "PATCH", download_path(mxc)), request(server, "PUT", LEGACY + "/upload/a/b", body=b"x")]
    for response in responses:
        assert response.header("Access-Control-Allow-Origin") == "*", response


@pytest.mark.parametrize("path", ["/_matrix/media/v1/create", "/_matrix/media/v3/upload/example.org/abc",
                                  "/_matrix/media/v3/upload", "/_matrix/media/r0/upload/abc",
                                  "/_matrix/client/v1/media/download/example.org/abc",
                                  "/_matrix/client/v1/media/config", "/_matrix/media/v3/download/example.org/a/n.txt"])
def test_preflight_needs_no_token(server, path):
    response = request(server, "OPTIONS", path, token=None, headers={
        "Origin": "https://app.example", "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type"})
    assert response.status in (200, 204)
    assert response.header("Access-Control-Allow-Origin") == "*"
    methods = re.split(r"\s*,\s*", response.header("Access-Control-Allow-Methods"))
    assert {"GET", "POST", "PUT", "OPTIONS"} <= set(methods)
    allowed = {name.lower() for name in re.split(r"\s*,\s*", response.header("Access-Control-Allow-Headers"))}
    assert {"authorization", "content-type", "x-requested-with"} <= allowed


# Config, unknown paths

@pytest.mark.parametrize("path", ["/_matrix/media/r0/config", "/_matrix/media/v1/config", "/_matrix/media/v3/config",
                                  "/_matrix/client/v1/media/config"])
def test_config_tells_the_limit(server, path):
    response = request(server, "GET", path)
    assert (response.status, response.json()) == (200, {"m.upload.size": 100 << 20})
    request(server, "GET", path, token=None).is_error(401, "M_MISSING_TOKEN")


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/_matrix/media/v3/nothing", 404), ("GET", "/_matrix/media/v2/config", 404),
    ("GET", "/_matrix/media/v3/download/example.org", 404), ("POST", "/_matrix/media/v3/create/x", 404),
    ("GET", "/_matrix/media/v1/create", 405), ("DELETE", "/_matrix/media/v3/upload", 405),
    ("POST", "/_matrix/client/v1/media/download/example.org/abc", 405), ("PUT", "/_matrix/media/v3/config", 405)])
def test_unknown_paths_and_methods(server, method, path, status):
    response = request(server, method, path).is_error(status, "M_UNRECOGNIZED")
    if status == 405:
        assert response.header("Allow")
