"""Names of devices and number formats, the same in every option and setting; needs no PyTorch."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fasterseg.base.experiment import Section

# `auto` is CUDA where there is a device for it, else the CPU; OpenVINO also knows `gpu` and `npu` (see `latency`)
Device = Literal["auto", "cpu", "cuda"]
# all number formats; an option that takes only some of them has a type of its own
Precision = Literal["fp64", "fp32", "bf16", "fp16", "int8"]
TrainingPrecision = Literal["fp32", "bf16"]
ComparingPrecision = Literal["fp64", "fp32"]
FABRIC_PRECISIONS: dict[TrainingPrecision, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}
_OTHER_NAMES: dict[str, Precision] = {
    **{fabric: name for name, fabric in FABRIC_PRECISIONS.items()},
    "float64": "fp64",
    "double": "fp64",
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
}


def check_precision(name: object) -> object:
    """Refuses other libraries' names of number formats, such as `float32`.

    Raises:
        ValueError: The name is another library's; the message gives the toolkit's name.
    """
    if isinstance(name, str) and name in _OTHER_NAMES:
        raise ValueError(f"expected fp32, bf16 and the like; write {_OTHER_NAMES[name]}")
    return name


class DeviceConfig(Section):
    """The devices and the precision of a stage: the `device` part of its section.

    Attributes:
        accelerator: `cpu`, `cuda`, or `auto` for CUDA where there is one.
        devices: How many devices of this machine; one process each. Under `torchrun` its `--nproc_per_node` decides,
            and this stays 1.
        precision: Number format of the forward and backward pass: `fp32`, or `bf16` for mixed precision.
        threads: CPU threads of PyTorch in each process; null for all available cores, divided between the processes
            (`torchrun` sets 1). On a busy machine, small networks are fastest with 1.
    """

    accelerator: Device = "auto"
    devices: Annotated[int, Field(ge=1)] = 1
    precision: TrainingPrecision = "fp32"
    threads: Annotated[int, Field(ge=1)] | None = None

    @field_validator("precision", mode="before")
    @classmethod
    def _known_precision(cls, precision: object) -> object:
        return check_precision(precision)
