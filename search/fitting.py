"""Fitting a derived student into its budget: the cheapest changes, by log-probability lost per millisecond gained.

The search's latency term brings the student near its budget; this closes the gap that is left, so that the student
always meets the budget in prediction. The expected latency of a fixed architecture is its latency, and because the
expectation is linear in every single choice, its gradient there is the price of every single change at once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derivation import (
    FROM_DOWN,
    FROM_KEEP,
    ArchitectureLogits,
    Scores,
    derive_architecture,
    most_probable_path,
    parent_row,
    softmax,
)
from fasterseg.networks.space import STRIDES, Branches, first_layer
from search.expected_latency import ExpectedLatency
from search.parameters import ArchitectureProbabilities

GROUPS = ("operators", "parents", "widths")
_FORCE = 20.0  # logits above the others that make a choice certain
_FREE_CHANGE = 1e-3  # what a change without any loss of log-probability counts as


class Change(NamedTuple):
    """A change of one choice.

    Attributes:
        group: `operators`, `parents` or `widths` of the logits.
        stride: Output stride of the cell.
        row: Row of its logits.
        choice: The column chosen instead.
        loss: Log-probability given up.
        saving_ms: Latency gained, by the expected latency's gradient.
    """

    group: str
    stride: int
    row: int
    choice: int
    loss: float
    saving_ms: float


@dataclass(frozen=True)
class FittedArchitecture:
    """A student that meets the budget.

    Attributes:
        architecture: The network.
        predicted_ms: Its predicted latency.
        derived_ms: The predicted latency of the most probable network, before fitting.
        changes: What was changed to get there; empty where the most probable network met the budget.
        is_fallback: Whether no series of changes met it and the fastest network of the space stands in.
    """

    architecture: Architecture
    predicted_ms: float
    derived_ms: float
    changes: tuple[Change, ...] = ()
    is_fallback: bool = False

    def describe(self) -> str:
        """The fitting in a line for the log."""
        if self.is_fallback:
            return f"{self.derived_ms:.4g} ms derived, replaced by the fastest network, {self.predicted_ms:.4g} ms"
        if not self.changes:
            return f"{self.predicted_ms:.4g} ms derived, nothing to fit"
        counts = {group: sum(change.group == group for change in self.changes) for group in GROUPS}
        shown = ", ".join(f"{count} {group}" for group, count in counts.items() if count)
        return f"{self.derived_ms:.4g} ms derived, fitted to {self.predicted_ms:.4g} ms by changing {shown}"


class BudgetFitter:
    """Derives students that meet a budget.

    Args:
        expected: The expected latency of the student, one pair of branches or several.
        predict_ms: The table's prediction for an architecture.
        fastest: The fastest network of the space, for budgets that single changes do not reach.
        budget_ms: The budget, at least the fastest network's prediction.
    """

    def __init__(
        self,
        expected: ExpectedLatency,
        *,
        predict_ms: Callable[[Architecture], float],
        fastest: Architecture,
        budget_ms: float,
    ) -> None:
        self.expected = expected
        self.predict_ms = predict_ms
        self.fastest = fastest
        self.budget_ms = budget_ms

    def fit(self, logits: ArchitectureLogits, pair: Branches) -> FittedArchitecture:
        """The student of a pair of branches: the most probable one, changed until it meets the budget."""
        architecture = self._derive(logits, pair)
        derived_ms = predicted_ms = self.predict_ms(architecture)
        current, changes, useless = logits, list[Change](), set[tuple[str, int, int, int]]()
        while predicted_ms > self.budget_ms:
            for change in self._by_price(logits, current, pair, excess_ms=predicted_ms - self.budget_ms):
                if change[:4] in useless:
                    continue
                trial = self._derive(applied := apply_changes(current, [change]), pair)
                trial_ms = self.predict_ms(trial)
                if trial_ms < predicted_ms:
                    current, architecture, predicted_ms = applied, trial, trial_ms
                    changes.append(change)
                    break
                # the derivation's rules undid the change, such as that of a skip that has to stay
                useless.add(change[:4])
            else:
                return FittedArchitecture(self.fastest, self.predict_ms(self.fastest), derived_ms, is_fallback=True)
        return self._without_needless(
            logits, pair, FittedArchitecture(architecture, predicted_ms, derived_ms, tuple(changes))
        )

    def _without_needless(
        self, logits: ArchitectureLogits, pair: Branches, fitted: FittedArchitecture
    ) -> FittedArchitecture:
        """Undoes changes, the dearest first, while the budget is still met."""
        for change in sorted(fitted.changes, key=lambda each: each.loss, reverse=True):
            fewer = tuple(each for each in fitted.changes if each != change)
            architecture = self._derive(apply_changes(logits, fewer), pair)
            predicted_ms = self.predict_ms(architecture)
            if predicted_ms <= self.budget_ms:
                fitted = FittedArchitecture(architecture, predicted_ms, fitted.derived_ms, fewer)
        return fitted

    def _derive(self, logits: ArchitectureLogits, pair: Branches) -> Architecture:
        return derive_architecture(logits, self.expected.problem.space, architecture_set="student", ends=pair)

    def _by_price(
        self, logits: ArchitectureLogits, current: ArchitectureLogits, pair: Branches, *, excess_ms: float
    ) -> list[Change]:
        """All changes of the current choices that save time, cheapest first."""
        chosen = self._chosen(current, pair)
        probabilities = ArchitectureProbabilities(
            *(
                {stride: _one_hot(rows, chosen[group][stride]) for stride, rows in getattr(current, group).items()}
                for group in GROUPS
            )
        )
        leaves = [(group, stride, rows) for group in GROUPS for stride, rows in getattr(probabilities, group).items()]
        latency_ms = self.expected.per_pair(probabilities)[self.expected.pairs.index(pair)]
        gradients = torch.autograd.grad(latency_ms, [rows for _, _, rows in leaves])
        changes = []
        for (group, stride, _), gradient in zip(leaves, gradients, strict=True):
            prices = gradient.numpy()
            log_probability = np.log(np.maximum(softmax(getattr(logits, group)[stride].astype(np.float64)), 1e-300))
            changes += list(_row_changes(group, stride, prices, log_probability, chosen[group][stride]))

        def price(change: Change) -> float:
            return (max(change.loss, 0.0) + _FREE_CHANGE) / min(change.saving_ms, excess_ms)

        return sorted(changes, key=price)

    def _chosen(self, logits: ArchitectureLogits, pair: Branches) -> Mapping[str, Mapping[int, list[int]]]:
        """The chosen column of each row: the most probable choice, and on the branches' paths the path's parent."""
        layers = self.expected.problem.space.layers
        chosen = {
            group: {stride: rows.argmax(axis=1).tolist() for stride, rows in getattr(logits, group).items()}
            for group in GROUPS
        }
        for end in pair:
            path = most_probable_path(logits.parents, end=end, layers=layers)
            for layer, stride in enumerate(path):
                if stride > STRIDES[0] and layer > first_layer(stride):
                    parent = FROM_KEEP if path[layer - 1] == stride else FROM_DOWN
                    chosen["parents"][stride][parent_row(layer, stride)] = parent
        return chosen


def apply_changes(logits: ArchitectureLogits, changes: list[Change] | tuple[Change, ...]) -> ArchitectureLogits:
    """A copy of the logits in which the changed choices are certain."""
    groups = {group: {s: np.array(rows) for s, rows in getattr(logits, group).items()} for group in GROUPS}
    for change in changes:
        row = groups[change.group][change.stride][change.row]
        row[change.choice] = row.max() + _FORCE
    return ArchitectureLogits(**groups)


def _one_hot(rows: Scores, chosen: list[int]) -> torch.Tensor:
    one_hot = torch.zeros(rows.shape, dtype=torch.float64)
    one_hot[torch.arange(len(chosen)), chosen] = 1
    return one_hot.requires_grad_()


def _row_changes(
    group: str, stride: int, prices: Scores, log_probability: Scores, chosen: list[int]
) -> Iterator[Change]:
    for row, current in enumerate(chosen):
        for choice in range(prices.shape[1]):
            saving_ms = float(prices[row, current] - prices[row, choice])
            if saving_ms > 1e-9:
                loss = float(log_probability[row, current] - log_probability[row, choice])
                yield Change(group, stride, row, choice, loss, saving_ms)
