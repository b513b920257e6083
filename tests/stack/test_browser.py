# SPDX-License-Identifier: Apache-2.0
"""Chromium: a video that plays while it is uploaded, and requests from another origin."""

import json
import re
import threading
import time

import pytest
from browsing import chromium, other_origin, tabs, video_file  # noqa: F401  (fixtures)
from browsing import COLOURS, FORMATS, TIMEOUT_MS, VIDEO_SECONDS, keep_figures, needs_chromium, try_to_run
from client import AUTHED, LiveUpload, create, download_path, put
from harness import seconds, wait_until

COLOUR_TOLERANCE = 25

pytestmark = needs_chromium


# ---- a video that is still being uploaded ----


class PacedUpload:
    """Uploads in a thread, so much a second as the video has. It does not come to its end before it is let."""

    SLICES_PER_SECOND = 20
    HELD_AT = 0.8

    def __init__(self, stack, mxc, data, token, content_type, is_chunked=False):
        self.upload = LiveUpload(stack, mxc, length=None if is_chunked else len(data), token=token,
                                 content_type=content_type)
        self.data = data
        self.sent = 0
        self.began_at = self.ended_at = None  # seconds of the epoch, which the browser knows too
        self.status = None
        self.may_end = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        count = VIDEO_SECONDS * self.SLICES_PER_SECOND
        self.began_at = time.time()
        for number in range(count):
            end = len(self.data) * (number + 1) // count
            self.upload.send(self.data[self.sent:end])
            self.sent = end
            if number + 1 == int(count * self.HELD_AT):
                self.may_end.wait(seconds(60))
            time.sleep(max(0.0, self.began_at + (number + 1) / self.SLICES_PER_SECOND - time.time()))
        self.ended_at = time.time()
        self.status = self.upload.finish().status

    def wait_part(self, part):
        wait_until(lambda: self.sent >= part * len(self.data), f"{part:.0%} of the upload")

    def finish(self):
        self.may_end.set()
        self.thread.join(seconds(20))
        assert self.status == 200
        return self.ended_at - self.began_at


def shows(frame, second):
    __tracebackhide__ = True
    expected = COLOURS[second]
    off = max(abs(have - want) for have, want in zip(frame["colour"], expected))
    assert off <= COLOUR_TOLERANCE, f"{frame['colour']} instead of {expected} at {frame['mediaTime']:.2f} s"
    assert frame["width"] == 640


def ranges(responses, url):
    """(status, first byte asked for) of every response for that address."""
    asked = [(response.status, response.request.headers.get("range", "")) for response in responses
             if response.url == url]
    return [(status, int(match.group(1)) if (match := re.match(r"bytes=(\d+)-", field)) else 0)
            for status, field in asked]


