# SPDX-License-Identifier: Apache-2.0
"""What a case yields: rows of figures, each beside its yardstick and its target; and how they are printed."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Target:
    """A bound on the ratio of ours to theirs, or on our figure itself."""
    limit: float
    at_least: bool = True
    of_ratio: bool = True

    def text(self, unit):
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g} ×" if self.of_ratio else f"{sign} {number(self.limit)} {unit}"

    def is_met_by(self, row):
        value = row.ratio if self.of_ratio else statistics.median(row.ours)
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


def ratio_at_least(limit):
    return Target(limit)


def ratio_at_most(limit):
    return Target(limit, at_least=False)


def at_most(limit):
    return Target(limit, at_least=False, of_ratio=False)


@dataclass
class Row:
    case: str
    figure: str
    unit: str
    ours: list = field(default_factory=list)  # one of each round
    theirs: list = field(default_factory=list)
    yardstick: str = ""
    target: Target = None
    notes: list = field(default_factory=list)

    @property
    def ratio(self):
        """The median over the rounds: both sides of one round ran in the same minute, on a machine in the same mood."""
        if not self.ours or not self.theirs:
            return None
        if len(self.ours) == len(self.theirs) and all(self.theirs):
            return statistics.median(ours / theirs for ours, theirs in zip(self.ours, self.theirs))
        theirs = statistics.median(self.theirs)
        return statistics.median(self.ours) / theirs if theirs else None

    @property
    def is_met(self):
        return self.target.is_met_by(self) if self.target and self.ours else None

    def note(self, text):
        if text and text not in self.notes:
            self.notes.append(text)

    def as_json(self):
        return {"case": self.case, "figure": self.figure, "unit": self.unit, "ours": self.ours,
                "yardstick": self.yardstick, "theirs": self.theirs, "ratio": self.ratio,
                "target": self.target.text(self.unit) if self.target else None, "met": self.is_met,
                "notes": self.notes}


def number(value):
    """Three digits that count, and thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values):
    if not values:
        return ""
    median = number(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({number(min(values))} – {number(max(values))})"


HEADING = ["case", "figure", "Sluice: median (min – max)", "yardstick", "median (min – max)", "ratio", "target", "met"]


def cells(row, notes):
    met = {None: "", True: "yes", False: "**no**"}[row.is_met]
    marks = "".join(f" [{notes.index(note) + 1}]" for note in row.notes)
    figure = ", ".join(filter(None, [row.figure, row.unit])) + marks
    return [row.case, figure, spread(row.ours), row.yardstick, spread(row.theirs), "" if row.ratio is None else f"{row.ratio:.3g}", row.target.text(row.unit) if row.target else "", met]


def table(rows):
    """A Markdown table, aligned so that it reads well as it is, and the notes below it."""
    notes = []
    for row in rows:
        notes += [note for note in row.notes if note not in notes]
    lines = [HEADING, *(cells(row, notes) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADING))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    text += ["", *(f"[{number_of}] {note}  " for number_of, note in enumerate(notes, 1))] if notes else []
    return "\n".join(text)
