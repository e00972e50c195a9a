"""See what a LoRA adapter changed: one BLOOM in memory, base and adapted answers side by side.

Knows nothing of `train`: the two meet only in the adapter directory.
"""

__version__ = "0.1.0"
