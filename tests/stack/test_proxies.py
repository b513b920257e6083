# SPDX-License-Identifier: Apache-2.0
"""What Sluice promises has to survive the reverse proxy: each shipped configuration, in front of real servers."""

import base64
import contextlib
import json
import os
import re
import select
import socket
import subprocess
import threading

import pytest
from client import (ALICE, AUTHED, LEGACY, LiveUpload, Reader, Wire, create, download_path, get, put, request,
                    request_bytes, store, upload_path)
from harness import Server, seconds, wait_until
from processes import free_port
from proxies import DEPLOY, KINDS, Proxy, replaced

MIB = 1 << 20
MAX_SIZE = 8 * MIB


class Recorder:
    """In the place of a server: answers every request with its own name and keeps the head as it came.

    A request for /sync is answered when `is_released` is set."""

    def __init__(self, name):
        self.name = name
        self.heads = []
        self.is_released = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        answer = json.dumps({"who": self.name}).encode()
        with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as stream:
            while True:
                lines = []
                while (line := stream.readline()) not in (b"\r\n", b""):
                    lines.append(line.decode("latin-1").rstrip("\r\n"))
                if not lines:
                    return
                self.heads.append(lines)
                fields = dict(line.lower().split(": ", 1) for line in lines[1:])
                stream.read(int(fields.get("content-length", 0)))
                if lines[0].endswith("/sync HTTP/1.1"):
                    self.is_released.wait(seconds(20))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                                   % (len(answer), answer))

    def targets(self):
        return [head[0].split(" ")[1] for head in self.heads]

    def fields(self, name):
        return [line.split(":", 1)[1].strip() for line in self.heads[-1][1:] if line.lower().startswith(name + ":")]

    def close(self):
        self.listener.close()


@pytest.fixture(scope="module")
def sluice(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("proxied") / "sluice", uploads={"max_size": MAX_SIZE},
                     thumbnails={"workers": 1}, http={"trusted_proxies": ["127.0.0.1/32"]}).start()
    yield running
    running.stop()


@pytest.fixture(scope="module", params=[*KINDS, "snippet"])
def proxy(request, tmp_path_factory, synapse, sluice):
    running = Proxy(request.param, tmp_path_factory.mktemp("proxy") / request.param, synapse.port, sluice.port)
    yield running.start()
    running.stop()


@pytest.fixture(scope="module", params=KINDS)
def recorded(request, tmp_path_factory):
    """A proxy in front of two recorders: (proxy, Synapse's, Sluice's)."""
    with recorders(request.param, tmp_path_factory.mktemp("recorded")) as servers:
        yield servers


@pytest.fixture(scope="module", params=KINDS)
def recorded_new_media(request, tmp_path_factory):
    """The same for the other way: only new media goes to Sluice."""
    with recorders(request.param, tmp_path_factory.mktemp("beside"), new_media_only) as servers:
        yield servers


def new_media_only(text):
    pattern = {r"rewrite \^": r"(rewrite \^ /\$with_)all_media", "handle @": r"(handle @)all_media",
               "use_backend": r"(use_backend sluice if )all_media"}
    return replaced(text, next(p for p in pattern.values() if re.search(p, text)), r"\1new_media")


@contextlib.contextmanager
def recorders(kind, directory, change=None):
    synapse, sluice = Recorder("synapse"), Recorder("sluice")
    running = Proxy(kind, directory / kind, synapse.port, sluice.port, change)
    try:
        yield running.start(), synapse, sluice
    finally:
        running.stop()
        synapse.close()
        sluice.close()


# ---- Live ----


