from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fasterseg.networks import SpaceConfig
from fasterseg.networks.derivation import ArchitectureLogits, derive_architecture
from fasterseg.networks.space import BRANCH_PAIRS, Branches
from latency.budget import LatencyRange, latency_range
from latency.table import LatencyTable
from search.expected_latency import ExpectedLatency
from search.fitting import BudgetFitter, apply_changes
from search.latency_costs import LatticeProblem
from search.parameters import ArchitectureParameters

NUM_CLASSES = 3


@pytest.fixture
def reach(table: LatencyTable, space: SpaceConfig) -> LatencyRange:
    return latency_range(table, space)


@pytest.fixture
def make_fitter(table: LatencyTable, space: SpaceConfig, reach: LatencyRange) -> Any:
    problem = LatticeProblem(space, "student", NUM_CLASSES, table.target.input_size)
    expected = ExpectedLatency(problem, entry_ms=table.entry_ms, pairs=BRANCH_PAIRS, correction=table.correction)

    def make(share: float) -> Any:
        budget_ms = reach.smallest_ms + share * (reach.largest_ms - reach.smallest_ms)
        return BudgetFitter(expected, predict_ms=table.predict_architecture, fastest=reach.fastest, budget_ms=budget_ms)

    return make


def slow_logits(space: SpaceConfig, seed: int = 0) -> ArchitectureLogits:
    """A student that prefers full width and the dearest operator, more or less."""
    random = np.random.default_rng(seed)
    shapes = ArchitectureParameters(space, "student").logits()
    groups = {
        group: {stride: random.standard_normal(rows.shape) for stride, rows in getattr(shapes, group).items()}
        for group in ("operators", "parents", "widths")
    }
    for stride in (8, 16, 32):
        groups["operators"][stride][:, 3] += 3.0
        groups["widths"][stride][:, -1] += 3.0
    return ArchitectureLogits(**groups)


@pytest.mark.parametrize("pair", BRANCH_PAIRS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.4])
def test_every_reachable_budget_is_met(
    make_fitter: Callable[[float], BudgetFitter], space: SpaceConfig, table: LatencyTable, pair: Branches, share: float
) -> None:
    fitter = make_fitter(share)
    for seed in range(2):
        fitted = fitter.fit(slow_logits(space, seed), pair)
        assert table.predict_architecture(fitted.architecture) == fitted.predicted_ms
        assert fitted.predicted_ms <= fitter.budget_ms * (1 + 1e-12)
        assert fitted.derived_ms > fitter.budget_ms, "the case is meant to need fitting"


def test_a_student_within_the_budget_is_left_alone(
    make_fitter: Callable[[float], BudgetFitter], space: SpaceConfig
) -> None:
    logits = slow_logits(space)
    fitted = make_fitter(2.0).fit(logits, (32, 16))
    assert not fitted.changes
    assert fitted.architecture == derive_architecture(logits, space, architecture_set="student", ends=(32, 16))
    assert "nothing to fit" in fitted.describe()


def test_a_looser_budget_gives_up_less_probability(
    make_fitter: Callable[[float], BudgetFitter], space: SpaceConfig
) -> None:
    logits = slow_logits(space)

    def given_up(share: float) -> float:
        return sum(change.loss for change in make_fitter(share).fit(logits, (32, 16)).changes)

    assert given_up(0.6) < given_up(0.3) < given_up(0.1)


def test_no_change_is_needless(
    make_fitter: Callable[[float], BudgetFitter], space: SpaceConfig, table: LatencyTable
) -> None:
    logits, fitter = slow_logits(space), make_fitter(0.3)
    fitted = fitter.fit(logits, (32, 8))
    assert fitted.changes
    for change in fitted.changes:
        fewer = tuple(each for each in fitted.changes if each != change)
        less = derive_architecture(apply_changes(logits, fewer), space, architecture_set="student", ends=(32, 8))
        assert table.predict_architecture(less) > fitter.budget_ms


def test_fallback_is_the_fastest_network(
    make_fitter: Callable[[float], BudgetFitter], space: SpaceConfig, reach: LatencyRange
) -> None:
    fitted = make_fitter(0.0).fit(slow_logits(space), (32, 16))
    assert fitted.architecture == reach.fastest or fitted.predicted_ms <= reach.smallest_ms * (1 + 1e-12)
