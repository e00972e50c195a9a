"""Which forward a base gets: written out for the families that people use most, else transformers' own."""

from __future__ import annotations

from typing import Any

from compare.models.architecture import Architecture
from compare.models.bloom import Bloom
from compare.models.rotary import Rotary, fits


def decoder_of(model: Any) -> Architecture:
    """A loaded causal LM's forward by rows. Raises BadBase where it cannot be had exactly."""
    if model.config.model_type == "bloom":
        return Bloom(model)
    if fits(model):
        return Rotary(model)
    from compare.models.general import General  # and with it transformers

    return General(model)
