"""What the counters in counters.jsonl are called for people: the one table of all names that sources write.

A name that ends in a unit has that unit; the others count something.
"""

from __future__ import annotations

from dataclasses import dataclass

UNITS = {
    "_bytes_per_s": "B/s",
    "_bytes": "B",
    "_percent": "%",
    "_mhz": "MHz",
    "_w": "W",
    "_j": "J",
    "_c": "°C",
    "_s": "s",
}
"""By the end of a name; the first that fits."""


@dataclass(frozen=True, slots=True)
class CounterName:
    """A counter for people. `unit` is empty for a count; a cumulative counter is a total, of which differences tell."""

    label: str
    unit: str
    is_cumulative: bool


def _now(name: str, label: str) -> tuple[str, CounterName]:
    return name, CounterName(label, _unit(name), is_cumulative=False)


def _total(name: str, label: str) -> tuple[str, CounterName]:
    return name, CounterName(label, _unit(name), is_cumulative=True)


def _unit(name: str) -> str:
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


COUNTERS: dict[str, CounterName] = dict(
    [
        # The node and its ranks, by the operating system.
        _now("cpu_percent", "CPU in use"),
        _total("cpu_user_s", "CPU time, user"),
        _total("cpu_system_s", "CPU time, system"),
        _total("cpu_iowait_s", "CPU time, idle and waiting for I/O"),
        _total("cpu_idle_s", "CPU time, idle"),
        _total("cpu_pressure_s", "time in which something waited for a CPU"),
        _total("memory_pressure_s", "time in which something waited for memory"),
        _total("io_pressure_s", "time in which something waited for I/O"),
        _now("memory_used_bytes", "memory in use"),
        _now("memory_available_bytes", "memory available"),
        _now("swap_used_bytes", "swap in use"),
        _total("swap_in_bytes", "read from swap"),
        _total("swap_out_bytes", "written to swap"),
        _total("main_thread_cpu_s", "CPU time of the main thread"),
        _total("main_thread_waiting_s", "time the main thread waited for a CPU"),
        _total("voluntary_context_switches", "times the main thread went to wait"),
        _total("involuntary_context_switches", "times the main thread was put off its CPU"),
        _total("minor_page_faults", "page faults without I/O"),
        _total("major_page_faults", "page faults with I/O"),
        _now("rss_bytes", "resident memory"),
        _now("uss_bytes", "memory of its own"),
        _now("threads", "threads"),
        _now("processes", "processes"),
        _total("read_bytes", "read from storage"),
        _total("write_bytes", "written to storage"),
        # Network interfaces and InfiniBand ports.
        _total("tcp_sent_bytes", "sent to other machines by TCP"),
        _total("tcp_busy_s", "time with bytes on their way by TCP"),
        _total("tcp_retransmits", "TCP segments sent again"),
        _total("tx_bytes", "sent"),
        _total("rx_bytes", "received"),
        _total("tx_errors", "errors in sending"),
        _total("rx_errors", "errors in receiving"),
        _total("tx_drops", "packets dropped in sending"),
        _total("rx_drops", "packets dropped in receiving"),
        # GPUs, by NVML; memory_used_bytes is above.
        _now("utilization_percent", "time with a kernel running"),
        _now("memory_utilization_percent", "time with memory being read or written"),
        _now("power_w", "power"),
        _total("energy_j", "energy"),
        _now("temperature_c", "temperature"),
        _now("memory_temperature_c", "temperature of the memory"),
        _now("sm_clock_mhz", "SM clock"),
        _now("memory_clock_mhz", "memory clock"),
        _now("throttle_reasons", "reasons for lower clocks, as NVML's bits"),
        _total("pcie_tx_bytes", "sent over PCIe"),
        _total("pcie_rx_bytes", "received over PCIe"),
        _total("nvlink_tx_bytes", "sent over NVLink"),
        _total("nvlink_rx_bytes", "received over NVLink"),
        _total("ecc_corrected_errors", "memory errors that ECC has corrected"),
        _total("ecc_uncorrected_errors", "memory errors that ECC could not correct"),
        # GPUs of Hopper and newer, by their monitors (GPM): means since the sample before.
        _now("graphics_active_percent", "time with any work"),
        _now("sm_active_percent", "SMs busy"),
        _now("sm_occupancy_percent", "SM occupancy"),
        _now("tensor_active_percent", "tensor cores busy"),
        _now("hmma_active_percent", "tensor cores busy with 16-bit floats"),
        _now("dram_bandwidth_percent", "memory bandwidth in use"),
        _now("fp64_active_percent", "FP64 units busy"),
        _now("fp32_active_percent", "FP32 units busy"),
        _now("fp16_active_percent", "FP16 units busy"),
        _now("pcie_tx_bytes_per_s", "sent over PCIe"),
        _now("pcie_rx_bytes_per_s", "received over PCIe"),
        _now("nvlink_tx_bytes_per_s", "sent over NVLink"),
        _now("nvlink_rx_bytes_per_s", "received over NVLink"),
    ]
)
