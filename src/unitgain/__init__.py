"""Trainability, gradient flow and distribution shift."""

__version__ = "0.1.0"
