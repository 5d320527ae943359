"""Reading other programs' pickled files without executing anything in them.

Weights and architecture files go through PyTorch's restricted loader with NumPy's number types allowed by name. The
published latency table is a pickled dict in a NumPy file. Its reader knows only the few names that such a file needs,
replaces them by inert stand-ins, and accepts only a dict of text to numbers.
"""

import io
import math
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

_LARGEST_TABLE_BYTES = 64 * 2**20
_ADVICE = ("Weights only load failed", "Please file an issue", "Check the documentation", "(1)", "(2)")
# what the restricted readers raise for files that are damaged, of another kind or refused
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


def load_foreign(path: Path) -> object:
    """Reads tensors, numbers and plain containers that another program saved with `torch.save`, onto the CPU.

    Args:
        path: A `.pt` or `.pth` file, in PyTorch's present format or its old one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder or damaged, or holds more than tensors, numbers and plain containers; nothing in it
            was executed.
    """
    _check_file(path)
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed: list[Any] = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),  # the name it had before NumPy 2
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
        np.dtypes.Int64DType,
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickle protocols, before the refusal below
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} was refused; nothing in it was executed. Expected a file of tensors, numbers and plain containers "
            f"saved with torch.save, found: {_reason(error)}"
        ) from error


def read_number_table(path: Path) -> dict[str, float]:
    """Reads a dict of text to numbers from a `.npy` file whose single object it is.

    Args:
        path: A file as `numpy.save(path, {...})` writes it, from Python 2 or 3.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no NumPy file or damaged, or holds anything but a dict of text to finite numbers; nothing in
            it was executed.
    """
    _check_file(path)
    size = path.stat().st_size
    if size > _LARGEST_TABLE_BYTES:
        raise ValueError(f"{path} has {size} bytes, expected a table of at most {_LARGEST_TABLE_BYTES}")
    data = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(data)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(data)
        if shape != () or dtype != np.dtype(object):
            raise ValueError(f"an array of shape {shape} and type {dtype}")
        found = _TableUnpickler(data).load()
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} was refused; nothing in it was executed. Expected a NumPy file that holds one dict of text to "
            f"numbers, found: {_reason(error)}"
        ) from error
    return _checked_table(found.value if isinstance(found, _Array) else found, path)


def write_number_table(path: Path, table: dict[str, float]) -> None:
    """Writes a dict of text to numbers as the published program reads it: `numpy.load(path, allow_pickle=True).item()`.

    The pickle is of protocol 2, which Python 2 and 3 both read.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.empty((), dtype=object)
    array[()] = dict(table)
    path.write_bytes(header.getvalue() + pickle.dumps(array, protocol=2, fix_imports=True))


class _Array:
    """Stands in for the array that wraps the dict; only keeps the content of its state."""

    value: object = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = state[-1][0]


class _DataType:
    """Stands in for the array's data type, which is known already."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _array(*_: object) -> _Array:
    return _Array()


def _encode(*_: object) -> bytes:
    """Stands in for the codec call by which Python 3 writes a byte string for Python 2."""
    return b""


class _TableUnpickler(pickle.Unpickler):
    """Resolves names to stand-ins only; any other name is refused before anything is called."""

    _STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
        ("numpy.core.multiarray", "_reconstruct"): _array,
        ("numpy._core.multiarray", "_reconstruct"): _array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DataType,
        ("_codecs", "encode"): _encode,
    }

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """The stand-in of a name that a table needs.

        Raises:
            pickle.UnpicklingError: It is any other name.
        """
        stand_in = self._STAND_INS.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"a pickle that asks for {module}.{name}")
        return stand_in

    def persistent_load(self, pid: Any) -> object:
        """Refuses references to objects outside the file."""
        raise pickle.UnpicklingError(f"a pickle that refers to an outside object {pid!r}")


def _checked_table(found: object, path: Path) -> dict[str, float]:
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}, expected a dict of text to numbers")
    for key, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(key, str) or not number or not math.isfinite(value):
            raise ValueError(f"{path} holds {value!r} under {key!r}, expected a finite number under a text")
    return {key: float(value) for key, value in found.items()}


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file in it")
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")


def _reason(error: Exception) -> str:
    """The line of the loader's message that says what was wrong; PyTorch puts advice to run it unsafely around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_ADVICE)]
    return (telling or [type(error).__name__])[0]
