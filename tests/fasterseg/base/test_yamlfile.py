"""YAML of anybody's: plain data, or one message that names the place, within a fraction of a second."""

import time
from pathlib import Path

import pytest

from fasterseg.base.yamlfile import MOST_BYTES, MOST_NODES, load_yaml, read_yaml

BILLIONS = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


def test_plain_data_with_aliases_and_merges() -> None:
    text = "a: &a {x: 1, y: 1e-3}\nb: {<<: *a, x: 2}\nc: [*a, yes, 2020-02-29, ~, '1']\n"
    a = {"x": 1, "y": "1e-3"}
    data = load_yaml(text, "it")
    assert (data["a"], data["b"]) == (a, {**a, "x": 2})
    assert data["c"][:2] == [a, True] and data["c"][3:] == [None, "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BILLIONS, "it, line 5: more than 20000 values, those that aliases"),
        (MERGES, "more than 20000 values"),
        ("\n".join(["- 1"] * (MOST_NODES + 1)), "more than 20000 values"),
        ("a: &a [1, *a]", r"it, line 1: \*a stands inside of what it repeats"),
        ("x: 1\na: " + "[" * 3000, "it, line 2: nested more than 32 levels deep"),
        ("- " * 30000, "nested more than 32 levels deep"),
        ("a: !!int one", "the tag tag:yaml.org,2002:int is not expected here"),
        ("a: !!python/object/apply:os.getcwd []", "the tag .* is not expected here"),
        ("a: 2020-13-01", "it, line 1: 2020-13-01 is no value: month must be in 1..12; write it in quotes"),
        ("a: " + "9" * 5000, "has 5000 characters, more than a number needs"),
        ("a: 1" + ":1" * 3000, "has 6001 characters"),
        ("a: [1", "it is not valid YAML: "),
        ("a: *b", "it is not valid YAML: found undefined alias"),
        ("? [a]\n: b", "it is not valid YAML: .*\n.*\n"),
        ("a: \x00", "it is not valid YAML: unacceptable character"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    started_s = time.process_time()
    with pytest.raises(ValueError, match=message):
        load_yaml(text, "it")
    assert time.process_time() - started_s < 5


def test_files_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for path in (file, tmp_path, Path("/dev/null")):
        with pytest.raises(FileNotFoundError, match=f"no file at {path}"):
            read_yaml(path)
    file.write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match="a.yaml:1: the byte 0xFF is not UTF-8"):
        read_yaml(file)
    file.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ValueError, match="expected at most"):
        read_yaml(file)
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(file) == {"a": 1}
    file.write_bytes("a: ä".encode("utf-16"))
    assert read_yaml(file) == {"a": "ä"}
