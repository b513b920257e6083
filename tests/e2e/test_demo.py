# SPDX-License-Identifier: Apache-2.0
"""The page under /_sluice/demo as a client gets it. What it does in a browser is tested in tests/stack."""

import re
import subprocess

import pytest
from client import LiveUpload, create, request, split_mxc, store
from harness import ALICE, BINARY, BOB, clean_environment, wait_until

DEMO = "/_sluice/demo"
FILES = {
    "": "text/html; charset=utf-8",
    "/": "text/html; charset=utf-8",
    "/index.html": "text/html; charset=utf-8",
    "/icon.svg": "image/svg+xml",
    "/demo.css": "text/css; charset=utf-8",
    "/demo.js": "text/javascript; charset=utf-8",
    "/timeline.js": "text/javascript; charset=utf-8",
    "/worker.js": "text/javascript; charset=utf-8",
}


def progress_path(mxc):
    return f"{DEMO}/progress/" + "/".join(split_mxc(mxc))


@pytest.fixture
def demo(start_server):
    return start_server(demo=True)


def progress(server, mxc, token=BOB):
    response = request(server, "GET", progress_path(mxc), token=token)
    assert response.status == 200, response
    assert response.header("Cache-Control") == "no-store"
    return response.json()


def test_it_is_off_by_default(server):
    unknown = request(server, "GET", "/_sluice/nowhere")
    mxc = store(server, b"content")
    for path in [DEMO + name for name in FILES] + [progress_path(mxc)]:
        response = request(server, "GET", path)
        response.is_error(404, "M_UNRECOGNIZED")
        assert response.body == unknown.body


def test_the_page_and_its_files_are_there_without_a_token(demo):
    for name, content_type in FILES.items():
        response = request(demo, "GET", DEMO + name, token=None)
        assert (response.status, response.header("Content-Type")) == (200, content_type)
        assert int(response.header("Content-Length")) == len(response.body) > 100
        head = request(demo, "HEAD", DEMO + name, token=None)
        assert (head.status, head.header("Content-Length")) == (200, response.header("Content-Length"))
        again = request(demo, "GET", DEMO + name, token=None, headers={"If-None-Match": response.header("ETag")})
        assert (again.status, again.body) == (304, b"")


def test_everything_that_the_page_names_is_there(demo):
    for name in FILES:
        text = request(demo, "GET", DEMO + name, token=None).body.decode()
        for named in re.findall(r'(?:src|href)="([^"#][^"]*)"', text):
            assert request(demo, "GET", named, token=None).status == 200, named


def test_the_page_may_load_nothing_from_elsewhere(demo):
    for name in FILES:
        response = request(demo, "GET", DEMO + name, token=None)
        policy = dict(part.strip().split(" ", 1) for part in response.header("Content-Security-Policy").split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
        allowed = {source for sources in policy.values() for source in sources.split()}
        assert allowed == {"'none'", "'self'", "blob:"}
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert response.header("X-Content-Type-Options") == "nosniff"
        assert response.header("Referrer-Policy") == "no-referrer"
        assert response.header("Cache-Control") == "no-cache"


def test_only_the_worker_may_reach_further_than_its_folder(demo):
    for name in FILES:
        expected = DEMO if name == "/worker.js" else None
        assert request(demo, "GET", DEMO + name, token=None).header("Service-Worker-Allowed") == expected


def test_it_is_only_to_be_read(demo):
    for method in ("POST", "PUT", "DELETE"):
        for path in (DEMO, DEMO + "/demo.js", DEMO + "/progress/example.org/id"):
            response = request(demo, method, path)
            response.is_error(405, "M_UNRECOGNIZED")
            assert response.header("Allow") == "GET, HEAD, OPTIONS"
    for path in ("/..", "/nowhere", "/demo.js/", "/demo.js%00", "/%2e%2e/demo.js", "/README.md"):
        request(demo, "GET", DEMO + path).is_error(404, "M_UNRECOGNIZED")


def test_progress_follows_an_upload(demo):
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


def test_progress_needs_a_token(demo):
    mxc = store(demo, b"content")
    request(demo, "GET", progress_path(mxc), token=None).is_error(401, "M_MISSING_TOKEN")
    request(demo, "GET", progress_path(mxc), token="wrong").is_error(401, "M_UNKNOWN_TOKEN")
    assert progress(demo, mxc, token=ALICE)["state"] == "stored"


def test_progress_of_what_is_not_there(demo):
    for tail in ("example.org/nosuchmedia", "elsewhere.org/id", "example.org/..", "example.org/%00", "/"):
        request(demo, "GET", f"{DEMO}/progress/{tail}").is_error(404, "M_NOT_FOUND")


@pytest.mark.parametrize("is_on", [False, True], ids=["off", "on"])
def test_the_welcome_says_where_it_is_or_how_to_have_it(tmp_path, is_on):
    environment = clean_environment({"SLUICE_LISTEN": "127.0.0.1:0", **({"SLUICE_DEMO": "true"} if is_on else {})})
    with subprocess.Popen([str(BINARY), "serve"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, env=environment) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("  demo "))
        finally:
            process.terminate()
    token = (tmp_path / "sluice-data/token").read_text().strip()
    if is_on:
        assert re.fullmatch(rf"  demo       http://127\.0\.0\.1:\d+/_sluice/demo#token={re.escape(token)}\n", line)
    else:
        assert "SLUICE_DEMO=true" in line and token not in line
