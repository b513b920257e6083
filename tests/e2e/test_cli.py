# SPDX-License-Identifier: Apache-2.0
"""`sluice put` and `sluice get`: the client side of the same story."""

import contextlib
import os
import re
import subprocess
import time

import pytest

from client import LiveUpload, create, get, store
from fakes import BreakingLine
from harness import ALICE, BINARY, clean_environment, run_binary, seconds, wait_until

MXC = re.compile(r"mxc://[^\s/]+/[A-Za-z0-9_-]+")


@pytest.fixture
def command():
    """Starts the program in the background; whatever still runs at the end is ended."""
    started = []

    def start(*arguments, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([str(BINARY), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=clean_environment(), bufsize=0, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def ends_well(process, timeout=20):
    output, errors = process.communicate(timeout=seconds(timeout))
    assert process.returncode == 0, errors.decode(errors="replace")
    return output.decode()


def to(server):
    return ("--server", server if isinstance(server, str) else server.url, "--token", ALICE)


def test_put_and_get_a_file(server, tmp_path):
    body = os.urandom(3_000_000)
    source = tmp_path / "\u00e4 picture.png"
    source.write_bytes(body)
    result = run_binary("put", source, *to(server))
    assert result.returncode == 0, result.stderr
    mxc = MXC.search(result.stdout)[0]
    response = get(server, mxc)
    assert response.body == body
    assert response.header("Content-Type") == "image/png"
    assert "%C3%A4%20picture.png" in response.header("Content-Disposition")
    target = tmp_path / "copy"
    result = run_binary("get", mxc, "-o", target, *to(server))
    assert result.returncode == 0, result.stderr
    assert target.read_bytes() == body
    assert ALICE not in result.stdout + result.stderr


def test_an_empty_file(server, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    result = run_binary("put", tmp_path / "empty", *to(server))
    assert result.returncode == 0, result.stderr
    result = run_binary("get", MXC.search(result.stdout)[0], "-o", tmp_path / "copy", *to(server))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "copy").read_bytes() == b""


def test_put_prints_the_uri_before_it_uploads_and_get_follows(server, tmp_path, command):
    """`put -` reads a pipe of unknown length; `get` writes the bytes while they come."""
    uploader = command("put", "-", *to(server), stdin=subprocess.PIPE)
    mxc = MXC.search(uploader.stdout.readline().decode())[0]
    target = tmp_path / "copy"
    downloader = command("get", mxc, "-o", target, *to(server))
    server.wait_stalled(1)
    first, rest = os.urandom(300_000), os.urandom(200_000)
    uploader.stdin.write(first)
    server.wait_metric("sluice_live_followers", 1)

    def bytes_on_disk():
        return max((file.stat().st_size for file in tmp_path.iterdir()), default=0)

    wait_until(lambda: bytes_on_disk() >= 200_000, "the first bytes to be written")
    assert uploader.poll() is None and downloader.poll() is None
    uploader.stdin.write(rest)
    uploader.stdin.close()
    uploader.stdin = None
    ends_well(uploader)
    ends_well(downloader)
    assert target.read_bytes() == first + rest


def test_get_waits_longer_than_one_wait_of_the_server(start_server, tmp_path, command):
    server = start_server(downloads={"default_wait": "300ms", "max_wait": "300ms"})
    mxc = create(server)
    downloader = command("get", mxc, "-o", tmp_path / "copy", *to(server))
    time.sleep(1.0)
    if downloader.poll() is None:  # it asks again; giving up with a clear word is allowed too
        store_body = b"at last"
        upload = LiveUpload(server, mxc, length=len(store_body))
        assert upload.finish(store_body).status == 200
        ends_well(downloader)
        assert (tmp_path / "copy").read_bytes() == store_body
    else:
        assert downloader.returncode != 0
        assert b"not yet" in downloader.stderr.read().lower()


def test_get_resumes_a_broken_download(server, tmp_path):
    body = os.urandom(5_000_000)
    mxc = store(server, body)
    with BreakingLine(server.address, cuts=[1_000_000, 1_500_000]) as line:
        result = run_binary("get", mxc, "-o", tmp_path / "copy", *to(line.url))
        assert result.returncode == 0, result.stderr
        assert (tmp_path / "copy").read_bytes() == body
        downloads = [bytes(seen).lower() for seen in line.requests if b"/download/" in seen]
    assert len(downloads) == 3
    assert b"\r\nrange:" not in downloads[0] or b"bytes=0-" in downloads[0]
    for resumed in downloads[1:]:
        assert re.search(rb"\r\nrange: *bytes=[1-9]\d+-", resumed)
        assert b"\r\nif-range:" in resumed


def test_get_resumes_a_live_download(server, tmp_path, command):
    body = os.urandom(2_000_000)
    mxc = create(server)
    upload = LiveUpload(server, mxc, length=len(body))
    upload.send(body[:1_200_000])
    with BreakingLine(server.address, cuts=[500_000]) as line:
        downloader = command("get", mxc, "-o", tmp_path / "copy", *to(line.url))
        wait_until(lambda: len(line.requests) >= 2, "the second connection")
        assert upload.finish(body[1_200_000:]).status == 200
        ends_well(downloader)
    assert (tmp_path / "copy").read_bytes() == body


def test_get_never_joins_two_attempts(server, tmp_path, command):
    """The upload breaks off in the middle and is made again with other bytes."""
    mxc = create(server)
    first = LiveUpload(server, mxc, length=1_000_000)
    first.send(os.urandom(400_000))
    downloader = command("get", mxc, "-o", tmp_path / "copy", *to(server))
    server.wait_metric("sluice_live_followers", 1)
    first.break_off()
    server.wait_metric("sluice_uploads_running", 0)
    body = os.urandom(900_000)
    assert LiveUpload(server, mxc, length=len(body)).finish(body).status == 200
    downloader.communicate(timeout=seconds(30))
    if downloader.returncode == 0:
        assert (tmp_path / "copy").read_bytes() == body
    else:
        assert not (tmp_path / "copy").exists()


def test_get_to_standard_output(server, command):
    body = os.urandom(500_000)
    downloader = command("get", store(server, body), "-o", "-", *to(server))
    output, errors = downloader.communicate(timeout=seconds(20))
    assert downloader.returncode == 0, errors
    assert output == body


def test_refusals_are_told_and_no_file_is_left(server, tmp_path):
    for mxc, token, word in ((f"mxc://example.org/{'n' * 32}", ALICE, "M_NOT_FOUND"),
                             (store(server, b"x"), "tok_nobody", "M_UNKNOWN_TOKEN")):
        result = run_binary("get", mxc, "-o", tmp_path / "copy", "--server", server.url, "--token", token)
        assert result.returncode not in (0, 2), result
        assert word in result.stderr or "not found" in result.stderr.lower(), result.stderr
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"x")
    result = run_binary("put", tmp_path / "file", "--server", server.url, "--token", "tok_nobody")
    assert result.returncode not in (0, 2), result
    assert "M_UNKNOWN_TOKEN" in result.stderr or "token" in result.stderr.lower()


def test_put_of_a_file_too_large(start_server, tmp_path):
    server = start_server(uploads={"max_size": "1MiB"})
    (tmp_path / "large").write_bytes(os.urandom(3 << 20))
    result = run_binary("put", tmp_path / "large", *to(server))
    assert result.returncode not in (0, 2), result
    assert "M_TOO_LARGE" in result.stderr or "large" in result.stderr.lower(), result.stderr


def test_a_server_that_is_not_there_is_said_clearly(tmp_path):
    result = run_binary("get", "mxc://example.org/abc", "-o", tmp_path / "copy", "--server", "http://127.0.0.1:9",
                        "--token", "t")
    assert result.returncode not in (0, 2), result
    assert "connect" in result.stderr.lower(), result.stderr


@pytest.mark.parametrize("arguments", [("get", "https://example.org/x"), ("get", "mxc://example.org"), ("get", "abc"),
                                       ("put", "/nowhere/at/all")])
def test_wrong_arguments(arguments):
    result = run_binary(*arguments, "--server", "http://127.0.0.1:9", "--token", "t")
    assert result.returncode in (1, 2), result
    assert result.stderr.strip()


def test_put_that_is_killed_leaves_a_free_id(server, tmp_path, command):
    uploader = command("put", "-", *to(server), stdin=subprocess.PIPE)
    mxc = MXC.search(uploader.stdout.readline().decode())[0]
    uploader.stdin.write(os.urandom(100_000))
    server.wait_metric("sluice_uploads_running", 1)
    uploader.kill()
    server.wait_metric("sluice_uploads_running", 0)
    get(server, mxc, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
