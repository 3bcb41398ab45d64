"""The metrics of a study: what they are (`METRICS`), and their figures from one finished training (`measure`)."""

from shardprof.study.metrics.measure import measure
from shardprof.study.metrics.table import METRICS, Metric

__all__ = ["METRICS", "Metric", "measure"]
