# SPDX-License-Identifier: Apache-2.0
"""`sluice-thumbnailer` alone, over its socket: what it makes of each format, of any size, and of what is no picture."""

import io
import json
import random
import re
import shutil
import statistics
import subprocess
import zlib

import pytest

import corpus
import thumbnailer
from corpus import FRAME_MS, FRAMES, VIDEO_SIZE, file
from thumbnailer import Died, Thumbnailer

Image = pytest.importorskip("PIL.Image", reason="python3-pil is not installed")
from PIL import ImageChops, ImageStat  # noqa: E402
if not thumbnailer.WORKER.exists():
    pytest.skip(f"no {thumbnailer.WORKER}", allow_module_level=True)


@pytest.fixture(scope="module")
def shared():
    running = []
    yield running
    for worker in running:
        worker.end()


@pytest.fixture
def worker(shared):
    """One for all tests of this file, so that what one job leaves behind another stumbles over. It survives every test."""
    if not shared:
        shared.append(Thumbnailer())
    yield shared[0]
    if shared[0].process.poll() is not None:
        pytest.fail(f"the worker ended with {shared.pop().end()}")


def opened(reply):
    picture = Image.open(io.BytesIO(reply.result))
    assert picture.format.lower() == reply.format
    assert picture.size == reply.size
    return picture


def difference_hash(picture):
    """64 bits, of which few differ between two versions of a picture: whether each of 8 x 8 points is brighter than the
    next."""
    small = list(picture.convert("L").resize((9, 8), Image.LANCZOS).getdata())
    return [small[9 * row + column] > small[9 * row + column + 1] for row in range(8) for column in range(8)]


