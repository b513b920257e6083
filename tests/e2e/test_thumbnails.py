# SPDX-License-Identifier: Apache-2.0
"""Thumbnails as clients see them, made by the real worker in its real sandbox. What the worker does with each format is in
tests/thumbnailer_test.py."""

import os
import signal
import struct
import threading
import zlib
from pathlib import Path

import pytest

from client import AUTHED, LEGACY, LiveUpload, create, in_parallel, query_of, request, split_mxc, store
from harness import ALICE, IS_SANITIZED, run_binary, wait_until

FAMILIES = [AUTHED, LEGACY, "/_matrix/media/v1", "/_matrix/media/r0"]


def png(width, height, alpha=255):
    """A picture of a colour that runs, as a PNG."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((y * 255 // height, 128, width % 256, alpha)) * width for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def size_of(picture):
    """Width and height, of a PNG or a JPEG."""
    if picture.startswith(b"\x89PNG"):
        return struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\xff\xd8"), picture[:16]
    at = 2
    while True:
        kind, length = struct.unpack(">xBH", picture[at:at + 4])
        if kind in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", picture[at + 5:at + 9])
            return width, height
        at += 2 + length


def thumbnail_path(mxc, family=AUTHED, **query):
    server_name, media_id = split_mxc(mxc)
    return f"{family}/thumbnail/{server_name}/{media_id}{query_of(query)}"


def thumbnail(server, mxc, width=320, height=240, family=AUTHED, token=ALICE, verb="GET", headers=None, **query):
    return request(server, verb, thumbnail_path(mxc, family, width=width, height=height, **query), token=token,
                   headers=headers or {})


@pytest.fixture
def thumbnailing(start_server):
    return start_server(thumbnails={"workers": 2})


@pytest.fixture(scope="module")
def picture():
    return png(700, 500)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_path_serves_them(thumbnailing, picture, family):
    mxc = store(thumbnailing, picture, content_type="text/plain")  # what it is declared to be does not matter
    for _ in range(2):  # made, then at hand
        response = thumbnail(thumbnailing, mxc, family=family)
        assert response.status == 200
        assert response.header("Content-Type") == "image/jpeg"
        assert response.header("Content-Disposition").startswith("inline")
        assert "immutable" in response.header("Cache-Control")
        assert size_of(response.body) == (320, 229)
    head = thumbnail(thumbnailing, mxc, family=family, verb="HEAD")
    assert head.header("Content-Length") == str(len(response.body))
    etag = response.header("ETag")
    assert thumbnail(thumbnailing, mxc, family=family, headers={"If-None-Match": etag}).status == 304
    part = thumbnail(thumbnailing, mxc, family=family, headers={"Range": "bytes=0-1", "If-Range": etag})
    assert (part.status, part.body) == (206, b"\xff\xd8")


@pytest.mark.parametrize("query, expected", [
    (dict(width=32, height=32, method="crop"), (32, 32)),
    (dict(width=33, height=33, method="crop"), (96, 96)),
    (dict(width=100, height=50, method="crop"), (100, 50)),
    (dict(width=1, height=1), (320, 229)),
    (dict(width=321, height=1), (640, 457)),
    (dict(width=700, height=500), (700, 500)),
    (dict(width=5000, height=5000), (700, 500)),  # never enlarged
])
def test_sizes(thumbnailing, picture, query, expected):
    assert size_of(thumbnail(thumbnailing, store(thumbnailing, picture), **query).body) == expected


def test_a_small_original_is_served_as_it_is(thumbnailing):
    small = png(20, 10)
    assert thumbnail(thumbnailing, store(thumbnailing, small)).body == small


def test_what_is_transparent_stays_so(thumbnailing):
    response = thumbnail(thumbnailing, store(thumbnailing, png(700, 500, alpha=100)))
    assert response.header("Content-Type") == "image/png"
    assert size_of(response.body) == (320, 229)


@pytest.mark.parametrize("query", [dict(width=0), dict(width=-1), dict(width="1.5"), dict(width="x"), dict(height=0),
                                   dict(width=100000), dict(method="stretch"), dict(animated="maybe")])
def test_nonsense_is_refused(thumbnailing, picture, query):
    mxc = store(thumbnailing, picture)
    assert thumbnail(thumbnailing, mxc, **query).is_error(400, "M_UNKNOWN")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, png(700, 500)[:900],
                                     b"\xff\xd8\xff\xe0", b"GIF89a", b"%PDF-1.4", b"<svg", os.urandom(5000)],
                         ids=["empty", "text", "no header", "truncated", "JPEG", "GIF", "PDF", "SVG", "noise"])
def test_what_cannot_be_read_is_refused(thumbnailing, content):
    mxc = store(thumbnailing, content, content_type="image/png")
    for _ in range(2):
        response = thumbnail(thumbnailing, mxc)
        # Of a truncated file decoders may show what there is.
        if response.status == 200:
            assert size_of(response.body) == (320, 229)
        else:
            assert response.is_error(400, "M_UNKNOWN")


def test_too_many_pixels_are_refused_from_the_header(start_server, picture):
    server = start_server(thumbnails={"workers": 1, "max_pixels": 1000})
    assert thumbnail(server, store(server, picture)).is_error(413, "M_TOO_LARGE")


def test_waits_for_the_whole_upload(thumbnailing, picture):
    mxc = create(thumbnailing)
    assert thumbnail(thumbnailing, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    upload = LiveUpload(thumbnailing, mxc, length=len(picture))
    upload.send(picture[:1000])
    assert thumbnail(thumbnailing, mxc, timeout_ms=100).is_error(504, "M_NOT_YET_UPLOADED")

    answers = []
    asking = [threading.Thread(target=lambda: answers.append(thumbnail(thumbnailing, mxc))) for _ in range(10)]
    for thread in asking:
        thread.start()
    thumbnailing.wait_stalled(10)
    upload.send(picture[1000:])
    upload.finish()
    for thread in asking:
        thread.join()
    assert [size_of(answer.body) for answer in answers] == [(320, 229)] * 10


def test_what_was_made_is_kept(thumbnailing, picture):
    mxc = store(thumbnailing, picture)
    first = thumbnail(thumbnailing, mxc)
    thumbnailing.stop()
    thumbnailing.start()
    wait_until(lambda: "sandbox" in thumbnailing.log(this_run=True), "the worker to be ready")
    for worker in thumbnailing.thumbnail_workers():
        os.kill(worker, signal.SIGSTOP)
    second = thumbnail(thumbnailing, mxc)  # nobody could make it
    assert (second.body, second.header("ETag")) == (first.body, first.header("ETag"))


def test_equal_content_is_looked_at_once(thumbnailing, picture):
    thumbnail(thumbnailing, store(thumbnailing, picture))
    thumbnail(thumbnailing, store(thumbnailing, picture))
    kept = [path for path in (thumbnailing.data_dir / "thumbnails").rglob("*") if path.is_file()]
    assert len(kept) == 1


def test_a_worker_that_dies_costs_nothing_else(thumbnailing, picture):
    wait_until(thumbnailing.thumbnail_workers, "a worker")
    for worker in thumbnailing.thumbnail_workers():
        os.kill(worker, signal.SIGKILL)
    responses = []
    in_parallel(4, lambda i: responses.append(thumbnail(thumbnailing, store(thumbnailing, png(400 + i, 300)))))
    assert all(response.status == 200 for response in responses)


def test_one_that_hangs_is_given_up(start_server, picture):
    server = start_server(thumbnails={"workers": 1, "time": "1s"})
    (worker,) = wait_until(server.thumbnail_workers, "the worker")
    wait_until(lambda: "sandbox" in server.log(), "the worker to be ready")
    os.kill(worker, signal.SIGSTOP)
    assert thumbnail(server, store(server, picture)).is_error(400, "M_UNKNOWN")
    assert thumbnail(server, store(server, png(401, 300))).status == 200
    assert not Path(f"/proc/{worker}").exists()


def test_workers_go_with_the_server(start_server, picture):
    server = start_server(thumbnails={"workers": 2})
    thumbnail(server, store(server, picture))
    workers = server.thumbnail_workers()
    assert workers
    server.kill()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "the workers to end")
    server.start()


def test_the_sandbox_holds(thumbnailing, picture):
    assert thumbnail(thumbnailing, store(thumbnailing, picture)).status == 200
    for worker in thumbnailing.thumbnail_workers():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert "0" not in status["Uid"].split()
        assert Path(f"/proc/{worker}/environ").read_bytes() in (b"",)
        descriptors = {os.readlink(path).split(":")[0] for path in Path(f"/proc/{worker}/fd").iterdir()}
        assert "socket" in descriptors
        assert not any(str(thumbnailing.data_dir) in descriptor for descriptor in descriptors)


@pytest.mark.skipif(IS_SANITIZED, reason="a sanitizer needs terabytes of address space, and so there is no limit on it")
def test_the_log_says_what_the_sandbox_has(start_server):
    server = start_server(thumbnails={"workers": 1, "sandbox": "required"})
    assert "in a sandbox of every layer" in server.log()


def test_without_its_program_there_are_none(start_server, picture, tmp_path):
    server = start_server(thumbnails={"workers": 1, "worker": str(tmp_path / "nothing")})
    assert thumbnail(server, store(server, picture)).status == 503
    config = tmp_path / "required.yaml"
    config.write_text(f"""data_dir: {tmp_path / "other"}
