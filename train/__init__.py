"""Teach a decoder to answer: rows of instruction / input / output in, an adapter directory out."""