def mean_difference(one, other):
    return statistics.fmean(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


def assert_alike(picture, reference, tolerance):
    """The same picture, in the same colours."""
    reference = reference.resize(picture.size, Image.LANCZOS)
    distance = sum(a != b for a, b in zip(difference_hash(picture), difference_hash(reference)))
    assert distance <= 6, f"{distance} of 64 bits differ"
    assert mean_difference(picture, reference) < tolerance


# ---- Formats ----

PICTURES = [  # file, format, the mean difference of a channel that its encoder and our sizes may make
    ("source.png", "png", 4), ("palette.png", "png", 6), ("deep.png", "png", 4), ("opaque-alpha.png", "png", 4),
    ("photo.jpg", "jpeg", 4), ("progressive.jpg", "jpeg", 4), ("still.gif", "gif", 6), ("still.webp", "webp", 5),
    ("lossless.webp", "webp", 4), ("picture.avif", "avif", 5), ("picture.heic", "heic", 5), ("picture.jxl", "jxl", 5),
    ("picture.tiff", "tiff", 4), ("picture.bmp", "bmp", 5), ("page.pdf", "pdf", 5),
]
VIDEOS = ["video.mp4", "hevc.mp4", "video.mov", "vp8.webm", "vp9.mkv", "theora.ogv", "mpeg.ts"]
SOUNDS = ["sound.mp3", "sound.flac", "sound.wav", "sound.aac", "sound.m4a", "sound.ogg", "sound.opus"]


@pytest.mark.parametrize("name, kind, tolerance", PICTURES, ids=[name for name, *_ in PICTURES])
def test_a_picture_is_scaled(worker, name, kind, tolerance):
    reply = worker.send(file(name))
    assert (reply.outcome, reply.format, reply.source_format) == ("made", "jpeg", kind)
    assert reply.size == (320, 240)
    assert_alike(opened(reply), corpus.drawn(), tolerance)


@pytest.mark.parametrize("name, kind, tolerance", PICTURES, ids=[name for name, *_ in PICTURES])
def test_a_picture_is_cropped(worker, name, kind, tolerance):
    reply = worker.send(file(name), 96, 96, "crop")
    assert (reply.outcome, reply.source_format, reply.size) == ("made", kind, (96, 96))
    assert_alike(opened(reply), corpus.drawn().crop((150, 0, 1050, 900)), tolerance + 2)


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg"])
def test_a_grey_picture_stays_grey(worker, name):
    assert_alike(opened(worker.send(file(name))), corpus.drawn().convert("L"), 4)


def test_printers_colours_are_shown_on_screens(worker):
    picture = opened(worker.send(file("cmyk.jpg")))
    assert picture.mode == "RGB"
    assert_alike(picture, corpus.drawn(), 45)  # inks are not light: alike is all that can be said


def test_colours_of_a_profile_become_srgb(worker, tmp_path):
    cms = pytest.importorskip("PIL.ImageCms")
    profile = "/usr/share/color/icc/ghostscript/a98.icc"
    if not shutil.os.path.exists(profile):
        pytest.skip("no profile of Adobe RGB here")
    wide = cms.profileToProfile(corpus.drawn(), cms.createProfile("sRGB"), profile)
    assert mean_difference(wide, corpus.drawn()) > 6, "the numbers alone would be wrong"
    for name in ("wide.png", "wide.jpg"):
        wide.save(tmp_path / name, icc_profile=open(profile, "rb").read())
        assert_alike(opened(worker.send(tmp_path / name)), corpus.drawn(), 4)


@pytest.mark.parametrize("name", ["alpha.png", "alpha.webp"])
def test_what_is_transparent_stays_so(worker, name):
    reply = worker.send(file(name))
    assert (reply.outcome, reply.format) == ("made", "png")
    picture = opened(reply)
    assert picture.mode == "RGBA"
    reference = corpus.transparent().resize(picture.size, Image.LANCZOS)
    assert mean_difference(picture.getchannel("A"), reference.getchannel("A")) < 3
    white = Image.new("RGBA", picture.size, "white")
    assert mean_difference(Image.alpha_composite(white, picture), Image.alpha_composite(white, reference)) < 6


def test_a_drawing_is_drawn(worker):
    picture = opened(worker.send(file("drawing.svg")))
    assert picture.size == (320, 240)
    for at, colour in {(10, 10): (127, 127, 120), (88, 90): (220, 40, 40), (230, 60): (30, 60, 200)}.items():
        assert all(abs(a - b) < 6 for a, b in zip(picture.getpixel(at), colour)), at


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_shows_a_frame(worker, name):
    reply = worker.send(file(name))
    assert (reply.outcome, reply.format, reply.source_format, reply.size) == ("made", "jpeg", "video", (320, 240))
    assert_alike(opened(reply), corpus.drawn(), 8)


def test_a_video_that_begins_black_shows_what_comes_then(worker):
    assert_alike(opened(worker.send(file("black-first.mp4"))), corpus.drawn(), 8)


def test_a_video_is_turned_upright(worker):
    reply = worker.send(file("turned.mp4"))
    assert (reply.source_size, reply.size) == ((480, 640), (180, 240))
    assert_alike(opened(reply), corpus.drawn().transpose(Image.ROTATE_90), 8)


def test_pixels_that_are_not_square_are_stretched(worker):
    reply = worker.send(file("wide-pixels.mp4"))
    assert reply.source_size == (853, 480)
    assert reply.size == (320, 180)


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_shows_how_loud_it_is(worker, name):
    reply = worker.send(file(name), 300, 200)
    assert (reply.outcome, reply.format, reply.source_format, reply.size) == ("made", "png", "audio", (300, 200))
    assert reply.source_size == (0, 0)
    alpha = opened(reply).getchannel("A")

    def height(left, right):
        """Of most bars: an encoder makes the moment louder in which the sound changes."""
        bars = [alpha.crop((x, 0, x + 1, 200)).getbbox() for x in range(left, right, 5)]
        return statistics.median(bar[3] - bar[1] for bar in bars)

    assert height(120, 180) > 4 * max(height(20, 80), height(220, 280))


def test_a_sound_shows_its_cover(worker):
    reply = worker.send(file("cover.mp3"))
    assert (reply.format, reply.source_format, reply.size) == ("jpeg", "audio", (320, 240))
    assert_alike(opened(reply), corpus.drawn(), 6)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(worker, tmp_path, orientation, suffix):
    picture, exif = corpus.oriented(orientation)
    picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / f"turned.{suffix}", exif=exif, quality=95)
    reply = worker.send(tmp_path / f"turned.{suffix}")
    assert (reply.outcome, reply.source_size, reply.size) == ("made", (600, 450), (320, 240))
    assert_alike(opened(reply), corpus.drawn(), 5)