@pytest.mark.parametrize("length", [100_003, None], ids=["with a length", "chunked"])
def test_a_byte_sent_is_a_byte_received(proxy, length):
    mxc = create(proxy)
    upload = LiveUpload(proxy, mxc, length, content_type="video/mp2t")
    upload.send(b"a")
    reader = Reader(proxy, mxc)
    assert reader.wait_bytes(1) == b"a"
    upload.send(b"b")
    assert reader.wait_bytes(2) == b"ab"
    upload.send(b"c" * 100_000)
    reader.wait_bytes(100_002)
    assert not reader.done.is_set()
    assert upload.finish(b"d").status == 200
    assert reader.whole() == b"ab" + b"c" * 100_000 + b"d"


def test_a_stalled_download_wakes_with_the_first_byte(proxy, sluice):
    mxc = create(proxy)
    reader = Reader(proxy, mxc)
    sluice.wait_stalled(1)
    assert reader.waits
    upload = LiveUpload(proxy, mxc, 6)
    upload.send(b"fir")
    assert reader.wait_bytes(3) == b"fir"
    assert upload.finish(b"st!").status == 200
    assert reader.whole() == b"first!"


def test_a_client_that_leaves_gives_up_its_place(proxy, sluice):
    mxc = create(proxy)
    reader = Reader(proxy, mxc)
    sluice.wait_stalled(1)
    reader.close()
    sluice.wait_stalled(0)


def test_a_reader_that_leaves_is_followed_no_more(proxy, sluice):
    mxc = create(proxy)
    upload = LiveUpload(proxy, mxc)
    upload.send(b"begun")
    reader = Reader(proxy, mxc)
    reader.wait_bytes(5)
    sluice.wait_metric("sluice_live_followers", 1)
    reader.close()
    sluice.wait_metric("sluice_live_followers", 0)
    assert upload.finish().status == 200


def test_a_wait_that_is_over_is_told(proxy):
    get(proxy, create(proxy), timeout_ms=50).is_error(504, "M_NOT_YET_UPLOADED")


# ---- Broken ----


@pytest.mark.parametrize("length", [1000, None], ids=["with a length", "chunked"])
def test_a_broken_upload_is_a_broken_body(proxy, length):
    mxc = create(proxy)
    upload = LiveUpload(proxy, mxc, length)
    upload.send(b"half")
    reader = Reader(proxy, mxc)
    reader.wait_bytes(4)
    upload.break_off()
    reader.wait_end()
    if length is None and not reader.broken and proxy.kind == "caddy" and () < caddy_version() < (2, 7, 6):
        pytest.xfail("this Caddy ends it as if it were whole; docs/reverse-proxy.md warns of it")
    assert reader.broken, f"a clean end after {bytes(reader.body)!r}"
    assert put(proxy, mxc, b"whole").status == 200  # the id is free for another try
    assert get(proxy, mxc).body == b"whole"


