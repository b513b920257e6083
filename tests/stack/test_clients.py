# SPDX-License-Identifier: Apache-2.0
"""Client libraries that nobody here wrote use Sluice as they would any homeserver. See docs/clients.md."""

import contextlib
import dataclasses
import hashlib
import os
import re
import threading
import urllib.parse
import uuid

import pytest
from client import LiveUpload, Reader, create, get, put
from clients.driver import KINDS, Client, Failed, reason_left_out
from harness import Server, wait_until
from proxies import Proxy
from stack import sluice_beside

MIB = 1 << 20
BIG = 50 * MIB
TEXT = "Grüße aus Köln, 你好, שלום, \U0001f600\r\n\0 and a NUL\n".encode() * 100
NAMES = [
    "plain.txt", "Zażółć gęślą jaźń.txt", "文書 ファイル.pdf", "\U0001f468\u200d\U0001f469\u200d\U0001f467.png",
    "שלום עולם.txt", "with \"quotes\" and 'more'.txt", "100% + ?&#=;,@.txt", "%41%2e%2E.txt", "../../etc/x", "a\\b.txt",
    " leading and trailing ", "no extension", "n" * 200 + ".bin",
]
UNKNOWN = "mxc://stack.test/nobodyhasthis"


def kinds_that(condition):
    """Parameters: a client that could not be built here is a skipped test that says why."""
    def marks(kind):
        reason = reason_left_out(kind)
        return [pytest.mark.skip(reason=reason)] if reason else []

    return [pytest.param(kind, marks=marks(kind)) for kind, facts in KINDS.items() if condition(facts)]


ALL = kinds_that(lambda facts: True)
ASYNC = kinds_that(lambda facts: facts.is_async)
PERSISTENT = kinds_that(lambda facts: facts.retries)


class Clients:
    """Running clients of one server, each kind a user of its own; started when they are wanted."""

    def __init__(self, url, stack, **options):
        self.url = url
        self.stack = stack
        self.options = options
        self.running = {}

    def user(self, kind):
        return self.stack.user("client_" + kind.replace("-", "_"))

    def another(self, kind, user=None, **options):
        return Client(kind, self.url, user or self.user(kind), **{**self.options, **options})

    def __getitem__(self, kind):
        if kind not in self.running or not self.running[kind].is_usable:
            self.close(kind)
            self.running[kind] = self.another(kind)
        return self.running[kind]

    def close(self, kind):
        if kind in self.running:
            self.running.pop(kind).close()

    def close_all(self):
        for kind in list(self.running):
            self.close(kind)


@pytest.fixture(scope="module")
def clients(stack):
    """As applications have them: what a library does by itself when something fails, it does."""
    running = Clients(stack.url, stack)
    yield running
    running.close_all()


@dataclasses.dataclass(frozen=True)
class Strict:
    sluice: Server
    proxy: Proxy
    clients: Clients


@pytest.fixture(scope="module")
def strict(stack, tmp_path_factory):
    """A second Sluice beside the same Synapse, behind a second nginx: small limits, no patience, no cache of tokens."""
    directory = tmp_path_factory.mktemp("strict")
    with contextlib.ExitStack() as at_the_end:  # the last comes first, and all of them whatever one of them finds
        sluice = sluice_beside(stack.synapse, directory / "sluice", downloads={"default_wait": "300ms"},
                               uploads={"max_size": "1MiB", "max_pending_per_user": 2},
                               auth={"cache_age": "0s", "refusal_cache_age": "0s"})
        at_the_end.callback(sluice.discard)
        at_the_end.callback(sluice.stop)
        at_the_end.callback(sluice.check_clean)
        proxy = Proxy("nginx", directory / "nginx", stack.synapse.port, sluice.port)
        at_the_end.callback(proxy.stop)
        running = Clients(proxy.start().url, stack, retries=False)
        at_the_end.callback(running.close_all)
        yield Strict(sluice, proxy, running)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def written(path, content):
    path.write_bytes(content)
    return path


def name_in(response):
    """The file name as the response gives it: filename* before filename. None if there is neither."""
    header = response.header("Content-Disposition")
    if extended := re.search(r"filename\*=UTF-8''([^;]*)", header):
        return urllib.parse.unquote(extended[1], errors="strict")
    plain = re.search(r'filename="([^"\\]*)"', header)
    return plain and plain[1]


