"""Why does this network not train? MLPs on Lightning and Hydra, with their gradient flow measured and judged."""

__version__ = "0.1.0"
