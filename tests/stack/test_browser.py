# SPDX-License-Identifier: Apache-2.0
"""Chromium: a video that plays while it is uploaded, the demo page, and requests from another origin.

Screenshots of the demo page go to the folder that STACK_SCREENSHOTS names. STACK_FIGURES names a JSON file that the
measured times are written into.
"""

import base64
import fcntl
import functools
import http.server
import json
import os
import random
import re
import shutil
import struct
import subprocess
import threading
import time
import urllib.parse
import zlib
from pathlib import Path

import pytest
from client import AUTHED, LiveUpload, create, download_path, get, put
from harness import SLOWDOWN, seconds, wait_until
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # A name that is not loopback for the browser: pages from there are no secure context.
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
]
PAGES = Path(__file__).resolve().parent / "browser"
DEMO = "/_sluice/demo"
TIMEOUT_MS = 20000 * SLOWDOWN
SLOW_BYTES_PER_SECOND = 120_000  # so that there is time to look; set free when it has been looked at
UNICODE_NAME = "Ferien – été 海 🏖.bin"

# Each second of the video has a colour of its own, so that a picture tells where in the video it is.
COLOURS = [(190, 60, 60), (60, 190, 60), (60, 60, 190), (190, 190, 60), (190, 60, 190), (60, 190, 190)]
COLOUR_TOLERANCE = 25
VIDEO_SECONDS = len(COLOURS)
RATE = ["-b:v", "8M", "-minrate", "8M", "-maxrate", "8M", "-bufsize", "2M", "-g", "25"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", *RATE, "-c:a", "aac"]
FORMATS = {
    "webm": ("video/webm", ["-c:v", "libvpx", *RATE, "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus",
                            "-cues_to_front", "1"]),
    "mp4": ("video/mp4", [*H264, "-movflags", "+faststart"]),
    "late-index.mp4": ("video/mp4", H264),
}

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


# ---- fixtures ----


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=TIMEOUT_MS)
        yield browser
        browser.close()


class Tabs:
    """Browser contexts of one test: each is another person's browser. What a page complains of is kept."""

    def __init__(self, browser):
        self.browser = browser
        self.contexts = []
        self.complaints = []

    def open(self, url, **options):
        context = self.browser.new_context(**{"viewport": {"width": 900, "height": 1000}, **options})
        context.set_default_timeout(TIMEOUT_MS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self._complain("error", str(error)))
        page.goto(url)
        return page

    def _complain(self, kind, text):
        # What a test provokes is told by the browser too; it is checked on the page.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(text)

    def close(self):
        for context in self.contexts:
            context.close()


@pytest.fixture
def tabs(chromium):
    opened = Tabs(chromium)
    yield opened
    opened.close()
    assert not opened.complaints


@pytest.fixture(scope="module")
def other_origin():
    """The files of browser/ from a port that is not the homeserver's."""
    handler = functools.partial(QuietHandler, directory=PAGES)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def video_file(tmp_path_factory):
    """video_file(format): about 6 MB, 6 seconds."""
    folder = tmp_path_factory.mktemp("video")

    def encode(form):
        file = folder / f"colours.{form}"
        if not file.exists():
            inputs = [argument for colour in COLOURS
                      for argument in ("-f", "lavfi", "-i", f"color=0x{bytes(colour).hex()}:s=640x360:r=25:d=1")]
            count = len(COLOURS)
            # Noise gives the encoder something to do with its bits: plain colours compress to nothing.
            graph = "".join(f"[{i}:v]" for i in range(count)) + f"concat=n={count},noise=alls=24:allf=t,format=yuv420p[v]"
            subprocess.run(["ffmpeg", "-v", "error", *inputs, "-f", "lavfi", "-i", f"sine=duration={count}",
                            "-filter_complex", graph, "-map", "[v]", "-map", f"{count}:a", *FORMATS[form][1], str(file)],
                           check=True)
        return file.read_bytes()

    return encode


@pytest.fixture
def screenshot(tmp_path):
    folder = Path(os.environ.get("STACK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", full_page=True)


def keep_figures(name, figures):
    print(f"{name}: {json.dumps(figures)}")
    if path := os.environ.get("STACK_FIGURES"):
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # other tests write there too
            file.seek(0)
            kept = json.loads(file.read() or "{}")
            kept.setdefault("browser", {})[name] = figures
            file.truncate(0)
            file.write(json.dumps(kept, indent=2) + "\n")


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
    assert first_frame < seconds(VIDEO_SECONDS / 2), f"the first frame after {first_frame:.1f} s"
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


# ---- the demo page ----


def sign_in(tabs, url, user, fragment="", **options):
    """A page of the demo with the token given as the welcome text gives it."""
    token = urllib.parse.quote(user.access_token, safe="")
    page = tabs.open(f"{url}{DEMO}#token={token}{fragment}", **options)
    wait_until(lambda: user.access_token not in page.evaluate("location.href"), "the token to leave the address")
    return page


class Uplink:
    """What the page sends goes at this pace."""

    def __init__(self, page, bytes_per_second=SLOW_BYTES_PER_SECOND):
        self.session = page.context.new_cdp_session(page)
        self.session.send("Network.enable")
        self.set(bytes_per_second)

    def set(self, bytes_per_second):
        self.session.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second})

    def free(self):
        self.set(-1)


