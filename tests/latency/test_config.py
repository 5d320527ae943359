import pytest
from pydantic import ValidationError

from latency.config import LatencyConfig, TargetConfig


def test_only_one_budget() -> None:
    with pytest.raises(ValidationError, match="budget_ms 5.0 and budget_share 0.5 are both set"):
        TargetConfig(budget_ms=5.0, budget_share=0.5)


@pytest.mark.parametrize("values", [{"budget_ms": 0}, {"budget_ms": float("nan")}, {"budget_share": 1.1}])
def test_impossible_budgets(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TargetConfig.model_validate(values)


def test_a_runtime_without_a_runner_is_refused() -> None:
    with pytest.raises(ValidationError, match="'auto', 'onnxruntime', 'openvino' or 'pytorch'"):
        TargetConfig.model_validate({"runner": "tensorrt"})


def test_a_cpu_runner_on_cuda_is_refused() -> None:
    with pytest.raises(ValidationError, match="runner openvino runs on the CPU only"):
        TargetConfig(runner="openvino", device="cuda")


def test_too_few_networks_to_fit() -> None:
    with pytest.raises(ValidationError, match="too few to fit"):
        LatencyConfig(correction_networks=3)