def test_nothing_but_the_picture_is_left(worker):
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")

    def tags(path):
        told = subprocess.run(["exiftool", "-j", "-G", str(path)], capture_output=True, text=True, check=True)
        return {name for name in json.loads(told.stdout)[0] if name.split(":")[0] not in ("ExifTool", "SourceFile")}

    assert {"EXIF:Make", "Composite:GPSPosition", "XMP:Creator", "IPTC:Keywords"} <= tags(file("tagged.jpg"))
    for name, options in (("tagged.jpg", {}), ("alpha.png", {}), ("moving.webp", {"width": 64, "animated": True})):
        reply = worker.send(file(name), **options)
        result = corpus.FOLDER / f"result-{name}"
        result.write_bytes(reply.result)
        groups = {tag.split(":")[0] for tag in tags(result)}
        assert groups <= {"File", "JFIF", "PNG", "RIFF", "Composite"}, tags(result)
        assert b"secret" not in reply.result and b"Alice" not in reply.result
        assert not {tag for tag in tags(result) if re.search("GPS|Comment|Profile|Date|Make", tag)
                    and not tag.startswith("File:File")}


# ---- Sizes ----


def planned(method, source, asked):
    """What the specification asks for, in other words than the program's: as real numbers."""
    if method == "scale":
        factor = min(asked[0] / source[0], asked[1] / source[1], 1)
        return source[0] * factor, source[1] * factor
    factor = min(source[0] / asked[0], source[1] / asked[1], 1)
    return asked[0] * factor, asked[1] * factor


@pytest.mark.parametrize("name", ["photo.jpg", "source.png", "still.webp", "small.jpg", "picture.bmp", "video.mp4", "page.pdf",
                                  "drawing.svg", "picture.jxl"])
def test_any_size_that_is_asked_for(worker, name):
    chance = random.Random(name)
    for _ in range(12):
        asked = tuple(round(2 ** chance.uniform(3, 11)) for _ in range(2))
        method = chance.choice(["scale", "crop"])
        reply = worker.send(file(name), *asked, method)
        expected = planned(method, reply.source_size, asked)
        assert all(abs(got - wanted) < 1 for got, wanted in zip(reply.size, expected)), (asked, method, reply.size)
        if method == "crop" and all(a <= s for a, s in zip(asked, reply.source_size)):
            assert reply.size == asked
        if reply.outcome == "original":
            assert reply.size == reply.source_size
        else:
            assert reply.outcome == "made"
            opened(reply)


@pytest.mark.parametrize("name, kind", [("small.png", "png"), ("small.jpg", "jpeg"), ("moving.gif", "gif")])
def test_what_is_small_enough_is_its_own_thumbnail(worker, name, kind):
    reply = worker.send(file(name), 640, 480, animated=True)
    assert (reply.outcome, reply.format, reply.result) == ("original", kind, b"")
    assert worker.send(file(name), 100, 480, animated=True).outcome == "made"


def test_what_is_small_but_turned_is_made_anew(worker, tmp_path):
    picture, exif = corpus.oriented(6)
    picture.resize((90, 120)).save(tmp_path / "turned.jpg", exif=exif, quality=90)
    reply = worker.send(tmp_path / "turned.jpg")
    assert (reply.outcome, reply.size) == ("made", (120, 90))


