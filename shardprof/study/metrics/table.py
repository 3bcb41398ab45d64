"""The one table of what a study measures: each metric's number, name, unit, definition and source.

docs/metrics.md has the same rows, and the words that they use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What the figures of one `name` mean. `unit` is theirs, but of the `parts` that have one of their own."""

    number: int
    name: str
    unit: str
    definition: str
    source: str
    parts: Mapping[str, str] = field(default_factory=dict)

    def unit_of(self, part: str) -> str:
        """The unit of a part."""
        return self.parts.get(part, self.unit)


def _metric(number: int, name: str, unit: str, definition: str, source: str, **parts: str) -> Metric:
    return Metric(number=number, name=name, unit=unit, definition=definition, source=source, parts=parts)


_RECORDS = "step records"
_TRACE = "captured steps"
_NVML = "NVML"
_HOST = "operating system"
_LOG = "training log"

METRICS: tuple[Metric, ...] = (
    _metric(
        1, "step_time", "ms",
        "`p50`, `p95`, `max` over counted steps of a step's time: from one step's end to the next, data loading and "
        "logging included, less what recording took, in the median of the ranks",
        _RECORDS,
    ),
    _metric(
        2, "throughput", "samples/s",
        "`samples_per_s` is the global batch (micro-batches included) by `step_time` `p50`, `samples_per_s_per_rank` "
        "that by the ranks, `tokens_per_s_per_rank` that times the tokens of a sample",
        f"{_RECORDS}, workload", tokens_per_s_per_rank="tokens/s",
    ),
    _metric(
        3, "epoch_time", "s",
        "training images by `throughput`: one pass over them, without evaluations, starting up and recording",
        f"{_RECORDS}, workload",
    ),
    _metric(
        3, "train_time", "s",
        "from run_start (before the first step) to run_stop (after the last evaluation) as MLPerf names them, by the "
        "first rank's clock; evaluations and captured steps included",
        "workload",
    ),
    _metric(
        4, "mfu", "%",
        "FLOPs of a sample, forward and backward, as torch's FlopCounterMode counts them, times samples/s a rank, by "
        "the GPU's dense peak in the precision that is computed in",
        f"{_RECORDS}, workload, peaks of `shardprof/study/metrics/compute.py`",
    ),
    _metric(
        5, "hfu", "%",
        "the same with the FLOPs that checkpointing executes again",
        f"{_RECORDS}, workload, peaks of `shardprof/study/metrics/compute.py`",
    ),
    _metric(
        6, "gpu_util_time", "%",
        "share of counted time in which some kernel was resident (NVML's utilization), in the mean of the GPUs: "
        "not how well it was used",
        _NVML,
    ),
    _metric(7, "gpu_busy", "%", "union of all kernels by the length of captured steps", _TRACE),
    _metric(
        8, "sm_efficiency_est", "%",
        "sum over kernels of duration times the occupancy that Kineto estimates, by the length of captured steps; "
        "kernels without an estimate count 0. Of one rank, the first that has captured steps",
        "text of a trace",
    ),
    _metric(
        9, "compute_only", "ms",
        "compute outside communication, in the mean captured step; `percent` of it. The four of number 9 sum to that "
        "step, which the profiler makes longer than `step_time`",
        _TRACE, percent="%",
    ),
    _metric(9, "comm_only", "ms", "communication outside compute, likewise", _TRACE, percent="%"),
    _metric(9, "overlap", "ms", "compute and communication at once, likewise", _TRACE, percent="%"),
    _metric(9, "idle", "ms", "the rest: copies, data loading, nothing at all; likewise", _TRACE, percent="%"),
    _metric(
        10, "exposed_comm", "ms",
        "communication outside compute, in the mean captured step; by kind what the partition gives to it (they sum "
        "to the whole)",
        _TRACE,
    ),
    _metric(11, "overlap_ratio", "%", "the share of communication that runs under compute", _TRACE),
    _metric(
        12, "comm_bytes_by_op", "bytes",
        "payload that a rank gives to communication in a step, in the mean of captured steps, by kind and as a whole: "
        "of an all-gather the output, of a reduce-scatter the input, of an all-reduce the buffer",
        _TRACE,
    ),
    _metric(
        13, "wire_bytes", "bytes",
        "what a rank sends in a step, in the mean of captured steps, by kind and as a whole: payload times 2(n-1)/n "
        "for all-reduce, (n-1)/n for all-gather, reduce-scatter and all-to-all, 1 for the others, n the size of the "
        "group; gloo's reduce-scatter is sent as an all-reduce",
        _TRACE,
    ),
    _metric(
        14, "volume_ratio", "x",
        "bytes sent a step by those that the strategy needs (`per_theory`), and by those that its implementation is "
        "known to send as it is set (`per_expected`)",
        f"{_TRACE}, recorded settings",
    ),
    _metric(
        15, "algbw", "GB/s",
        "by kind: payload by the time from the last rank's arrival to the end, 1e9 B/s, over all collectives of the "
        "captured steps",
        f"{_TRACE} of at least two ranks",
    ),
    _metric(
        15, "busbw", "GB/s",
        "by kind: `algbw` times the factor of `wire_bytes`; above the link's rate where the network reduces (NVLS)",
        f"{_TRACE} of at least two ranks",
    ),
    _metric(
        16, "collective_wait", "ms",
        "how long a rank's communication of a step waited for the last rank to come, in the mean of captured steps and "
        "ranks; `max` is the rank that waits most",
        f"{_TRACE} of at least two ranks",
    ),
    _metric(
        17, "nic_rx", "GB/s",
        "received in counted time by InfiniBand ports or, where there are none, by all network interfaces but "
        "loopback, 1e9 B/s, in the mean of the nodes",
        _HOST,
    ),
    _metric(17, "nic_tx", "GB/s", "sent, likewise", _HOST),
    _metric(
        18, "nvlink_rx", "GB/s", "received over NVLink in counted time, 1e9 B/s, in the mean of the GPUs", _NVML
    ),
    _metric(18, "nvlink_tx", "GB/s", "sent over NVLink, likewise", _NVML),
    _metric(18, "pcie_rx", "GB/s", "received over PCIe, likewise", _NVML),
    _metric(18, "pcie_tx", "GB/s", "sent over PCIe, likewise", _NVML),
    _metric(
        19, "gpu_mem_allocated_peak", "GiB",
        "the most that tensors took of torch's allocator since the process began, on the rank that took most; 2^30 B",
        _RECORDS,
    ),
    _metric(19, "active_peak", "GiB", "the same of active blocks, those that a stream still uses included", _RECORDS),
    _metric(
        20, "gpu_mem_reserved_peak", "GiB", "the most that torch's allocator held of a GPU, likewise", _RECORDS
    ),
    _metric(
        21, "gpu_mem_nvml", "GiB",
        "the most of a GPU's memory in use at any sample, less what was in use when sampling began, before the job's "
        "processes came: CUDA's context and NCCL's buffers included; on the GPU where that is most",
        _NVML,
    ),
    _metric(
        22, "fragmentation", "%",
        "1 - `active_peak` / `gpu_mem_reserved_peak` of a rank, on the rank where that is most; torch's "
        "`inactive_split_bytes` are not recorded",
        _RECORDS,
    ),
    _metric(
        23, "alloc_retries", "count/step",
        "how often torch freed its cache to go on, by the steps after the warm-up, on the rank that did so most",
        _RECORDS,
    ),
    _metric(23, "ooms", "count/step", "how often torch's allocator found no memory, likewise", _RECORDS),
    _metric(
        24, "cpu_rss", "GiB",
        "the most of any rank's resident memory at any sample; of its own process, without workers; 2^30 B",
        _HOST,
    ),
    _metric(24, "cpu_uss", "GiB", "the same of memory that it shares with no other process", _HOST),
    _metric(24, "pinned", "GiB", "page-locked memory of torch's host allocator: not recorded so far", "none"),
    _metric(
        25, "proc_count", "count", "the most processes of any rank at any sample: itself and what it started", _HOST
    ),
    _metric(25, "thread_count", "count", "the most threads of any rank's process at any sample", _HOST),
    _metric(
        25, "ctx_switches", "count/step",
        "context switches of a rank's main thread a second of counted time, times the mean counted step, in the mean "
        "of the ranks",
        _HOST,
    ),
    _metric(
        26, "cpu_util_main_thread", "%",
        "CPU time of a rank's main thread by counted time, in the mean of the ranks",
        _HOST,
    ),
    _metric(
        27, "data_wait", "ms",
        "time inside the DataLoader's `__next__` a step, in the mean of counted steps and ranks; `percent` of the step",
        _RECORDS, percent="%",
    ),
    _metric(
        28, "h2d_time", "ms",
        "sum of the copies from host to device that begin in a captured step, in the mean step; `pinned` and "
        "`pageable` are the parts from such memory. Of one rank, the first that has captured steps",
        "text of a trace",
    ),
    _metric(28, "h2d_bw", "GB/s", "bytes of these copies by their time, 1e9 B/s", "text of a trace"),
    _metric(
        29, "launch_gap", "ms",
        "time that a GPU idles until work that was launched after the idleness began, in the mean captured step",
        _TRACE,
    ),
    _metric(
        30, "optimizer_time", "ms",
        "time of the main thread inside the optimizer's step, in the mean of counted steps and ranks. On a GPU it "
        "launches kernels there that may run later",
        _RECORDS,
    ),
    _metric(31, "power", "W", "power of a GPU in counted time, in the mean of the job's GPUs", _NVML),
    _metric(
        31, "energy_per_step", "J",
        "energy of a GPU a second of counted time, times the mean counted step, in the mean of the job's GPUs",
        _NVML,
    ),
    _metric(
        32, "sm_clock", "MHz",
        "SM clock in counted time, in the mean of the GPUs; `min` is the lowest sample of any while steps were counted",
        _NVML,
    ),
    _metric(
        32, "throttle_reasons", "bitmask",
        "NVML's reasons for lower clocks at any sample of any GPU while steps were counted, of those that slow it "
        "down: 0x4 power cap, 0x8 hardware slowdown, 0x20 and 0x40 thermal, 0x80 power brake",
        _NVML,
    ),
    _metric(
        33, "straggler_score", "ratio",
        "1 - wait / the longest wait of any rank, by `collective_wait` of the ranks: the highest, of the `rank` that "
        "waits least; `steps` is the share of captured steps in which that rank waits least",
        f"{_TRACE} of at least two ranks", rank="rank", steps="%",
    ),
    _metric(
        34, "loss", "", "mean over the last 10 steps of the ranks' mean loss", _LOG
    ),
    _metric(34, "grad_norm", "", "median over steps of the norm of all gradients before clipping", _LOG),
    _metric(34, "lr", "", "learning rate of the last step", _LOG),
    _metric(34, "skipped_steps", "count", "steps whose update was skipped because a gradient overflowed", _LOG),
    _metric(34, "accuracy", "ratio", "share of test images that are right at the last evaluation", _LOG),
    _metric(
        34, "time_to_target", "s",
        "from run_start to the end of the first evaluation that reaches the study's `target_accuracy`; evaluations "
        "and captured steps included",
        f"{_LOG}, workload",
    ),
    _metric(34, "samples_to_target", "samples", "samples that were seen until then", _LOG),
    _metric(
        35, "error_rate", "count/h",
        "errors by the hours of the recording: a job that failed, ranks that were started again, Xids, lost GPUs and "
        "memory errors that ECC could not correct",
        f"run record, {_NVML}",
    ),
    _metric(35, "validation_error", "ratio", "1 - `accuracy`", _LOG),
    _metric(
        36, "scaling_efficiency", "%",
        "strong: T1 / (N TN), weak: throughput of N / (N throughput of 1); of several trainings, so the report of a "
        "study has it",
        "`shardprof bench report`",
    ),
)  # fmt: skip
