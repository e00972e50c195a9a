"""Where the pair that ships with the project lies. Standard library only."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EMBEDDED_BASE = str(ASSETS / "base")
SHIPPED_ADAPTERS = ASSETS / "adapters"
EMBEDDED_ADAPTER = str(SHIPPED_ADAPTERS / "lens")
EMBEDDED_ROWS = str(ASSETS / "hit_qa" / "train.jsonl")
TIMELINE = ASSETS / "timeline"  # step-N directories: bare weights of the shipped adapter's training