def test_what_is_small_but_no_browser_shows_is_made_anew(worker, tmp_path):
    corpus.drawn((60, 40)).save(tmp_path / "small.bmp")
    reply = worker.send(tmp_path / "small.bmp")
    assert (reply.outcome, reply.format, reply.size) == ("made", "jpeg", (60, 40))


def test_what_is_small_but_of_another_aspect_is_cropped(worker):
    reply = worker.send(file("small.png"), 96 * 2, 96 * 2, "crop")
    assert (reply.outcome, reply.size) == ("made", (90, 90))


# ---- Animations ----

ANIMATIONS = [("moving.gif", "gif"), ("moving.webp", "webp"), ("moving.png", "apng")]


def frames_of(reply):
    picture = opened(reply)
    frames, times = [], []
    for number in range(picture.n_frames):
        picture.seek(number)
        picture.load()
        frames.append(picture.convert("RGB"))
        times.append(picture.info["duration"])
    return frames, times


@pytest.mark.parametrize("name, kind", ANIMATIONS)
@pytest.mark.parametrize("method, size", [("scale", (128, 96)), ("crop", (64, 64))])
def test_an_animation_stays_one(worker, name, kind, method, size):
    reply = worker.send(file(name), *(size if method == "crop" else (128, 128)), method, animated=True)
    assert (reply.outcome, reply.format, reply.source_format, reply.size) == ("made", "webp", kind, size)
    assert reply.is_animated and reply.duration_ms == FRAMES * FRAME_MS
    frames, times = frames_of(reply)
    assert times == [FRAME_MS] * FRAMES
    for frame, reference in zip(frames, corpus.moving()):
        if method == "crop":
            reference = reference.crop((40, 0, 280, 240))
        assert mean_difference(frame, reference.resize(size, Image.LANCZOS)) < 8


@pytest.mark.parametrize("name, kind", ANIMATIONS)
def test_an_animation_that_is_not_wanted_shows_its_first_frame(worker, name, kind):
    for size in ((128, 128), (640, 480)):
        reply = worker.send(file(name), *size)
        assert (reply.outcome, reply.format, reply.source_format) == ("made", "jpeg", kind)
        assert_alike(opened(reply), corpus.moving()[0], 8)


@pytest.mark.parametrize("name, kind", ANIMATIONS)
def test_frames_are_limited(worker, name, kind):
    frames, _ = frames_of(worker.send(file(name), 64, 64, animated=True, max_frames=5))
    assert len(frames) == 5
    reply = worker.send(file(name), 64, 64, animated=True, max_frames=1)
    assert (reply.outcome, reply.format, reply.source_format) == ("made", "jpeg", kind)


# ---- Descriptions ----


