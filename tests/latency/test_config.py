from typing import Any

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
    with pytest.raises(ValidationError, match="'auto', 'onnxruntime', 'openvino', 'pytorch' or 'tensorrt'"):
        TargetConfig.model_validate({"runner": "ncnn"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runner": "openvino", "device": "cuda"}, "runner openvino has no device cuda; use cpu or gpu or npu"),
        ({"runner": "tensorrt", "device": "cpu"}, "runner tensorrt has no device cpu; use cuda"),
        ({"runner": "onnxruntime", "precision": "bf16"}, "runner onnxruntime has no precision bf16 on cpu; use fp32"),
        ({"runner": "pytorch", "device": "cpu", "mode": "cuda_graph"}, "no mode cuda_graph on cpu; use auto or eager"),
        ({"runner": "openvino", "tf32": True}, "tf32 is a format of CUDA devices, not of cpu"),
        (
            {"runner": "onnxruntime", "device": "cuda", "mode": "tensorrt"},
            "ONNX Runtime's TensorRT provider cannot switch TF32 off; set tf32 to true",
        ),
    ],
)
def test_what_a_runner_cannot_do_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TargetConfig.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"runner": "pytorch", "mode": "cuda_graph"},
        {"runner": "pytorch", "tf32": True},
        {"runner": "openvino", "precision": "fp16"},
        {"runner": "onnxruntime", "mode": "tensorrt", "tf32": True},
        {"runner": "auto", "mode": "compile"},
    ],
)
def test_what_some_device_can_do_is_accepted(values: dict[str, Any]) -> None:
    target = TargetConfig.model_validate(values)
    assert TargetConfig.model_validate(target.model_dump(mode="json")) == target


def test_too_few_networks_to_fit() -> None:
    with pytest.raises(ValidationError, match="too few to fit"):
        LatencyConfig(correction_networks=3)
