"""Teach a BLOOM to answer: rows of instruction / input / output in, an adapter directory out.

Knows nothing of `compare`: the two meet only in the adapter directory.
"""
