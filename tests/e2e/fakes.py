# SPDX-License-Identifier: Apache-2.0
"""The others in the story: a homeserver that answers whoami as told, and a line that breaks where told."""

import contextlib
import json
import select
import socket
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHomeserver:
    """Answers GET /_matrix/client/v3/account/whoami. `asked` lists (token, user_id) in order of arrival."""

    def __init__(self):
        self.answers = {}  # token -> (status, body as JSON value or bytes)
        self.delay = threading.Event()  # an answer waits while it is `held`
        self.delay.set()
        self.asked = []
        self.paths = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake._answer(self)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a client that hung up

        self.httpd = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def knows(self, token, user, **more):
        self.answers[token] = (200, {"user_id": user, **more})

    def refuses(self, token, status, errcode, **more):
        self.answers[token] = (status, {"errcode": errcode, "error": "no", **more})

    def hold(self):
        """Answers wait until `release`."""
        self.delay.clear()

    def release(self):
        self.delay.set()

    def _answer(self, handler):
        target = urllib.parse.urlsplit(handler.path)
        user_id = urllib.parse.parse_qs(target.query).get("user_id", [None])[0]
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        self.paths.append(target.path)
        self.asked.append((token, user_id))
        self.delay.wait(30)
        answer = self.answers.get(token, (401, {"errcode": "M_UNKNOWN_TOKEN", "error": "unknown token"}))
        if callable(answer):
            answer = answer(user_id)
        status, body = answer
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

    def close(self):
        self.release()
        self.httpd.shutdown()
        self.httpd.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class BreakingLine:
    """A TCP line to a server that resets each download connection after so many bytes, as often as told.

    `cuts` lists, connection by connection, how many bytes may come back before it is cut; later ones are left alone.
    `requests` holds what clients sent, one entry per connection.
    """

    def __init__(self, address, cuts):
        self.address = address
        self.cuts = list(cuts)
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.stopping:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        seen = bytearray()
        self.requests.append(seen)
        allowance = None
        with client, socket.create_connection(self.address) as server:
            with contextlib.suppress(OSError):
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        if ready is client:
                            seen += data
                            if data.startswith(b"GET") and self.cuts:
                                allowance = self.cuts.pop(0)
                            server.sendall(data)
                            continue
                        if allowance is not None:
                            data, allowance = data[:allowance], allowance - len(data)
                        client.sendall(data)
                        if allowance is not None and allowance <= 0:
                            return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.listener.close()
