"""The factor that meets a budget, by a table whose times are known."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import OperatorSpec
from fasterseg.networks.icnet import ICNetArchitecture
from tests.small_checkpoint import small_checkpoint
from train.prune import factor as factor_module
from train.prune.factor import Budget, fit_budget
from train.prune.filters import Ranking
from train.prune.run import SECTIONS, PruneRequest


@pytest.fixture
def checkpoint() -> NetworkCheckpoint:
    return small_checkpoint(ICNetArchitecture(width_factor=0.25))


@pytest.fixture
def experiment(write_experiment: Callable[..., Path]) -> Experiment:
    return load_experiment(write_experiment(), [], SECTIONS)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Predicted times of all networks that were tried; an operator's is the count of the values that it reads."""
    times: list[float] = []

    def predict_ms(specs: Sequence[OperatorSpec]) -> float:
        times.append(float(sum(math.prod(spec.input_shape()) for spec in specs)))
        return times[-1]

    def extend(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(predict_ms=predict_ms)

    monkeypatch.setattr(factor_module, "_extend", extend)
    return times


@pytest.mark.parametrize("ranking", ["layer", "global"])
def test_the_largest_factor_within_the_budget_is_found(
    checkpoint: NetworkCheckpoint, experiment: Experiment, tried: list[float], tmp_path: Path, ranking: Ranking
) -> None:
    table = tmp_path / "table.json"
    table.write_text("{}")

    def fit(budget_ms: float, largest: float = 1.0) -> float:
        way = PruneRequest(tmp_path / "best.pt", factor=largest, ranking=ranking)
        return fit_budget(checkpoint, Budget(budget_ms, table), request=way, experiment=experiment, out=tmp_path)

    assert fit(1e12) == 1.0 and fit(1e12, largest=0.5) == 0.5
    fastest, slowest = tried[0], tried[1]
    assert fastest < tried[3] < slowest
    for part in (0.3, 0.6):
        tried.clear()
        limit = fastest + part * (slowest - fastest)
        factor = fit(limit)
        assert 1 / 16 < factor < 1 and factor * 16 == int(factor * 16)
        # of the times that were seen, the factor's is the largest within the budget
        within, beyond = [time for time in tried if time <= limit], [time for time in tried if time > limit]
        assert len(tried) <= 6
        tried.clear()
        fit(1e12, largest=factor)
        fit(1e12, largest=factor + 1 / 16)
        assert tried[1] == max(within) and tried[3] == min(beyond)


def test_a_budget_that_nothing_meets_is_named(
    checkpoint: NetworkCheckpoint, experiment: Experiment, tried: list[float], tmp_path: Path
) -> None:
    table = tmp_path / "table.json"
    table.write_text("{}")
    with pytest.raises(ValueError, match=r"budget_ms 1 cannot be met by pruning: at a factor of 1/16 the network is"):
        fit_budget(checkpoint, Budget(1, table), request=PruneRequest(table), experiment=experiment, out=tmp_path)
    assert len(tried) == 1
    with pytest.raises(ValueError, match="budget_ms is 0, expected milliseconds above 0"):
        Budget(0, table)
