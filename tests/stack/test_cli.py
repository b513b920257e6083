# SPDX-License-Identifier: Apache-2.0
"""`sluice put` and `sluice get` with a homeserver's token, through the reverse proxy."""

import re
import subprocess

from client import LiveUpload, create
from harness import BINARY, clean_environment, run_binary


def told_mxc(text):
    return re.search(r"mxc://\S+", text).group()


def test_put_and_get(stack, tmp_path):
    alice, bob = stack.user("alice"), stack.user("bob")
    file = tmp_path / "Grüße aus 東京.bin"
    file.write_bytes(b"\x00\r\n" * 1_000_000)
    put = run_binary("put", file, "--server", stack.url, "--token", alice.access_token)
    assert put.returncode == 0, put.stderr
    copy = tmp_path / "copy"
    got = run_binary("get", told_mxc(put.stdout), "-o", copy, "--server", stack.url, "--token", bob.access_token)
    assert got.returncode == 0, got.stderr
    assert copy.read_bytes() == file.read_bytes()


def test_get_follows_a_running_upload(stack, tmp_path):
    alice = stack.user("alice")
    mxc = create(stack, token=alice.access_token)
    upload = LiveUpload(stack, mxc, token=alice.access_token)
    upload.send(b"first ")
    get = subprocess.Popen([str(BINARY), "get", mxc, "-o", "-", "--server", stack.url, "--token", alice.access_token],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment())
    with get:
        assert get.stdout.read(6) == b"first "
        assert upload.finish(b"and last").status == 200
        assert get.stdout.read() == b"and last"
    assert get.returncode == 0


def test_a_wrong_token_is_said_so(stack, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    put = run_binary("put", tmp_path / "file", "--server", stack.url, "--token", "syt_of_nobody")
    assert put.returncode != 0
    assert "M_UNKNOWN_TOKEN" in put.stderr, put.stderr
