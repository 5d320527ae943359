"""Budget control: the weight of the student's latency term, adapted after each epoch to bring it near its budget.

The term is `weight * latency / budget`. After an epoch the derived student's predicted latency is held against a window
below the budget: above the budget the weight is multiplied by a factor, below the window it is divided by it.

Source: FasterSeg's released search, which doubles and halves its weight outside 155 to 175 frames per second. Ours is
relative to the budget, so that the same settings serve any device.
"""

from search.config import LatencyObjectiveConfig


class BudgetControl:
    """The weight of the latency term.

    Args:
        config: Start, factor and window.
        budget_ms: The most that one inference may take.
    """

    def __init__(self, config: LatencyObjectiveConfig, budget_ms: float) -> None:
        self.config = config
        self.budget_ms = budget_ms
        self.weight = config.weight

    def adapt(self, derived_ms: float) -> None:
        """Changes the weight after an epoch.

        Args:
            derived_ms: Predicted latency of the most probable student, before any fitting.
        """
        if derived_ms > self.budget_ms:
            self.weight *= self.config.control_factor
        elif derived_ms < self.config.fast_enough * self.budget_ms:
            self.weight /= self.config.control_factor
