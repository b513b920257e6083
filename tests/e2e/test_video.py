# SPDX-License-Identifier: Apache-2.0
"""The demonstration as a test: a real video is uploaded at its own pace while a real decoder plays the download."""

import subprocess
import time

import pytest

import video
from client import AUTHED, LiveUpload, create, download_path, get
from harness import ALICE, BINARY, SLOWDOWN, clean_environment

pytestmark = [pytest.mark.slow(10), pytest.mark.skipif(not video.has_ffmpeg(), reason="ffmpeg is not installed")]


def plays_while_it_uploads(player, began, uploaded):
    first = player.arrivals[0] - began
    duration = uploaded - began
    # With the encoder's own delays a picture is there after a second or so; stored first, it would be after them all.
    assert first < min(duration / 2, 4 * SLOWDOWN), f"first frame after {first:.1f} s of {duration:.1f} s of upload"
    before_the_end = sum(at < uploaded for at in player.arrivals)
    assert before_the_end > len(player.arrivals) / 2, f"only {before_the_end} frames came during the upload"


def test_a_video_plays_while_it_is_uploaded(server):
    """Of declared length. `-seekable 0`: a player that seeks to the end for the duration would have to wait for it."""
    file = video.encoded_video()
    data, frames = file.read_bytes(), video.frames_of(file)
    mxc = create(server)
    player = video.Player(server.url + download_path(mxc, AUTHED), ALICE, "-seekable", "0")
    server.wait_stalled(1)
    upload = LiveUpload(server, mxc, length=len(data), content_type="video/mp2t", filename="camera.ts")
    began = time.monotonic()
    for piece in video.slices_at_own_pace(data):
        upload.send(piece)
    uploaded = time.monotonic()
    assert upload.finish().status == 200
    assert player.finish() == frames
    plays_while_it_uploads(player, began, uploaded)
    assert get(server, mxc).body == data


def test_a_video_of_unknown_length_plays_from_a_pipe(server):
    """`sluice put -` as the uploader, a player with its own habits."""
    file = video.encoded_video()
    data, frames = file.read_bytes(), video.frames_of(file)
    uploader = subprocess.Popen([str(BINARY), "put", "-", "--server", server.url, "--token", ALICE],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                env=clean_environment())
    try:
        mxc = uploader.stdout.readline().decode().split()[-1]
        player = video.Player(server.url + download_path(mxc, AUTHED), ALICE)
        server.wait_stalled(1)
        began = time.monotonic()
        for piece in video.slices_at_own_pace(data):
            while piece:
                piece = piece[uploader.stdin.write(piece):]
        uploaded = time.monotonic()
        uploader.stdin.close()
        uploader.stdin = None
        _, errors = uploader.communicate(timeout=20 * SLOWDOWN)
        assert uploader.returncode == 0, errors
        assert player.finish() == frames
        plays_while_it_uploads(player, began, uploaded)
    finally:
        if uploader.poll() is None:
            uploader.kill()
        uploader.wait()