@pytest.fixture
def other(stack):
    """Somebody who uploads and downloads by hand, so that the test decides when each byte goes."""
    return stack.user("by_hand")


@pytest.fixture
def newcomer(stack):
    """A user of this test alone: what a failed test leaves pending takes no place of another's few."""
    return stack.user(f"newcomer_{uuid.uuid4().hex[:8]}")


# Whole files

@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("content, content_type", [
    (TEXT, "text/plain; charset=utf-8"), (bytes(range(256)) * 1000, "application/octet-stream"), (b"", "text/plain"),
    (b'{"errcode": "M_NOT_AN_ERROR", "error": "a file"}', "application/json"), (b"\x89PNG\r\n\x1a\n", "image/png"),
], ids=["text", "binary", "empty", "json", "png"])
def test_a_file_comes_back(stack, clients, kind, other, content, content_type, tmp_path):
    client = clients[kind]
    source = written(tmp_path / "source", content)
    if kind == "bot-sdk" and not content:
        with pytest.raises(Failed, match="Argument error, options.body"):  # its HTTP library sends no empty body
            client.do("upload", file=source, name="file.bin", type=content_type)
        return
    mxc = client.do("upload", file=source, name="file.bin", type=content_type)["mxc"]
    stored = get(stack, mxc, token=other.access_token)
    assert (stored.status, stored.body) == (200, content)
    bare_type = content_type.partition(";")[0]
    assert stored.header("Content-Type") == (content_type if client.facts.keeps_parameters else bare_type)
    told = client.do("download", mxc=mxc, to=tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    if "type" in client.facts.shows:
        assert told["type"].partition(";")[0] == bare_type
    if "name" in client.facts.shows:
        assert told["name"] == "file.bin"


@pytest.mark.parametrize("kind", ALL)
def test_file_names_survive(stack, clients, kind, other, tmp_path):
    client = clients[kind]
    source = written(tmp_path / "source", b"x")
    for name in NAMES:
        mxc = client.do("upload", file=source, name=name, type="text/plain")["mxc"]
        assert name_in(get(stack, mxc, token=other.access_token)) == (name if client.facts.keeps_name else None)
        told = client.do("download", mxc=mxc, to=tmp_path / "copy")
        if "name" in client.facts.shows:
            assert told["name"] == name


def test_everybody_downloads_what_everybody_uploaded(clients, tmp_path):
    kinds = [kind for kind in KINDS if not reason_left_out(kind)]
    sources = [written(tmp_path / "text", TEXT), written(tmp_path / "binary", os.urandom(200_001)),
               written(tmp_path / "empty", b"")]
    uploaded = [(uploader, source, clients[uploader].do("upload", file=source, name="x", type="image/x")["mxc"])
                for uploader in kinds for source in sources if (uploader, source.name) != ("bot-sdk", "empty")]
    for kind in kinds:
        for uploader, source, mxc in uploaded:
            clients[kind].do("download", mxc=mxc, to=tmp_path / "copy")
            assert sha256(tmp_path / "copy") == sha256(source), f"{kind} got another file than {uploader} sent"


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "file"
    with open(path, "wb") as file:
        for _ in range(BIG // MIB):
            file.write(os.urandom(MIB))
    yield path
    path.unlink()


@pytest.mark.parametrize("kind", ALL)
def test_a_big_file(clients, kind, big_file, tmp_path):
    copy = tmp_path / "copy"
    mxc = clients[kind].do("upload", timeout=60, file=big_file, name="big.bin", type="application/octet-stream")["mxc"]
    clients[kind].do("download", timeout=60, mxc=mxc, to=copy)
    assert sha256(copy) == sha256(big_file)
    copy.unlink()


@pytest.mark.parametrize("kind", kinds_that(lambda facts: facts.knows_limit))
def test_the_limit_is_known(strict, kind):
    assert strict.clients[kind].do("config") == {"max": MIB}


# Created first, filled later

@pytest.mark.parametrize("kind", ASYNC)
def test_created_and_filled(stack, clients, kind, other, tmp_path):
    client = clients[kind]
    source = written(tmp_path / "source", os.urandom(100_000))
    mxc = client.do("create")["mxc"]
    get(stack, mxc, token=other.access_token, timeout_ms=0).is_error(504, "M_NOT_YET_UPLOADED")
    told = client.do("fill", mxc=mxc, file=source, name="später.bin", type="image/png")
    stored = get(stack, mxc, token=other.access_token)
    assert (stored.body, stored.header("Content-Type")) == (source.read_bytes(), "image/png")
    assert name_in(stored) == ("später.bin" if client.facts.keeps_name else None)
    # One of them takes the specification's {} for an error.
    assert told == ({"complaint": "`content_uri` not in response."} if kind == "mautrix-python" else {})


@pytest.mark.parametrize("uploader", ASYNC)
@pytest.mark.parametrize("downloader", ALL)
def test_a_download_waits_for_another_clients_upload(stack, clients, uploader, downloader, tmp_path):
    source = written(tmp_path / "source", os.urandom(100_000))
    mxc = clients[uploader].do("create")["mxc"]
    with clients.another(downloader) as reader:
        reader.begin("download", mxc=mxc, to=tmp_path / "copy")
        stack.sluice.wait_stalled(1)
        clients[uploader].do("fill", mxc=mxc, file=source, name="x", type="image/png")
        reader.answer()
    assert sha256(tmp_path / "copy") == sha256(source)


# Live

@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "unknown"])
@pytest.mark.parametrize("kind", ALL)
def test_a_download_is_live(stack, clients, kind, other, is_declared, tmp_path):
    content = os.urandom(2 * MIB)
    mxc = create(stack, token=other.access_token)
    upload = LiveUpload(stack, mxc, length=len(content) if is_declared else None, token=other.access_token,
                        content_type="video/mp4")
    upload.send(content[:MIB])
    client = clients[kind]
    client.begin("download", mxc=mxc, to=tmp_path / "copy")
    stack.sluice.wait_metric("sluice_live_followers", 1)
    if client.facts.streams:
        client.wait_event("first_byte")
    assert stack.sluice.metric("sluice_uploads_running") == 1
    assert upload.finish(content[MIB:]).status == 200
    told = client.answer()
    assert (tmp_path / "copy").read_bytes() == content
    if "type" in client.facts.shows:
        assert told["type"] == "video/mp4"
    stack.sluice.wait_metric("sluice_live_followers", 0)


