"""Hostile input, load and crashes, measured: python -m bench.trust. What it promises is in SECURITY.md."""
