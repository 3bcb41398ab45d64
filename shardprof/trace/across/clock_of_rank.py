"""How one rank's clock relates to the reference: what a report keeps of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RankClock:
    """reference time = t - offset_ns - drift_ppm * 1e-6 * (t - t0_ns). The reference is the lowest rank's clock.

    `residual_ns` is how far the ends of collectives on this rank are from their mean over ranks after that, as a
    standard deviation (from the median); None, like the others, where the rank shares no collective with the reference.
    """

    rank: int
    offset_ns: int | None
    drift_ppm: float | None
    t0_ns: int
    residual_ns: int | None

    def on_reference(self, time_ns: int) -> int:
        """A time of this rank as the reference's clock has it; the same where nothing ties the two."""
        if self.offset_ns is None or self.drift_ppm is None:
            return time_ns
        return time_ns - self.offset_ns - round(self.drift_ppm * 1e-6 * (time_ns - self.t0_ns))
