"""The report of the benchmarks: a run that is stopped keeps what it has, and says what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SPLITS = ("a/val.zip", "b/val.zip")


@pytest.fixture
def report(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/report.py with two data sets, on each of which every method gets an AP50 of 0.5."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    import report as module

    def evaluate(dataset: str, method: Any, protocol: str, **_: Any) -> dict[str, Any]:
        name = dataset.removesuffix(".zip")
        return {"protocol": protocol, "dataset": name, "model": method.name, "pictures": 3, "ap50": 0.5}

    class Dataset(str):
        def first(self, limit: int | None) -> str:
            return str(self)

    class Model:
        name, model = "nano", None

    for name, value in {
        "SPLITS": SPLITS,
        "evaluate": evaluate,
        "open_dataset": lambda path: Dataset("/".join(path.parts[-2:])),
        "load_model": lambda name: None,
        "ModelMethod": lambda *_: Model,
        "speed_table": lambda *_: ["fast"],
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["report.py", "--protocols", "time", "everything", "--out", "REPORT.md"])
    return module


def sections(path: Path) -> dict[str, str]:
    parts = path.read_text().split("## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def test_what_is_measured_stands_in_its_section_and_the_rest_is_said_to_be_missing(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report.main()
    written = sections(Path("REPORT.md"))
    assert set(written) >= {*report.TITLES.values(), report.PROMPTS, report.CALIBRATION, report.TIME}
    table = written[report.TITLES["everything"]]
    assert table.count("| 0.500 |") == 4
    assert "not measured" not in table
    assert table.startswith("*`python benchmarks/report.py --protocols time everything --out REPORT.md`, 20")
    assert written[report.TIME].endswith("\n\nfast")
    assert written[report.TITLES["point"]] == written[report.CALIBRATION] == "Not measured yet."


def test_sections_of_other_commands_stay(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sections import Report

    monkeypatch.chdir(tmp_path)
    Report(Path("REPORT.md")).put("Volumes", ["| a | b |"], "python volumes.py")
    Report(Path("REPORT.md")).put("Not of ours", ["text"], "somebody")
    before = sections(Path("REPORT.md"))
    for _ in range(2):
        report.main()
    after = sections(Path("REPORT.md"))
    kept = ("Volumes", "Not of ours", "Workers")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert list(after) == list(before)


def test_a_run_that_is_stopped_keeps_its_rows(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measured = report.evaluate

    def stops(dataset: str, method: Any, protocol: str, **settings: Any) -> dict[str, Any]:
        if dataset == SPLITS[1]:
            raise KeyboardInterrupt
        return measured(dataset, method, protocol, **settings)

    monkeypatch.setattr(report, "evaluate", stops)
    with pytest.raises(KeyboardInterrupt):
        report.main()
    lines = sections(Path("REPORT.md"))[report.TITLES["everything"]].splitlines()
    rows = [line for line in lines if line.startswith("| a/") or line.startswith("| b/")]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| a/val", "nano", "3"],
        ["| a/val", "baseline", "3"],
        ["| b/val", "nano", "not measured"],
        ["| b/val", "baseline", "not measured"],
    ]


def test_prompts_are_counted_by_source_and_drawn(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import prompt_counts
    from test_automatic import FOUR, Seer

    from napari_samscape.evaluation.datasets import Dataset, sample_from_labels

    colours = FOUR[..., 0].astype(int)
    dataset = Dataset("discs", (lambda: sample_from_labels("discs", FOUR, colours),))
    seen: list[int] = []
    rows = prompt_counts.measure(Seer(has_dense=True), [dataset], lambda rows: seen.append(len(rows)))
    assert seen == list(range(1, 9))
    assert [(row["source"], row["most"], row["prompts"]) for row in rows] == [
        ("grid", "4 x 4", 16),
        ("grid", "8 x 8", 64),
        ("grid", "16 x 16", 256),
        ("grid", "32 x 32", 1024),
        *[("dense head", most, 4) for most in ("16", "64", "256", "no limit")],
    ]
    assert rows[-1]["ap50"] == rows[-1]["recall50"] == 1
    assert prompt_counts.table(rows)[6].startswith("| discs | dense head | 16 | 4 | 1.000 | 1.000 |")
    for name in prompt_counts.draw(rows, tmp_path):
        assert (tmp_path / name).read_text().count("<polyline") == 2


def test_the_roofline_is_written_into_its_place_on_the_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import roofline

    before, after = (root / "docs" / "performance.md").read_text().split(roofline.BEGIN)
    page = tmp_path / "performance.md"
    row = ("nano", "prompt", "1.00", "10.0", "100", "50 %")
    for name, value in {"PAGE": page, "matrix_rate": lambda kind: 200.0, "rows": lambda *_: [row]}.items():
        monkeypatch.setattr(roofline, name, value)
    monkeypatch.setattr(roofline.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["roofline.py", "--models", "nano", "--threads", "1", "--write"])
    page.write_text(before + roofline.BEGIN + after)
    for _ in range(2):
        roofline.main()
        text = page.read_text()
        assert text.startswith(before + roofline.BEGIN)
        assert text.endswith(roofline.END + after.split(roofline.END)[1])
        assert text.count("| nano | prompt | 1.00 | 10.0 | 100 | 50 % |") == 1
        assert "Not measured" not in text
    assert "200 GFLOP/s in float32, 200 GFLOP/s in bfloat16" in text


def test_arithmetic_is_counted_as_two_for_each_product_and_sum(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import roofline
    import torch

    one, two = torch.ones(100, 200), torch.ones(200, 50)
    assert roofline.gflop(lambda: one @ two) == pytest.approx(2 * 100 * 200 * 50 / 1e9)


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_come_in_the_order_asked_for_from_one_process_or_several(
    report: ModuleType, workers: int
) -> None:
    assert list(report.rows_of(len, ["four", "is", "one"], workers)) == [(0, 4), (1, 2), (2, 3)]
