"""The clocks of a CUDA device, to be recorded beside its times; they are read, never set."""

import shutil
import subprocess

_QUERIES = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
_PATIENCE_S = 10


def read_clocks_mhz(device_index: int = 0) -> dict[str, int]:
    """Present and highest clocks by nvidia-smi's names, in MHz; empty where that program is absent or cannot tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [
        program,
        f"--id={device_index}",
        f"--query-gpu={','.join(_QUERIES)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in answer.split(",")]
    # a clock that a device does not tell is "[N/A]"
    return {name: int(value) for name, value in zip(_QUERIES, values, strict=False) if value.isdigit()}
