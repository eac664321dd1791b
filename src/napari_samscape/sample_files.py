"""Where the samples are; a leaf, used by the widgets, the command line and the demo."""

from __future__ import annotations

from pathlib import Path

from napari_samscape.errors import InputError

PICTURES = {"nuclei": "nuclei.png", "tissue": "tissue.png", "scene": "scene.jpg"}
SAMPLES = PICTURES | {"embryo": "embryo.tif"}


def sample_path(name: str) -> Path:
    """Path of a sample.

    Parameters
    ----------
    name : str
        One of ``SAMPLES``: "nuclei" (fluorescence, grey), "tissue" (stained, RGB), "scene" (a photograph),
        "embryo" (nuclei in fluorescence, a volume).

    Returns
    -------
    Path
        An existing PNG, JPEG or TIFF file; its source and licence are in README.md next to it.

    Raises
    ------
    InputError
        If there is no sample of that name, or the installation lacks its file.

    Examples
    --------
    >>> sample_path("nuclei").name
    'nuclei.png'
    """
    if name not in SAMPLES:
        raise InputError(f"There is no sample named {name!r}; the samples are {', '.join(SAMPLES)}.")
    package = Path(__file__).resolve().parent
    # In a wheel the pictures lie inside the package; in a checkout, editable or not, at its top.
    for folder in (package / "sample_data", package.parents[1] / "sample_data"):
        if (folder / SAMPLES[name]).is_file():
            return folder / SAMPLES[name]
    raise InputError(f"The sample {SAMPLES[name]} is missing from this installation ({package}).")