def drop(page, name, content_type, content):
    """As a hand does it: the file comes with a drop event. Returns the link to share and the mxc URI."""
    transfer = page.evaluate_handle("""async ({name, type, base64}) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type}));
        return transfer;
    }""", {"name": name, "type": content_type, "base64": base64.b64encode(content).decode()})
    page.locator("#drop").wait_for()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    return link_of(page)


def link_of(page):
    page.locator("#share").wait_for()
    return page.input_value("#share"), page.inner_text("#mxc")


def points(page, series):
    """The points of a curve, in pixels from the upper left."""
    line = page.locator(f"#timeline polyline.{series}")
    text = line.get_attribute("points") if line.count() else ""
    return [tuple(map(float, point.split(","))) for point in text.split()]


def figures(page):
    """Label to seconds, as the page tells them."""
    labels = page.locator("#figures dt").all_inner_texts()
    values = page.locator("#figures dd").all_inner_texts()
    return {label: float(value.removesuffix(" s")) for label, value in zip(labels, values)}


def is_a_curve(page, series, at_least=4):
    line = points(page, series)
    assert len(line) >= at_least, f"{series}: {line}"
    assert line == sorted(line), f"{series} goes back in time: {line}"
    assert all(before[1] >= after[1] for before, after in zip(line, line[1:])), f"{series} loses bytes: {line}"


def saved(page):
    """What the page offers to save, and under which name."""
    page.locator("#save").wait_for()
    with page.expect_download() as download:
        page.click("#save")
    return Path(download.value.path()).read_bytes(), download.value.suggested_filename


def picture():
    """A PNG of 1.4 MB that no compression makes smaller."""
    width, height = 800, 600
    noise = random.Random(7)
    rows = b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_page_shows_both_ends_of_a_transfer(stack, tabs, screenshot):
    sender = sign_in(tabs, stack.url, stack.user("brenda"))
    link_speed = Uplink(sender)
    content = random.Random(1).randbytes(1_500_000)
    link, mxc = drop(sender, UNICODE_NAME, "application/octet-stream", content)
    assert link == f"{stack.url}{DEMO}#mxc={mxc}"

    # Somebody else, who has only the link, and a token of their own.
    reader = tabs.open(link, color_scheme="dark")
    reader.fill("#token", stack.user("carol").access_token)
    reader.click("#token-form button")
    expect(reader.locator("#receive-state")).to_contain_text("Receiving")
    wait_until(lambda: len(points(reader, "here")) > 5, "a curve")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    assert get(stack, mxc, "HEAD", token=stack.user("carol").access_token).header("Cache-Control") == "private, no-cache"
    expect(reader.locator("#save")).to_be_hidden()
    screenshot(sender, "sending-light")
    screenshot(reader, "receiving-dark")

    link_speed.free()
    expect(sender.locator("#send-state")).to_have_text(re.compile("safely stored"))
    assert saved(reader) == (content, UNICODE_NAME)
    for page, series in ((sender, ("sent", "server")), (reader, ("server", "here"))):
        for name in series:
            wait_until(lambda page=page, name=name: len(points(page, name)) > 3, f"the curve {name}")
            is_a_curve(page, name)
    told, heard = figures(sender), figures(reader)
    assert told["link made"] <= told["first byte at the server"] < told["stored by the server"]
    assert heard["first byte here"] < heard["all received"]
    screenshot(sender, "sent-light")
    screenshot(reader, "received-dark")
    assert reader.url == link
    with sender.context.expect_page() as tab:
        sender.click("#open-tab")
    assert saved(tab.value) == (content, UNICODE_NAME), "a tab that it opens has its token"
    keep_figures("demo page, binary", {"sender": told, "reader": heard})


def test_the_page_plays_a_video_while_it_is_sent(stack, tabs, video_file, screenshot):
    """The service worker adds the token to the player's requests, ranges and all."""
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user)
    link_speed = Uplink(sender, 600_000)
    data = video_file("mp4")
    sender.locator("#drop").wait_for()
    sender.set_input_files("#file", files=[{"name": "holiday.mp4", "mimeType": "video/mp4", "buffer": data}])
    link, mxc = link_of(sender)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc, viewport={"width": 412, "height": 900})
    assert reader.url == link
    requests = []
    reader.on("request", lambda request: requests.append(request))
    expect(reader.locator("#figures")).to_contain_text("first frame")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    screenshot(reader, "video-phone")
    link_speed.free()
    assert saved(reader) == (data, "holiday.mp4")
    heard = figures(reader)
    assert heard["first frame"] < heard["all received"]
    # Sought to the end, with the token still in no address.
    reader.evaluate("""() => new Promise((resolve) => {
        const video = document.querySelector('#viewer video');
        video.requestVideoFrameCallback(function look(now, {mediaTime}) {
            if (mediaTime > 5.5) resolve();
            else video.requestVideoFrameCallback(look);
        });
        video.pause();
        video.currentTime = 5.8;
    })""")
    assert requests
    assert not [request.url for request in requests if user.access_token in request.url]
    screenshot(reader, "video-phone-end")
    keep_figures("demo page, video", {"reader": heard})


