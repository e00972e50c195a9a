"""The held-out report: rows → answers → figures → report.json, report.md, report.html, pictures, a gate.

Asks `compare.engine.engine` and `compare.analysis.token_shift` for answers and likelihoods; nothing here generates or
trains.
"""
