import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import get_args

import pytest
import torch

from fasterseg.base import machine
from latency.config import AUTO, SUPPORT, Mode, RunnerChoice, TargetConfig
from latency.runners.selection import _PREFERENCE, RUNNERS, build_runner, choose_runners

Installed = Callable[..., None]


@pytest.fixture
def machine_with(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Sets which packages seem to be installed, and whether there seems to be a GPU."""
    find_spec = importlib.util.find_spec

    def set_up(*, gpu: bool, present: tuple[str, ...] = (), absent: tuple[str, ...] = ()) -> None:
        def find(name: str, package: str | None = None) -> ModuleSpec | None:
            if name in absent:
                return None
            return ModuleSpec(name, None) if name in present else find_spec(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    return set_up


def test_a_runner_is_known_in_all_three_places() -> None:
    """The steps to add a runner in `latency.runners`."""
    assert set(get_args(RunnerChoice)) - {AUTO} == set(SUPPORT) == set(RUNNERS)
    modes = {mode for devices in SUPPORT.values() for support in devices.values() for mode in support.modes}
    assert modes == set(get_args(Mode)) - {AUTO}
    assert all(device in SUPPORT[runner.name] for runner, device in _PREFERENCE)


def test_an_absent_runtime_is_an_error_with_the_install_command(machine_with: Installed) -> None:
    machine_with(gpu=True, absent=("openvino", "tensorrt", "pycuda"))
    with pytest.raises(ValueError, match="`pip install openvino`, or set target.runner to one of .*pytorch"):
        build_runner(TargetConfig(runner="openvino"))
    message = r"packages tensorrt and pycuda, which are not installed; install with `pip install -e '\.\[tensorrt\]'`"
    with pytest.raises(ValueError, match=message):
        build_runner(TargetConfig(runner="tensorrt"))


def test_auto_says_what_it_takes_and_why(machine_with: Installed) -> None:
    machine_with(gpu=False)
    selection = build_runner(TargetConfig(threads=2))
    assert (selection.runner.name, selection.runner.device, selection.runner.threads) == ("onnxruntime", "cpu", 2)
    assert selection.reason == "onnxruntime on cpu (target.runner is auto; PyTorch finds no GPU)"

    machine_with(gpu=True, present=("tensorrt", "pycuda"))
    selection = build_runner(TargetConfig(precision="fp16", engine_cache=Path("engines")))
    assert (selection.runner.name, selection.runner.device, selection.runner.precision) == ("tensorrt", "cuda", "fp16")
    assert selection.runner.engine_cache == Path("engines")
    assert selection.reason == "tensorrt on cuda (target.runner is auto)"

    machine_with(gpu=True, absent=("tensorrt", "pycuda"))
    selection = build_runner(TargetConfig(tf32=True))
    assert (selection.runner.name, selection.runner.device, selection.runner.tf32) == ("pytorch", "cuda", True)
    assert selection.reason == (
        "pytorch on cuda, cuda_graph (target.runner is auto; tensorrt and pycuda not installed for tensorrt)"
    )
    assert build_runner(TargetConfig(device="cpu")).reason == (
        "onnxruntime on cpu (target.runner is auto; target.device is cpu)"
    )


def test_auto_passes_over_what_cannot_do_it(machine_with: Installed) -> None:
    machine_with(gpu=True, present=("tensorrt", "pycuda"))
    selection = build_runner(TargetConfig(precision="bf16"))
    assert selection.runner.name == "pytorch"
    assert "runner tensorrt has no precision bf16 on cuda; use fp32 or fp16" in selection.reason
    machine_with(gpu=False)
    with pytest.raises(ValueError, match="no runner can do it: PyTorch finds no GPU; .*no precision fp16 on cpu"):
        build_runner(TargetConfig(precision="fp16"))


def test_cuda_without_a_gpu_is_an_error(machine_with: Installed) -> None:
    machine_with(gpu=False, present=("tensorrt", "pycuda"))
    with pytest.raises(ValueError, match="target.device is cuda, but PyTorch finds no GPU"):
        build_runner(TargetConfig(runner="pytorch", device="cuda"))
    with pytest.raises(ValueError, match="runner tensorrt .* needs a CUDA device, but PyTorch finds no GPU"):
        build_runner(TargetConfig(runner="tensorrt"))


def test_a_named_runner_takes_the_gpu_where_there_is_one(machine_with: Installed) -> None:
    machine_with(gpu=True)
    assert build_runner(TargetConfig(runner="pytorch")).runner.mode == "cuda_graph"
    assert build_runner(TargetConfig(runner="onnxruntime")).runner.device == "cpu"
    assert build_runner(TargetConfig(runner="onnxruntime", device="cuda", mode="tensorrt", tf32=True)).reason == (
        "onnxruntime on cuda, tensorrt (asked for by target.runner)"
    )
    machine_with(gpu=False)
    assert build_runner(TargetConfig(runner="pytorch")).runner.mode == "eager"


def test_the_runners_are_those_of_the_experiment_file() -> None:
    for name, runner in RUNNERS.items():
        assert runner.name == name and runner.package and "pip install" in runner.install
        TargetConfig.model_validate({"runner": name})


def test_more_threads_than_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 1)
    told = build_runner(TargetConfig(runner="onnxruntime", threads=8)).reason
    assert "warning: target.threads is 8, but this process may use 1 core(s)" in told
    assert "warning" not in build_runner(TargetConfig(runner="onnxruntime", threads=1)).reason


def test_the_targets_own_runner_is_taken_where_none_is_named() -> None:
    (chosen,) = choose_runners(TargetConfig(device="cpu"), [])
    assert chosen.name == "onnxruntime" and "target.runner is auto" in chosen.reason


def test_the_targets_mode_stays_with_its_own_runner() -> None:
    target = TargetConfig(runner="pytorch", device="cpu", mode="channels_last")
    chosen = choose_runners(target, ["pytorch", "pytorch:eager", "openvino"])
    assert [each.name for each in chosen] == ["pytorch", "pytorch:eager", "openvino"]
    assert [each.runner.mode for each in chosen] == ["channels_last", "eager", "default"]
    assert chosen[2].reason == "openvino on cpu (asked for by --runner)"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["foo"],
            r"^--runner foo: got 'foo', expected one of the runners auto, onnxruntime, openvino, pytorch, tensorrt",
        ),
        (["pytorch:fast"], r"^--runner pytorch:fast: got 'fast', expected one of the modes auto, .*channels_last, .*$"),
        (["pytorch:"], r"^--runner pytorch:: got '', expected one of the modes"),
        (
            ["pytorch:cuda_graph"],
            r"^--runner pytorch:cuda_graph: runner pytorch has no mode cuda_graph on cpu; use auto or eager or .*$",
        ),
        (["auto", "onnxruntime"], r"--runner auto --runner onnxruntime: onnxruntime would be timed twice"),
    ],
)
def test_what_cannot_be_run_is_told_in_plain_words(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        choose_runners(TargetConfig(device="cpu"), names)
    assert type(raised.value) is ValueError and "pydantic" not in str(raised.value)
