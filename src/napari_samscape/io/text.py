"""Texts that users give, and texts that are written for them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from napari_samscape.errors import InputError
from napari_samscape.io.write import replacing


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Read a text in UTF-8, with a byte order mark or without.

    Parameters
    ----------
    path : path
    what : str
        What it is to the user, as sentences about it begin: "The manifest list.txt".

    Raises
    ------
    InputError
        If it cannot be read, or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} cannot be read: it is no text in UTF-8.") from error


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Read a JSON file, as `read_text` reads a text.

    Raises
    ------
    InputError
        As `read_text`; or if it is no JSON.
    """
    text = read_text(path, what)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}.") from error


@contextlib.contextmanager
def replacing_text(path: Path, overwrite: bool) -> Iterator[TextIO]:
    """Open a text for writing that is moved into place in the end; see `write.replacing`."""
    with (
        replacing(path, overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file
