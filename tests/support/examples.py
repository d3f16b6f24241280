"""Laws of the pure core, tried with values that one would not think of."""

from hypothesis import settings


def examples(times: int) -> settings:
    """That many times as many examples as the profile in force has."""
    return settings(max_examples=times * settings().max_examples)