def caddy_version():
    told = subprocess.run(["caddy", "version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in re.findall(r"\d+", told)[:3])


# ---- Refusals ----


def refusal_of(proxy, wire):
    """The answer to a request whose head alone was sent. Caddy holds an answer until it has received something more."""
    if proxy.kind == "caddy":
        sent = send_until_answered(wire, pieces=256)
        if wire.socket.recv(12, socket.MSG_PEEK).endswith(b" 100"):  # it asks for the body before Sluice has spoken
            wire.read_head()
            sent += send_until_answered(wire, pieces=256)
        assert sent < MIB, f"not answered before {sent} bytes of the body"
    return wire.read_response()


def send_until_answered(wire, pieces, form=lambda piece: piece):
    sent = 0
    with contextlib.suppress(ConnectionError):  # then the answer is there to read
        while sent < pieces * 4096 and not select.select([wire.socket], [], [], 0.01)[0]:
            wire.send(form(bytes(4096)))
            sent += 4096
    return sent


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["at once", "expecting 100"])
def test_too_large_is_told_before_the_body(proxy, expect):
    target = upload_path(create(proxy))
    with Wire(proxy) as wire:
        wire.send(request_bytes("PUT", target, headers={"Content-Length": str(64 * MIB), **expect}))
        refusal_of(proxy, wire).is_error(413, "M_TOO_LARGE")


def test_an_unknown_token_is_told_before_the_body(proxy):
    target = upload_path(create(proxy))
    with Wire(proxy) as wire:
        wire.send(request_bytes("PUT", target, token="nobodys", headers={"Content-Length": str(MIB)}))
        refusal_of(proxy, wire).is_error(401, "M_UNKNOWN_TOKEN")


def test_a_real_client_can_read_the_refusal(proxy, tmp_path):
    large = tmp_path / "large"
    with open(large, "wb") as file:
        os.truncate(file.fileno(), 64 * MIB)
    told = curl("-X", "POST", "-H", f"Authorization: Bearer {ALICE}", "-H", "Expect:", "--data-binary", f"@{large}",
                "-w", "\n%{http_code}", f"{proxy.url}{LEGACY}/upload")
    body, status = told.stdout.rsplit(b"\n", 1)
    assert status == b"413", told
    assert json.loads(body)["errcode"] == "M_TOO_LARGE"


def test_a_chunked_upload_that_grows_too_large_is_told(proxy):
    upload = LiveUpload(proxy, create(proxy))
    upload.send(bytes(MAX_SIZE))
    send_until_answered(upload.wire, 1024, lambda piece: b"%x\r\n%b\r\n" % (len(piece), piece))
    upload.wire.read_response().is_error(413, "M_TOO_LARGE")


# ---- Whole files ----


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
def test_a_file_of_some_megabytes(proxy, is_chunked):
    content = os.urandom(5 * MIB)
    mxc = create(proxy)
    assert put(proxy, mxc, content, content_type="video/mp4", filename="ein Film.mp4", is_chunked=is_chunked).status == 200
    response = get(proxy, mxc)
    assert response.body == content
    assert response.header("Content-Type") == "video/mp4"
    assert "ein Film.mp4" in response.header("Content-Disposition")


def test_ranges_and_heads(proxy):
    content = os.urandom(100_000)
    mxc = store(proxy, content, content_type="text/html")
    whole = get(proxy, mxc, headers={"Accept-Encoding": "gzip"})
    assert whole.body == content and whole.header("Content-Encoding") is None
    part = get(proxy, mxc, headers={"Range": "bytes=70000-79999", "If-Range": whole.header("ETag")})
    assert (part.status, part.header("Content-Range")) == (206, "bytes 70000-79999/100000")
    assert part.body == content[70_000:80_000]
    head = get(proxy, mxc, method="HEAD")
    assert (head.status, head.header("Content-Length"), head.header("Accept-Ranges")) == (200, "100000", "bytes")
    assert get(proxy, mxc, headers={"If-None-Match": whole.header("ETag")}).status == 304


def test_a_range_of_a_running_upload(proxy):
    mxc = create(proxy)
    upload = LiveUpload(proxy, mxc, 1000)
    upload.send(b"x" * 500)
    part = get(proxy, mxc, headers={"Range": "bytes=100-199"})
    assert (part.status, part.header("Content-Range"), part.body) == (206, "bytes 100-199/1000", b"x" * 100)
    assert upload.finish(b"x" * 500).status == 200


# ---- Requests as they were sent ----

PATHS = [
    "/_matrix/media/v3/download/example.org/abc/a%2Fb%2fc.txt",
    "/_matrix/media/v3/download/example.org/abc/..%2F..%2Fx",
    "/_matrix/media/v3/download/example.org/abc/%2e%2e",
    "/_matrix/media/v3/download/example.org/abc//x//",
    "/_matrix/client/v1/media/download/example.org/abc/%C3%BCber%20%E2%82%AC%F0%9F%8E%9E.mp4?timeout_ms=20000&a=b;c=%2F&d=a+b",
    "/_matrix/media/v3/download/example.org:8448/abc/%25%3F%23%41%7e~!$&'()*+,;=:@?x",
    "/_matrix/media/v3/upload/example.org/abc?filename=a%2Fb%26c%3D%C3%A9",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_arrives_as_it_was_sent(recorded, path):
    proxy, _, sluice = recorded
    assert request(proxy, "GET", path).status == 200
    assert sluice.targets()[-1] == path


def test_nobody_can_claim_an_address(recorded):
    proxy, _, sluice = recorded
    forged = {"X-Forwarded-For": "198.51.100.7, 198.51.100.8", "x-forwarded-for": "198.51.100.9"}
    assert request(proxy, "GET", "/_matrix/media/v3/config", headers=forged, source="127.0.0.77").status == 200
    assert sluice.fields("x-forwarded-for") == ["127.0.0.77"]


def test_sluice_logs_the_real_address(proxy, sluice):
    mxc = store(proxy, b"x")
    get(proxy, mxc, headers={"X-Forwarded-For": "198.51.100.7"}, source="127.0.0.78")
    wait_until(lambda: re.search(rf" 127\.0\.0\.78 GET \S+ 200 .* {mxc}$", sluice.log(), re.MULTILINE), "its line in the log")
    assert "198.51.100.7" not in sluice.log()


def test_the_host_is_passed_on(recorded):
    proxy, _, sluice = recorded
    assert request(proxy, "GET", "/_matrix/media/v3/config", host="media.example.org").status == 200
    assert sluice.fields("host") == ["media.example.org"]


def test_connections_to_sluice_are_kept(recorded):
    proxy, _, sluice = recorded
    assert request(proxy, "GET", "/_matrix/media/v3/config").status == 200
    assert "close" not in sluice.fields("connection")
    assert sluice.heads[-1][0].endswith(" HTTP/1.1")


# ---- Who answers ----

NEW, OLD = "x" * 32, "x" * 24
TO_SYNAPSE = ["/_matrix/client/versions", "/_matrix/client/v3/sync?since=/_matrix/media/", "/_matrix/client/v1/rooms/x",
              "/_matrix/federation/v1/version", "/_matrix/key/v2/server", "/_synapse/client/pick_idp"]
TO_SLUICE = ["/_matrix/media/v1/create", "/_matrix/media/v3/upload", f"/_matrix/media/v3/upload/example.org/{NEW}",
             "/_matrix/media/unstable/fi.mau.msc2246/create", f"/_matrix/media/unstable/fi.mau.msc2246/upload/example.org/{NEW}",
             "/_matrix/media/r0/upload?filename=x", "/_matrix/media/v3/config", "/_matrix/client/v1/media/config",
             f"/_matrix/client/v1/media/download/example.org/{NEW}", "/_sluice/demo",
             f"/_matrix/client/v1/media/download/example.org/{NEW}/a%2Fb.txt?timeout_ms=1",
             f"/_matrix/media/r0/download/example.org/{NEW}?timeout_ms=1",
             f"/_matrix/client/v1/media/thumbnail/example.org/{NEW}?width=1&height=1"]
OLD_MEDIA = [f"/_matrix/client/v1/media/download/example.org/{OLD}", f"/_matrix/media/v3/thumbnail/example.org/{OLD}",
             f"/_matrix/client/v1/media/download/elsewhere.org/{NEW}", "/_matrix/client/v1/media/preview_url?url=x"]
FEDERATED_OLD = f"/_matrix/federation/v1/media/download/{OLD}"
FEDERATED_NEW = f"/_matrix/federation/v1/media/download/{NEW}"


def who_answers(proxy, paths):
    return {path: request(proxy, "GET", path).json()["who"] for path in paths}


def test_all_media_goes_to_sluice(recorded):
    proxy = recorded[0]
    assert set(who_answers(proxy, TO_SYNAPSE + [FEDERATED_OLD, FEDERATED_NEW]).values()) == {"synapse"}
    assert set(who_answers(proxy, TO_SLUICE + OLD_MEDIA).values()) == {"sluice"}


def test_only_new_media_goes_to_sluice_if_wished(recorded_new_media):
    proxy = recorded_new_media[0]
    answered = who_answers(proxy, TO_SYNAPSE + OLD_MEDIA + [FEDERATED_OLD])
    assert set(answered.values()) == {"synapse"}, answered
    answered = who_answers(proxy, TO_SLUICE + [FEDERATED_NEW])
    assert set(answered.values()) == {"sluice"}, answered


# A site that has the snippet: what it was, but for media.


def all_media_too(text):
    return replaced(text, r"# (\| media/)", r"\1")


@pytest.mark.parametrize("change", [None, all_media_too], ids=["new media", "all media"])
def test_a_site_with_the_snippet_sends_only_media_to_sluice(change, tmp_path):
    with recorders("snippet", tmp_path, change) as servers:
        proxy, synapse, sluice = servers
        assert set(who_answers(proxy, TO_SYNAPSE + [FEDERATED_OLD]).values()) == {"synapse"}
        assert set(who_answers(proxy, TO_SLUICE + [FEDERATED_NEW]).values()) == {"sluice"}
        assert set(who_answers(proxy, OLD_MEDIA).values()) == {"sluice" if change else "synapse"}
        assert set(who_answers(proxy, ["/", "/.well-known/matrix/client", "/_synapse/admin/v1/x"]).values()) == {"site"}
        assert sluice.targets() == TO_SLUICE + [FEDERATED_NEW] + (OLD_MEDIA if change else [])  # as the client sent them
        assert sluice.fields("x-forwarded-for") == ["127.0.0.1"]


def test_the_snippet_lets_nothing_more_through_to_synapse(tmp_path):
    def without(text):
        return replaced(text, r'^location ~ "\(\?x\)[\s\S]*?^\}', "")

    reached = []
    for name, change in (("before", without), ("new", None), ("all", all_media_too)):
        with recorders("snippet", tmp_path / name, change) as (proxy, synapse, _):
            for path in HIDDEN:
                status_of(proxy, path)
            reached.append(set(synapse.targets()))
    assert reached[0] >= reached[1] >= reached[2] and reached[0], reached


@pytest.mark.parametrize("kind", [*KINDS, "snippet"])
def test_with_new_media_the_thumbnails_of_synapse_stay_its_own(kind, tmp_path):
    with recorders(kind, tmp_path, None if kind == "snippet" else new_media_only) as (proxy, synapse, sluice):
        new, old = (f"/_matrix/client/v1/media/thumbnail/example.org/{media_id}?width=1" for media_id in (NEW, OLD))
        assert set(who_answers(proxy, [new, old])) == {new, old}
        assert sluice.targets() == [new]
        assert synapse.targets() == [old]


def test_the_rest_is_synapses(proxy):
    response = request(proxy, "GET", "/_matrix/client/versions", token=None)
    assert response.status == 200 and "v1.11" in response.json()["versions"]


# What is Synapse's alone, and what looks like it or like something else before or after a server decodes it.
HIDDEN = ["/", "/_synapse/admin/v1/server_version", "/_synapse/metrics", "/_synapse", "/_synapse/", "/_Synapse/Client/x",
          "/_synapse/metrics/../../_matrix/x", "/_synapse/metrics/%2e%2e/%2E%2E/_matrix/x", "/_synapse/metrics/..%2f..%2f_matrix%2fx",
          "/_synapse/admin/v1/registration_tokens/..%2f..%2f..%2f..%2f_matrix%2fx",
          "/_synapse/admin/v1/registration_tokens/..%2f..%2f..%2f..%2f_matrix%2fmedia%2fx",
          "/_synapse/admin/../client/x", "/_synapse/admin/..%2fclient/x", "/%5fsynapse/metrics", "/%5Fsynapse/admin/../client/x",
          "/_synapse%2fmetrics", "//_synapse/metrics", "//_synapse/metrics/../../_matrix/x", "///_synapse/client/../metrics",
          "/./_synapse/metrics", "/x/../_synapse/metrics", "/_matrix/../_synapse/admin/v1/server_version",
          "/_matrix/%2e%2e/_synapse/metrics", "/_matrix/..%2f_synapse/admin/v1/server_version", "/_synapse/client/../metrics",
          "/_synapse/client/%2e%2e/admin/v1/server_version", "/_matrix/media/../../_synapse/metrics",
          "/_sluice/../_synapse/metrics", "/_synapse/metrics?/_matrix/x", "/_synapse/metrics?x=/../../_matrix/x",
          "/_synapse/metrics#/../../_matrix/x", "http://localhost/_synapse/metrics",
          "http://localhost/_synapse/metrics/../../_matrix/x", "/\\_synapse/metrics/../../_matrix/x"]
PUBLIC = ("/_matrix/", "/_synapse/client/")


@pytest.mark.parametrize("path", HIDDEN)
def test_what_is_nobodys_business_is_not_there(recorded, path):
    asks_in_vain(recorded, path)


def test_nor_is_it_beside_new_media(recorded_new_media):
    for path in HIDDEN:
        asks_in_vain(recorded_new_media, path)


def asks_in_vain(servers, path):
    proxy, synapse, sluice = servers
    before = len(synapse.heads), len(sluice.heads)
    status = status_of(proxy, path)
    at_synapse, at_sluice = synapse.targets()[before[0]:], sluice.targets()[before[1]:]
    assert status in (400, 404) or at_synapse or at_sluice, (path, status)
    assert all(target.startswith(PUBLIC) for target in at_synapse), (path, at_synapse)
    assert all(target.startswith(("/_matrix/", "/_sluice/")) for target in at_sluice), (path, at_sluice)


def test_synapse_does_not_answer_it(proxy):
    if proxy.kind == "snippet":
        pytest.skip("the rest of that site is an administrator's own")
    answers = {path: status_of(proxy, path) for path in HIDDEN}
    assert set(answers.values()) <= {400, 404}, answers


def status_of(proxy, path, source=None, **options):
    """The proxy's own answers are not in Matrix's form."""
    with Wire(proxy, source=source) as wire:
        headers = {"Connection": "close", **options.pop("headers", {})}
        wire.send(request_bytes("GET", path, headers=headers, **options))
        return wire.read_head().status


# ---- What is slow, and who asks for much ----

LOGIN = "/_matrix/client/v3/login"


def begin_body(proxy, path):
    """A request whose body has ten bytes, of which one is sent."""
    wire = Wire(proxy)
    wire.send(request_bytes("POST", path, headers={"Content-Length": "10"}) + b"{")
    return wire


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_body_reaches_sluice_at_once_and_synapse_when_it_is_whole(kind, tmp_path):
    if kind == "caddy" and () < caddy_version() < (2, 6, 4):
        pytest.skip("this Caddy has no request_buffers; docs/reverse-proxy.md says so")
    with recorders(kind, tmp_path, uncommented_buffers if kind == "caddy" else None) as (proxy, synapse, sluice):
        begin_body(proxy, "/_matrix/media/v3/upload")
        wait_until(lambda: "/_matrix/media/v3/upload" in sluice.targets(), "the upload to reach Sluice")
        slow = begin_body(proxy, LOGIN)
        for _ in range(5):  # while others, who came later, are served
            assert request(proxy, "POST", "/_matrix/client/v3/createRoom", body=b"{}").status == 200
        assert LOGIN not in synapse.targets()
        slow.send(b"x" * 9)
        assert slow.read_response().status == 200
        assert LOGIN in synapse.targets()


def uncommented_buffers(text):
    return replaced(text, "# (request_buffers )", r"\1")


def test_a_body_for_synapse_may_be_large(recorded):
    proxy, synapse, _ = recorded
    assert request(proxy, "POST", "/_matrix/client/v3/room_keys/keys", body=bytes(5 * MIB)).status == 200
    assert synapse.fields("content-length") == [str(5 * MIB)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_head_is_not_waited_for(kind, tmp_path):
    def sooner(text):
        return replaced(text, r"((?:client_header_timeout|read_header|timeout http-request)\s+)15s", r"\g<1>1s")

    with started(Proxy(kind, tmp_path / kind, free_port(), free_port(), sooner)) as proxy, Wire(proxy) as wire:
        wire.send(b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\n")
        while wire.socket.recv(4096):  # until the proxy has closed it
            pass


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_an_address_has_so_many_requests_at_synapse(kind, tmp_path):
    source, versions = "127.0.0.66", "/_matrix/client/versions"
    with recorders(kind, tmp_path) as (proxy, synapse, _):
        for _ in range(300):
            Wire(proxy, source=source).send(request_bytes("GET", "/_matrix/client/v3/sync"))
        wait_until(lambda: len(synapse.heads) == 300, "as many to arrive")
        assert status_of(proxy, versions, source) == 429
        assert status_of(proxy, versions, "127.0.0.67") == 200
        assert status_of(proxy, "/_matrix/media/v3/config", source) == 200
        synapse.is_released.set()
        wait_until(lambda: status_of(proxy, versions, source) == 200, "its places to be free")


# ---- The proxy's log ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_has_no_tokens(kind, tmp_path):
    def logging(text):
        if kind == "caddy":
            return text  # it logs what went wrong
        if kind == "haproxy":
            return replaced(text, "(log stderr .*) notice", r"\1 info")
        assert "put  /var/log/nginx/matrix.log matrix  in the place of  off" in text
        return replaced(text, r"^(    access_log )off;", rf"\1{tmp_path}/nginx/access.log matrix;")

    with started(Proxy(kind, tmp_path / kind, free_port(), free_port(), logging)) as proxy:
        path = "/_matrix/client/v3/sync?access_token=hidden&since=hidden?x"
        headers = {"Referer": "https://example.org/?loginToken=hidden"}
        assert status_of(proxy, path, token="hidden", headers=headers) in (502, 503)  # nobody is behind it
        log = proxy.directory / "access.log" if kind == "nginx" else proxy.log_file
        wait_until(lambda: "/_matrix/client/v3/sync" in log.read_text(), "the request in the log")
        assert "hidden" not in log.read_text()


@contextlib.contextmanager
def started(proxy):
    try:
        yield proxy.start()
    finally:
        proxy.stop()


# ---- Thumbnails ----


@pytest.mark.parametrize("kind", [*KINDS, "snippet"])
def test_thumbnails_come_through(kind, tmp_path, synapse, sluice):
    running = Proxy(kind, tmp_path / kind, synapse.port, sluice.port)
    try:
        running.start()
        mxc = store(running, TRANSPARENT_PIXEL, content_type="image/png")
        for target in (download_path(mxc, AUTHED, width=32, height=32), download_path(mxc, LEGACY, width=32, height=32)):
            response = request(running, "GET", target.replace("/download/", "/thumbnail/"))
            assert (response.status, response.body) == (200, TRANSPARENT_PIXEL), response
            assert response.header("Content-Type") == "image/png"
    finally:
        running.stop()


TRANSPARENT_PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


# ---- TLS and HTTP/2 ----


def curl(*arguments, timeout=20):
    return subprocess.run(["curl", "-sS", "--insecure", "--max-time", str(seconds(timeout)), *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory, synapse, sluice):
    """nginx as shipped, its TLS and HTTP/2 included; only the certificate is one of the test's own."""
    if b" HTTP2 " not in subprocess.run(["curl", "-V"], capture_output=True, check=True).stdout.replace(b"\n", b" "):
        pytest.skip("this curl does not speak HTTP/2")
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=matrix.example.org", "-keyout", directory / "key", "-out",
                    directory / "certificate"], check=True, capture_output=True)
    shipped = re.search(r"listen 443 (.*);", (DEPLOY / "nginx/matrix.conf").read_text())[1]

    def encrypt(text):
        return replaced(text, r"^(\s*listen \S+);", rf"\1 {shipped};\n    ssl_certificate {directory}/certificate;"
                                                     rf"\n    ssl_certificate_key {directory}/key;")

    running = Proxy("nginx", directory / "nginx", synapse.port, sluice.port, encrypt)
    yield running.start()
    running.stop()


class Curl:
    """A curl that uploads what the test writes, or downloads what the test reads; over HTTP/2."""

    def __init__(self, proxy, path, *arguments):
        self.process = subprocess.Popen(
            ["curl", "-sSN", "--insecure", "--http2", "--max-time", str(seconds(20)), "-H",
             f"Authorization: Bearer {ALICE}", *arguments, f"https://127.0.0.1:{proxy.port}{path}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

    def send(self, data):
        self.process.stdin.write(data)

    def read(self, count):
        data = b""
        while len(data) < count and (piece := self.process.stdout.read(count - len(data))):
            data += piece
        return data

    def end(self):
        """What else came, and how curl ended: 0 if the body was whole."""
        rest, _ = self.process.communicate(timeout=seconds(20))
        return rest, self.process.returncode


def test_http2_is_live_in_both_directions(with_tls, sluice):
    mxc = create(sluice)
    upload = Curl(with_tls, upload_path(mxc), "-T", "-", "-w", "%{http_version}")
    upload.send(b"first")
    reader = Curl(with_tls, download_path(mxc))
    assert reader.read(5) == b"first"
    upload.send(b"second")
    assert reader.read(6) == b"second"
    assert upload.end() == (b"{}2", 0)
    assert reader.end() == (b"", 0)


def test_http2_tells_a_broken_upload(with_tls, sluice):
    mxc = create(sluice)
    upload = LiveUpload(sluice, mxc)
    upload.send(b"half")
    reader = Curl(with_tls, download_path(mxc))
    assert reader.read(4) == b"half"
    upload.break_off()
    rest, status = reader.end()
    assert (rest, status != 0) == (b"", True)


def test_http2_refuses_before_the_body(with_tls, sluice):
    mxc = create(sluice)
    upload = Curl(with_tls, upload_path(mxc), "-T", "-", "-H", f"Content-Length: {64 * MIB}", "-w", "\n%{http_code}")
    upload.send(b"begun")
    wait_until(lambda: re.search(rf" 413 .* {mxc}$", sluice.log(), re.MULTILINE), "the refusal")
    with contextlib.suppress(BrokenPipeError):  # it has seen the answer already
        upload.send(b"more")  # curl, which waits for its standard input, now looks for an answer; the rest never comes
    begin = upload.read(1)
    body, status = (begin + upload.end()[0]).rsplit(b"\n", 1)
    assert (status, json.loads(body)["errcode"]) == (b"413", "M_TOO_LARGE")


def test_a_large_file_over_http2(with_tls, tmp_path):
    content = os.urandom(5 * MIB)
    (tmp_path / "file").write_bytes(content)
    base = f"https://127.0.0.1:{with_tls.port}"
    uploaded = curl("--http2", "-H", f"Authorization: Bearer {ALICE}", "-H", "Content-Type: video/mp4", "--data-binary",
                    f"@{tmp_path / 'file'}", f"{base}{LEGACY}/upload")
    mxc = json.loads(uploaded.stdout)["content_uri"]
    downloaded = curl("--http2", "-H", f"Authorization: Bearer {ALICE}", base + download_path(mxc))
    assert downloaded.stdout == content
