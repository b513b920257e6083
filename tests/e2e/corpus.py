# SPDX-License-Identifier: Apache-2.0
"""Pictures, videos and sounds for the thumbnailer, made by the encoders that people use, from one picture."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from video import CACHE

FOLDER = CACHE / "corpus-1"
SIZE = (1200, 900)
VIDEO_SIZE = (640, 480)
FRAMES = 12
FRAME_MS = 80


def image_module():
    return pytest.importorskip("PIL.Image", reason="python3-pil is not installed")


def drawn(size=SIZE):
    """Colours that change slowly, large shapes with sharp edges, and a darker corner: no two corners are alike."""
    image = image_module()
    from PIL import ImageDraw
    across = image.linear_gradient("L").rotate(90).resize(size)
    down = image.linear_gradient("L").resize(size)
    picture = image.merge("RGB", (across, down, image.new("L", size, 120)))
    draw = ImageDraw.Draw(picture)
    w, h = size
    draw.ellipse((w * 0.1, h * 0.15, w * 0.45, h * 0.6), fill=(220, 40, 40))
    draw.rectangle((w * 0.55, h * 0.1, w * 0.9, h * 0.4), fill=(30, 60, 200))
    draw.polygon([(w * 0.5, h * 0.95), (w * 0.95, h * 0.9), (w * 0.75, h * 0.5)], fill=(250, 230, 60))
    draw.rectangle((0, h * 0.8, w * 0.2, h), fill=(10, 30, 10))
    return picture


def transparent():
    image = image_module()
    picture = drawn().convert("RGBA")
    picture.putalpha(image.linear_gradient("L").resize(SIZE))
    return picture


def moving(count=FRAMES, size=(320, 240)):
    """Frames of an animation: the picture, and a square that goes from left to right."""
    from PIL import ImageDraw
    frames = []
    for number in range(count):
        frame = drawn(size)
        left = size[0] * number / count
        ImageDraw.Draw(frame).rectangle((left, 100, left + 20, 120), fill="white")
        frames.append(frame)
    return frames


def run(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)


def ffmpeg(*arguments):
    run("ffmpeg", "-v", "error", "-y", *arguments)


def looped_video(seconds=1):
    return ["-loop", "1", "-framerate", "12", "-t", seconds, "-i", file("source.png"), "-vf",
            f"scale={VIDEO_SIZE[0]}:{VIDEO_SIZE[1]}", "-pix_fmt", "yuv420p"]


def sound(path, *arguments):
    """Three seconds, quiet, loud, quiet."""
    ffmpeg("-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-af", "volume='if(between(t,1,2),1,0.1)':eval=frame",
           *arguments, path)


def tagged(path):
    """A JPEG with everything that cameras and editors write into it."""
    drawn().save(path, quality=90, comment=b"a secret comment")
    run("exiftool", "-q", "-overwrite_original", "-GPSLatitude=48.2", "-GPSLongitude=16.37", "-Make=Acme", "-Artist=Alice",
        "-XMP:Creator=Alice", "-IPTC:Keywords=secret", path)


def oriented(orientation):
    """Turned so that a viewer that heeds the orientation sees the picture upright."""
    image = image_module()
    transpose = {1: None, 2: image.FLIP_LEFT_RIGHT, 3: image.ROTATE_180, 4: image.FLIP_TOP_BOTTOM, 5: image.TRANSPOSE,
                 6: image.ROTATE_90, 7: image.TRANSVERSE, 8: image.ROTATE_270}[orientation]
    picture = drawn() if transpose is None else drawn().transpose(transpose)
    exif = image.Exif()
    exif[0x0112] = orientation
    return picture, exif


def save_frames(path, **options):
    frames = moving()
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, **options)


SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="900">
<rect width="1200" height="900" fill="#7f7f78"/><ellipse cx="330" cy="337" rx="210" ry="202" fill="#dc2828"/>
<rect x="660" y="90" width="420" height="270" fill="#1e3cc8"/></svg>"""

