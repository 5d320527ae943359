"""What several processes of one training have to agree on: gradients, batch norm statistics, random numbers, errors.

The processes hold the same weights and draw the same random numbers; each reads its own share of every batch and of the
validation images. The first one alone writes. The supernet's passes reach other weights in every step and add their
gradients up over several backward passes, some of them straight into place; so its processes exchange gradients here,
once a step, and not through hooks. With one process nothing here does anything.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.distributed import ProcessGroup

from fasterseg.base.commandline import USER_ERROR_EXIT_CODE
from fasterseg.engine.devices import PATIENCE, random_state, restore_random_state

# large enough for a network's bandwidth, small beside the weights
_BUCKET_ELEMENTS = 2**24


def average_gradients(parameters: Iterable[nn.Parameter], fabric: Fabric) -> None:
    """Replaces every gradient by its mean over the processes.

    Args:
        parameters: The same in every process, with gradients at the same ones: random choices such as widths come from
            generators that were seeded alike.
        fabric: The processes.
    """
    if fabric.world_size == 1:
        return
    for bucket in _buckets([each.grad for each in parameters if each.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        _spread(mean_over_processes(flat, fabric), bucket)


def share_buffers(module: nn.Module, fabric: Fabric) -> None:
    """Gives every process the first one's buffers, such as the running statistics of batch norms."""
    if fabric.world_size == 1:
        return
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    for bucket in _buckets(buffers):
        flat = torch.cat([buffer.flatten() for buffer in bucket])
        torch.distributed.broadcast(flat, src=0)
        _spread(flat, bucket)


def share_random_state(fabric: Fabric) -> None:
    """Gives every process the first one's random generators: all choose the same widths and operators."""
    if fabric.world_size > 1:
        restore_random_state(fabric.broadcast(random_state()))


def mean_over_processes(values: torch.Tensor, fabric: Fabric) -> torch.Tensor:
    """The mean of each value over the processes."""
    if fabric.world_size == 1:
        return values
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, torch.Tensor)
    return mean


def control_group(fabric: Fabric) -> ProcessGroup | None:
    """The processes as a group that agrees on numbers without a GPU; None for a single process. All call it."""
    if fabric.world_size == 1:
        return None
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, ProcessGroup)
    return group


def largest_over_processes(number: int, group: ProcessGroup | None) -> int:
    """The largest of the processes' numbers, such as that of a signal that one of them got; all call it."""
    if group is None:
        return number
    value = torch.tensor(number)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX, group=group)
    return int(value)


def run_in_first(fabric: Fabric, action: Callable[[], object]) -> None:
    """Does something in the first process alone, such as writing files; the others go on when it is done.

    Raises:
        ValueError, TypeError, OSError: What `action` raised, in the first process; the others end without a word.
    """
    if fabric.world_size == 1:
        action()
        return
    failure: Exception | None = None
    if fabric.is_global_zero:
        try:
            action()
        except (ValueError, TypeError, OSError) as error:
            failure = error
    failed = fabric.broadcast(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise SystemExit(USER_ERROR_EXIT_CODE)


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    elements = 0
    for tensor in tensors:
        bucket.append(tensor)
        elements += tensor.numel()
        if elements >= _BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
    if bucket:
        yield bucket


def _spread(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Writes a concatenation back to its parts."""
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
