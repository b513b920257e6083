# SPDX-License-Identifier: Apache-2.0
"""A real video file, an uploader that sends it at the video's own pace, and a real decoder at the other end."""

import contextlib
import fcntl
import shutil
import subprocess
import threading
import time
from pathlib import Path

from harness import REPOSITORY, seconds

CACHE = REPOSITORY / "build/e2e-cache"
SECONDS = 9
FRAMES_PER_SECOND = 25
SLICE_SECONDS = 0.05


def has_ffmpeg():
    return shutil.which("ffmpeg") is not None


def encoded_video():
    """About 27 MB of MPEG transport stream: test pictures with a sine tone. Encoded once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    file = CACHE / f"video-{SECONDS}s.ts"
    with open(CACHE / "lock", "w") as lock:  # workers of one run must not encode it twice
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            draft = file.with_suffix(".draft")
            subprocess.run(
                ["ffmpeg", "-v", "error", "-y",
                 "-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate={FRAMES_PER_SECOND}:duration={SECONDS}",
                 "-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}",
                 # Noise gives the encoder something to do with its bits: test pictures alone compress to nothing.
                 "-vf", "noise=alls=20:allf=t", "-c:v", "mpeg2video", "-b:v", "24M", "-minrate", "24M", "-maxrate",
                 "24M",
                 "-bufsize", "8M", "-g", "12", "-c:a", "mp2", "-f", "mpegts", str(draft)], check=True)
            draft.rename(file)
    return file


def frames_of(file):
    """The checksum of every decoded frame: what a download has to decode to as well."""
    listing = Path(str(file) + ".framecrc")
    if not listing.exists():
        output = subprocess.run(decoder(file), check=True, capture_output=True).stdout
        listing.write_bytes(output)
    return frame_lines(listing.read_text())


def frame_lines(text):
    return [line.split(",")[-1].strip() for line in text.splitlines() if line and not line.startswith("#")]


def decoder(source, *options):
    """ffmpeg as a player: decodes the pictures and tells each one's checksum as soon as it has it."""
    return ["ffmpeg", "-v", "error", "-threads", "1", "-probesize", "1M", "-analyzeduration", "500000", *options,
            "-i", str(source), "-map", "0:v", "-flush_packets", "1", "-f", "framecrc", "-"]


class Player:
    """Decodes a URL as it comes and notes when each frame was there."""

    def __init__(self, url, token, *options):
        self.arrivals = []
        self.lines = []
        self.process = subprocess.Popen(
            decoder(url, "-headers", f"Authorization: Bearer {token}\r\n", *options),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            if not line.startswith("#"):
                self.arrivals.append(time.monotonic())
                self.lines.append(line)

    def finish(self, timeout=30):
        """Waits for the end; returns the frames' checksums."""
        try:
            self.process.wait(seconds(timeout))
        finally:
            with contextlib.suppress(OSError):
                self.process.kill()
        self.thread.join(seconds(5))
        errors = self.process.stderr.read()
        assert self.process.returncode == 0, f"ffmpeg ended with {self.process.returncode}: {errors}"
        return frame_lines("".join(self.lines))


def slices_at_own_pace(data, duration=SECONDS):
    """Yields the file in slices, each at the moment the camera would have had it."""
    count = int(duration / SLICE_SECONDS)
    began = time.monotonic()
    for number in range(count):
        yield data[len(data) * number // count:len(data) * (number + 1) // count]
        time.sleep(max(0.0, began + (number + 1) * SLICE_SECONDS - time.monotonic()))
