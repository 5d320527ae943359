from dataclasses import replace
from typing import Any

import pytest

from latency.filenames import joined_names, setup_name
from latency.runners.base import Conditions


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "onnxruntime"),
        ({"runner": "pytorch", "mode": "eager"}, "pytorch"),
        ({"runner": "pytorch", "mode": "channels_last", "precision": "bf16"}, "pytorch_channels_last_bf16"),
        ({"runner": "pytorch", "device": "cuda", "mode": "cuda_graph", "tf32": True}, "pytorch_cuda_tf32"),
        ({"runner": "tensorrt", "device": "cuda", "mode": "default", "precision": "fp16"}, "tensorrt_fp16"),
        ({"runner": "openvino", "mode": "default", "threads": 4}, "openvino_4threads"),
    ],
)
def test_what_is_not_usual_stands_in_the_name(conditions: Conditions, values: dict[str, Any], name: str) -> None:
    assert setup_name(replace(conditions, **values)) == name


def test_names_are_joined_as_long_as_a_file_can_be_called_so() -> None:
    assert joined_names(["student", "icnet", "student"]) == "student+icnet"
    many = [f"network_{number}" for number in range(30)]
    assert joined_names(many).startswith("30_") and len(joined_names(many)) < 20
    assert joined_names(many) != joined_names([*many[:-1], "another"])
