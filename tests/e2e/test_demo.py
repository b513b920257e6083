# SPDX-License-Identifier: Apache-2.0
"""The demo page of the built program. Its answers in detail are tested beside the code (`src/api/demo_test.cpp`,
`src/demo/assets_test.cpp`), and what it does in a browser in tests/stack."""

import re
import signal
import subprocess

import pytest
from client import LiveUpload, create, request, split_mxc
from harness import BINARY, BOB, clean_environment, seconds, wait_until

DEMO = "/_sluice/demo"


def progress(server, mxc):
    response = request(server, "GET", f"{DEMO}/progress/" + "/".join(split_mxc(mxc)), token=BOB)
    assert response.status == 200, response
    assert response.header("Cache-Control") == "no-store"
    return response.json()


def test_it_is_there_when_it_is_switched_on_and_only_then(server, start_server):
    request(server, "GET", DEMO).is_error(404, "M_UNRECOGNIZED")
    demo = start_server(demo=True)
    page = request(demo, "GET", DEMO, token=None)
    assert (page.status, page.header("Content-Type")) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.body.decode())
    assert named
    for path in [DEMO, *named]:
        asset = request(demo, "GET", path, token=None)
        assert (asset.status, asset.header("X-Content-Type-Options")) == (200, "nosniff"), path
        head = request(demo, "HEAD", path, token=None)
        assert (head.status, head.header("Content-Length"), head.body) == (200, str(len(asset.body)), b""), path


def test_progress_follows_an_upload(start_server):
    demo = start_server(demo=True)
    mxc = create(demo)
    assert progress(demo, mxc) == {"state": "pending", "received": 0}
    upload = LiveUpload(demo, mxc, length=100000)
    upload.send(bytes(40000))
    wait_until(lambda: progress(demo, mxc) == {"state": "receiving", "received": 40000, "size": 100000}, "40000 bytes")
    upload.break_off()
    wait_until(lambda: progress(demo, mxc) == {"state": "pending", "received": 0}, "the upload to be broken")
    upload = LiveUpload(demo, mxc)
    upload.send(bytes(500))
    wait_until(lambda: progress(demo, mxc) == {"state": "receiving", "received": 500}, "500 bytes of nobody knows how many")
    assert upload.finish(bytes(500)).status == 200
    assert progress(demo, mxc) == {"state": "stored", "received": 1000, "size": 1000}


@pytest.mark.parametrize("is_on", [False, True], ids=["off", "on"])
def test_the_welcome_says_where_it_is_or_how_to_have_it(tmp_path, is_on):
    environment = clean_environment({"SLUICE_LISTEN": "127.0.0.1:0", **({"SLUICE_DEMO": "true"} if is_on else {})})
    welcome = tmp_path / "welcome"
    with open(welcome, "w") as output:
        process = subprocess.Popen([str(BINARY), "serve"], cwd=tmp_path, stdout=output, stderr=subprocess.DEVNULL,
                                   env=environment)
    try:
        line = wait_until(lambda: re.search(r"^  demo .*\n", welcome.read_text(), re.MULTILINE), "the line of the demo")[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(seconds(20)) == 0
    finally:
        process.kill()
        process.wait()
    token = (tmp_path / "sluice-data/token").read_text().strip()
    if is_on:
        assert re.fullmatch(rf"  demo       http://127\.0\.0\.1:\d+/_sluice/demo#token={re.escape(token)}\n", line)
    else:
        assert "SLUICE_DEMO=true" in line and token not in line
