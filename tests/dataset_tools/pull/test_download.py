import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dataset_tools.pull.download import download

DATA = bytes(range(256)) * 5000


class Server:
    """A local server that can break off, forget ranges, and change its file; notes what was asked for."""

    def __init__(self) -> None:
        self.data, self.version, self.cut_after, self.ranges = DATA, '"v1"', None, True
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                server.answer(self)

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/sets/my%20set.zip?x=1"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if "gone" in request.path:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start and request.headers.get("If-Range") not in (None, self.version):
            start = 0
        if start >= len(self.data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.data)}")
            request.end_headers()
            return
        rest = self.data[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(rest)))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        if self.version:
            request.send_header("ETag", self.version)
        request.end_headers()
        request.wfile.write(rest if self.cut_after is None else rest[: self.cut_after])

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_whole_file(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path, progress=False)
    assert path == tmp_path / ".download" / "my_set.zip"
    assert path.read_bytes() == DATA
    assert [each.name for each in path.parent.iterdir()] == ["my_set.zip"]
    assert download(server.url, tmp_path, progress=False) == path
    assert server.asked == [None]


def test_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    for expected in ("300,000", "600,000"):
        with pytest.raises(ValueError, match=f"broke off after {expected} bytes.*run the same command again"):
            download(server.url, tmp_path, progress=False)
    server.cut_after = None
    assert download(server.url, tmp_path, progress=False).read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_a_changed_file_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    with pytest.raises(ValueError, match="broke off"):
        download(server.url, tmp_path, progress=False)
    server.cut_after, server.version, server.data = None, '"v2"', DATA[::-1]
    assert download(server.url, tmp_path, progress=False).read_bytes() == DATA[::-1]


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.ranges = 300_000, False
    with pytest.raises(ValueError, match="broke off"):
        download(server.url, tmp_path, progress=False)
    server.cut_after = None
    assert download(server.url, tmp_path, progress=False).read_bytes() == DATA


@pytest.mark.parametrize("longer", [0, 7])
def test_nothing_is_left_to_fetch(server: Server, tmp_path: Path, longer: int) -> None:
    """The part is all of the file already, or is longer than the file, and so of another one."""
    server.version = ""
    server.cut_after = 300_000
    with pytest.raises(ValueError, match="broke off"):
        download(server.url, tmp_path, progress=False)
    part = tmp_path / ".download" / "my_set.zip.part"
    part.write_bytes(DATA + bytes(longer))
    server.cut_after = None
    assert download(server.url, tmp_path, progress=False).read_bytes() == DATA


def test_a_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    with pytest.raises(ValueError, match="broke off"):
        download(server.url, tmp_path, progress=False)
    server.cut_after = None
    download(server.url.replace("x=1", "x=2"), tmp_path, progress=False)
    assert server.asked == [None, None]


def test_a_wrong_range_is_not_appended(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.cut_after = 300_000
    with pytest.raises(ValueError, match="broke off"):
        download(server.url, tmp_path, progress=False)
    real = BaseHTTPRequestHandler.send_header

    def lie(self: BaseHTTPRequestHandler, name: str, value: str) -> None:
        real(self, name, value.replace("bytes 300000", "bytes 200000"))

    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", lie)
    with pytest.raises(ValueError, match="asked for the bytes from 300000 on"):
        download(server.url, tmp_path, progress=False)
    assert (tmp_path / ".download" / "my_set.zip.part").stat().st_size == 300_000


def test_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the server answered 404"):
        download(server.url.replace("sets", "gone"), tmp_path, progress=False)


def test_nobody_answers(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(ValueError, match="broke off after 0 bytes"):
        download(server.url, tmp_path, progress=False)
