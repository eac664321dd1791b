"""What `import napari_samscape` gives, and what it does not drag in."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

import napari_samscape

PUBLIC = [
    *("InputError", "LinkOptions", "Prompts", "Views"),
    *("ask", "embed", "load_model", "open_image", "predict", "propagate", "segment"),
]
HEAVY = ["torch", "napari", "qtpy", "PySide6", "magicgui", "skimage", "scipy", "zarr", "numpy"]


def modules_after(statement):
    """Top-level modules that a fresh interpreter has after a statement."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_heavy():
    assert modules_after("import napari_samscape") & set(HEAVY) == set()


def test_making_prompts_needs_no_torch():
    loaded = modules_after("from napari_samscape import Prompts; Prompts(points=[(1, 2)])")
    assert "numpy" in loaded
    assert loaded & {"torch", "napari", "qtpy"} == set()


def test_loading_the_whole_engine_needs_no_napari_and_no_qt():
    loaded = modules_after("from napari_samscape import embed, load_model, open_image, predict, segment")
    assert "torch" in loaded
    assert loaded & {"napari", "qtpy", "PySide6", "magicgui"} == set()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name):
    assert callable(getattr(napari_samscape, name))


def test_the_public_names_are_listed_and_no_others():
    assert sorted(napari_samscape.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(napari_samscape))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'napari_samscape' has no attribute 'segmnt'"):
        _ = napari_samscape.segmnt


def test_the_version_is_the_installed_one():
    assert napari_samscape.__version__ == metadata.version("napari-samscape")


def test_type_checkers_and_run_time_see_the_same_names(root):
    source = (root / "src" / "napari_samscape" / "__init__.py").read_text(encoding="utf-8")
    typed = {
        alias.name: node.module.removeprefix("napari_samscape.")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_samscape.")
        for alias in node.names
    }
    assert typed == napari_samscape._HOMES


def test_what_is_imported_is_declared_and_what_is_declared_is_imported(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line
        for extra in ("napari", "train", "evaluation", "detectors", "dask", "parquet", "remote", "text")
        for line in extras[extra]
    ]
    declared = {re.match(r"[\w-]+", line).group().lower() for line in lines}

    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (root / "src").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    modules = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"napari_samscape"}
    homes = metadata.packages_distributions()
    assert {homes[module][0].lower() for module in modules} == declared
