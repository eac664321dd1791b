"""The published checkpoints: where they come from, what they may be used for, and where they lie here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_samscape.errors import InputError
from napari_samscape.model.download import Digest, check_local, fetch
from napari_samscape.model.progress import Progress


@dataclass(frozen=True)
class KnownModel:
    """A checkpoint with a name.

    Attributes
    ----------
    name : str
        What users type.
    filename : str
        Its file in the cache (in the package, for the bundled model).
    url : str or None
        Where it is published; None for the bundled model.
    sha256, xxh128 : str or None
        Hexadecimal digests, None where none is published.
    size_bytes : int or None
        None where not published.
    licence : str
        SPDX identifier.
    about : str
        What it is for, in one line.
    source : str
        The page that describes it.
    has_dense : bool
        Whether it has a dense head, which gives everything-mode its prompts.
    """

    name: str
    filename: str
    url: str | None
    licence: str
    about: str
    source: str
    sha256: str | None = None
    xxh128: str | None = None
    size_bytes: int | None = None
    has_dense: bool = False

    @property
    def digest(self) -> Digest | None:
        """The strongest digest that is published."""
        if self.sha256 is not None:
            return Digest("sha256", self.sha256)
        return None if self.xxh128 is None else Digest("xxh128", self.xxh128)


# URLs and licence: README.md of github.com/facebookresearch/segment-anything ("Model Checkpoints",
# "License"). SHA-256: the registry in micro_sam/util.py of micro-sam 0.2 to 0.3; the same with the sizes
# in the Git LFS pointers of huggingface.co/mashb1t/misc (commit 78e1813) and huggingface.co/netradrishti/sam.
_SAM = "https://github.com/facebookresearch/segment-anything"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything/"

# URL pinned to a commit. SHA-256: micro_sam/util.py as above, and noted by others for this very commit
# (LibreYOLO's provenance tests, with the size and the licence Apache-2.0).
_MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM"
_MOBILE_SAM_COMMIT = "f706ad9c4eb7f219c00d9050e46328518ffb65d2"

# URLs and xxh128: the registry in micro_sam/v1/util.py of micro-sam 1.8 (it publishes no SHA-256).
# Licence: micro_sam/bioimageio/model_export.py, with which they were put into the BioImage.IO model zoo.
_MICRO_SAM = "https://computational-cell-analytics.github.io/micro-sam/micro_sam.html#finetuned-models"
_ZOO = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"


def _sam(name: str, filename: str, about: str, sha256: str, size_bytes: int) -> KnownModel:
    return KnownModel(
        name=name,
        filename=filename,
        url=_SAM_FILES + filename,
        licence="Apache-2.0",
        about=about,
        source=_SAM,
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _micro_sam(name: str, place: str, xxh128: str) -> KnownModel:
    kind, size = ("light", name[4]) if name.endswith("_lm") else ("electron", name[4])
    use = "cells and nuclei" if kind == "light" else "mitochondria, nuclei and other organelles"
    return KnownModel(
        name=name,
        filename=f"micro_sam_{name}.pt",
        url=f"{_ZOO}{place}/files/vit_{size}.pt",
        licence="CC-BY-4.0",
        about=f"micro-sam's generalist for {use} in {kind} microscopy, ViT-{size.upper()}",
        source=_MICRO_SAM,
        xxh128=xxh128,
    )


_ALL = (
    KnownModel(
        name="nano",
        filename="nano.safetensors",
        url=None,
        licence="Apache-2.0",
        about="bundled, small and fast; needs no download",
        source="https://pypi.org/project/napari-samscape/",
        has_dense=True,
    ),
    _sam(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        "Segment Anything, ViT-B: trained on photographs; the smallest of the three",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    _sam(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        "Segment Anything, ViT-L: trained on photographs; larger and slower than ViT-B",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    _sam(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        "Segment Anything, ViT-H: trained on photographs; the largest",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    KnownModel(
        name="vit_t",
        filename="mobile_sam.pt",
        url=f"{_MOBILE_SAM}/raw/{_MOBILE_SAM_COMMIT}/weights/mobile_sam.pt",
        licence="Apache-2.0",
        about="MobileSAM, TinyViT: distilled from ViT-H, much faster than ViT-B",
        source=_MOBILE_SAM,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size_bytes=40_728_226,
    ),
    _micro_sam("vit_t_lm", "faithful-chicken/1.1", "72ec5074774761a6e5c05a08942f981e"),
    _micro_sam("vit_b_lm", "diplomatic-bug/1.2", "fe9252a29f3f4ea53c15a06de471e186"),
    _micro_sam("vit_l_lm", "idealistic-rat/1.2", "017f20677997d628426dec80a8018f9d"),
    _micro_sam("vit_t_em_organelles", "greedy-whale/1", "253474720c497cce605e57c9b1d18fd9"),
    _micro_sam("vit_b_em_organelles", "noisy-ox/1.2", "f3bf2ed83d691456bae2c3f9a05fb438"),
    _micro_sam("vit_l_em_organelles", "humorous-crab/1.2", "810b084b6e51acdbf760a993d8619f2d"),
)

KNOWN: dict[str, KnownModel] = {model.name: model for model in _ALL}

_BUNDLED = Path(__file__).parent / "weights"


def known_model(name: str) -> KnownModel:
    """Look a checkpoint up by its name.

    Raises
    ------
    InputError
        If there is none of this name.

    Examples
    --------
    >>> known_model("vit_b").licence
    'Apache-2.0'
    """
    if name not in KNOWN:
        raise InputError(f"There is no model named '{name}'; known are {', '.join(KNOWN)}.")
    return KNOWN[name]


def cache_dir() -> Path:
    """Folder for downloads: ``SAMSCAPE_CACHE`` where set, else the user's cache folder. May not exist yet."""
    if chosen := os.environ.get("SAMSCAPE_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("samscape", appauthor=False))


def local_path(name: str) -> Path | None:
    """Path of a known checkpoint if its file is here, else None. Looks only; checks no content.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    path = _place(known_model(name))
    return path if path.is_file() else None


def checked_path(name: str) -> Path | None:
    """Path of a known checkpoint as `local_path` gives it, if its content is what it should be.

    A file that has not changed on disk since it was last checked is not read again.

    Raises
    ------
    InputError
        If the name is unknown, or the file is not the published one or has changed since it came.
    """
    path = local_path(name)
    if path is not None and KNOWN[name].url is not None:
        check_local(path, KNOWN[name].digest)
    return path


def download(name: str, *, progress: Progress | None = None, url: str | None = None) -> Path:
    """Make sure that a known checkpoint is here and is what was published; download it if need be.

    Parameters
    ----------
    name : str
        A name in ``KNOWN``.
    progress : callable, optional
        Called as ``progress(done_bytes, total_bytes, text)``, total 0 while unknown. Raising from it
        cancels; the next call continues where this one stopped.
    url : str, optional
        A mirror to use instead of the published address.

    Returns
    -------
    Path
        The file. One that is here already is not read again unless it has changed on disk.

    Raises
    ------
    InputError
        If the name is unknown, the file can't be had, or its content is not what was published.

    Examples
    --------
    >>> download("vit_b")  # doctest: +SKIP
    PosixPath('/home/me/.cache/samscape/models/sam_vit_b_01ec64.pth')
    """
    model = known_model(name)
    if (here := checked_path(name)) is not None:
        return here
    path = _place(model)
    address = url or model.url
    if address is None:
        raise InputError(f"The bundled model '{name}' is missing at '{path}'; install the package anew.")
    return fetch(address, path, digest=model.digest, size=model.size_bytes, progress=progress)


def verify(name: str, *, progress: Progress | None = None) -> bool:
    """Read a known checkpoint that is here and compare it with what was published.

    Parameters
    ----------
    name : str
        A name in ``KNOWN``.
    progress : callable, optional
        As in `download`.

    Returns
    -------
    bool
        True if it is what was published; False where that cannot be said: it has not changed since it came.

    Raises
    ------
    InputError
        If the name is unknown, it is not here, or it is another file.
    """
    path = local_path(name)
    if path is None:
        raise InputError(f"The model '{name}' is not here.")
    return check_local(path, KNOWN[name].digest, anew=True, progress=progress)


def remove(name: str) -> None:
    """Remove a known checkpoint that was downloaded; it can be had again by `download`.

    Raises
    ------
    InputError
        If the name is unknown, it is the bundled model, or the file cannot be removed.
    """
    model = known_model(name)
    if model.url is None:
        raise InputError(f"The model '{name}' is part of the package and stays.")
    path = _place(model)
    try:
        for suffix in ("", ".part", ".part.json", ".json", ".lock"):  # see `download`
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"The model '{name}' cannot be removed: {error.strerror or error}.") from error


def _place(model: KnownModel) -> Path:
    return (_BUNDLED if model.url is None else cache_dir() / "models") / model.filename
