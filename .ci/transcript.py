"""What a document shows of a command's output is what the command prints.

    cargo run -- try >try.txt
    python3 .ci/transcript.py "cargo run -- try" try.txt README.md docs/tutorial.md

A block of text after the comment `<!-- output of: COMMAND -->` is compared, line by line. Left out is only what differs from
run to run: seconds, ids, counts and rates of requests, and the chances that come of them. A line `...` stands for lines that
are not shown. Lines of several functions may come in any order, those of one in theirs.
"""

import difflib
import re
import sys
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^<!-- output of: (?P<command>.+?) -->\n+```text\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
OMITTED = "..."
# A line of what happens, with the second and who tells it.
HAPPENED = re.compile(r"^ *\d+\.\d s  (?P<who>\S+)")
# Those who tell what the controller does; what it does has one order.
CONTROLLER = {"CodeDeploy", "ECS", "traffic"}
# How often a function looks before it knows enough is up to the run.
AS_OFTEN_AS_NEEDED = re.compile(r"^ *\d+\.\d s  \S+ +(looks|holds):")

NUMBER = r"\d+(?:\.\d+)?"
CHANCE = r"(?:no sign|less than 1 in a million|1 in \d+)"
# What differs from run to run, and what stands in its place. Limits, weights and numbers of checks are not among it.
VARIES = [
    (rf"^ *{NUMBER} s  ", "SECOND  "),
    (r"\bd-[A-Z0-9]{9}\b", "DEPLOYMENT"),
    (r"(service deployment) [\w-]{21}(?![\w-])", r"\1 DEPLOYMENT"),
    (rf"slowest {NUMBER} m?s\b", "slowest TIME"),
    (r"\b\d+ complete periods?", "PERIODS"),
    # In the line of a look: a chance that is a sign of nothing is not told.
    (rf"({NUMBER}) %: {CHANCE} by chance \(limit: 1 in \d+\)(?=,|$)", r"\1 %"),
    (rf"(server errors|connection errors|slow requests) {NUMBER} %", r"\1 RATE"),
    (rf"{NUMBER} % \(\d+ of \d+\)", "RATE"),
    (rf"at most {NUMBER} % of", "at most RATE of"),
    (rf"{CHANCE}(?= by chance| \(limit)", "CHANCE"),
    (rf"one of {NUMBER} %(?: \({NUMBER} times the usual\))? or more", "one of RATE or more"),
    (rf"{NUMBER} s after the deployment began; \d+ of \d+ requests", "TIME after the deployment began; COUNT requests"),
]
# Columns of the report's table: value, blue, requests.
MEASURED = (3, 5, 6)


class Line(NamedTuple):
    """A line, with its number and who tells it."""

    number: int
    text: str

    @property
    def who(self) -> str | None:
        """A function or `controller` for what happened; none for the report."""
        happened = HAPPENED.match(self.text)
        if not happened:
            return None
        return "controller" if happened["who"] in CONTROLLER else happened["who"]

    @property
    def shape(self) -> str:
        """The line without what differs from run to run."""
        shape = self.text.rstrip()
        if shape.startswith("| "):
            shape = row(shape)
        for pattern, name in VARIES:
            shape = re.sub(pattern, name, shape)
        return shape


def row(text: str) -> str:
    """A row of the report's table without what was measured."""
    cells = text.split("|")
    for column in MEASURED:
        if column < len(cells) and re.fullmatch(rf" {NUMBER}(?: %| m?s)? ", cells[column]):
            cells[column] = " MEASURED "
    return "|".join(cells)


def lines(text: str, first: int = 1) -> list[Line]:
    """All lines that are not empty."""
    return [Line(first + index, line) for index, line in enumerate(text.splitlines()) if line.strip()]


def blocks(document: str, command: str) -> list[list[Line]]:
    """The blocks that show what the command prints."""
    found = (match for match in BLOCK.finditer(document) if match["command"] == command)
    return [lines(match["text"], document.count("\n", 0, match.start("text")) + 1) for match in found]


def missing(shown: list[Line], printed: list[Line]) -> list[Line]:
    """The shown lines that were not printed, or not in this order."""
    absent, at = [], 0
    for line in shown:
        place = next((index for index in range(at, len(printed)) if printed[index].shape == line.shape), None)
        if place is None:
            absent.append(line)
        else:
            at = place + 1
    return absent


def differences(path: str, shown: list[Line], printed: list[Line]) -> list[str]:
    """What a block says that was not printed, and what it leaves out without a word."""
    whole = all(line.text.strip() != OMITTED for line in shown)
    shown = [line for line in shown if line.text.strip() != OMITTED]
    told = []
    for who in dict.fromkeys(line.who for line in shown):
        theirs = [line for line in printed if line.who == who]
        for line in missing([line for line in shown if line.who == who], theirs):
            nearest = difflib.get_close_matches(line.shape, [line.shape for line in theirs], 1, 0.0)
            told.append(f"{path}:{line.number}: this is not what was printed:\n  {line.shape}")
            told.extend(f"  {line}    (the nearest that was)" for line in nearest)
    if whole and any(line.who for line in shown):
        certain = [line for line in printed if line.who and not AS_OFTEN_AS_NEEDED.match(line.text)]
        for who in dict.fromkeys(line.who for line in certain):
            absent = missing([line for line in certain if line.who == who], [line for line in shown if line.who == who])
            told += [f"{path}:{shown[0].number}: the block lacks a line that was printed:\n  {line.shape}" for line in absent]
    return told


def main(command: str, output: str, *documents: str) -> int:
    """Compares the blocks of all documents; 1 when something differs, or when there is nothing to compare."""
    printed = lines(Path(output).read_text())
    failures, compared = [], 0
    for path in documents:
        found = blocks(Path(path).read_text(), command)
        if not found:
            failures.append(f"{path}: no block with `<!-- output of: {command} -->` before it")
        for block in found:
            compared += len(block)
            failures += differences(path, block, printed)
    print("\n".join(failures + [f"{command}: lines shown: {compared}, differences: {len(failures)}"]))
    if failures:
        print("What is meant to change: run the command again, and paste what it prints (CONTRIBUTING.md, Documents).")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
