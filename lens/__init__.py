"""What training and comparing hold alike, written once."""

import warnings

# PEFT asks transformers for this by its old name at every attaching; whoever reads the warning can do nothing about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
