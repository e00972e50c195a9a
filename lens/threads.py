"""How threads wait for one another: asleep, unless the user has said otherwise. Standard library only.

OpenMP's threads spin while they wait, which makes everything several times slower as soon as a second program runs.
The library reads its setting once, when torch loads it: so every entry point calls this first.
"""

from __future__ import annotations

import os


def wait_passively() -> None:
    """Has no effect once torch is loaded; never over a user's own setting."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
