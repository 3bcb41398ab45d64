"""The counters of an NVIDIA GPU that come as fields of NVML: many by one call, whatever it supports of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pynvml

ALL_LINKS = 0xFFFFFFFF
KIB = 1 << 10
VALUE_TYPES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Which member of a field's value holds it, by NVML's number of its type."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of NVML by its number; what it counts is `times` / `per` of the unit in our `name`."""

    name: str
    number: int
    times: int = 1
    per: int = 1
    scope: int = 0

    def worth(self, answer: Any) -> float:
        """NVML's answer in the unit of the name."""
        amount: float = getattr(answer.value, VALUE_TYPES[answer.valueType]) * self.times
        return amount / self.per if self.per > 1 else amount


FIELDS = (
    Field("energy_j", 83, per=1000),
    Field("power_w", 186, per=1000),
    Field("memory_temperature_c", 82),
    Field("pcie_tx_bytes", 197),
    Field("pcie_rx_bytes", 198),
)
RARE_FIELDS = (Field("ecc_corrected_errors", 3), Field("ecc_uncorrected_errors", 4))
NVLINK_FIELDS = (
    Field("nvlink_tx_bytes", 138, times=KIB, scope=ALL_LINKS),
    Field("nvlink_rx_bytes", 139, times=KIB, scope=ALL_LINKS),
)


def active_links(gpu: Any) -> list[int]:
    """The numbers of its NVLinks that are up."""
    active = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        with suppress(pynvml.NVMLError):
            if pynvml.nvmlDeviceGetNvLinkState(gpu, link):
                active.append(link)
    return active


def nvlink_fields(gpu: Any) -> list[Field]:
    """What NVLink carries: all links in one number where the driver adds them up, else link by link."""
    if summed := supported(gpu, NVLINK_FIELDS):
        return summed
    links = active_links(gpu)
    return supported(gpu, [replace(field, scope=link) for field in NVLINK_FIELDS for link in links])


def supported(gpu: Any, fields: Sequence[Field]) -> list[Field]:
    """Those of the fields that can be asked for."""
    with suppress(pynvml.NVMLError):
        names = field_values(gpu, fields).keys() if fields else ()
        return [field for field in fields if field.name in names]
    return []


def field_values(gpu: Any, fields: Sequence[Field]) -> dict[str, float]:
    """The fields by one call. Those of one name are added up; it is left out where one fails. Raises NVMLError."""
    values: dict[str, float] = {}
    failed = set()
    answers = pynvml.nvmlDeviceGetFieldValues(gpu, [(field.number, field.scope) for field in fields])
    for field, answer in zip(fields, answers, strict=True):
        if answer.nvmlReturn == pynvml.NVML_SUCCESS:
            values[field.name] = values.get(field.name, 0) + field.worth(answer)
        else:
            failed.add(field.name)
    return {name: value for name, value in values.items() if name not in failed}
