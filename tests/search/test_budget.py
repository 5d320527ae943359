import math

import pytest
import torch
from pydantic import ValidationError

from search.budget import BudgetControl
from search.config import LatencyObjectiveConfig


def test_minimize_doubles_above_the_budget_and_halves_below_the_window() -> None:
    control = BudgetControl(LatencyObjectiveConfig(weight=0.1), budget_ms=10.0)
    control.adapt(10.1)
    assert control.weight == pytest.approx(0.2)
    control.adapt(9.5)
    assert control.weight == pytest.approx(0.2)
    control.adapt(8.0)
    assert control.weight == pytest.approx(0.1)
    assert control.aim_ms == 10.0


def test_published_window() -> None:
    window = LatencyObjectiveConfig().fast_enough
    assert math.isclose(1000 / 155 * window, 1000 / 175)


def slope(control: BudgetControl, latency_ms: float) -> float:
    latency = torch.tensor(latency_ms, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(control.term(latency), latency)
    return float(gradient)


def test_minimize_always_pulls_down_and_target_from_both_sides() -> None:
    minimize = BudgetControl(LatencyObjectiveConfig(weight=0.5), budget_ms=10.0)
    target = BudgetControl(LatencyObjectiveConfig(weight=0.5, objective="target"), budget_ms=10.0)
    assert slope(minimize, 12.0) == slope(minimize, 8.0) == pytest.approx(0.05)
    assert slope(target, 12.0) == pytest.approx(0.05)
    assert slope(target, 8.0) == pytest.approx(-0.05)


def test_target_moves_its_aim_by_what_the_derived_student_missed() -> None:
    config = LatencyObjectiveConfig(objective="target", fast_enough=0.8, control_factor=2)
    control = BudgetControl(config, budget_ms=10.0)
    control.adapt(9.0)
    assert control.aim_ms == 10.0
    control.adapt(6.0)
    assert control.aim_ms == pytest.approx(15.0)
    control.adapt(1.0)
    assert control.aim_ms == pytest.approx(30.0)
    control.adapt(12.0)
    assert control.aim_ms == pytest.approx(22.5)
    assert control.weight == config.weight


def test_state_round_trip() -> None:
    control = BudgetControl(LatencyObjectiveConfig(objective="target"), budget_ms=10.0)
    control.adapt(5.0)
    other = BudgetControl(LatencyObjectiveConfig(objective="target"), budget_ms=10.0)
    other.load_state(control.state())
    assert (other.weight, other.aim_ms) == (control.weight, control.aim_ms)


def test_target_needs_the_exact_expectation() -> None:
    with pytest.raises(ValidationError, match="objective target steers a latency, which regularizer decoupled is not"):
        LatencyObjectiveConfig(objective="target", regularizer="decoupled")
