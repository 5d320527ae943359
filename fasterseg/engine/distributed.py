"""What the processes of one training exchange: gradients, batch norm statistics, random numbers, errors.

The processes hold the same weights and draw the same random numbers. Each reads its own share of every batch and of the
validation images. Only the first one writes files. The supernet uses other weights in every step, accumulates gradients
over several backward passes, and adds some of them to `weight.grad` in place. So its processes exchange gradients once
per step through this module instead of through hooks. With one process nothing is exchanged.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.distributed import ProcessGroup

from fasterseg.base.commandline import USER_ERROR_EXIT_CODE
from fasterseg.engine.devices import PROCESS_TIMEOUT, random_state, restore_random_state

# elements per exchange: enough to use the bandwidth, few compared with the weights
_BUCKET_ELEMENTS = 2**24


def average_gradients(parameters: Iterable[nn.Parameter], fabric: Fabric) -> None:
    """Replaces every gradient by its mean over the processes.

    Args:
        parameters: The same parameters in every process, with gradients at the same ones. This holds because random
            choices, such as widths, come from equally seeded generators.
        fabric: The processes.
    """
    if fabric.world_size == 1:
        return
    for bucket in _buckets([each.grad for each in parameters if each.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        _spread(mean_over_processes(flat, fabric), bucket)


def share_buffers(module: nn.Module, fabric: Fabric) -> None:
    """Broadcasts the first process's buffers, such as batch norms' running statistics, to all processes."""
    if fabric.world_size == 1:
        return
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    for bucket in _buckets(buffers):
        flat = torch.cat([buffer.flatten() for buffer in bucket])
        torch.distributed.broadcast(flat, src=0)
        _spread(flat, bucket)


def share_random_state(fabric: Fabric) -> None:
    """Broadcasts the first process's random state, so that all processes draw the same widths and operators."""
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
    """A process group for plain numbers on the CPU; None for a single process. All processes must call this."""
    if fabric.world_size == 1:
        return None
    group = torch.distributed.new_group(backend="gloo", timeout=PROCESS_TIMEOUT)
    assert isinstance(group, ProcessGroup)
    return group


def largest_over_processes(number: int, group: ProcessGroup | None) -> int:
    """The maximum of a number over the processes, such as that of a received signal; all must call this."""
    if group is None:
        return number
    value = torch.tensor(number)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX, group=group)
    return int(value)


def run_in_first(fabric: Fabric, action: Callable[[], object]) -> None:
    """Runs an action in the first process only, such as writing files; the others wait for it.

    Raises:
        ValueError, TypeError, OSError: What `action` raised, in the first process; the others exit without a message.
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
    """Copies the parts of a flat concatenation back into their tensors."""
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
