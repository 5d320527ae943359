"""The pace of the machine: a fixed small network, timed in turn with everything else.

Clocks, shared caches and neighbours on the same hardware make a machine several percent faster or slower from one
moment to the next, for everything alike. A time in units of the reference, measured in the same moment, is what can be
compared with times of other moments; a table holds its operators' times at one pace.
"""

from torch import nn

from fasterseg.networks.resizing import Resize, Size
from latency.runners.base import Runner, Session

# maps of 2 MiB on a CPU: like a network's, they do not stay in a core's own cache, whose speed says little of the rest
_CHANNELS, _CONVOLUTIONS, _RESIZED_CHANNELS = 64, 2, 16
_SIZES: dict[str, Size] = {"cpu": (64, 128), "cuda": (256, 512)}


def reference_session(runner: Runner) -> Session:
    """The reference network, ready to be timed by that runner.

    Some milliseconds of 3×3 convolutions, and a tenth as much of a resize, which waits for memory rather than for
    arithmetic: about the proportions of the networks here, since clocks and memory do not slow down alike.
    """
    height, width = _SIZES["cpu" if runner.device == "cpu" else "cuda"]
    layers: list[nn.Module] = []
    for _ in range(_CONVOLUTIONS):
        layers += [nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(_CHANNELS, _RESIZED_CHANNELS, 1), Resize((2 * height, 2 * width))]
    return runner.prepare(nn.Sequential(*layers).eval(), (1, _CHANNELS, height, width))
