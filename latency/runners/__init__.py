"""The runners by name, and the choice of one for a target."""

from latency.runners.backend import SessionBackend
from latency.runners.base import Array, Conditions, LayerTime, Runner, Session, Shape
from latency.runners.selection import RUNNERS, RunnerSelection, build_runner

__all__ = [
    "RUNNERS",
    "Array",
    "Conditions",
    "LayerTime",
    "Runner",
    "RunnerSelection",
    "Session",
    "SessionBackend",
    "Shape",
    "build_runner",
]