def test_the_page_shows_a_text_and_a_picture_while_they_arrive(stack, tabs, screenshot):
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user, color_scheme="dark")
    link_speed = Uplink(sender)
    text = "".join(f"Zeile {number}: Grüße aus München 🥨\n" for number in range(30000))
    _, mxc = drop(sender, "Grüße.txt", "text/plain", text.encode())
    sender.click("#follow")  # in the same page: one timeline for all
    expect(sender.locator("#viewer pre")).to_contain_text("Zeile 99: Grüße aus München 🥨\n")
    expect(sender.locator("#send-state")).to_contain_text("Sending")
    screenshot(sender, "text-dark")
    link_speed.free()
    assert saved(sender) == (text.encode(), "Grüße.txt")
    for name in ("sent", "server", "here"):
        is_a_curve(sender, name, at_least=2)

    sender.click("#send-another")
    Uplink(sender).free()
    content = picture()
    _, mxc = drop(sender, "picture.png", "image/png", content)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc)
    expect(reader.locator("#figures")).to_contain_text("whole picture")
    assert reader.evaluate("document.querySelector('#viewer img').naturalWidth") == 800
    assert saved(reader) == (content, "picture.png")
    screenshot(reader, "picture-light")


def test_the_page_shows_a_cancelled_upload_as_broken(stack, tabs, screenshot):
    user = stack.user("brenda")
    sender = sign_in(tabs, stack.url, user)
    link_speed = Uplink(sender)
    content = random.Random(2).randbytes(1_500_000)
    _, mxc = drop(sender, "broken.bin", "", content)
    reader = sign_in(tabs, stack.url, user, "&mxc=" + mxc, color_scheme="dark")
    expect(reader.locator("#receive-state")).to_contain_text("Receiving")
    wait_until(lambda: len(points(reader, "here")) > 2, "a curve")
    sender.click("#cancel")
    expect(sender.locator("#send-state")).to_contain_text("You cancelled the upload")
    expect(reader.locator("#receive-state")).to_contain_text("The upload broke off after")
    expect(reader.locator("#save")).to_be_hidden()
    assert "broken off" in figures(reader)
    screenshot(sender, "cancelled-light")
    screenshot(reader, "broken-dark")

    # The id is still there to be filled, and to be waited for.
    reader.click("#receive-again")
    expect(reader.locator("#receive-state")).to_contain_text("Waiting for the upload")
    link_speed.free()
    sender.click("#send-again")
    assert saved(reader) == (content, "broken.bin")


def test_the_page_tells_what_the_server_refuses(start_sluice, stack, tabs, tmp_path, screenshot):
    sluice = start_sluice(demo=True, uploads={"max_size": "1MiB", "max_pending_per_user": 1})
    user = stack.user("brenda")
    page = tabs.open(sluice.url + DEMO)
    screenshot(page, "token-light")
    page.fill("#token", "not a token")
    page.click("#token-form button")
    expect(page.locator("#notices")).to_contain_text("M_UNKNOWN_TOKEN")
    screenshot(page, "wrong-token-light")
    page.fill("#token", user.access_token)
    page.click("#token-form button")
    expect(page.locator("#limit")).to_contain_text("1 MiB")
    expect(page.locator("#notices")).to_be_empty()

    big = tmp_path / "big.bin"
    big.write_bytes(bytes((1 << 20) + 1))
    page.set_input_files("#file", big)
    expect(page.locator("#notices")).to_contain_text("M_TOO_LARGE")
    screenshot(page, "too-large-light")

    create(sluice, token=user.access_token)  # the one that may be pending
    page.set_input_files("#file", files=[{"name": "a", "mimeType": "", "buffer": b"a"}])
    expect(page.locator("#notices")).to_contain_text("M_LIMIT_EXCEEDED")

    page.goto(f"{sluice.url}{DEMO}#mxc=mxc://{stack.server_name}/nosuchmedia")
    expect(page.locator("#receive-state")).to_contain_text("M_NOT_FOUND")
    page.goto(f"{sluice.url}{DEMO}#mxc=http://example.org/")
    expect(page.locator("#receive-state")).to_contain_text("no mxc URI")


def test_the_page_does_without_a_service_worker(stack, tabs, screenshot):
    """From an address that is no secure context: the token goes into the address of the picture, and the page says so."""
    user, content = stack.user("brenda"), picture()
    mxc = create(stack, token=user.access_token)
    put(stack, mxc, content, token=user.access_token, content_type="image/png", filename="picture.png")
    page = sign_in(tabs, stack.url.replace("127.0.0.1", "elsewhere.test"), user, "&mxc=" + mxc)
    expect(page.locator("#figures")).to_contain_text("whole picture")
    expect(page.locator("#notices")).to_contain_text("no service worker")
    assert saved(page) == (content, "picture.png")
    screenshot(page, "no-worker-light")
    assert user.access_token not in stack.sluice.log()


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