@pytest.mark.parametrize("kind", ALL)
def test_a_download_begins_before_its_upload(stack, clients, kind, other, tmp_path):
    content = os.urandom(MIB)
    mxc = create(stack, token=other.access_token)
    client = clients[kind]
    client.begin("download", mxc=mxc, to=tmp_path / "copy")
    stack.sluice.wait_stalled(1)
    upload = LiveUpload(stack, mxc, length=len(content), token=other.access_token)
    upload.send(content[:MIB // 2])
    stack.sluice.wait_stalled(0)
    stack.sluice.wait_metric("sluice_live_followers", 1)
    if client.facts.streams:
        client.wait_event("first_byte")
    assert upload.finish(content[MIB // 2:]).status == 200
    client.answer()
    assert (tmp_path / "copy").read_bytes() == content


@pytest.mark.parametrize("kind", kinds_that(lambda facts: facts.streams_uploads))
def test_an_upload_is_live(stack, clients, kind, other, tmp_path):
    """The client sends what it does not have yet, as a bridge that takes a file from another network."""
    content = os.urandom(2 * MIB)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    half_is_there = threading.Event()

    def write():
        with open(pipe, "wb", buffering=0) as source:
            for part in (content[:MIB], content[MIB:]):
                for start in range(0, MIB, 1 << 16):
                    source.write(part[start:start + (1 << 16)])
                half_is_there.wait(20)

    client = clients[kind]
    mxc = client.do("create")["mxc"]
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    client.begin("fill", mxc=mxc, file=pipe, name="x", type="video/mp4")
    reader = Reader(stack, mxc, token=other.access_token)
    reader.wait_bytes(MIB)
    assert stack.sluice.metric("sluice_uploads_running") == 1
    half_is_there.set()
    client.answer()
    writer.join()
    assert reader.whole() == content


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "unknown"])
@pytest.mark.parametrize("kind", ALL)
def test_a_broken_upload_is_an_error_and_no_short_file(stack, clients, kind, other, is_declared, tmp_path):
    content = os.urandom(MIB)
    mxc = create(stack, token=other.access_token)
    upload = LiveUpload(stack, mxc, length=2 * MIB if is_declared else None, token=other.access_token)
    upload.send(content)
    client = clients[kind]
    client.begin("download", mxc=mxc, to=tmp_path / "copy")
    stack.sluice.wait_metric("sluice_live_followers", 1)
    if client.facts.streams:
        client.wait_event("first_byte")
    upload.break_off()
    with pytest.raises(Failed):
        client.answer()
    assert put(stack, mxc, content, token=other.access_token).status == 200
    client.do("download", mxc=mxc, to=tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content, "the next attempt is another file, and whole"


# Refusals

def refused(client, status, errcode, do, **fields):
    """The client shows this refusal; it may keep the errcode of a download to itself."""
    with pytest.raises(Failed) as failed:
        client.do(do, **fields)
    shown = errcode if do != "download" or client.facts.tells_errcode else None
    assert (failed.value.status, failed.value.errcode) == (status, shown), failed.value


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [MIB + 1, 20 * MIB])
def test_too_large(strict, kind, size, tmp_path):
    """20 MiB are more than what fits into all buffers on the way: the refusal arrives while the client still sends."""
    client = strict.clients[kind]
    upload = {"do": "upload", "file": written(tmp_path / "source", bytes(size)), "name": "x", "type": "text/plain"}
    before = strict.sluice.metric("sluice_received_bytes_total")
    if kind == "rust-sdk":  # asks for the limit first, and refuses by itself
        with pytest.raises(Failed, match=f"Maximum upload length is {MIB} bytes, tried to upload {size} bytes"):
            client.do(**upload)
    else:
        refused(client, 413, "M_TOO_LARGE", **upload)
    assert strict.sluice.metric("sluice_received_bytes_total") - before < MIB, "refused before its body was taken"
    (tmp_path / "source").unlink()


@pytest.mark.parametrize("kind", ASYNC)
def test_filled_with_too_much(strict, newcomer, kind, tmp_path):
    source = written(tmp_path / "source", bytes(20 * MIB))
    with strict.clients.another(kind, newcomer) as client:
        mxc = client.do("create")["mxc"]
        refused(client, 413, "M_TOO_LARGE", "fill", mxc=mxc, file=source, name="x", type="text/plain")
    source.unlink()
    assert put(strict.proxy, mxc, b"x", token=newcomer.access_token).status == 200, "the id is still free"


@pytest.mark.parametrize("kind", ALL)
def test_unknown_media(strict, kind, tmp_path):
    refused(strict.clients[kind], 404, "M_NOT_FOUND", "download", mxc=UNKNOWN, to=tmp_path / "copy")


@pytest.mark.parametrize("kind", ALL)
def test_a_token_that_is_no_longer_known(stack, strict, kind, tmp_path):
    user = strict.clients.user(kind)
    session = stack.synapse.login(user)
    user = dataclasses.replace(user, access_token=session["access_token"], device_id=session["device_id"])
    upload = {"do": "upload", "file": written(tmp_path / "source", b"x"), "name": "x", "type": "text/plain"}
    with Client(kind, strict.proxy.url, user, retries=False) as client:
        download = {"do": "download", "mxc": client.do(**upload)["mxc"], "to": tmp_path / "copy"}
        client.do(**download)
        stack.synapse.call("POST", "/_matrix/client/v3/logout", token=user.access_token, body={})
        refused(client, 401, "M_UNKNOWN_TOKEN", **upload)
        refused(client, 401, "M_UNKNOWN_TOKEN", **download)


@pytest.mark.parametrize("kind", ASYNC)
def test_filled_twice(strict, newcomer, kind, tmp_path):
    with strict.clients.another(kind, newcomer) as client:
        fill = {"do": "fill", "file": written(tmp_path / "source", b"x"), "name": "x", "type": "text/plain",
                "mxc": client.do("create")["mxc"]}
        client.do(**fill)
        refused(client, 409, "M_CANNOT_OVERWRITE_MEDIA", **fill)


@pytest.mark.parametrize("kind", ASYNC)
def test_too_many_pending(strict, newcomer, kind):
    with strict.clients.another(kind, newcomer) as client:
        pending = [client.do("create")["mxc"] for _ in range(2)]
        refused(client, 429, "M_LIMIT_EXCEEDED", "create")
        assert put(strict.proxy, pending[0], b"x", token=newcomer.access_token).status == 200
        client.do("create")


def refusals(strict, errcode):
    return strict.sluice.metric("sluice_refusals_total", errcode=errcode)


@pytest.mark.parametrize("kind", PERSISTENT)
def test_whoever_has_too_many_pending_soon_tries_again(strict, newcomer, kind):
    """An id may be filled at any moment, so a client that obeys Retry-After must not be sent away for long."""
    token = newcomer.access_token
    pending = [create(strict.proxy, token=token) for _ in range(2)]
    before = refusals(strict, "M_LIMIT_EXCEEDED")
    with strict.clients.another(kind, newcomer, retries=True) as client:
        client.begin("create")
        wait_until(lambda: refusals(strict, "M_LIMIT_EXCEEDED") > before, "a refusal")
        assert put(strict.proxy, pending[0], b"x", token=token).status == 200
        client.answer(timeout=8)


@pytest.mark.parametrize("kind", ALL)
def test_never_uploaded(strict, newcomer, kind, tmp_path):
    mxc = create(strict.proxy, token=newcomer.access_token)
    refused(strict.clients[kind], 504, "M_NOT_YET_UPLOADED", "download", mxc=mxc, to=tmp_path / "copy")


@pytest.mark.parametrize("kind", PERSISTENT)
def test_not_yet_uploaded_is_asked_again(strict, newcomer, kind, tmp_path):
    mxc = create(strict.proxy, token=newcomer.access_token)
    before = refusals(strict, "M_NOT_YET_UPLOADED")
    with strict.clients.another(kind, retries=True) as client:
        client.begin("download", mxc=mxc, to=tmp_path / "copy")
        wait_until(lambda: refusals(strict, "M_NOT_YET_UPLOADED") > before, "a refusal")
        assert put(strict.proxy, mxc, b"late", token=newcomer.access_token).status == 200
        client.answer()
    assert (tmp_path / "copy").read_bytes() == b"late"


# Oddities that are the client's own, as docs/clients.md has them: a new version that drops one shows here

def test_mautrix_python_makes_an_object_of_an_empty_json_file(stack, clients, other, tmp_path):
    source = written(tmp_path / "source", b"")
    mxc = clients["mautrix-python"].do("upload", file=source, name="x.json", type="application/json")["mxc"]
    assert get(stack, mxc, token=other.access_token).body == b"{}"


def test_nio_leaves_the_part_that_came(stack, clients, other, tmp_path):
    mxc = create(stack, token=other.access_token)
    upload = LiveUpload(stack, mxc, length=2 * MIB, token=other.access_token)
    upload.send(bytes(MIB))
    client = clients["nio"]
    client.begin("download", mxc=mxc, to=tmp_path / "copy")
    client.wait_event("first_byte")
    upload.break_off()
    with pytest.raises(Failed, match="ClientPayloadError"):
        client.answer()
    assert 0 < (tmp_path / "copy").stat().st_size <= MIB
    put(stack, mxc, b"x", token=other.access_token)


def test_nio_keeps_json_in_memory(clients, tmp_path):
    source = written(tmp_path / "source", b"[]")
    mxc = clients["nio"].do("upload", file=source, name="x", type="application/json")["mxc"]
    assert clients["nio"].do("download", mxc=mxc, to=tmp_path / "copy")["in_memory"]


def test_bot_sdk_sends_an_empty_name_when_there_is_none(stack, clients, other, tmp_path):
    source = written(tmp_path / "source", b"x")
    mxc = clients["bot-sdk"].do("upload", file=source, type="text/plain")["mxc"]
    assert get(stack, mxc, token=other.access_token).header("Content-Disposition") == "inline"


def test_js_sdk_encodes_file_names_twice_in_a_browser(stack, clients, other, tmp_path):
    source = written(tmp_path / "source", b"x")
    with clients.another("js-sdk", environment={"LIKE_A_BROWSER": "1"}) as client:
        mxc = client.do("upload", file=source, name="Zażółć 100%.txt", type="text/plain")["mxc"]
    assert name_in(get(stack, mxc, token=other.access_token)) == urllib.parse.quote("Zażółć 100%.txt")
