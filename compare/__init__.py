"""See what a LoRA adapter changed: one BLOOM in memory, base and adapted answers side by side."""

__version__ = "0.1.0"
