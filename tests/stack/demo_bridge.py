#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the bridge (bridge.py) in its three ways and draws them: writes docs/bridge.svg, prints a Markdown table.

    ./dev demo bridge
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from bridge import FILE_BYTES, LARGE, LINK_BYTES_PER_SECOND, MESSAGES, WAYS, run_bridge  # noqa: E402
from drawing import label, page  # noqa: E402
from harness import REPOSITORY  # noqa: E402
from homeserver import Synapse  # noqa: E402
from stack import Stack  # noqa: E402

NAMES = {
    "live": ("Create, send, upload later", "events at once and in order, files live"),
    "in_order": ("Upload, then send, one by one", "in order, but everything waits for the files"),
    "parallel": ("Upload, then send, side by side", "later messages overtake the files"),
}
WIDTH, LEFT, RIGHT, TOP = 860, 274, 34, 92
ROW, PANEL_GAP = 6, 44
PANEL = MESSAGES * ROW


def draw(runs):
    longest = max(run.last_downloaded for run in runs)
    scale = (WIDTH - LEFT - RIGHT) / (longest * 1.02)
    bottom = TOP + len(runs) * (PANEL + PANEL_GAP) - PANEL_GAP
    height = bottom + 66

    def x(at):
        return round(LEFT + at * scale, 1)

    parts = [
        label(24, 36, "Twenty messages through a bridge, three of them large files", "ink title"),
        label(24, 58, f"Files of {FILE_BYTES / 1e6:.0f} MB, each on a link of {LINK_BYTES_PER_SECOND / 1e6:.1f} MB/s; "
                      "what the user at the other end sees. Measured times.", "soft")]
    for second in range(0, int(longest) + 1, 1 if longest < 16 else 2):
        parts.append(f'<line class="line" x1="{x(second)}" y1="{TOP - 8}" x2="{x(second)}" y2="{bottom + 8}"/>')
        parts.append(label(x(second), bottom + 24, f"{second} s", "soft small", "middle"))

    for number, run in enumerate(runs):
        top = TOP + number * (PANEL + PANEL_GAP)
        name, remark = NAMES[run.way]
        parts += [label(24, top + 16, name, "ink name"), label(24, top + 36, remark.split(", ")[0], "soft small")]
        parts += [label(24, top + 53, rest, "soft small") for rest in remark.split(", ")[1:]]
        parts.append(label(24, top + 80, f"all events seen: {run.last_seen:.1f} s", "ink small"))
        parts.append(label(24, top + 97, f"all files whole: {run.last_downloaded:.1f} s", "ink small"))
        parts.append(label(24, top + 114, f"out of place: {run.out_of_place}", "ink small"))
        for message in run.messages:
            y = top + message.number * ROW
            if message.number in LARGE:
                parts.append(f'<rect class="play" x="{x(message.first_byte)}" y="{y - 2.5}" rx="2" height="5" '
                             f'width="{max(1.0, round((message.downloaded - message.first_byte) * scale, 1))}"/>')
            parts.append(f'<line class="line" stroke-width="2" x1="{x(message.arrived)}" y1="{y}" '
                         f'x2="{x(message.seen)}" y2="{y}"/>')
            parts.append(f'<circle class="upload" cx="{x(message.arrived)}" cy="{y}" r="2"/>')
            parts.append(f'<circle class="mark" cx="{x(message.seen)}" cy="{y}" r="3"/>')

    y = height - 18
    parts += [
        f'<circle class="upload" cx="{LEFT + 6}" cy="{y - 4}" r="3"/>',
        label(LEFT + 18, y, "arrives at the bridge", "soft small"),
        f'<circle class="mark" cx="{LEFT + 176}" cy="{y - 4}" r="4"/>',
        label(LEFT + 188, y, "seen by the user", "soft small"),
        f'<rect class="play" x="{LEFT + 316}" y="{y - 8}" width="26" height="6" rx="2"/>',
        label(LEFT + 350, y, "first to last byte at the user", "soft small")]
    title = "; ".join(f"{NAMES[run.way][0]}: all events seen after {run.last_seen:.1f} seconds, {run.out_of_place} out "
                      f"of place, all files whole after {run.last_downloaded:.1f} seconds" for run in runs)
    return page(WIDTH, height, title, parts)


def table(runs):
    rows = [
        ("all twenty events seen", lambda run: f"{run.last_seen:.1f} s"),
        ("events out of place", lambda run: str(run.out_of_place)),
        ("first byte of the first file", lambda run: f"{run.files[0].first_byte:.1f} s"),
        ("all files whole", lambda run: f"{run.last_downloaded:.1f} s"),
    ]
    lines = ["| at the user, after the first message arrived | " + " | ".join(NAMES[run.way][0] for run in runs) + " |",
             "|---|" + "---:|" * len(runs)]
    lines += [f"| {name} | " + " | ".join(value(run) for run in runs) + " |" for name, value in rows]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/bridge.svg")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        synapse = Synapse(Path(folder) / "synapse").start()
        try:
            with Stack(synapse, Path(folder) / "stack") as stack:
                runs = [run_bridge(stack, way, stack.user(f"watcher_{way}"), Path(folder) / way) for way in WAYS]
        finally:
            synapse.stop()
    arguments.output.write_text(draw(runs))
    print(table(runs))


if __name__ == "__main__":
    main()
