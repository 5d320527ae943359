"""Downloading a file over http or https so that a cut-off download goes on where it stopped.

The part that is there lies beside a note of its address and version; the server is asked for the rest, and for the
whole again when its file has changed.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote, urlsplit

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from dataset_tools.pull.archive import DOWNLOAD_FOLDER
from fasterseg.base.files import write_text

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 2**20


class _Part(NamedTuple):
    """Where the part of a download lies, and the note about it."""

    url: str
    data: Path
    note: Path

    @property
    def size_bytes(self) -> int:
        """Bytes that are there of this address's file; 0 when the note tells of another."""
        if not (self.data.is_file() and self.note.is_file() and json.loads(self.note.read_text())["url"] == self.url):
            return 0
        return self.data.stat().st_size

    @property
    def version(self) -> str | None:
        """What the server called the version of the file that the part is of."""
        version = json.loads(self.note.read_text())["version"]
        return str(version) if version else None


def download(url: str, out: Path, *, progress: bool = True) -> Path:
    """Downloads a file, or goes on with it.

    Args:
        url: An http or https address.
        out: Dataset folder; the file goes to `.download` in it.
        progress: Show a progress bar.

    Returns:
        The complete file.

    Raises:
        ValueError: The server refused, or the connection broke off; what came so far is kept, and the same call goes on
            with it.
    """
    folder = out / DOWNLOAD_FOLDER
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(url).path.rsplit("/", 1)[-1])).lstrip(".") or "download"
    part = _Part(url, folder / f"{name}.part", folder / f"{name}.json")
    complete = folder / name
    if complete.is_file():
        return complete
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(part, progress=progress)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url}: the server answered {error.code} {error.reason}; correct the address") from error
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"the download of {url} broke off after {part.size_bytes:,} bytes ({error or type(error).__name__}); run "
            "the same command again to go on"
        ) from error
    part.data.replace(complete)
    part.note.unlink()
    return complete


def _fetch(part: _Part, *, progress: bool) -> None:
    """Gets what is missing."""
    start = part.size_bytes
    request = urllib.request.Request(part.url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if part.version:
            request.add_header("If-Range", part.version)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            start, total = _begin(part, response.status, response.headers, start)
            _copy(response, part, start, total, progress=progress)
    except urllib.error.HTTPError as error:
        # 416: there is nothing after the part. Either it is the whole file, or it is of another one.
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "") != f"bytes */{start}":
            part.data.unlink()
            _fetch(part, progress=progress)


def _begin(part: _Part, status: int, headers: HTTPMessage, asked: int) -> tuple[int, int | None]:
    """Reads where the answer starts and how long the file is, and notes its version."""
    length = headers.get("Content-Length")
    total = int(length) if length is not None else None
    start = 0
    if status == http.client.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
        if found is None or int(found[1]) != asked:
            raise ValueError(
                f"{part.url}: asked for the bytes from {asked} on, the server sent {headers.get('Content-Range')!r}; "
                f"remove {part.data} to begin anew"
            )
        start, total = asked, int(found[2]) + 1
    etag = headers.get("ETag")
    version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    write_text(part.note, json.dumps({"url": part.url, "version": version}))
    return start, total


def _copy(response: IO[bytes], part: _Part, start: int, total: int | None, *, progress: bool) -> None:
    """Appends the answer to the part."""
    columns = ("download", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with part.data.open("ab" if start else "wb") as file, Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("download", total=total, completed=start)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            bar.advance(task, len(chunk))
        size = file.tell()
    if total is not None and size != total:
        raise http.client.HTTPException(f"{size:,} of {total:,} bytes came")
