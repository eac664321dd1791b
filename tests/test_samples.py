"""The sample pictures are small, are what their README says, and are found by name."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.sample_files import SAMPLES, sample_path


@pytest.mark.parametrize(
    ("name", "shape"), [("nuclei", (520, 696)), ("tissue", (256, 320, 3)), ("scene", (427, 640, 3))]
)
def test_a_sample_is_found_by_name_and_opens(name, shape):
    with Image.open(sample_path(name)) as picture:
        assert np.asarray(picture).shape == shape


def test_the_volume_opens():
    assert open_image(sample_path("embryo")).sizes == {"z": 51, "y": 120, "x": 122}


def test_an_unknown_sample_is_refused_and_the_known_ones_are_named():
    with pytest.raises(InputError, match=r"'cells'.*nuclei, tissue, scene, embryo"):
        sample_path("cells")


def test_the_folder_holds_just_these_files_in_under_three_megabytes(root):
    files = [path for path in (root / "sample_data").iterdir() if path.name != "README.md"]
    assert {path.name for path in files} == set(SAMPLES.values())
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_the_readme_has_the_true_sha256_of_every_sample(root):
    readme = (root / "sample_data" / "README.md").read_text(encoding="utf-8")
    written = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)}
    assert written == {
        file: hashlib.sha256((root / "sample_data" / file).read_bytes()).hexdigest()
        for file in SAMPLES.values()
    }
