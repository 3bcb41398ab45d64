"""How much of the hardware is used: FLOPs by the peak, occupancy, and copies to the device."""

from __future__ import annotations

from shardprof.study.gpus import peak_flops_per_s
from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.recorded import samples_per_s
from shardprof.study.metrics.values import MS, Measure, Value, Values, needs_gpu


def _utilization(flops: str) -> Measure:
    def measure(evidence: Evidence) -> Values:
        of_rank = samples_per_s(evidence) / evidence.cell.ranks
        return {"": 100 * evidence.fact(flops) * of_rank / _peak(evidence)}

    return measure


def _peak(evidence: Evidence) -> float:
    if not evidence.on_gpu:
        raise MissingError("the peak of this processor is not known")
    precision = evidence.cell.precision
    names = _gpu_names(evidence)
    if len(names) != 1:
        raise MissingError("ranks compute on different GPUs" if names else "the name of the GPU is not told")
    name = names.pop()
    peak = peak_flops_per_s(name, precision)
    if peak is None:
        raise MissingError(f"the peak of {name} in {precision} is not known")
    return peak


def _gpu_names(evidence: Evidence) -> set[str]:
    """Those of the job's GPUs, by NVML or else by the trace's header."""
    told = evidence.report.source.device_name if evidence.report else None
    return {gpu.name for gpu in evidence.gpus} or ({told} if told else set())


@needs_gpu
def _sm_efficiency(evidence: Evidence) -> Values:
    done = evidence.device_work
    estimated = [work for work in done.work if work.occupancy is not None]
    if not estimated:
        raise MissingError("the trace holds no estimates of occupancy")
    return {"": 100 * sum(work.duration_ns * (work.occupancy or 0) for work in estimated) / done.wall_ns}


@needs_gpu
def _h2d_time(evidence: Evidence) -> Values:
    done = evidence.device_work
    pinned = sum(work.duration_ns for work in done.copies if work.is_pinned) / done.steps / MS
    pageable = sum(work.duration_ns for work in done.copies if not work.is_pinned) / done.steps / MS
    return {"": pinned + pageable, "pinned": pinned, "pageable": pageable}


@needs_gpu
def _h2d_bw(evidence: Evidence) -> Values:
    copies = evidence.device_work.copies
    took_ns = sum(work.duration_ns for work in copies)
    sizes = [work.size_bytes for work in copies]
    known = [size for size in sizes if size is not None]
    bandwidth: Value = sum(known) / took_ns if took_ns else "nothing was copied to the device"
    return {"": bandwidth if len(known) == len(sizes) else "sizes are not told"}


MEASURES: dict[str, Measure] = {
    "mfu": _utilization("flops_per_sample"),
    "hfu": _utilization("executed_flops_per_sample"),
    "sm_efficiency_est": _sm_efficiency,
    "h2d_time": _h2d_time,
    "h2d_bw": _h2d_bw,
}
