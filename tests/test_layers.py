"""Imports go one way, only widgets/ knows napari, and no module outgrows 400 lines."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "napari_samscape"
MODULES = sorted(PACKAGE.rglob("*.py"))
GUI = {"magicgui", "napari", "npe2", "qtpy", "superqt", "vispy", "PySide6", "PyQt5", "PyQt6"}

# A unit is a folder, or a module at the package's top. Each may import itself and what is listed here.
LEAVES = {"errors", "sample_files"}
MAY_IMPORT = {
    "errors": set(),
    "sample_files": {"errors"},
    "io": LEAVES,
    "model": LEAVES,
    "prediction": {"model"} | LEAVES,
    "scaling": {"model", "prediction", "io"} | LEAVES,
    "evaluation": {"model", "prediction", "scaling", "io"} | LEAVES,
    "training": {"model", "prediction", "scaling", "evaluation", "io"} | LEAVES,
    "annotation": {"model", "prediction", "scaling", "training", "evaluation", "io"} | LEAVES,
    "cli": {"model", "prediction", "scaling", "training", "evaluation", "annotation", "io"} | LEAVES,
    "widgets": {"model", "prediction", "scaling", "training", "annotation", "io"} | LEAVES,
}


def unit_of(parts):
    return parts[0].removesuffix(".py")


def imports(tree, package):
    """Full dotted names of everything imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")]
            yield from (".".join([*filter(None, module), alias.name]) for alias in node.names)


def faults(source, path):
    """What a module at `path` (relative to the package) imports against the rules."""
    unit = unit_of(path.parts)
    package = ["napari_samscape", *path.parts[:-1]]
    for name in imports(ast.parse(source), package):
        top, *rest = name.split(".")
        if top in GUI and unit != "widgets":
            yield f"{path} imports {name}; only widgets/ may"
        if top == "napari_samscape" and rest and rest[0] != unit and rest[0] not in MAY_IMPORT[unit]:
            yield f"{path} imports {name}; {unit} may not"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_layers_below(path):
    relative = path.relative_to(PACKAGE)
    if relative == Path("__init__.py"):
        pytest.skip("the package's face names every layer, by string")
    assert list(faults(path.read_text(encoding="utf-8"), relative)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("model/sam.py", "from napari_samscape.prediction.types import Prompts"),
        ("model/sam.py", "from ..prediction import types"),
        ("prediction/predict.py", "import napari_samscape.scaling.batch"),
        ("scaling/tiles.py", "def late():\n    from napari_samscape import cli"),
        ("cli.py", "from napari_samscape.widgets.prompt import PromptWidget"),
        ("io.py", "import napari.layers"),
        ("prediction/image.py", "from qtpy.QtCore import QObject"),
    ],
)
def test_the_rule_sees_an_import_that_goes_the_other_way(where, line):
    assert list(faults(line, Path(where)))


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("widgets/prompt.py", "import napari\nfrom napari_samscape.scaling import batch"),
        ("cli.py", "from .scaling.batch import segment"),
        ("prediction/predict.py", "from . import types\nfrom ..model import sam"),
        ("model/weights.py", "import requests\nfrom napari_samscape.errors import InputError"),
    ],
)
def test_the_rule_lets_the_right_way_pass(where, line):
    assert list(faults(line, Path(where))) == []