def blurhash(picture, across=4, down=3):
    """The algorithm of blurha.sh, written down once more."""
    import math
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"

    def based(value, length):
        return "".join(digits[value // 83 ** (length - 1 - i) % 83] for i in range(length))

    def linear(value):
        value /= 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def srgb(value):
        value = min(max(value, 0), 1)
        return int((value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055) * 255 + 0.5)

    w, h = picture.size
    pixels = [[linear(value) for value in pixel] for pixel in picture.convert("RGB").getdata()]
    factors = []
    for j in range(down):
        for i in range(across):
            weights = [math.cos(math.pi * i * x / w) * math.cos(math.pi * j * y / h) for y in range(h) for x in range(w)]
            scale = (1 if i == j == 0 else 2) / (w * h)
            factors.append([scale * sum(weight * pixel[c] for weight, pixel in zip(weights, pixels)) for c in range(3)])
    greatest = max(abs(value) for factor in factors[1:] for value in factor)
    scale = int(min(max(math.floor(greatest * 166 - 0.5), 0), 82))
    told = based(across - 1 + (down - 1) * 9, 1) + based(scale, 1)
    told += based(int.from_bytes(bytes(srgb(value) for value in factors[0]), "big"), 4)
    for factor in factors[1:]:
        number = 0
        for value in factor:
            value /= (scale + 1) / 166
            number = number * 19 + int(max(0, min(18, math.floor(math.copysign(abs(value) ** 0.5, value) * 9 + 9.5))))
        told += based(number, 2)
    return told


def test_a_description_tells_what_it_is(worker):
    reply = worker.send(file("lossless.webp"), describe=True)
    assert (reply.outcome, reply.source_format, reply.source_size) == ("described", "webp", (1200, 900))
    assert (reply.is_animated, reply.duration_ms, reply.result) == (False, 0, b"")
    # Two programs do not scale alike to the last bit: the digits that carry most must agree.
    expected = blurhash(corpus.drawn().resize((64, 48), Image.BOX))
    assert reply.blurhash[:2] == expected[:2] and len(reply.blurhash) == len(expected) == 28
    assert sum(a != b for a, b in zip(reply.blurhash, expected)) <= 6


@pytest.mark.parametrize("name, kind, animated, duration, size", [
    ("moving.gif", "gif", True, FRAMES * FRAME_MS, (320, 240)), ("moving.png", "apng", True, FRAMES * FRAME_MS, (320, 240)),
    ("video.mp4", "video", False, 1000, VIDEO_SIZE), ("sound.flac", "audio", False, 3000, (0, 0)),
    ("page.pdf", "pdf", False, 0, (600, 450)), ("alpha.png", "png", False, 0, (1200, 900)),
    ("cover.mp3", "audio", False, 3030, (0, 0))])
def test_descriptions(worker, name, kind, animated, duration, size):
    reply = worker.send(file(name), describe=True)
    assert (reply.outcome, reply.source_format, reply.is_animated) == ("described", kind, animated)
    assert reply.source_size == size and abs(reply.duration_ms - duration) <= 60
    assert len(reply.blurhash) == (0 if name == "sound.flac" else 28)


# ---- What is no picture, or means harm ----

REFUSED = {"unsupported", "broken", "too many pixels"}
ANSWERED = {"made", "original", "described", *REFUSED}


def send_safely(worker, path, **options):
    reply = worker.send(path, **options)
    assert reply.result == b"" or reply.outcome == "made"
    return reply


@pytest.mark.parametrize("content", [b"", b"\xff", b"Hello, world\n" * 100, b"P6 2 2 255 " + bytes(12), bytes(5000),
                                     b"\x7fELF" + bytes(100), b"PK\x03\x04" + bytes(100), b"<html><svg/></html>"])
def test_what_is_no_picture_is_unsupported(worker, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    reply = worker.send(tmp_path / "file")
    assert (reply.outcome, reply.source_format, reply.size, reply.result) == ("unsupported", "unknown", (0, 0), b"")


def test_an_encrypted_document_is_unsupported(worker, tmp_path):
    corpus.run("gs", "-q", "-sDEVICE=pdfwrite", "-sOwnerPassword=o", "-sUserPassword=u", "-dEncryptionR=3", "-dKeyLength=128",
               "-o", tmp_path / "locked.pdf", "-c", "showpage")
    assert worker.send(tmp_path / "locked.pdf").outcome == "unsupported"


WHOLE = [name for name, *_ in PICTURES if name != "source.png"] + ["moving.gif", "moving.webp", "moving.png", "drawing.svg",
                                                                   "video.mp4", "vp9.mkv", "theora.ogv", "mpeg.ts",
                                                                   "sound.mp3", "sound.flac", "sound.ogg", "sound.m4a"]


@pytest.mark.parametrize("name", WHOLE)
def test_what_ends_too_early_has_an_answer(worker, tmp_path, name):
    content = file(name).read_bytes()
    for part in (0.01, 0.1, 0.5, 0.9):
        (tmp_path / "cut").write_bytes(content[:max(16, int(len(content) * part))])
        for options in ({}, {"animated": True, "width": 64, "height": 64}, {"describe": True}):
            assert send_safely(worker, tmp_path / "cut", **options).outcome in ANSWERED


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_damaged_has_an_answer(tmp_path, name):
    """Or it ends the worker that reads it, and no other."""
    chance = random.Random(name)
    content = file(name).read_bytes()
    deaths = 0
    running = Thumbnailer()
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 40)):
            at = chance.randrange(len(damaged)) if chance.random() < 0.5 else chance.randrange(min(len(damaged), 400))
            damaged[at] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            reply = send_safely(running, tmp_path / "damaged", animated=chance.random() < 0.5, describe=chance.random() < 0.2,
                                max_pixels=4_000_000)
            assert reply.outcome in ANSWERED
        except Died:
            deaths += 1
            running.end()
            running = Thumbnailer()
    assert running.send(file("photo.jpg")).outcome == "made"
    assert running.end() == 0
    assert deaths <= 2


def png_of(width, height, chunks=b""):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def zeros_in_png_chunk(kind, head, megabytes):
    data = head + zlib.compress(bytes(megabytes << 20), 9)
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def le(value, length=4):
    return value.to_bytes(length, "little")


def jpeg_of(width, height):
    content = bytearray(file("small.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at:at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


def tiff_of(width, height):
    fields = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100)]
    entries = b"".join(le(tag, 2) + le(4, 2) + le(1) + le(value) for tag, value in fields)
    return b"II*\0" + le(8) + le(len(fields), 2) + entries + le(0) + bytes(100)


TOO_LARGE = {
    "png": lambda: png_of(60_000, 60_000),
    "gif": lambda: b"GIF89a" + le(65535, 2) * 2 + bytes(3) + b",\0\0\0\0" + le(65535, 2) * 2 + b"\0\x08\x01\0\0;",
    "webp": lambda: b"RIFF" + le(30) + b"WEBPVP8X" + le(10) + bytes(4) + b"\xff\xff\0" * 2 + bytes(100),
    "jpeg": lambda: jpeg_of(65_000, 65_000),
    "tiff": lambda: tiff_of(60_000, 60_000),
    "bmp": lambda: b"BM" + bytes(12) + le(40) + le(60_000) + le(60_000) + le(1, 2) + le(24, 2) + bytes(100),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_too_large_is_refused_by_its_head(worker, tmp_path, kind):
    (tmp_path / "bomb").write_bytes(TOO_LARGE[kind]())
    reply = worker.send(tmp_path / "bomb")
    assert (reply.outcome, reply.source_format, reply.result) == ("too many pixels", kind, b"")
    assert worker.send(file("source.png"), max_pixels=1200 * 900).outcome == "made"
    assert worker.send(file("source.png"), max_pixels=1200 * 900 - 1).outcome == "too many pixels"


@pytest.mark.parametrize("name", ["photo.jpg", "still.webp", "picture.avif", "picture.heic", "picture.jxl", "picture.tiff",
                                  "picture.bmp", "moving.gif", "moving.png", "video.mp4", "vp9.mkv", "theora.ogv", "mpeg.ts"])
def test_the_limit_on_pixels_holds_for_every_format(worker, name):
    assert worker.send(file(name), max_pixels=320 * 240 - 1).outcome == "too many pixels"


BOMBS = {
    "text of a PNG": lambda: png_of(10, 10, zeros_in_png_chunk(b"zTXt", b"Comment\0\0", 100)),
    "profile of a PNG": lambda: png_of(10, 10, zeros_in_png_chunk(b"iCCP", b"Profile\0\0", 100)),
    "entities of an SVG": lambda: ("<!DOCTYPE svg [<!ENTITY a0 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12)) +
        "]><svg xmlns='http://www.w3.org/2000/svg' width='100' height='100'><text>&a11;</text></svg>").encode(),
    "size of an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='1000000' height='1000000'><rect/></svg>",
    "nesting of an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'>" + b"<g>" * 100_000,
    "page of a PDF": lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>"
                             b"endobj 3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9999999 9999999]>>endobj\n"
                             b"trailer<</Root 1 0 R>>\n%%EOF",
}


@pytest.mark.parametrize("what", BOMBS)
def test_what_would_grow_does_not(tmp_path, what):
    (tmp_path / "bomb").write_bytes(BOMBS[what]())
    with Thumbnailer() as running:
        before = running.resident_bytes()
        try:
            assert send_safely(running, tmp_path / "bomb").outcome in ANSWERED
            assert running.resident_bytes() - before < 40 << 20
        except Died:
            pass


@pytest.mark.parametrize("reference", ["<image href='{path}' width='100' height='100'/>",
                                       "<image xmlns:x='http://www.w3.org/1999/xlink' x:href='file://{path}' width='100' height='100'/>",
                                       "<style>@import url('file://{path}.css');</style>"])
def test_a_drawing_loads_nothing(worker, tmp_path, reference):
    corpus.drawn((100, 100)).save(tmp_path / "other.png")
    (tmp_path / "other.png.css").write_text("rect {fill: red}")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='100' height='100'>"
                                          "<rect width='100' height='100' fill='#00ff00'/>"
                                          + reference.format(path=tmp_path / "other.png") + "</svg>")
    picture = opened(worker.send(tmp_path / "drawing.svg"))
    assert mean_difference(picture, Image.new("RGB", (100, 100), "#00ff00")) < 3


def test_a_document_type_reads_no_file(worker, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "drawing.svg").write_text(
        f"<!DOCTYPE svg [<!ENTITY s SYSTEM 'file://{tmp_path}/secret'>]>"
        "<svg xmlns='http://www.w3.org/2000/svg' width='100' height='100'><text y='50'>&s;</text></svg>")
    assert worker.send(tmp_path / "drawing.svg").outcome in ANSWERED


def test_a_playlist_leads_nowhere(worker, tmp_path):
    """Formats of libav that name other files are not among those that are recognised."""
    for content in ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", f"ffconcat version 1.0\nfile {file('video.mp4')}\n"):
        (tmp_path / "list").write_text(content)
        assert worker.send(tmp_path / "list").outcome == "unsupported"


# ---- The process ----


def test_every_layer_holds(worker):
    assert worker.version == 1
    assert worker.layers | thumbnailer.MEMORY == thumbnailer.LAYERS
    # A sanitizer needs terabytes of address space.
    is_sanitized = thumbnailer.WORKER.parent.name == "asan"
    assert is_sanitized or worker.layers & thumbnailer.MEMORY


def test_it_ends_when_the_socket_does():
    running = Thumbnailer()
    assert running.send(file("photo.jpg")).outcome == "made"
    assert running.end() == 0


def test_it_is_nothing_without_a_socket():
    told = subprocess.run([thumbnailer.WORKER], capture_output=True, text=True, check=False)
    assert told.returncode == 2 and "--memory" in told.stderr


def test_memory_is_limited():
    """What would need more ends in an answer or in a death, and in no more memory than was given."""
    with Thumbnailer(memory_bytes=48 << 20) as running:
        try:
            assert running.send(file("picture.tiff"), 1000, 800).outcome in {"made", "broken"}
            assert running.send(file("deep.png"), 1190, 890).outcome in {"made", "broken"}
        except Died:
            pass


@pytest.mark.slow(20)
def test_memory_stays_what_it_is():
    small = ["small.png", "small.jpg", "small.avif", "photo.jpg"]
    large = ["moving.gif", "moving.png", "moving.webp", "drawing.svg", "sound.flac", "page.pdf", "video.mp4", "picture.bmp"]
    with Thumbnailer() as running:
        if not running.layers & thumbnailer.MEMORY:
            pytest.skip("a sanitizer keeps what was freed")

        def round_trip(count):
            for number in range(count):
                names = large if number % 10 == 0 else small
                running.send(file(names[number // 10 % len(names)]), 64, 64, animated=True, describe=number % 3 == 0)
        round_trip(160)
        before = running.resident_bytes()
        round_trip(1000)
        assert running.resident_bytes() - before < 8 << 20
