"""Groups of filters that can only be removed together: choosing which to keep, and removing the others.

torch-pruning's dependency graph finds the groups: filters whose outputs are added up (residual units, fusions) must
keep the same indices. With a filter, its batch norm's channel and the matching inputs of all layers that read it are
removed. So, before any retraining, a pruned network computes the same as the network with zeroed filters.

Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017 (the largest L1 norms are kept).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from fasterseg.networks import Network

# any size does: the graph depends on the layers alone
_TRACED_SIZE_PX = (64, 96)
# the filters that are kept, by group
Plan = Mapping[str, tuple[int, ...]]
Ranking = Literal["layer", "global"]
RANKINGS: tuple[Ranking, ...] = ("layer", "global")
# smallest fraction of a layer's filters in a global ranking, so that no layer loses all of them
_SMALLEST_PART = 0.1


@dataclass(frozen=True)
class FilterGroup:
    """Convolutions whose filters are coupled.

    Attributes:
        name: Name of the first of the convolutions, in the network's order.
        convolutions: Names of all of them.
        norms: (n,) L1 norm of each filter, the mean over the coupled convolutions.
    """

    name: str
    convolutions: tuple[str, ...]
    norms: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of filters of each of its convolutions."""
        return len(self.norms)


class FilterGraph:
    """The coupled filters of a network, which are removed or zeroed in place.

    The convolutions that output the logits, main and auxiliary, are not pruned.

    Args:
        network: The network, in evaluation mode, on the CPU.
    """

    def __init__(self, network: Network) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._graph = torch_pruning.DependencyGraph()
        self._classifiers = _classifiers(network)
        with torch.enable_grad():
            self._graph.build_dependency(network, torch.zeros(1, 3, *_TRACED_SIZE_PX), forward_fn=_all_logits)
        self._roots: dict[str, nn.Conv2d] = {}
        groups = []
        for coupled in self._graph.get_all_groups(
            ignored_layers=list(self._classifiers), root_module_types=[nn.Conv2d]
        ):
            group, root = self._describe(coupled)
            groups.append(group)
            self._roots[group.name] = root
        order = {name: index for index, name in enumerate(self._names.values())}
        self.groups = tuple(sorted(groups, key=lambda group: order[group.name]))

    def remove(self, plan: Plan) -> None:
        """Removes the filters that a plan does not keep, with everything that depends on them."""
        for group in self.groups:
            removed = sorted(set(range(group.size)) - set(plan[group.name]))
            if removed:
                self._coupled(self._roots[group.name], removed).prune()

    @torch.no_grad()
    def zero(self, plan: Plan) -> None:
        """Zeroes the filters that a plan does not keep, and their batch norm's scale and shift."""
        for group in self.groups:
            removed = sorted(set(range(group.size)) - set(plan[group.name]))
            for module, indices in self._outputs(self._coupled(self._roots[group.name], removed) if removed else ()):
                for parameter in (module.weight, module.bias):
                    if parameter is not None:
                        parameter[indices] = 0

    def _coupled(self, root: nn.Conv2d, indices: list[int]) -> Any:
        return self._graph.get_pruning_group(root, torch_pruning.prune_conv_out_channels, idxs=indices)

    def _describe(self, coupled: Any) -> tuple[FilterGroup, nn.Conv2d]:
        """The group, and the convolution whose filter indices its plan uses."""
        total: NDArray[np.float64] | None = None
        names = []
        for module, indices in self._outputs(coupled):
            if isinstance(module, nn.Conv2d):
                norms = module.weight.detach().double().abs().sum(dim=(1, 2, 3)).numpy()[indices]
                total = norms if total is None else total + norms
                names.append(self._names[module])
        assert total is not None
        ordered = [name for name in self._names.values() if name in set(names)]
        root = coupled[0].dep.target.module
        assert isinstance(root, nn.Conv2d)
        return FilterGroup(ordered[0], tuple(ordered), total / len(names)), root

    @staticmethod
    def _outputs(coupled: Any) -> Iterator[tuple[nn.Conv2d | nn.BatchNorm2d, list[int]]]:
        """Each convolution whose filters, and each batch norm whose channels, are in the group, with their indices."""
        seen = set()
        for dependency, indices in coupled:
            module = dependency.target.module
            filters = dependency.handler == torch_pruning.prune_conv_out_channels
            if not (isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.Conv2d) and filters)):
                continue
            # a layer that runs twice, as ICNet's backbone does, is in its group twice
            if (module, tuple(indices)) not in seen:
                seen.add((module, tuple(indices)))
                yield module, list(indices)


def kept_indices(groups: tuple[FilterGroup, ...], plan: Plan) -> dict[str, list[int]]:
    """The indices of the filters that a plan keeps, by name of the convolution."""
    return {name: list(plan[group.name]) for group in groups for name in group.convolutions}


def check_factor(factor: float) -> None:
    """Refuses a factor outside (0, 1].

    Raises:
        ValueError: It is not in (0, 1].
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor is {factor}, expected the part of the filters to keep, in (0, 1]; such as 0.5")


def rank_filters(groups: Sequence[FilterGroup], factor: float, *, ranking: Ranking = "layer") -> Plan:
    """The filters that are kept, in their order, by group.

    Args:
        groups: The network's filter groups.
        factor: Part of the filters to keep.
        ranking: `layer` keeps int(n·factor) of the n filters of every group; `global` that part of all filters, each
            norm in units of its group's mean, and a tenth of every group at least.

    Raises:
        ValueError: The factor is not in (0, 1].
    """
    check_factor(factor)
    counts = {group.name: max(1, _part_of(group.size, factor)) for group in groups}
    if ranking == "global" and factor < 1:
        counts = _global_counts(groups, factor)
    return {group.name: largest(group, counts[group.name]) for group in groups}


def largest(group: FilterGroup, count: int) -> tuple[int, ...]:
    """The indices of the `count` filters with the largest norms, ascending; of equal ones the first are kept."""
    return tuple(sorted(np.argsort(-group.norms, kind="stable")[:count].tolist()))


def _global_counts(groups: Sequence[FilterGroup], factor: float) -> dict[str, int]:
    relative = [group.norms / max(float(group.norms.mean()), np.finfo(np.float64).tiny) for group in groups]
    everything = np.sort(np.concatenate(relative))[::-1]
    cut = everything[max(1, _part_of(len(everything), factor)) - 1]
    return {
        group.name: max(1, int(group.size * _SMALLEST_PART), int((norms >= cut).sum()))
        for group, norms in zip(groups, relative, strict=True)
    }


def _part_of(count: int, factor: float) -> int:
    """int(count · factor), of the exact product: 48 · (0.5 / 0.75) is 32 although it comes out below."""
    return int(count * factor + 1e-9)


def _all_logits(network: Network, image: torch.Tensor) -> list[torch.Tensor]:
    """Main and auxiliary logits, with the batch norms in evaluation mode."""
    network.training = True  # of the network itself, not of its layers
    try:
        logits = network(image)
    finally:
        network.training = False
    return [logits.main, *logits.auxiliary]


def _classifiers(network: Network) -> frozenset[nn.Module]:
    """The convolutions whose outputs are the logits."""
    made_by: dict[int, nn.Module] = {}
    outputs = []  # keeps the tensors alive, so that no id is used twice

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        outputs.append(output)
        made_by[id(output)] = module

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        logits = _all_logits(network, torch.zeros(1, 3, *_TRACED_SIZE_PX))
    for hook in hooks:
        hook.remove()
    return frozenset(made_by[id(output)] for output in logits)
