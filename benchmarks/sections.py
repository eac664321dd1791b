"""A report of sections, each written by a command of its own: one is replaced, all others stay.

    report = Report(Path("REPORT.md"))
    report.put("Time", ["| what | ms |", ...], "python benchmarks/report.py")

Above what was measured a section says by which command, when, from which commit and on which machine. Figures
that several commands gather, such as those of pictures of several sizes, lie in a JSON file (`Figures`).
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from napari_samscape.scaling.pieces import written_whole

HERE = Path(__file__).resolve().parent
#: In this order they stand in the report, and what is missing is said to be so.
TITLES = (
    "One click on each object's middle",
    "Each object's box",
    "Everything, without prompts",
    "Edges, against boundaries that humans drew",
    "Everything, by the number of prompts",
    "Predicted against true IoU, one click",
    "Time",
    "Beside the reference",
    "Pictures of any size",
    "Workers",
    "A million tiles",
    "Killed and started again",
    "Volumes",
    "Text to mask",
    "Fine-tuned on a few pictures",
    "Clicks of a scripted annotator",
)
HEAD = """# Measured

No figure is typed by hand: each section was written by the command that it names, row by row, and stays when
another command writes its own. Validation splits; times on a shared machine are rough.
"""
MISSING = "Not measured yet."


class Report:
    """A file of sections, written whenever one of them changes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, title: str, lines: Sequence[str], command: str) -> None:
        """Put the lines of a section, and where they come from, in place of what it had."""
        sections = self.sections() | {title: "\n".join([f"*{origin(command)}*", "", *lines]).strip()}
        ordered = {name: sections.pop(name, MISSING) for name in TITLES} | sections
        body = [f"## {name}\n\n{text}\n" for name, text in ordered.items()]
        with written_whole(self.path) as file:
            file.write("\n".join([HEAD, *body]).encode())

    def sections(self) -> dict[str, str]:
        """Give the text of each section by its title."""
        text = self.path.read_text() if self.path.exists() else ""
        parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
        return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


class Figures:
    """Figures by name in a JSON file; one is replaced, all others stay."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self) -> dict[str, Any]:
        """Give all that was measured so far."""
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def put(self, name: str, figures: Mapping[str, Any]) -> None:
        """Put figures in place of those of the same name."""
        with written_whole(self.path) as file:
            file.write((json.dumps(self.get() | {name: figures}, indent=1, sort_keys=True) + "\n").encode())


def origin(command: str) -> str:
    """By which command, when, and on what."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.stdout.strip() or 'unknown'}; "
        f"{processor()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
