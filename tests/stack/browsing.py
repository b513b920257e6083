# SPDX-License-Identifier: Apache-2.0
"""What the tests with a browser share: Chromium itself, its tabs, a video, and a place for measured times."""

import fcntl
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from harness import SLOWDOWN
from playwright.sync_api import expect, sync_playwright

PAGES = Path(__file__).resolve().parent / "browser"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # A name that is not loopback for the browser: pages from there are no secure context.
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
]
TIMEOUT_MS = 20000 * SLOWDOWN
EXPECTED_COMPLAINTS = (
    "Failed to load resource",
    "The Cross-Origin-Opener-Policy header has been ignored",  # the page from an address that is no secure context
    "plugin-types",  # the specification has it in the policy of media
    "strict MIME",  # what is refused is JSON, and no script or style sheet
    "A bad HTTP response code (403) was received when fetching the script",
)

# Each second of the video has a colour of its own, so that a picture tells where in the video it is.
COLOURS = [(190, 60, 60), (60, 190, 60), (60, 60, 190), (190, 190, 60), (190, 60, 190), (60, 190, 190)]
VIDEO_SECONDS = len(COLOURS)
RATE = ["-b:v", "8M", "-minrate", "8M", "-maxrate", "8M", "-bufsize", "2M", "-g", "25"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", *RATE, "-c:a", "aac"]
FORMATS = {
    "webm": ("video/webm", ["-c:v", "libvpx", *RATE, "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus",
                            "-cues_to_front", "1"]),
    "mp4": ("video/mp4", [*H264, "-movflags", "+faststart"]),
    "late-index.mp4": ("video/mp4", H264),
}

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


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
        if kind in ("error", "warning") and not any(part in text for part in EXPECTED_COMPLAINTS):
            self.complaints.append(text)

    def close(self):
        for context in self.contexts:
            context.close()


@pytest.fixture
def tabs(chromium):
    opened = Tabs(chromium)
    yield opened
    opened.close()
    assert not opened.complaints, opened.complaints


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


RUN = """async ({address, ways, limit}) => {
    // First it is put into the browser's cache, where it may stay for a year.
    const read = await fetch(address);
    await read.text();
    const told = {fetch: read.status};
    const load = (element, name) => new Promise((resolve, reject) => {
        element.onload = resolve;
        element.onerror = reject;
        element[name] = address;
        document.body.append(element);
    });
    const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);
    const attempts = {
        import: () => import(address),
        script: () => load(make('script'), 'src'),
        style: () => load(make('link', {rel: 'stylesheet'}), 'href'),
        object: () => load(make('object'), 'data'),
        worker: () => new Promise((resolve, reject) => Object.assign(new Worker(address), {
            onmessage: resolve, onerror: reject})),
        sharedworker: () => new Promise((resolve, reject) => {
            const worker = new SharedWorker(address);
            worker.onerror = reject;
            worker.port.onmessage = resolve;
        }),
        serviceworker: () => navigator.serviceWorker.register(address),
    };
    const patience = () => new Promise((resolve) => setTimeout(resolve, limit, 'no answer'));
    for (const way of ways) {
        told[way] = await Promise.race([attempts[way]().then(() => 'loaded', () => 'refused'), patience()]);
    }
    return {...told, hasRun: window.hasRun === true};
}"""


def try_to_run(page, address, ways):
    """Reads the media at that address, then tries to have it run. What became of each way."""
    return page.evaluate(RUN, {"address": address, "ways": ways, "limit": TIMEOUT_MS})


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


def keep_figures(name, figures):
    """Measured times go to the output, and into the JSON file that STACK_FIGURES names."""
    print(f"{name}: {json.dumps(figures)}")
    if path := os.environ.get("STACK_FIGURES"):
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # other tests write there too
            file.seek(0)
            kept = json.loads(file.read() or "{}")
            kept.setdefault("browser", {})[name] = figures
            file.truncate(0)
            file.write(json.dumps(kept, indent=2) + "\n")
