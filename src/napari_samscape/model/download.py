"""Downloads that survive a bad network: resumed, verified, and either complete or not there.

Next to a file `name` lie, while it is on its way, `name.part` with what has come so far, `name.part.json`
with the version of it that the server had (its ETag), and `name.lock`, held by the process that writes;
afterwards `name.json` with the SHA-256, size and time of change, so that later changes are noticed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress

if TYPE_CHECKING:
    from requests import Response


CHUNK = 1 << 18  # bytes between two calls of progress, and lost at most when a connection breaks
TRIES = 4  # attempts in a row that bring nothing
PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
TIMEOUT = (10.0, 30.0)  # seconds to connect, and without a byte

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Digest:
    """A published digest: ``kind`` is "sha256" or "xxh128" (which needs the package xxhash)."""

    kind: str
    hexadecimal: str

    @property
    def checkable(self) -> bool:
        """Whether it can be computed here."""
        return self.kind == "sha256" or find_spec("xxhash") is not None


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    digest: Digest | None
    size: int  # 0 while unknown
    progress: Progress

    def beside(self, suffix: str) -> Path:
        return self.target.with_name(self.target.name + suffix)

    @property
    def by_hand(self) -> str:
        return f"or fetch {self.url} by other means and put it at '{self.target}'"


class _Interrupted(Exception):
    """The attempt failed in a way that another one may mend; its text says how."""


def fetch(
    url: str,
    target: Path,
    *,
    digest: Digest | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file, or what is missing of it; several processes may ask for the same one at once.

    Parameters
    ----------
    url : str
        Where it is.
    target : Path
        Where it shall be; the folder is made.
    digest : Digest, optional
        What its content must give; without it the file is taken as it comes, with a warning in the log.
    size : int, optional
        Its size in bytes, where known before.
    progress : callable, optional
        Called as ``progress(done_bytes, total_bytes, text)``, total 0 while unknown; raising from it
        cancels and keeps what has come.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    InputError
        If it can't be had, doesn't fit on the disk or is not what was published.
    """
    job = _Job(url, target, digest, size or 0, progress or (lambda done, total, text: None))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(job):
            if not target.is_file():  # someone else may have brought it while we waited
                _check_space(job)
                _verify(_transfer(job))
    except OSError as error:
        raise _as_input_error(error, job) from error
    return target


@contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Hold the file's lock; while another process has it, say so and stay cancellable."""
    from filelock import FileLock, Timeout

    lock = FileLock(job.beside(".lock"))
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            job.progress(
                _size(job.beside(".part")), job.size, f"Waiting for another download of {job.target.name}"
            )
    try:
        yield
    finally:
        lock.release()


def _transfer(job: _Job) -> _Job:
    """Bring all bytes into the .part file, in as many attempts as make progress."""
    part, failures = job.beside(".part"), 0
    best = _size(part)
    while True:
        try:
            return _attempt(job)
        except _Interrupted as error:
            have = _size(part)
            failures = 0 if have > best else failures + 1
            best = max(best, have)
            if failures == TRIES:
                raise InputError(
                    f"Downloading '{job.target.name}' from {urlsplit(job.url).netloc} failed ({error}): try "
                    f"again when the network is there, {job.by_hand}."
                ) from error
            job.progress(have, job.size, f"Trying again: {error}")
            time.sleep(PAUSE * 2 ** max(0, failures - 1))


