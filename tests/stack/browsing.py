# SPDX-License-Identifier: Apache-2.0
"""What the tests with a browser share: Chromium itself, its tabs, a video, and a place for measured times."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest
from harness import SLOWDOWN
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # A name that is not loopback for the browser: pages from there are no secure context.
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
]
TIMEOUT_MS = 20000 * SLOWDOWN

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
