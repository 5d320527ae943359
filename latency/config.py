"""The sections of an experiment file that this room owns: `target` (device, budget) and `latency` (how to measure)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fasterseg.engine.config import Section

RunnerChoice = Literal["auto", "onnxruntime", "openvino", "pytorch"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32"]


class TargetConfig(Section):
    """What the network has to run on, and how fast: the `target` section.

    Attributes:
        runner: The runtime that executes the network; `auto` takes ONNX Runtime on a CPU and PyTorch on a GPU.
        device: Where it runs; `auto` takes a GPU where the runner can use one.
        precision: Number format of the deployed network.
        threads: CPU threads that one inference may use.
        input_size: (height, width) of the image.
        budget_ms: The most that one inference may take.
        budget_share: The budget as a share of what the space can reach: 0 is its fastest network, 1 its slowest.
            For examples that have to work on any machine.
    """

    runner: RunnerChoice = "auto"
    device: DeviceChoice = "auto"
    precision: Precision = "fp32"
    threads: Annotated[int, Field(ge=1)] = 1
    input_size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (1024, 2048)
    budget_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    budget_share: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget_ms is not None and self.budget_share is not None:
            raise ValueError(
                f"budget_ms {self.budget_ms} and budget_share {self.budget_share} are both set; keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _runner_fits_device(self) -> Self:
        if self.device == "cuda" and self.runner not in ("auto", "pytorch"):
            raise ValueError(f"runner {self.runner} runs on the CPU only; use runner pytorch, or device cpu")
        return self


class LatencyConfig(Section):
    """How times are measured and how the prediction is fitted: the `latency` section.

    Attributes:
        rounds: Rounds that a measurement consists of; its time is the median of their medians.
        round_ms: How long one operator or network runs in one round, at least.
        warmup_ms: How long it runs before the first round, at least.
        spread_bound: Interquartile range of the rounds' medians over their median; a measurement above it is
            repeated, and marked as unstable if it stays above.
        repeats: How often an unstable measurement is repeated.
        interleave: How many operators or networks take turns within a round.
        correction_networks: Random networks that are measured whole to fit the prediction; 0 leaves the plain sum.
        seed: Seed of the random networks.
    """

    rounds: Annotated[int, Field(ge=3)] = 5
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
