"""What a network is to run on and how it is timed: two sections of an experiment file, and what each runner can do.

The section `target` names runner, device, number format and budget, `latency` says how times are taken. The words for
runners, devices, number formats and modes stand here and nowhere else in this room. `SUPPORT` says which of them go
together, so that an experiment file is checked without importing a runtime.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator

from fasterseg.base.experiment import Section

RunnerChoice = Literal["auto", "onnxruntime", "openvino", "pytorch", "tensorrt"]
DeviceChoice = Literal["auto", "cpu", "cuda", "gpu", "npu"]
Precision = Literal["fp32", "fp16", "bf16"]
Mode = Literal["auto", "default", "eager", "channels_last", "cuda_graph", "compile", "cpu", "cuda", "tensorrt"]
AUTO = "auto"

# how the records of a table are validated when they are read
STRICT = ConfigDict(extra="forbid")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Support(NamedTuple):
    """What a runner can do on one device.

    Attributes:
        precisions: Number formats of the network's arithmetic.
        modes: Ways of execution; `auto` takes the first.
    """

    precisions: tuple[Precision, ...]
    modes: tuple[Mode, ...] = ("default",)


SUPPORT: Mapping[str, Mapping[str, Support]] = {
    "tensorrt": {"cuda": Support(("fp32", "fp16"))},
    "pytorch": {
        "cuda": Support(("fp32", "fp16", "bf16"), ("cuda_graph", "eager", "channels_last", "compile")),
        "cpu": Support(("fp32", "bf16"), ("eager", "channels_last", "compile")),
    },
    # the modes of ONNX Runtime are its execution providers
    "onnxruntime": {
        "cpu": Support(("fp32",), ("cpu",)),
        "cuda": Support(("fp32", "fp16"), ("cuda", "tensorrt")),
    },
    "openvino": {
        "cpu": Support(("fp32", "fp16", "bf16")),
        "gpu": Support(("fp32", "fp16")),
        "npu": Support(("fp16",)),
    },
}


def usual_mode(runner: str, device: str) -> Mode:
    """The mode that `auto` stands for."""
    return SUPPORT[runner][device].modes[0]


def find_problem(runner: str, device: str, *, precision: str, mode: str, tf32: bool) -> str | None:
    """Why a runner cannot do what is asked of it, with what it can do instead; None if it can.

    Args:
        runner: Name of the runner.
        device: `cpu`, `cuda`, `gpu` or `npu`.
        precision: Number format.
        mode: Way of execution, or `auto`.
        tf32: Whether float32 convolutions may round their inputs to TF32.
    """
    devices = SUPPORT[runner]
    if device not in devices:
        return f"runner {runner} has no device {device}; use {' or '.join(devices)}"
    precisions, modes = devices[device]
    if precision not in precisions:
        return f"runner {runner} has no precision {precision} on {device}; use {' or '.join(precisions)}"
    if mode not in (AUTO, *modes):
        return f"runner {runner} has no mode {mode} on {device}; use {' or '.join((AUTO, *modes))}"
    if tf32 and device != "cuda":
        return f"tf32 is a format of CUDA devices, not of {device}; set tf32 to false"
    if (runner, mode) == ("onnxruntime", "tensorrt") and precision == "fp32" and not tf32:
        return "ONNX Runtime's TensorRT provider cannot switch TF32 off; set tf32 to true, or use runner tensorrt"
    return None


def find_devices(runner: str, device: str, *, precision: str, mode: str, tf32: bool) -> tuple[str, ...]:
    """The devices on which a runner can do what is asked of it, the usual one first.

    Raises:
        ValueError: There is none; the message says why.
    """
    candidates = tuple(SUPPORT[runner]) if device == AUTO else (device,)
    problems = {
        candidate: find_problem(runner, candidate, precision=precision, mode=mode, tf32=tf32)
        for candidate in candidates
    }
    fitting = tuple(candidate for candidate, problem in problems.items() if problem is None)
    if not fitting:
        raise ValueError("; ".join(problem for problem in problems.values() if problem is not None))
    return fitting


class TargetConfig(Section):
    """What the network has to run on, and how fast: the `target` section.

    Attributes:
        runner: The runtime that executes the network; `auto` takes TensorRT or PyTorch on a CUDA device, and ONNX
            Runtime on a CPU.
        device: Where it runs. `auto` takes the runner's usual device of those that can do what is asked for: with
            TensorRT a CUDA device; with PyTorch a CUDA device where there is one, else the CPU; with ONNX Runtime and
            OpenVINO the CPU, so that `cuda`, `gpu` or `npu` (the latter two are OpenVINO's) have to be named, or
            follow from a precision or mode that the CPU does not have.
        precision: Number format of the deployed network's arithmetic; images and logits are float32 in any case.
        mode: How the runtime executes it. PyTorch: `eager`, `channels_last`, `cuda_graph` or `compile`; ONNX Runtime:
            its execution provider `cpu`, `cuda` or `tensorrt`. `auto` takes the runner's usual one for the device.
        tf32: Whether float32 convolutions on a CUDA device may round their inputs to TF32's 10 bits of mantissa.
        threads: CPU threads that one inference may use.
        engine_cache: Folder where TensorRT keeps built engines and kernel timings; the user's cache folder when null.
        input_size: (height, width) of the image.
        budget_ms: The most that one inference may take.
        budget_share: The budget as a share of what the space can reach: 0 is its fastest network, 1 its slowest.
            For examples that have to work on any machine.
    """

    runner: RunnerChoice = "auto"
    device: DeviceChoice = "auto"
    precision: Precision = "fp32"
    mode: Mode = "auto"
    tf32: bool = False
    threads: Annotated[int, Field(ge=1)] = 1
    engine_cache: Path | None = None
    input_size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (1024, 2048)
    budget_ms: Positive | None = None
    budget_share: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _budget_is_set_once(self) -> Self:
        if self.budget_ms is not None and self.budget_share is not None:
            raise ValueError(
                f"budget_ms {self.budget_ms} and budget_share {self.budget_share} are both set; keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _runner_can_do_it(self) -> Self:
        if self.runner != AUTO:
            find_devices(self.runner, self.device, precision=self.precision, mode=self.mode, tf32=self.tf32)
        return self


# what a correction is fitted on; the other fields decide how an operator is timed
_FITTING = {"correction_networks", "network_rounds", "seed"}


class LatencyConfig(Section):
    """How times are measured and how the prediction is fitted: the `latency` section.

    Attributes:
        rounds: Rounds that the measurement of an operator consists of; its time is the median of their medians.
        network_rounds: Likewise of a whole network; networks are few, and predictions are held against them.
        longest_ms: Upper limit for all rounds of one operator or network together. A slower one gets fewer rounds, but
            at least min(5, rounds).
        round_ms: Minimum run time per round. On CUDA also enough calls that all rounds together have at least 100.
        warmup_ms: Minimum run time before the first round; on CUDA at least 200 ms.
        spread_bound: Interquartile range of the rounds' medians over their median; a measurement above it is
            repeated, and marked as unstable if it stays above.
        repeats: How often an unstable measurement is repeated.
        interleave: How many operators or networks take turns within a round.
        correction_networks: Random networks that are measured whole to fit the prediction; 0 leaves the plain sum.
        seed: Seed of the random networks.
    """

    rounds: Annotated[int, Field(ge=3)] = 7
    network_rounds: Annotated[int, Field(ge=3)] = 11
    longest_ms: Annotated[float, Field(gt=0)] = 4000.0
    round_ms: Annotated[float, Field(gt=0)] = 20.0
    warmup_ms: Annotated[float, Field(ge=0)] = 20.0
    spread_bound: Annotated[float, Field(gt=0)] = 0.1
    repeats: Annotated[int, Field(ge=0)] = 1
    interleave: Annotated[int, Field(ge=1)] = 8
    correction_networks: Annotated[int, Field(ge=0)] = 20
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _enough_networks(self) -> Self:
        if 0 < self.correction_networks < 6:
            raise ValueError(
                f"correction_networks is {self.correction_networks}: too few to fit and check a prediction; "
                "use 0 (plain sum) or at least 6"
            )
        return self

    def timing(self) -> dict[str, Any]:
        """The fields that decide how one operator is timed, as JSON-ready data."""
        return self.model_dump(mode="json", exclude=_FITTING)

    def fitting(self) -> dict[str, Any]:
        """The fields that decide what the correction is fitted on, as JSON-ready data."""
        return self.model_dump(mode="json", include=_FITTING)

    def for_networks(self) -> Self:
        """The protocol with the rounds of a whole network."""
        return self.model_copy(update={"rounds": self.network_rounds})
