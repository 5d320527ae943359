import pytest

from latency.pace import reference_session
from latency.runners.onnxruntime import OnnxRuntimeRunner


@pytest.fixture(autouse=True)
def small_reference() -> None:
    """Here the reference is the one that users have."""


def test_the_reference_is_timed_like_any_session() -> None:
    session = reference_session(OnnxRuntimeRunner(threads=1))
    assert session.input_shape == (1, 64, 64, 128)
    assert all(call.duration_ms > 0.01 for call in session.time_calls(3))
