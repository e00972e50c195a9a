"""The held-out report: rows → answers → figures → report.json, report.md, report.html, pictures, a gate.

Answers and likelihoods come from an engine, by its interface.
"""
