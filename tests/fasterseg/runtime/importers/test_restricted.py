import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.runtime.importers.restricted import load_foreign, read_number_table, write_number_table


class Malicious:
    """Makes a folder when an unrestricted reader unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def save_npy(path: Path, value: object) -> None:
    array = np.empty((), dtype=object)
    array[()] = value
    np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_weights_file_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    path, trap = tmp_path / "weights.pt", tmp_path / "trap"
    torch.save({"a": torch.zeros(2), "b": Malicious(trap)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="weights.pt was refused; nothing in it was executed.*mkdir"):
        load_foreign(path)
    assert not trap.exists()
    # the trap works: what refuses it is the reader
    torch.load(path, weights_only=False)
    assert trap.is_dir()


def test_a_bare_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    path, trap = tmp_path / "weights.pt", tmp_path / "trap"
    path.write_bytes(pickle.dumps({"b": Malicious(trap)}, protocol=2))
    with pytest.raises(ValueError, match="was refused"):
        load_foreign(path)
    assert not trap.exists()


def test_a_malicious_table_is_refused_and_not_executed(tmp_path: Path) -> None:
    path, trap = tmp_path / "table.npy", tmp_path / "trap"
    save_npy(path, {"a": Malicious(trap)})
    with pytest.raises(ValueError, match=r"table.npy was refused; nothing in it was executed.*posix\.mkdir"):
        read_number_table(path)
    assert not trap.exists()
    np.load(path, allow_pickle=True)
    assert trap.is_dir()


def test_numpy_numbers_and_parameters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "arch.pt"
    saved = {"alpha": torch.nn.Parameter(torch.ones(2, 3)), "miou": np.float64(0.5), "latency": 6.25}
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    found = load_foreign(path)
    assert isinstance(found, dict)
    assert found["miou"] == 0.5 and found["latency"] == 6.25 and torch.equal(found["alpha"], torch.ones(2, 3))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04damaged", b"\x80\x02}q\x00(X"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was refused"):
        load_foreign(path)
    with pytest.raises(ValueError, match="was refused"):
        read_number_table(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for read in (load_foreign, read_number_table):
        with pytest.raises(FileNotFoundError, match="no file at"):
            read(tmp_path / "absent.pt")
        with pytest.raises(ValueError, match="is a folder"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": "text"}, "holds 'text' under 'a'"),
        ({"a": True}, "holds True"),
        ({"a": float("nan")}, "holds nan"),
        ({3: 1.0}, "under 3"),
        ({"a": {"b": 1.0}}, "expected a finite number"),
        ([1.0], "holds list"),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path: Path, value: object, message: str) -> None:
    save_npy(tmp_path / "table.npy", value)
    with pytest.raises(ValueError, match=message):
        read_number_table(tmp_path / "table.npy")


def test_an_array_of_numbers_is_no_table(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"an array of shape \(3,\)"):
        read_number_table(tmp_path / "table.npy")


def test_a_table_goes_out_and_in_and_numpy_reads_it(tmp_path: Path) -> None:
    path, table = tmp_path / "table.npy", {"conv_H64": 1.5, "head_H8": 0.25}
    write_number_table(path, table)
    assert read_number_table(path) == table
    assert np.load(path, allow_pickle=True, encoding="latin1").item() == table
    save_npy(path, table)
    assert read_number_table(path) == table