homeservers: [{{server_name: example.org}}]
thumbnails: {{worker: {tmp_path / "nothing"}, sandbox: required}}
""")
    ended = run_binary("serve", "--config", config)
    assert ended.returncode == 2
    assert "thumbnails" in ended.stderr


def test_a_crowd_is_told_to_come_back(start_server):
    server = start_server(thumbnails={"workers": 1, "max_queued": 1})
    (worker,) = wait_until(server.thumbnail_workers, "the worker")
    wait_until(lambda: "sandbox" in server.log(), "the worker to be ready")
    os.kill(worker, signal.SIGSTOP)
    first, second = (store(server, png(400 + i, 300)) for i in range(2))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(thumbnail(server, first)))
    thread.start()
    server.wait_metric("sluice_thumbnails_queued", 1)
    refused = thumbnail(server, second)
    assert refused.is_error(429, "M_LIMIT_EXCEEDED")
    assert refused.header("Retry-After")
    os.kill(worker, signal.SIGCONT)
    thread.join()
    assert answers[0].status == 200


def test_they_can_be_made_at_the_upload(start_server, picture):
    server = start_server(thumbnails={"workers": 2, "at_upload": True})
    store(server, picture)

    def kept():
        return [path for path in (server.data_dir / "thumbnails").rglob("*x*") if path.is_file()]

    wait_until(lambda: len(kept()) == 5, "the five usual sizes")


def test_the_blurhash_of_an_upload(thumbnailing, picture):
    target = f"{LEGACY}/upload?xyz.amorgan.generate_blurhash=true"
    told = request(thumbnailing, "POST", target, body=picture).json()
    assert len(told["xyz.amorgan.blurhash"]) == 28
    assert "xyz.amorgan.blurhash" not in request(thumbnailing, "POST", target, body=b"text").json()


def test_frozen_media_has_frozen_thumbnails(start_server, picture):
    server = start_server(thumbnails={"workers": 1}, downloads={"unauthenticated": "frozen"})
    mxc = store(server, picture)
    assert thumbnail(server, mxc, family=LEGACY, token=None).is_error(404, "M_NOT_FOUND")
    assert thumbnail(server, mxc, family=LEGACY).status == 200
    assert thumbnail(server, mxc, family=LEGACY, token=None).is_error(404, "M_NOT_FOUND")
    assert thumbnail(server, mxc, token=None).is_error(401, "M_MISSING_TOKEN")


@pytest.mark.skipif(IS_SANITIZED, reason="a sanitizer keeps what was freed")
def test_memory_does_not_grow_with_what_is_made(thumbnailing):
    def make(count, first):
        for i in range(count):
            thumbnail(thumbnailing, store(thumbnailing, png(330, 241 + first + i)))

    make(20, 0)
    before = thumbnailing.memory_kib("VmRSS")
    make(60, 20)
    assert thumbnailing.memory_kib("VmRSS") < before + 8 * 1024
