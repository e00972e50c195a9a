"""See what a LoRA adapter changed: one BLOOM in memory, base and adapted answers side by side."""

import warnings

# PEFT asks transformers for this by its old name at every attaching; whoever reads the warning can do nothing about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

__version__ = "0.1.0"
