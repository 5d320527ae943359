import os
from pathlib import Path

import pytest

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.lines import append_json_lines, append_text_line, read_json_lines


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    append_json_lines(path, [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None}])
    append_json_lines(path, [{"step": 3}], synced=True)
    assert read_json_lines(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None}, {"step": 3}]


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b'{"step": 2}', b"\0\0\0\0", '{"größe'.encode()[:-1], b"{"])
def test_a_torn_last_line_is_no_record_and_the_next_one_takes_its_place(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    append_json_lines(path, [{"step": 1}])
    with path.open("ab") as file:
        file.write(torn)
    assert read_json_lines(path) == [{"step": 1}]
    append_json_lines(path, [{"step": 2}])
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_nothing_but_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"st')
    assert read_json_lines(path) == []
    append_json_lines(path, [{"step": 1}])
    assert read_json_lines(path) == [{"step": 1}]


def test_damage_in_the_middle_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st{"step": 2}\n\xff\n{"step": 3}\n')
    with pytest.raises(DamagedFileError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_json_lines(path)
    assert read_json_lines(path, skip_damaged=True) == [{"step": 1}, {"step": 3}]


def test_a_log_goes_on_in_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    append_text_line(path, "epoch 1: größe")
    with path.open("a") as file:
        file.write("epo")
    append_text_line(path, "epoch 2 \udcff")
    assert path.read_text().splitlines() == ["epoch 1: größe", "epo", r"epoch 2 \udcff"]


@pytest.mark.skipif(not Path("/dev/full").exists() or os.name != "posix", reason="needs /dev/full")
def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        append_text_line(path, "epoch 1")
    assert caught.value.filename == str(path)
