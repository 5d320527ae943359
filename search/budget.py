"""Budget control: the student's latency term, adapted after each epoch so that the derived student meets its budget.

The budget in milliseconds comes from `latency.budget.resolve_budget_ms`.

Two objectives. `minimize` is the published one, `weight * latency / budget`: above the budget the weight is multiplied
by a factor, below a window under the budget it is divided by it. `target` is `weight * |latency / aim - 1|`, which is
pulled down from above and pushed up from below, so that a short search uses its budget instead of falling under it;
the aim starts at the budget and moves by as much as the derived student missed the window.

Source: FasterSeg's released search, which doubles and halves its weight outside 155 to 175 frames per second; ours is
relative to the budget, so that the same settings serve any device. The absolute term is TuNAS's (Bender et al., CVPR
2020).
"""

import torch

from search.config import LatencyObjectiveConfig


class BudgetControl:
    """The latency term and what it is adapted by.

    Args:
        config: Objective, start, factor and window.
        budget_ms: The most that one inference may take.

    Attributes:
        weight: Weight of the term.
        aim_ms: The expected latency that the objective `target` steers to.
    """

    def __init__(self, config: LatencyObjectiveConfig, budget_ms: float) -> None:
        self.config = config
        self.budget_ms = budget_ms
        self.weight = config.weight
        self.aim_ms = budget_ms

    def term(self, latency_ms: torch.Tensor) -> torch.Tensor:
        """The term of the architecture's loss for an expected latency, both scalars."""
        if self.config.objective == "target":
            return self.weight * (latency_ms / self.aim_ms - 1).abs()
        return self.weight * latency_ms / self.budget_ms

    def adapt(self, derived_ms: float) -> None:
        """Changes the weight or the aim after an epoch.

        Args:
            derived_ms: Predicted latency of the most probable student, before any fitting.
        """
        factor, least_ms = self.config.control_factor, self.config.fast_enough * self.budget_ms
        if least_ms <= derived_ms <= self.budget_ms:
            return
        if self.config.objective == "target":
            miss = (least_ms + self.budget_ms) / 2 / derived_ms
            self.aim_ms *= min(factor, max(1 / factor, miss))
        elif derived_ms > self.budget_ms:
            self.weight *= factor
        else:
            self.weight /= factor

    def state(self) -> dict[str, float]:
        """Weight and aim, for a checkpoint."""
        return {"weight": self.weight, "aim_ms": self.aim_ms}

    def load_state(self, state: dict[str, float]) -> None:
        """Takes over what `state` gave."""
        self.weight, self.aim_ms = state["weight"], state["aim_ms"]
