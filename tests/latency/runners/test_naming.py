import pytest

from latency.config import TargetConfig
from latency.runners.naming import choose_runners


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
