"""Frames that a notebook shows as bars."""

from __future__ import annotations

import polars as pl

from shardprof.render._notebook import breakdown_html


class Breakdown(pl.DataFrame):
    """A Polars frame in everything, but that a notebook shows bars over its table while it has the columns for them."""

    _NEEDED = frozenset({"rank", "span_ns", "busy_ns", "idle_ns", "compute_ns", "exposed_comm_ns"})

    def _repr_html_(self, *, _from_series: bool = False) -> str:
        table = super()._repr_html_(_from_series=_from_series)
        if not self._NEEDED.issubset(self.columns):
            return table
        rows = self.select(sorted(self._NEEDED)).rows(named=True)
        return breakdown_html("what the time of the traces went to", rows) + table
