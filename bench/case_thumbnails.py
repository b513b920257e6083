# SPDX-License-Identifier: Apache-2.0
"""Thumbnails: the worker process alone, over its socket, beside Pillow as Synapse uses it."""

import io
import time

import usage
from registry import case
from rows import Row

PHOTO = "photo of 12 megapixels (JPEG)"
SCREEN = "picture of 4K (PNG)"
SIZES = {PHOTO: (4000, 3000), SCREEN: (3840, 2160)}
ASKED = (800, 600)
MIB = 1 << 20


def make(path, size, **options):
    """Shapes, colours and some noise: what a camera or a screen has, as far as its size when encoded goes."""
    import corpus
    from PIL import Image
    noise = Image.effect_noise(size, 24).convert("RGB")
    Image.blend(corpus.drawn(size), noise, 0.15).save(path, **options)


def processor_seconds(pid):
    """Of the process and all threads it has had: the clock that clock_getcpuclockid names."""
    return time.clock_gettime(~pid << 3 | 2)


def pillow(path):
    """What synapse/media/thumbnailer.py does."""
    from PIL import Image, ImageOps
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        factor = min(ASKED[0] / turned.width, ASKED[1] / turned.height)
        small = turned.resize((int(turned.width * factor), int(turned.height * factor)), Image.LANCZOS)
        small.convert("RGB").save(io.BytesIO(), "JPEG", quality=80)


@case("thumbnails", "thumbnails a second and core, from files; beside Pillow, as Synapse uses it")
def thumbnails(bench):
    from thumbnailer import Thumbnailer
    number = bench.pick(40, 8)
    files = {PHOTO: bench.folder / "photo.jpg", SCREEN: bench.folder / "screen.png"}
    make(files[PHOTO], SIZES[PHOTO], quality=90)
    make(files[SCREEN], SIZES[SCREEN])
    rates = {name: Row("thumbnails", f"{name} to {ASKED[0]} x {ASKED[1]}", "1/s", yardstick="Pillow") for name in files}
    start = Row("thumbnails", "start of a worker", "ms")
    resident = Row("thumbnails", "peak memory of a worker", "MiB")
    private = Row("thumbnails", "private memory of a worker at rest", "MiB")

    def ours():
        began = time.monotonic()
        with Thumbnailer() as worker:
            start.ours.append((time.monotonic() - began) * 1000)
            pid = worker.process.pid
            private.ours.append(usage.private_bytes(pid) / MIB)
            for name, path in files.items():
                assert worker.send(path, *ASKED).outcome == "made"
                before = processor_seconds(pid)
                for _ in range(number):
                    worker.send(path, *ASKED)
                rates[name].ours.append(number / (processor_seconds(pid) - before))
            resident.ours.append(usage.memory_kib(pid, "VmHWM") / 1024)

    def theirs():
        for name, path in files.items():
            before = time.process_time()
            for _ in range(max(number // 4, 2)):
                pillow(path)
            rates[name].theirs.append(max(number // 4, 2) / (time.process_time() - before))

    bench.in_turn(ours, theirs)
    return [*rates.values(), start, resident, private]
