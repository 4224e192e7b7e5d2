"""Intervals and tests over runs, seeds and rows, as pure functions of arrays."""
