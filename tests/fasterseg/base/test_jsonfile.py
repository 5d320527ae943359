from pathlib import Path

import pytest

from fasterseg.base.jsonfile import load_json, read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty, expected JSON"),
        ("{", "it is not valid JSON: Expecting"),
        ("[" * 100_000, "it is not usable JSON: it is nested too deeply"),
        ("9" * 5000, "it is not valid JSON: Exceeds the limit"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_json(text, "it")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=f"no file at {file}"):
        read_json(file)
    file.write_bytes(b"\xff{")
    with pytest.raises(ValueError, match="a.json:1: the byte 0xFF is not UTF-8"):
        read_json(file)
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file) == {"a": 1}
    file.write_bytes('{"a": 1}'.encode("utf-16"))
    assert read_json(file) == {"a": 1}
