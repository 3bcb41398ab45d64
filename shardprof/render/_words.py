"""How reports name the classes of the partition, and write shares of them."""

from __future__ import annotations

_NAMES = {
    "p2p": "point-to-point",
    "other_comm": "other communication",
    "memcpy": "memory copies",
    "memset": "memory sets",
    "data_loading": "data loading",
}


PHASE_NAMES = {"data": "data loading", "forward": "forward", "backward": "backward", "optimizer": "the optimizer"}
"""The phases that are recorded of every step, in their order, as a sentence names them."""


def class_name(name: str) -> str:
    """The words for a class of the partition or for a group of classes: "all-gather", "data loading"."""
    return _NAMES.get(name, name.replace("_", "-"))


def percent(share: float) -> str:
    """A share of 1 in whole percent; what is not quite nothing or everything is not written as such."""
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "<1 %"
    if whole == 100 and share < 1:
        return ">99 %"
    return f"{whole} %"