def _attempt(job: _Job) -> _Job:
    """Ask for what is missing and append it; return the job with its true size."""
    import requests

    part = job.beside(".part")
    version = _resumable(job)
    headers = {"Accept-Encoding": "identity"}  # bytes as they are, so that ranges and sizes mean the file
    if version is not None:
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": version}
    try:
        with requests.get(job.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            job = _prepare(job, response)
            _append(job, response)
    except requests.RequestException as error:
        raise _Interrupted(_reason(error)) from error
    if job.size and _size(part) != job.size:
        raise _Interrupted(f"it broke off at {_mb(_size(part))} of {_mb(job.size)}")
    return replace(job, size=_size(part))


def _resumable(job: _Job) -> str | None:
    """ETag of the version of which the .part file is the beginning; without one nothing can be resumed."""
    note = _read_json(job.beside(".part.json"))
    if _size(job.beside(".part")) and note.get("url") == job.url and isinstance(note.get("etag"), str):
        return note["etag"]
    return None


def _prepare(job: _Job, response: Response) -> _Job:
    """Look at the answer and bring the .part file to where the answer's bytes begin."""
    part, have = job.beside(".part"), _size(job.beside(".part"))
    span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    if response.status_code == 206 and span and span[1] == str(have):
        return replace(job, size=int(span[2]))
    if response.status_code == 416 and span and span[2] == str(have):
        return replace(job, size=have)  # it was complete: the last run ended before the check
    if response.status_code in (206, 416):
        _discard(job)
        raise _Interrupted("the server sent another part than was asked for")
    _check_status(job, response)
    etag = response.headers.get("ETag", "")
    part.write_bytes(b"")
    # A weak ETag (W/"...") does not promise equal bytes, and HTTP allows no resuming by it.
    note = {"url": job.url, "etag": etag if etag.startswith('"') else None}
    job.beside(".part.json").write_text(json.dumps(note))
    return replace(job, size=int(response.headers.get("Content-Length", job.size)))


def _check_status(job: _Job, response: Response) -> None:
    """Accept a 200 with a file in it; tell what is final from what may pass."""
    code = response.status_code
    if code in (408, 425, 429) or code >= 500:
        raise _Interrupted(f"the server answered {code} {response.reason}")
    if code != 200:
        raise InputError(
            f"The server answered {code} {response.reason} for {job.url}: check the address, {job.by_hand}."
        )
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(
            f"The server sent a web page instead of the file for {job.url} (perhaps your network asks you "
            f"to log in first): try again, {job.by_hand}."
        )


def _append(job: _Job, response: Response) -> None:
    if response.status_code == 416:
        return
    text = f"Downloading {job.target.name}"
    with job.beside(".part").open("ab") as file:
        done = file.tell()
        job.progress(done, job.size, text)
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            done += len(chunk)
            job.progress(done, job.size, text)
        file.flush()
        os.fsync(file.fileno())


def _verify(job: _Job) -> None:
    """Compare the complete .part file with what was published, note its hash and give it its name."""
    part = job.beside(".part")
    found = _hashes(
        part, job.digest, lambda done: job.progress(done, job.size, f"Checking {job.target.name}")
    )
    checked = job.digest is not None and job.digest.checkable
    if job.digest is not None and checked and found[job.digest.kind] != job.digest.hexadecimal.lower():
        _discard(job)
        raise InputError(
            f"What came from {job.url} is not the file that was published (its {job.digest.kind} is "
            f"{found[job.digest.kind]} instead of {job.digest.hexadecimal}) and was deleted: try again, "
            f"{job.by_hand}."
        )
    text = f"Downloaded {job.target.name}"
    if not checked:
        why = "no SHA-256 is published for it"
        if job.digest is not None:
            why += f", and checking its {job.digest.kind} needs the package xxhash"
        text = f"{job.target.name} could not be verified ({why}); its SHA-256 is {found['sha256']}"
        _log.warning("%s.", text)
    os.replace(part, job.target)
    _note(job.target, found["sha256"], checked, url=job.url)
    job.beside(".part.json").unlink(missing_ok=True)
    job.progress(job.size, job.size, text)


def check_local(
    path: Path, digest: Digest | None, *, anew: bool = False, progress: Progress | None = None
) -> bool:
    """Check a file that is here, whether it was downloaded or put there by hand.

    Fast where size and time of change are as noted before; else it is read and compared with the published
    digest, or, where none can be checked, with the SHA-256 noted when it was first seen.

    Parameters
    ----------
    path : Path
        The file.
    digest : Digest or None
        What was published.
    anew : bool
        Read it even if it has not changed on disk.
    progress : callable, optional
        As in `fetch`, while the file is read.

    Returns
    -------
    bool
        Whether it is known to be the file that was published; False where no digest can be checked.

    Raises
    ------
    InputError
        If it is another file than before or than the one published.
    """
    note, status = _read_json(path.with_name(path.name + ".json")), path.stat()
    if not anew and (note.get("size"), note.get("changed_ns")) == (status.st_size, status.st_mtime_ns):
        return bool(note.get("verified"))
    tell = progress or (lambda done, total, text: None)
    found = _hashes(path, digest, lambda done: tell(done, status.st_size, f"Checking {path.name}"))
    checked = digest is not None and digest.checkable
    if digest is not None and checked:
        good = found[digest.kind] == digest.hexadecimal.lower()
        what = "is not the file that was published under this name"
    else:
        good = note.get("sha256", found["sha256"]) == found["sha256"]
        what = "has changed since it was downloaded"
    if not good:
        raise InputError(f"The model file '{path}' {what}: delete it, and it will be downloaded anew.")
    with suppress(OSError):  # a folder of models that an administrator shares may be read-only
        _note(path, found["sha256"], checked, url=note.get("url"))
    return checked


def _hashes(
    path: Path, digest: Digest | None, progress: Callable[[int], None] | None = None
) -> dict[str, str]:
    """Hexadecimal SHA-256 of a file, and the published kind of digest where it can be computed."""
    hashers: dict[str, Any] = {"sha256": hashlib.sha256()}
    if digest is not None and digest.kind == "xxh128" and digest.checkable:
        hashers["xxh128"] = import_module("xxhash").xxh128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            for hasher in hashers.values():
                hasher.update(block)
            if progress is not None:
                progress(file.tell())
    return {kind: hasher.hexdigest() for kind, hasher in hashers.items()}


def _note(path: Path, sha256: str, verified: bool, url: str | None) -> None:
    status, note = path.stat(), path.with_name(path.name + ".json")
    content = {
        "url": url,
        "sha256": sha256,
        "verified": verified,
        "size": status.st_size,
        "changed_ns": status.st_mtime_ns,
    }
    temporary = note.with_name(f"{note.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, note)


def _check_space(job: _Job) -> None:
    missing = job.size - _size(job.beside(".part"))
    if missing > shutil.disk_usage(job.target.parent).free:
        raise OSError(errno.ENOSPC, "not enough space")


def _as_input_error(error: OSError, job: _Job) -> InputError:
    folder = job.target.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        size = f"{_mb(job.size)} in all" if job.size else "more than is free"
        return InputError(
            f"The disk is full: '{job.target.name}' needs {size} in '{folder}'; free some space or set "
            "SAMSCAPE_CACHE to a folder on another disk, and the download will continue."
        )
    return InputError(
        f"The folder '{folder}' cannot be written ({error.strerror or error}); set SAMSCAPE_CACHE to one "
        "that can."
    )


def _discard(job: _Job) -> None:
    job.beside(".part").unlink(missing_ok=True)
    job.beside(".part.json").unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed; the libraries' own texts are a screen long."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
