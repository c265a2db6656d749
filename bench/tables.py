"""Rows of the tables and the page they are written into."""
import os

import machine

circumstances = ""  # Of the part that is measured now; opens each of its tables.
PAGE = os.path.join(machine.ROOT, "docs", "benchmarks.md")


class Row:
    """One figure beside its two targets; `less`: smaller is better. A row without targets
    only reports."""

    def __init__(self, number, what, measured, least=None, aim=None, *, less=False, text="",
                 unit=""):
        self.number, self.what, self.measured, self.text = number, what, measured, text
        self.least, self.aim, self.less, self.unit = least, aim, less, unit

    def reaches(self, target):
        return self.measured <= target if self.less else self.measured >= target

    def met(self):
        if self.least is None:
            return ""
        if self.aim is not None and self.reaches(self.aim):
            return "aim"
        return "yes" if self.reaches(self.least) else "**no**"

    def target(self, value):
        return "" if value is None else f"{'<=' if self.less else '>='} {value:g}{self.unit}"

    def cells(self):
        measured = f"{self.measured:.3g}{self.unit}" if self.measured is not None else ""
        if self.text:
            measured = f"{measured} ({self.text})" if measured else self.text
        return [str(self.number), self.what, self.target(self.least), self.target(self.aim),
                measured, self.met()]


def table(rows):
    lines = [["#", "what", "at least", "aim", "measured", "met?"], ["---"] * 6]
    lines += [row.cells() for row in rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def plain_table(head, rows):
    lines = [head, ["---"] * len(head)] + rows
    return "".join("| " + " | ".join(str(cell) for cell in cells) + " |\n" for cells in lines)


def write(part, text):
    """Puts `text` between the markers of `part`; nothing else on the page changes."""
    if part != "machine":
        text = circumstances + "\n\n" + text
    begin, end = f"<!-- bench:{part} begin -->\n", f"<!-- bench:{part} end -->\n"
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    if begin not in page or end not in page:
        machine.fail(f"{PAGE} has no markers for {part}")
    head, rest = page.split(begin, 1)
    _, tail = rest.split(end, 1)
    with open(PAGE + ".part", "w", encoding="utf-8") as file:
        file.write(head + begin + "\n" + text + "\n" + end + tail)
    os.rename(PAGE + ".part", PAGE)
    print(text)
