# SPDX-License-Identifier: Apache-2.0
"""A Matrix media client with nothing between the test and the bytes: sockets, and a small strict HTTP/1.1 reader."""

import contextlib
import json
import re
import select
import socket
import struct
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

from harness import ALICE, seconds, wait_until

AUTHED = "/_matrix/client/v1/media"
LEGACY = "/_matrix/media/v3"


class Closed(Exception):
    """The server closed the connection where a response should have begun."""


class BrokenBody(Exception):
    """The body ended before its framing said so. `body` is what came of it."""

    def __init__(self, body, reason):
        super().__init__(f"body broken after {len(body)} bytes: {reason}")
        self.body = body


@dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: list
    body: bytes = b""
    seconds: float = field(default=0.0, compare=False)  # from the request's last byte to the response's last

    def header(self, name, default=None):
        values = self.all_headers(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else default

    def all_headers(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)

    @property
    def errcode(self):
        return self.json()["errcode"]

    def is_error(self, status, errcode):
        """Asserts a standard error response. Source: client-server API, "Standard error response"."""
        __tracebackhide__ = True
        assert (self.status, self.body and self.errcode) == (status, errcode), self
        return self


class Wire:
    """One connection. Every wire of a test is closed when the test ends."""

    open_wires = set()

    def __init__(self, server, source=None, receive_buffer=None):
        address = server if isinstance(server, tuple) else server.address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(seconds(20))
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.buffer = b""
        Wire.open_wires.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Ways to send and to end

    def send(self, data):
        self.socket.sendall(data)

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        Wire.open_wires.discard(self)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads here
        self.socket.close()

    def reset(self):
        """Ends with an RST, as a client that crashed or lost its network."""
        Wire.open_wires.discard(self)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Reading

    def receive(self):
        """Some bytes; b"" at the end. ConnectionResetError passes through."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.socket.recv(1 << 18)

    def is_silent(self, for_seconds=0.0):
        """True if the server neither sent anything nor closed."""
        return not self.buffer and not select.select([self.socket], [], [], for_seconds)[0]

    def ends(self, timeout=10):
        """Reads what still comes and returns True when the server closes (or resets) within the time."""
        self.socket.settimeout(seconds(timeout))
        try:
            while self.receive():
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def _line(self):
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a line ends in a bare LF: {line!r}"
        return line[:-1]

    def read_head(self):
        """The next response head, 1xx included."""
        try:
            line = self._line()
        except (EOFError, ConnectionError) as error:
            raise Closed(repr(error)) from None
        match = re.fullmatch(rb"(HTTP/1\.[01]) (\d{3}) ?([\x20-\x7e]*)", line)
        assert match, f"not a status line: {line!r}"
        headers = []
        while line := self._line():
            assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\x20-\x7e\t]*", line), f"not a header: {line!r}"
            name, value = line.decode("ascii").split(":", 1)
            headers.append((name, value.strip()))
        return Response(match[1].decode(), int(match[2]), match[3].decode(), headers)

    def body_pieces(self, head, method="GET"):
        """Yields the body as it arrives; BrokenBody (with an empty body) if it ends too early."""
        if method == "HEAD" or head.status < 200 or head.status in (204, 304):
            return
        try:
            encoding = head.header("Transfer-Encoding")
            length = head.header("Content-Length")
            assert not (encoding and length), f"two framings: {head}"
            if encoding:
                assert encoding.lower() == "chunked", head
                yield from self._chunks()
            elif length is not None:
                left = int(length)
                while left:
                    data = self.receive()
                    if not data:
                        raise BrokenBody(b"", f"{left} bytes missing")
                    piece, self.buffer = data[:left], data[left:]
                    left -= len(piece)
                    yield piece
            else:
                assert (head.header("Connection") or "").lower() == "close" or head.version == "HTTP/1.0", head
                while data := self.receive():
                    yield data
        except (ConnectionError, EOFError) as error:
            raise BrokenBody(b"", repr(error)) from None

    def _chunks(self):
        while True:
            left = int(self._line().split(b";")[0], 16)
            if left == 0:
                while self._line():
                    pass
                return
            while left:
                data = self.receive()
                if not data:
                    raise EOFError("inside a chunk")
                piece, self.buffer = data[:left], data[left:]
                left -= len(piece)
                yield piece
            assert self._line() == b"", "a chunk does not end in CRLF"

    def read_response(self, method="GET"):
        """The next final response, whole. Raises Closed or BrokenBody."""
        head = self.read_head()
        while head.status < 200:
            head = self.read_head()
        pieces = []
        try:
            for piece in self.body_pieces(head, method):
                pieces.append(piece)
        except BrokenBody as error:
            raise BrokenBody(b"".join(pieces), str(error)) from None
        head.body = b"".join(pieces)
        check_error_form(head, method)
        return head

    def exchange(self, method, target, **options):
        self.send(request_bytes(method, target, **options))
        return self.read_response(method)


def check_error_form(response, method):
    """Every error is JSON with errcode and error."""
    if response.status < 400 or method == "HEAD":
        return
    assert (response.header("Content-Type") or "").startswith("application/json"), response
    told = response.json()
    assert isinstance(told["errcode"], str) and isinstance(told["error"], str), response


def request_bytes(method, target, token=ALICE, headers=(), body=None, host="localhost", version="1.1"):
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(body, sizes=(1, 7, 4096, 65536)):
    """The body in chunks of the given sizes in turn, with the last chunk."""
    parts, at, turn = [], 0, 0
    while at < len(body):
        piece = body[at:at + sizes[turn % len(sizes)]]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at, turn = at + len(piece), turn + 1
    return b"".join(parts) + b"0\r\n\r\n"


def request(server, method, target, source=None, **options):
    """One request on a connection of its own."""
    headers = {"Connection": "close", **options.pop("headers", {})}
    with Wire(server, source=source) as wire:
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an early answer is still there to read
            wire.send(request_bytes(method, target, headers=headers, **options))
        response = wire.read_response(method)
        response.seconds = time.monotonic() - began
        return response


# Matrix's words

def split_mxc(mxc):
    match = re.fullmatch(r"mxc://([^/]+)/([^/]+)", mxc)
    assert match, f"not an MXC URI: {mxc!r}"
    return match.groups()


def query_of(parameters):
    return "?" + urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote) if parameters else ""


def download_path(mxc, family=AUTHED, name=None, **query):
    server_name, media_id = split_mxc(mxc)
    tail = "/" + urllib.parse.quote(name, safe="") if name is not None else ""
    return f"{family}/download/{server_name}/{media_id}{tail}{query_of(query)}"


def upload_path(mxc, family=LEGACY, **query):
    server_name, media_id = split_mxc(mxc)
    if family.endswith("/r0"):
        return f"{family}/upload/{media_id}{query_of(query)}"
    return f"{family}/upload/{server_name}/{media_id}{query_of(query)}"


def create(server, token=ALICE, path="/_matrix/media/v1/create", **options):
    """Creates an MXC URI and returns it."""
    response = request(server, "POST", path, token=token, **options)
    assert response.status == 200, response
    return response.json()["content_uri"]


def put(server, mxc, body, token=ALICE, content_type=None, filename=None, family=LEGACY, is_chunked=False,
        headers=None):
    headers = dict(headers or {})
    if content_type is not None:
        headers["Content-Type"] = content_type
    query = {} if filename is None else {"filename": filename}
    target = upload_path(mxc, family, **query)
    if not is_chunked:
        return request(server, "PUT", target, token=token, headers=headers, body=body)
    with Wire(server) as wire:
        head = request_bytes("PUT", target, token=token, headers={**headers, "Transfer-Encoding": "chunked"})
        wire.send(head + chunked(body))
        return wire.read_response()


def store(server, body, **options):
    """A new MXC URI with content."""
    mxc = create(server, token=options.get("token", ALICE))
    response = put(server, mxc, body, **options)
    assert (response.status, response.json()) == (200, {}), response
    return mxc


def get(server, mxc, method="GET", token=ALICE, headers=None, family=AUTHED, name=None, source=None, **query):
    return request(server, method, download_path(mxc, family, name, **query), token=token, headers=headers or {},
                   source=source)


class LiveUpload:
    """A PUT whose body the test sends slice by slice. `length` None sends it chunked."""

    def __init__(self, server, mxc, length=None, content_type=None, filename=None, token=ALICE, family=LEGACY):
        headers = {}
        if content_type:
            headers["Content-Type"] = content_type
        if length is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(length)
        self.length = length
        self.wire = Wire(server)
        query = {} if filename is None else {"filename": filename}
        self.wire.send(request_bytes("PUT", upload_path(mxc, family, **query), token=token, headers=headers))

    def send(self, data):
        self.wire.send(data if self.length is not None else b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self, data=b""):
        """Sends the rest, ends the body and returns the response."""
        if data:
            self.send(data)
        if self.length is None:
            self.wire.send(b"0\r\n\r\n")
        response = self.wire.read_response()
        self.wire.close()
        return response

    def break_off(self, reset=True):
        if reset:
            self.wire.reset()
        else:
            self.wire.close()


class Reader:
    """A download in a thread of its own that notes when each byte arrived."""

    def __init__(self, server, mxc, method="GET", token=ALICE, headers=None, family=AUTHED, version="1.1",
                 source=None, receive_buffer=None, **query):
        self.head = None
        self.body = bytearray()
        self.arrivals = []  # (monotonic time, bytes so far)
        self.broken = None  # why the body is not whole
        self.failure = None  # anything else that went wrong
        self.done = threading.Event()
        self.wire = Wire(server, source=source, receive_buffer=receive_buffer)
        self.began = time.monotonic()
        self.ended = None
        self.wire.send(request_bytes(method, download_path(mxc, family, **query), token=token,
                                     headers=headers or {}, version=version))
        self.thread = threading.Thread(target=self._read, args=(method,), daemon=True)
        self.thread.start()

    def _read(self, method):
        try:
            self.head = self.wire.read_head()
            for piece in self.wire.body_pieces(self.head, method):
                self.body += piece
                self.arrivals.append((time.monotonic(), len(self.body)))
        except BrokenBody as error:
            self.broken = str(error)
        except (Closed, OSError, ValueError, AssertionError) as error:
            self.failure = error
        self.ended = time.monotonic()
        self.done.set()

    def wait_head(self, timeout=10):
        wait_until(lambda: self.head or self.done.is_set(), "a response head", timeout)
        assert self.head, f"no response: {self.failure!r}"
        return self.head

    def wait_bytes(self, count, timeout=10):
        """Waits until at least `count` bytes of the body are there; returns the body so far."""
        wait_until(lambda: len(self.body) >= count or self.done.is_set(), f"{count} bytes ({len(self.body)} came)",
                   timeout)
        assert len(self.body) >= count, f"only {len(self.body)} of {count}: {self.broken or self.failure}"
        return bytes(self.body)

    def wait_end(self, timeout=20):
        """Waits for the end, whole or broken."""
        assert self.done.wait(seconds(timeout)), f"the download does not end; {len(self.body)} bytes came"
        if self.failure:
            raise self.failure
        return self

    def whole(self, timeout=20):
        """The body; fails unless it ended by its framing."""
        self.wait_end(timeout)
        assert self.broken is None, self.broken
        return bytes(self.body)

    @property
    def response(self):
        return Response(self.head.version, self.head.status, self.head.reason, self.head.headers, bytes(self.body))

    @property
    def waits(self):
        return self.head is None and not self.done.is_set()

    def close(self):
        self.wire.close()
        self.thread.join(seconds(5))


def in_parallel(count, action):
    """Runs action(0) to action(count - 1) at the same time; returns their results, or raises the first exception."""
    barrier = threading.Barrier(count)
    results, errors = [None] * count, []

    def run(index):
        barrier.wait()
        try:
            results[index] = action(index)
        except Exception as error:  # handed to the caller
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def close_everything():
    for wire in list(Wire.open_wires):
        wire.close()
