"""Dividing groups of images among splits by ratio, so that every class is divided by the same ratio.

Knows nothing of files: `split` counts what is in the masks, this module decides which group goes where.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SWAPS_PER_GROUP = 20
_MOST_SWAPS = 200_000


def apportion(count: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Divides a number by ratios with the largest-remainder method, so that nothing is lost to rounding.

    Args:
        count: What to divide.
        ratios: Parts, above 0; only their proportions count.

    Returns:
        One number per ratio, together `count`. Each is less than 1 away from its exact part, but none is 0: a part that
        would be takes one from the largest.

    Raises:
        ValueError: There are fewer things than parts.
    """
    if count < len(ratios):
        raise ValueError(f"{count} cannot be divided into {len(ratios)} parts of at least 1")
    exact = np.asarray(ratios, np.float64) * count / sum(ratios)
    parts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(-(exact - parts), kind="stable")
    parts[by_remainder[: count - int(parts.sum())]] += 1
    while parts.min() == 0:
        parts[parts.argmax()] -= 1
        parts[parts.argmin()] += 1
    return tuple(parts.tolist())


def assign_groups(
    sizes: NDArray[np.int64], content: NDArray[np.float64], ratios: Sequence[float], *, seed: int
) -> NDArray[np.int64]:
    """Chooses a split for every group.

    Groups are placed one after another, the ones that hold most of some class first, each where the shares of all
    classes come nearest to the ratios; then groups of different splits change places wherever that comes nearer still.
    Groups of one image each are divided exactly as `apportion` says.

    Args:
        sizes: Images of each group, (G,).
        content: How much of each class a group holds, (G, C); C may be 0.
        ratios: Part of each split; they add up to 1.
        seed: Decides between what is equally good.

    Returns:
        Number of the split of each group, (G,). Every split gets at least one group.

    Raises:
        ValueError: There are fewer groups than splits.
    """
    if len(sizes) < len(ratios):
        raise ValueError(
            f"{len(sizes)} groups cannot be divided into {len(ratios)} splits without tearing one apart; give fewer "
            "splits, or a group pattern that tells more groups apart"
        )
    generator = np.random.default_rng(seed)
    features = np.concatenate([sizes[:, None].astype(np.float64), content], axis=1)
    totals = features.sum(axis=0)
    shares = features[:, totals > 0] / totals[totals > 0]
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    balance = _Balance(shares, np.asarray(ratios, np.float64))
    room = np.asarray(apportion(int(sizes.sum()), ratios))
    for group in order.tolist():
        fitting = np.flatnonzero(room >= sizes[group])
        candidates = fitting if len(fitting) else np.arange(len(ratios))
        split = int(candidates[np.argmin(balance.cost_of_adding(group)[candidates])])
        balance.place(group, split)
        room[split] -= sizes[group]
    _fill_empty(balance, sizes, len(ratios))
    if shares.shape[1] > 1 or sizes.min() < sizes.max():
        _swap(balance, generator)
    return balance.splits


class _Balance:
    """Which split each group is in, and how far every class is from its ratio there.

    The distance is sum over splits and classes of (share - ratio)^2 / ratio, so that small splits count as much.
    """

    def __init__(self, shares: NDArray[np.float64], ratios: NDArray[np.float64]) -> None:
        self.shares = shares
        self.splits = np.full(len(shares), -1, np.int64)
        self._ratios = ratios[:, None]
        self._excess = np.repeat(-self._ratios, shares.shape[1], axis=1)

    def cost_of_adding(self, group: int) -> NDArray[np.float64]:
        """How much the distance grows with the group in each split."""
        share = self.shares[group]
        return np.asarray(((2 * self._excess + share) * share / self._ratios).sum(axis=1))

    def place(self, group: int, split: int) -> None:
        """Puts a group into a split, and takes it out of the one it was in."""
        if self.splits[group] >= 0:
            self._excess[self.splits[group]] -= self.shares[group]
        self._excess[split] += self.shares[group]
        self.splits[group] = split

    def gain_of_swapping(self, first: int, second: int) -> float:
        """How much the distance shrinks when two groups change places."""
        one, other = self.splits[first], self.splits[second]
        change = self.shares[second] - self.shares[first]
        growth = (2 * self._excess[one] + change) * change / self._ratios[one]
        growth += (change - 2 * self._excess[other]) * change / self._ratios[other]
        return -float(growth.sum())


def _fill_empty(balance: _Balance, sizes: NDArray[np.int64], splits: int) -> None:
    """Moves the smallest group of the split with most groups into each split that has none."""
    for split in range(splits):
        counts = np.bincount(balance.splits, minlength=splits)
        if counts[split] == 0:
            members = np.flatnonzero(balance.splits == counts.argmax())
            balance.place(int(members[sizes[members].argmin()]), split)


def _swap(balance: _Balance, generator: np.random.Generator) -> None:
    """Lets random pairs of groups change places where it helps."""
    count = len(balance.splits)
    pairs = generator.integers(count, size=(min(_SWAPS_PER_GROUP * count, _MOST_SWAPS), 2))
    for first, second in pairs.tolist():
        one, other = int(balance.splits[first]), int(balance.splits[second])
        if one != other and balance.gain_of_swapping(first, second) > 1e-12:
            balance.place(first, other)
            balance.place(second, one)
