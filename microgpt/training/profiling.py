"""The profile of some training steps (`train.profile`): a trace for Perfetto, and the operations that take longest."""

import logging
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from microgpt.data.partial import partial_path
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status, naming, write_atomically

TRACE, TABLE = "profile.pt.trace.json", "profile.txt"  # by this ending TensorBoard's plugin finds traces
SKIPPED_STEPS, PROFILED_STEPS = 3, 10  # the first steps allocate, and compile
MAX_OPERATIONS = 10

log = logging.getLogger(__name__)


class Profiler(Callback):
    """Profiles PROFILED_STEPS steps of this session, and writes the trace and the table to `folder`."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.on_gpu = folder, device.type == "cuda"
        self.running: profile | None = None

    def at_start(self, progress: Progress) -> None:
        self.first = progress.step + SKIPPED_STEPS

    def before_step(self, progress: Progress) -> None:
        if progress.step == self.first:
            gpu = [ProfilerActivity.CUDA] if self.on_gpu else []
            self.running = profile(activities=[ProfilerActivity.CPU, *gpu])
            self.running.start()
        elif progress.step == self.first + PROFILED_STEPS:
            self.stop(PROFILED_STEPS)

    def at_end(self, progress: Progress, status: Status) -> None:
        if self.running:
            self.stop(progress.step - self.first)
        elif progress.step <= self.first:
            log.warning("train.profile=true: nothing to profile in so few steps; train more than %d", SKIPPED_STEPS)

    def stop(self, n_steps: int) -> None:
        """Write the trace and the table of the steps that were profiled."""
        assert self.running
        profiled, self.running = self.running, None
        profiled.stop()
        partial = partial_path(self.folder / TRACE)
        with naming(self.folder / TRACE):
            profiled.export_chrome_trace(str(partial))
            partial.replace(self.folder / TRACE)
        table = operations(profiled, self.on_gpu, n_steps)
        write_atomically(self.folder / TABLE, table + "\n")
        log.info("the operations that took longest, in %d steps (%s opens in ui.perfetto.dev):", n_steps, TRACE)
        log.info("%s", table)


def operations(profiled: profile, on_gpu: bool, n_steps: int) -> str:
    """The operations that took longest, without those that they call, as a Markdown table."""
    from microgpt.plots.tables import to_markdown  # imports rich, which takes a while

    events = profiled.key_averages()
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    calls, total = {event.key: event.count for event in events}, sum(times.values()) or 1
    longest = sorted(times, key=lambda key: times[key], reverse=True)[:MAX_OPERATIONS]
    return to_markdown(
        [
            {
                "operation": key,
                "ms per step": f"{times[key] / 1000 / n_steps:.3f}",
                "%": f"{100 * times[key] / total:.1f}",
                "calls per step": f"{calls[key] / n_steps:.1f}",
            }
            for key in longest
        ]
    )
