"""Runs side by side: what their difference consists of, whether it is fair to compare them, limits that they keep."""
