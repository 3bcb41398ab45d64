"""Replays a recorded step: how long it would take if some of its events took another time, or none."""

from shardprof.trace.replay.build import step_graph
from shardprof.trace.replay.graph import StepGraph

__all__ = ["StepGraph", "step_graph"]
