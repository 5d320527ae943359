"""How predicted times agree with measured ones: errors and correlations, and bounds on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class AgreementBounds:
    """What predictions have to reach; None leaves a figure unbounded.

    Attributes:
        mape: The largest mean of |predicted / measured - 1|.
        largest: The largest single one.
        spearman: The smallest rank correlation.
    """

    mape: float | None = None
    largest: float | None = None
    spearman: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with measured times.

    Attributes:
        mape: Mean of |predicted / measured - 1|.
        largest: The largest of these.
        bias: Mean of predicted / measured - 1.
        pearson: Correlation.
        spearman: Correlation of the ranks.
        kendall: Kendall's tau of the ranks.
    """

    mape: float
    largest: float
    bias: float
    pearson: float
    spearman: float
    kendall: float

    def missed(self, bounds: AgreementBounds) -> list[str]:
        """The bounds that are missed, each with what was reached."""
        misses = []
        if bounds.mape is not None and not self.mape <= bounds.mape:
            misses.append(f"mean error {self.mape:.2%} is above {bounds.mape:.2%}")
        if bounds.largest is not None and not self.largest <= bounds.largest:
            misses.append(f"largest error {self.largest:.2%} is above {bounds.largest:.2%}")
        if bounds.spearman is not None and not self.spearman >= bounds.spearman:
            misses.append(f"Spearman correlation {self.spearman:.4f} is below {bounds.spearman:.4f}")
        return misses

    def describe(self) -> str:
        """The scores in one line."""
        return (
            f"mean error {self.mape:.2%}, largest {self.largest:.2%}, bias {self.bias:+.2%}; "
            f"Pearson {self.pearson:.4f}, Spearman {self.spearman:.4f}, Kendall {self.kendall:.4f}"
        )


def score_agreement(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Agreement:
    """The agreement of predictions with measured times, one of each per network."""
    predicted, measured = np.asarray(predicted_ms), np.asarray(measured_ms)
    errors = predicted / measured - 1
    return Agreement(
        mape=float(np.abs(errors).mean()),
        largest=float(np.abs(errors).max()),
        bias=float(errors.mean()),
        pearson=float(stats.pearsonr(predicted, measured).statistic),
        spearman=float(stats.spearmanr(predicted, measured).statistic),
        kendall=float(stats.kendalltau(predicted, measured).statistic),
    )
