#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the demonstration and draws it: store-and-forward beside live.

A real video is uploaded at its own pace while a real decoder (ffmpeg) waits for it at the download URL: once with
`downloads.live: false`, which is what every other server does, once with streaming. Writes docs/timeline.svg and
prints the numbers as a Markdown table.

    python3 tests/e2e/demo_timeline.py
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import video
from client import AUTHED, LiveUpload, create, download_path
from drawing import label, page
from harness import ALICE, BINARY, REPOSITORY, Server


@dataclass
class Measured:
    """Seconds since the upload began."""

    uploaded: float
    first_frame: float
    last_frame: float
    frames: int


def measure(live, folder):
    file = video.encoded_video()
    data, frames = file.read_bytes(), video.frames_of(file)
    server = Server(folder, downloads={"live": live}).start()
    try:
        mxc = create(server)
        player = video.Player(server.url + download_path(mxc, AUTHED), ALICE, "-seekable", "0")
        server.wait_stalled(1)
        upload = LiveUpload(server, mxc, length=len(data), content_type="video/mp2t")
        began = time.monotonic()
        for piece in video.slices_at_own_pace(data):
            upload.send(piece)
        response = upload.finish()
        uploaded = time.monotonic()
        assert response.status == 200, response
        assert player.finish() == frames, "the decoded frames differ from the original's"
    finally:
        server.stop()
        server.discard()
    return Measured(uploaded - began, player.arrivals[0] - began, player.arrivals[-1] - began, len(frames))


WIDTH, LEFT, RIGHT, TOP = 860, 180, 40, 92
BAR, ROW, GROUP = 22, 34, 124


def draw(stored, live, megabytes):
    longest = max(stored.last_frame, stored.uploaded, live.last_frame, live.uploaded)
    scale = (WIDTH - LEFT - RIGHT) / (longest * 1.02)
    bottom = TOP + 2 * GROUP
    height = bottom + 58

    def x(at):
        return round(LEFT + at * scale, 1)

    def bar(kind, y, start, end):
        return f'<rect class="{kind}" x="{x(start)}" y="{y}" width="{max(1.0, round((end - start) * scale, 1))}" ' \
               f'height="{BAR}" rx="4"/>'

    parts = [
        label(24, 36, "A download that begins before its upload ends", "ink title"),
        label(24, 58, f"A video of {megabytes:.0f} MB is uploaded at its own pace; a player waits at the other end. "
                      "Measured times.", "soft")]

    step = 1 if longest < 16 else 5
    for second in range(0, int(longest) + 1, step):
        parts.append(f'<line class="line" x1="{x(second)}" y1="{TOP - 8}" x2="{x(second)}" y2="{bottom - 14}"/>')
        parts.append(label(x(second), bottom + 4, f"{second} s", "soft small", "middle"))

    for number, (name, run) in enumerate((("Store and forward", stored), ("Live", live))):
        y = TOP + number * GROUP
        parts += [
            label(24, y + 10, name, "ink name"),
            label(LEFT - 14, y + ROW + 16 - 10, "upload", "soft small", "end"),
            bar("upload", y + ROW - 10, 0, run.uploaded),
            label(LEFT - 14, y + 2 * ROW + 16 - 10, "player", "soft small", "end"),
            bar("wait", y + 2 * ROW - 10, 0, run.first_frame),
            bar("play", y + 2 * ROW - 10, run.first_frame, run.last_frame)]
        at, on_the_left = x(run.first_frame), run.first_frame > longest / 2
        parts += [
            f'<line class="marked" stroke-width="2" x1="{at}" y1="{y + 4}" x2="{at}" y2="{y + 2 * ROW - 10 + BAR}"/>',
            f'<circle class="mark" cx="{at}" cy="{y + 4}" r="4"/>',
            label(at + (-10 if on_the_left else 10), y + 9, f"first frame after {run.first_frame:.1f} s", "ink name",
                  "end" if on_the_left else "start")]

    y = bottom + 34
    for kind, at, text in (("upload", LEFT, "the upload runs"), ("wait", LEFT + 170, "the player waits"),
                           ("play", LEFT + 350, "the player decodes")):
        parts.append(f'<rect class="{kind}" x="{at}" y="{y - 11}" width="22" height="13" rx="3"/>')
        parts.append(label(at + 30, y, text, "soft small"))

    title = (f"First frame after {stored.first_frame:.1f} seconds with store and forward, "
             f"after {live.first_frame:.1f} seconds live; the upload takes {live.uploaded:.1f} seconds.")
    return page(WIDTH, height, title, parts)


def table(stored, live):
    rows = [("first frame decoded", "first_frame"), ("upload acknowledged", "uploaded"),
            ("last frame decoded", "last_frame")]
    lines = ["| seconds after the upload began | store and forward | live |", "|---|---:|---:|"]
    lines += [f"| {name} | {getattr(stored, key):.2f} | {getattr(live, key):.2f} |" for name, key in rows]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/timeline.svg")
    arguments = parser.parse_args()
    if not BINARY.exists():
        sys.exit(f"no server at {BINARY}; build it with ./dev build")
    if not video.has_ffmpeg():
        sys.exit("this needs ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        stored = measure(live=False, folder=Path(folder) / "stored")
        live = measure(live=True, folder=Path(folder) / "live")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(draw(stored, live, video.encoded_video().stat().st_size / 1e6))
    print(table(stored, live))


if __name__ == "__main__":
    main()