@pytest.mark.parametrize("form", ["webm", "mp4"])
def test_a_video_plays_and_is_sought_while_it_is_uploaded(stack, tabs, other_origin, video_file, form):
    user, content_type, data = stack.user("brenda"), FORMATS[form][0], video_file(form)
    mxc = create(stack, token=user.access_token)
    page = tabs.open(f"{other_origin}/player.html")
    responses = []
    page.on("response", lambda response: responses.append(response))
    address = stack.url + download_path(mxc, AUTHED, access_token=user.access_token)
    page.evaluate("address => openVideo('early', address, 'auto', true)", address)
    stack.sluice.wait_stalled(1)

    upload = PacedUpload(stack, mxc, data, user.access_token, content_type)
    frame = page.evaluate("limit => firstFrame('early', limit)", TIMEOUT_MS)  # the upload is not let end before
    first_frame = frame["shownAt"] / 1000 - upload.began_at
    shows(frame, 0)

    # Who comes late may look at what has arrived before: the browser asks for that part.
    upload.wait_part(0.7)
    late = address + "&late"
    page.evaluate("address => openVideo('late', address, 'metadata', false)", late)
    shows(page.evaluate("limit => firstFrame('late', limit)", TIMEOUT_MS), 0)
    shows(page.evaluate("limit => seek('late', 3.5, limit)", TIMEOUT_MS), 3)
    served = ranges(responses, late)
    assert any(status == 206 and first > len(data) // 4 for status, first in served), served

    duration = upload.finish()
    for name in ("early", "late"):
        for time_sought, second in ((5.8, 5), (1.5, 1)):
            frame = page.evaluate("([name, time, limit]) => seek(name, time, limit)", [name, time_sought, TIMEOUT_MS])
            shows(frame, second)
    keep_figures(f"video, {form}", {"bytes": len(data), "upload_seconds": round(duration, 2),
                                    "first_frame_seconds": round(first_frame, 2)})


def test_a_video_of_unknown_length_plays_while_it_is_uploaded(stack, tabs, other_origin, video_file):
    """Without a length there are no ranges while it runs; once it is stored there are."""
    user, data = stack.user("brenda"), video_file("webm")
    mxc = create(stack, token=user.access_token)
    page = tabs.open(f"{other_origin}/player.html")
    address = stack.url + download_path(mxc, AUTHED, access_token=user.access_token)
    page.evaluate("address => openVideo('early', address, 'auto', true)", address)
    stack.sluice.wait_stalled(1)
    upload = PacedUpload(stack, mxc, data, user.access_token, "video/webm", is_chunked=True)
    shows(page.evaluate("limit => firstFrame('early', limit)", TIMEOUT_MS), 0)  # the upload is not let end before
    upload.finish()
    page.evaluate("address => openVideo('again', address, 'metadata', false)", address + "&again")
    shows(page.evaluate("limit => seek('again', 5.8, limit)", TIMEOUT_MS), 5)


def test_an_mp4_with_its_index_at_the_end_shows_nothing_before_it(stack, tabs, other_origin, video_file):
    """Why senders should put the index in front (faststart): the browser asks for the end, which is not there yet."""
    user, data = stack.user("brenda"), video_file("late-index.mp4")
    mxc = create(stack, token=user.access_token)
    page = tabs.open(f"{other_origin}/player.html")
    address = stack.url + download_path(mxc, AUTHED, access_token=user.access_token)
    responses = []
    page.on("response", lambda response: responses.append(response))
    upload = LiveUpload(stack, mxc, length=len(data), token=user.access_token, content_type="video/mp4")
    half = len(data) // 2
    upload.send(data[:half])
    page.evaluate("address => openVideo('early', address, 'auto', true)", address)
    wait_until(lambda: page.evaluate("videos.early.networkState") == 2 and
               any(first > half for _, first in ranges(responses, address)), "a request for the end of the file")
    assert page.evaluate("videos.early.readyState") == 0
    assert upload.finish(data[half:]).status == 200
    shows(page.evaluate("limit => firstFrame('early', limit)", TIMEOUT_MS), 0)


# ---- another origin ----

CROSS_ORIGIN = """async ({base, token, content}) => {
    const headers = {Authorization: `Bearer ${token}`};
    const told = {};
    const ask = async (name, path, options) => {
        const response = await fetch(base + path, {...options, headers: {...headers, ...options?.headers}});
        told[name] = {status: response.status, body: await response.text(), headers: Object.fromEntries(response.headers)};
        return told[name];
    };
    const json = {'Content-Type': 'application/json'};
    const creation = {method: 'POST', body: '{}', headers: json};
    const created = JSON.parse((await ask('create', '/_matrix/media/v1/create', creation)).body);
    const id = created.content_uri.slice('mxc://'.length);
    const type = {'Content-Type': 'text/plain'};
    await ask('put', `/_matrix/media/v3/upload/${id}?filename=a.txt`, {method: 'PUT', body: content, headers: type});
    await ask('again', `/_matrix/media/v3/upload/${id}`, {method: 'PUT', body: content, headers: type});
    const post = {method: 'POST', body: content, headers: type};
    const posted = JSON.parse((await ask('post', '/_matrix/media/v3/upload?filename=b.txt', post)).body);
    const download = '/_matrix/client/v1/media/download/';
    await ask('get', download + id);
    await ask('posted', download + posted.content_uri.slice('mxc://'.length));
    await ask('range', download + id, {headers: {Range: 'bytes=2-5'}});
    await ask('resume', download + id, {headers: {Range: 'bytes=2-', 'If-Range': told.get.headers.etag}});
    await ask('kept', download + id, {cache: 'no-store', headers: {'If-None-Match': told.get.headers.etag}});
    await ask('head', download + id, {method: 'HEAD'});
    await ask('outside', download + id, {cache: 'no-store', headers: {Range: 'bytes=1000-'}});
    await ask('missing', download + id.replace(/[^/]*$/, 'nosuchmedia'));
    await ask('refused', download + id, {cache: 'no-store', headers: {Authorization: 'Bearer wrong'}});
    await ask('limits', '/_matrix/client/v1/media/config');
    return told;
}"""


def test_a_page_of_another_origin_uploads_and_downloads(stack, tabs, other_origin):
    """Every request has a field that asks for a preflight. What a client has to read is exposed."""
    user, content = stack.user("brenda"), "Grüße from elsewhere"
    page = tabs.open(f"{other_origin}/player.html")
    preflights = stack.sluice.metric("sluice_requests_total", status="204")
    told = page.evaluate(CROSS_ORIGIN, {"base": stack.url, "token": user.access_token, "content": content})
    assert stack.sluice.metric("sluice_requests_total", status="204") > preflights

    raw = content.encode()
    statuses = {name: answer["status"] for name, answer in told.items()}
    assert statuses == {"create": 200, "put": 200, "again": 409, "post": 200, "get": 200, "posted": 200, "range": 206,
                        "resume": 206, "kept": 304, "head": 200, "outside": 416, "missing": 404, "refused": 401,
                        "limits": 200}
    assert told["get"]["body"] == told["posted"]["body"] == content
    assert told["range"]["body"] == raw[2:6].decode()
    assert told["resume"]["body"].encode() == raw[2:]
    for name, errcode in (("again", "M_CANNOT_OVERWRITE_MEDIA"), ("missing", "M_NOT_FOUND"),
                          ("refused", "M_UNKNOWN_TOKEN")):
        assert json.loads(told[name]["body"])["errcode"] == errcode
    headers = told["get"]["headers"]
    assert headers["content-disposition"] == 'inline; filename="a.txt"'
    assert headers["content-length"] == str(len(raw))
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"]
    assert told["range"]["headers"]["content-range"] == f"bytes 2-5/{len(raw)}"
    assert told["outside"]["headers"]["content-range"] == f"bytes */{len(raw)}"
    assert told["head"]["headers"]["content-length"] == str(len(raw))


def test_a_page_of_another_origin_reads_a_refusal_and_when_to_come_again(start_sluice, stack, tabs, other_origin):
    sluice = start_sluice(uploads={"create_rate": {"per_second": 0.001, "burst": 1}})
    page = tabs.open(f"{other_origin}/player.html")
    answers = page.evaluate("""async ({base, token}) => {
        const ask = () => fetch(base + '/_matrix/media/v1/create', {
            method: 'POST', headers: {Authorization: `Bearer ${token}`}});
        await ask();
        const response = await ask();
        return [response.status, response.headers.get('Retry-After'), (await response.json()).errcode];
    }""", {"base": sluice.url, "token": stack.user("brenda").access_token})
    assert answers[0] == 429 and answers[2] == "M_LIMIT_EXCEEDED"
    assert int(answers[1]) > 0


def test_a_page_of_another_origin_reads_a_live_download(stack, tabs, other_origin):
    """The bytes come to the page's script while the upload runs, and a broken upload is an error there."""
    user = stack.user("brenda")
    page = tabs.open(f"{other_origin}/player.html")
    mxc = create(stack, token=user.access_token)
    page.evaluate("""({address, token}) => {
        window.came = 0;
        window.end = null;
        const read = async () => {
            const response = await fetch(address, {headers: {Authorization: `Bearer ${token}`}});
            for (const reader = response.body.getReader(); ;) {
                const {done, value} = await reader.read();
                if (done) return 'whole';
                window.came += value.length;
            }
        };
        read().catch((error) => error.name).then((end) => { window.end = end; });
    }""", {"address": stack.url + download_path(mxc, AUTHED), "token": user.access_token})
    upload = LiveUpload(stack, mxc, length=20000, token=user.access_token)
    upload.send(bytes(10000))
    page.wait_for_function("window.came === 10000")
    assert page.evaluate("window.end") is None
    upload.break_off()
    page.wait_for_function("window.end !== null")
    assert page.evaluate("window.end") == "TypeError"


def test_a_page_of_another_origin_does_not_run_media(stack, tabs, other_origin):
    """Whoever finds a way to name a script's address may not name an upload; it can be read and opened as ever."""
    user = stack.user("brenda")
    mxc = create(stack, token=user.access_token)
    put(stack, mxc, b"self.hasRun = true;", token=user.access_token, content_type="text/javascript")
    page = tabs.open(f"{other_origin}/player.html")
    address = stack.url + download_path(mxc, AUTHED, access_token=user.access_token)
    ways = ["import", "script", "style", "object"]
    assert try_to_run(page, address, ways) == {"fetch": 200, "hasRun": False, **dict.fromkeys(ways, "refused")}

    text = create(stack, token=user.access_token)
    put(stack, text, b"to be read", token=user.access_token, content_type="text/plain")
    address = stack.url + download_path(text, AUTHED, access_token=user.access_token)
    with page.expect_response(address) as framed:
        page.evaluate("address => { document.body.append(Object.assign(document.createElement('iframe'), {src: address})); }",
                      address)
    assert framed.value.status == 200
    page.goto(address)
    assert page.inner_text("body") == "to be read"
