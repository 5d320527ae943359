import subprocess
import sys

import numpy as np
import pytest
import torch

from fasterseg.networks.operator_specs import CellSpec, random_input
from latency.runners.openvino import OpenVinoRunner, process_core

pytest.importorskip("openvino", reason="openvino is not installed")
SPEC = CellSpec(operator="conv_2x", in_channels=8, out_channels=16, stride=1, height=17, width=14)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_other_precisions_are_other_arithmetic(precision: str) -> None:
    if precision.upper() not in process_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip(f"this CPU cannot compute in {precision}")
    torch.manual_seed(0)
    module, image = SPEC.build().eval(), random_input(SPEC)
    with torch.inference_mode():
        expected = module(image).numpy()
    output = OpenVinoRunner(precision=precision).prepare(module, SPEC.input_shape()).run(image.numpy())
    assert output.dtype == np.float32
    assert 0 < np.abs(output - expected).max() < 0.05 * np.abs(expected).max()


def test_a_precision_that_the_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class PlainCore:
        available_devices = ("CPU",)

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr("latency.runners.openvino.process_core", PlainCore)
    with pytest.raises(ValueError, match=r"this CPU cannot compute in bf16 \(OpenVINO names FP32, INT8\)"):
        OpenVinoRunner(precision="bf16").prepare(SPEC.build(), SPEC.input_shape())


def test_an_absent_device_is_named() -> None:
    if any(name.startswith("NPU") for name in process_core().available_devices):
        pytest.skip("this machine has an NPU")
    with pytest.raises(ValueError, match=r"OpenVINO finds no NPU \(it finds .*CPU.*\)"):
        OpenVinoRunner(device="npu", precision="fp16").prepare(SPEC.build(), SPEC.input_shape())


SIGNAL_AFTER_SESSIONS = """
import gc, signal, subprocess, sys
from fasterseg.networks.operator_specs import CellSpec
from latency.runners.openvino import OpenVinoRunner
signal.signal(signal.SIGCHLD, lambda *_: None)  # as PyTorch's data loader does
spec = CellSpec(operator="conv", in_channels=8, out_channels=8, stride=1, height=8, width=8)
first, second = (OpenVinoRunner().prepare(spec.build().eval(), spec.input_shape()) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""


def test_signals_are_handled_after_sessions_are_gone() -> None:
    """Where the CPU has AMX, cores that come and go leave a signal stack that is no memory any more."""
    result = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_SESSIONS], capture_output=True, text=True)
    assert (result.returncode, result.stdout.splitlines()[-1:]) == (0, ["alive"]), result.stderr