# Name: how to make it at a path.
RECIPES = {
    "source.png": lambda path: drawn().save(path),
    "alpha.png": lambda path: transparent().save(path),
    "opaque-alpha.png": lambda path: drawn().convert("RGBA").save(path),
    "palette.png": lambda path: drawn().quantize(200).save(path),
    "grey.png": lambda path: drawn().convert("L").save(path),
    "deep.png": lambda path: run("convert", file("source.png"), "-depth", "16", path),
    "photo.jpg": lambda path: drawn().save(path, quality=90),
    "progressive.jpg": lambda path: drawn().save(path, quality=90, progressive=True),
    "grey.jpg": lambda path: drawn().convert("L").save(path, quality=90),
    "cmyk.jpg": lambda path: drawn().convert("CMYK").save(path, quality=90),
    "tagged.jpg": tagged,
    "still.gif": lambda path: drawn().quantize(200).save(path),
    "still.webp": lambda path: run("cwebp", "-quiet", "-q", "90", file("source.png"), "-o", path),
    "lossless.webp": lambda path: run("cwebp", "-quiet", "-lossless", "-z", "1", file("source.png"), "-o", path),
    "alpha.webp": lambda path: transparent().save(path, quality=90),
    "picture.avif": lambda path: run("avifenc", "-s", "9", file("source.png"), path),
    "picture.heic": lambda path: run("heif-enc", "-q", "80", file("source.png"), "-o", path),
    "picture.jxl": lambda path: run("cjxl", "-e", "3", file("source.png"), path),
    "picture.tiff": lambda path: drawn().save(path, compression="tiff_lzw"),
    "picture.bmp": lambda path: drawn().save(path),
    "small.png": lambda path: drawn((120, 90)).save(path),
    "small.jpg": lambda path: drawn((120, 90)).save(path, quality=90),
    "small.avif": lambda path: run("avifenc", "-s", "9", file("small.png"), path),
    "moving.gif": save_frames,
    "moving.webp": lambda path: save_frames(path, quality=90),
    "moving.png": lambda path: save_frames(path),
    "drawing.svg": lambda path: Path(path).write_text(SVG, encoding="ascii"),
    "page.pdf": lambda path: drawn().save(path, resolution=144),
    "video.mp4": lambda path: ffmpeg(*looped_video(), "-c:v", "libx264", "-preset", "veryfast", path),
    "hevc.mp4": lambda path: ffmpeg(*looped_video(), "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
                                    "log-level=none", path),
    "video.mov": lambda path: ffmpeg("-i", file("video.mp4"), "-c", "copy", path),
    "turned.mp4": lambda path: ffmpeg("-i", file("video.mp4"), "-c", "copy", "-metadata:s:v:0", "rotate=90", path),
    "wide-pixels.mp4": lambda path: ffmpeg(*looped_video(), "-aspect", "16:9", "-c:v", "libx264", "-preset", "veryfast",
                                           path),
    "vp8.webm": lambda path: ffmpeg(*looped_video(), "-c:v", "libvpx", "-b:v", "2M", path),
    "vp9.mkv": lambda path: ffmpeg(*looped_video(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "2M", path),
    "theora.ogv": lambda path: ffmpeg(*looped_video(), "-c:v", "libtheora", "-q:v", "8", path),
    "mpeg.ts": lambda path: ffmpeg(*looped_video(), "-c:v", "mpeg2video", "-b:v", "4M", path),
    "black-first.mp4": lambda path: ffmpeg(
        "-f", "lavfi", "-i", f"color=black:s={VIDEO_SIZE[0]}x{VIDEO_SIZE[1]}:d=1:r=12", "-i", file("video.mp4"),
        "-filter_complex", "[1]setsar=1[v];[0]setsar=1[b];[b][v]concat", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", path),
    "sound.mp3": sound,
    "sound.flac": sound,
    "sound.wav": sound,
    "sound.aac": sound,
    "sound.m4a": sound,
    "sound.ogg": lambda path: sound(path, "-c:a", "libvorbis"),
    "sound.opus": lambda path: sound(path, "-c:a", "libopus"),
    "cover.mp3": lambda path: ffmpeg("-i", file("sound.mp3"), "-i", file("photo.jpg"), "-map", "0", "-map", "1", "-c",
                                     "copy", "-disposition:v", "attached_pic", path),
}


def file(name):
    """Made at its first use and kept."""
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with open(FOLDER / f"{name}.lock", "w", encoding="ascii") as lock:  # workers of one run must not make it twice
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                draft = path.with_name(f"draft-{name}")
                RECIPES[name](draft)
                draft.rename(path)
    return path
