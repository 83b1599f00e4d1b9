"""How many users there are over time."""

from __future__ import annotations

from bls_models.errors import SetupError

SHAPES = ("steady", "ramp", "spike")
# Users before and after a spike, relative to those in it.
SPIKE_BASE = 0.2


def users_at(shape: str, seconds: float, users: int, duration_s: float) -> int:
    """The number of users at a moment.

    Args:
        shape: ``steady``: all of them; ``ramp``: one more after another until the end;
            ``spike``: a fifth, in the middle third of the time all of them, then a fifth again.
        seconds: since the start.
        users: the most there are.
        duration_s: length of the whole test, seconds.

    Raises:
        SetupError: there is no such shape.
    """
    if shape == "steady":
        return users
    progress = min(seconds / duration_s, 1.0)
    if shape == "ramp":
        return max(1, round(users * progress))
    if shape == "spike":
        return users if 1 / 3 <= progress < 2 / 3 else max(1, round(users * SPIKE_BASE))
    raise SetupError(f"shape {shape!r} is not one of {', '.join(SHAPES)}")
