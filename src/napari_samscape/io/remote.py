"""Pictures behind URLs, through fsspec: parts of files, and Zarr stores.

A request that fails is tried again; one that keeps failing is a `VanishedError`, which ends a job with what
is done kept. Only a store's missing chunks are no errors, as Zarr has it. Credentials come from the
environment alone, as the AWS tools read them.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, WrapperStore

from napari_samscape.errors import InputError

SCHEMES = ("http", "https", "s3")
#: Seconds before each further try.
WAITS = (0.5, 2.0, 5.0)
BLOCK = 2**16
_Answer = TypeVar("_Answer")


class VanishedError(InputError):
    """A URL that could be opened and now cannot be read, however often it is tried."""


def is_url(source: object) -> bool:
    """Whether something is the text of a URL; file names never are, on no system."""
    return isinstance(source, str) and re.match(r"[A-Za-z][\w+.-]+://", source) is not None


def open_remote_file(url: str) -> BufferedReader:
    """Open a file behind a URL, of which only the parts that are asked for travel.

    Raises
    ------
    InputError
        If there is no such file, it cannot be reached, its server gives no parts of files, the scheme is
        unknown, or what reads it is not installed.
    """
    return BufferedReader(_RemoteFile(url))


def remote_store(url: str) -> Store:
    """Make a Zarr store, to be read only, of a URL.

    Raises
    ------
    InputError
        As `open_remote_file`, but for what is seen when something is read.
    """
    fs, path = _file_system(url, asynchronous=True)
    return _RetryingStore(FsspecStore(fs, read_only=True, path=path.rstrip("/")), url)


def _file_system(url: str, asynchronous: bool) -> tuple[Any, str]:
    parts = urlsplit(url)
    if parts.scheme.lower() not in SCHEMES:
        raise InputError(f"{url} cannot be read: of URLs, http, https and s3 are known.")
    if parts.username is not None or parts.password is not None:
        raise InputError("A URL must not hold a name or password; credentials belong into the environment.")
    try:
        if parts.scheme.lower() == "s3":
            from obstore.fsspec import FsspecStore as S3

            # A server of one's own, in one's own network.
            plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http:")
            options: Any = {"allow_http": True} if plain else {}
            few: Any = {"max_retries": 0}  # we do that
            about: Any = {
                "asynchronous": asynchronous,
                "skip_instance_cache": True,
            }  # the environment may change
            return S3("s3", client_options=options, retry_config=few, **about), url.partition("://")[2]
        import aiohttp  # noqa: F401  (fsspec needs it)
        from fsspec.implementations.http import HTTPFileSystem
    except ImportError:
        raise InputError(f"To read {url}, pip install 'napari-samscape[remote]'.") from None
    return HTTPFileSystem(asynchronous=asynchronous), url  # one for all URLs, with its connections


# Failing and trying again ------------------------------------------------------------------------------


def _worth_another_try(error: Exception) -> bool:
    """Whether it is the network's fault; raises what is none of our business."""
    if isinstance(error, (FileNotFoundError, InputError)):
        raise error
    known = isinstance(error, OSError | TimeoutError) or type(error).__module__.split(".")[0] in (
        *("aiohttp", "obstore", "builtins.obstore"),
    )
    if not known:
        raise error
    return int(getattr(error, "status", 500) or 500) >= 500


def _vanished(url: str, error: Exception) -> VanishedError:
    reason = (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__
    return VanishedError(
        f"{url} cannot be reached any more: {reason}. What is done is kept: start again to go on."
    )


def _retried(url: str, call: Callable[[], _Answer]) -> _Answer:
    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            if not _worth_another_try(error) or wait is None:
                raise _vanished(url, error) from error
            time.sleep(wait)
    raise AssertionError


async def _retried_async(url: str, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
    for wait in (*WAITS, None):
        try:
            return await call()
        except Exception as error:
            if not _worth_another_try(error) or wait is None:
                raise _vanished(url, error) from error
            await asyncio.sleep(wait)
    raise AssertionError


class _RetryingStore(WrapperStore[Store]):
    """A store that tries again; reading is all that is asked of it."""

    def __init__(self, store: Store, url: str) -> None:
        super().__init__(store)
        self._url = url

    def _with_store(self, store: Store) -> _RetryingStore:
        return _RetryingStore(store, self._url)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return await _retried_async(
            self._url,
            lambda: self._store.get(key, prototype, byte_range),  # type: ignore[arg-type]
        )

    async def exists(self, key: str) -> bool:
        return await _retried_async(self._url, lambda: self._store.exists(key))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for key, prototype, byte_range in requests:
            yield key, await self.get(key, prototype, byte_range)


class BufferedReader(io.BufferedReader):
    """A remote file that is read in blocks, as small reads would be many requests."""

    def __init__(self, raw: _RemoteFile) -> None:
        super().__init__(raw, BLOCK)
        self.part, self.size = raw.part, raw.size


class _RemoteFile(io.RawIOBase):
    """A file that is read in parts, each in one request."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.place = url, 0
        self.fs, self.path = _file_system(url, asynchronous=False)
        try:
            size = _retried(url, lambda: self.fs.info(self.path))["size"]
        except FileNotFoundError:
            raise InputError(f"There is no file {url}.") from None
        if size is None:
            raise InputError(f"{url} cannot be read: its server does not say how long it is.")
        self.size = int(size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = start + offset
        return self.place

    def readinto(self, buffer: Any) -> int:
        start, stop = self.place, min(self.place + len(buffer), self.size)
        if stop <= start:
            return 0
        buffer[: stop - start] = self.part(start, stop)
        self.place = stop
        return stop - start

    def part(self, start: int, stop: int) -> bytes:
        """Read from one byte to before another, wherever the file is read otherwise, and from any thread."""
        try:
            data: bytes = _retried(self.url, lambda: self.fs.cat_file(self.path, start=start, end=stop))
        except FileNotFoundError as error:
            raise _vanished(self.url, error) from error
        if len(data) != stop - start:
            raise InputError(f"{self.url} cannot be read in parts: its server takes no range requests.")
        return data
