"""The statistics of all ranks added up on rank 0. Merging is exact, so who saw what leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import distributed

if TYPE_CHECKING:
    from calibration import ChannelStatistic, Statistic


def merge(statistics: dict[str, Statistic], channels: dict[str, ChannelStatistic]) -> None:
    """Adds to rank 0's statistics, per tensor and per channel, what the other ranks have seen; theirs stay as they are.

    Every rank has the same quantizers in `statistics`, some of them without any value; `channels` names those that the
    rank has seen, which may be none.
    """
    from calibration import ChannelStatistic, Statistic

    if distributed.world().size == 1:
        return
    own = {f"tensor/{name}/{field}": x for name, s in statistics.items() for field, x in s.to_arrays().items()}
    own |= {f"channels/{name}/{field}": x for name, c in channels.items() for field, x in c.to_arrays().items()}
    for arrays in distributed.gather(own)[1:]:
        states: dict[tuple[str, str], dict[str, Any]] = {}
        for key, value in arrays.items():
            kind, name, field = key.split("/")
            states.setdefault((kind, name), {})[field] = value
        for (kind, name), state in states.items():
            if kind == "tensor":
                statistics[name].merge(Statistic.from_arrays(state, name=name))
            else:
                other = ChannelStatistic.from_arrays(state, name=name)
                channels[name] = channels[name].merge(other) if name in channels else other
