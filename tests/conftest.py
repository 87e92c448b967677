"""Hypothesis profiles, for every test.

`default` is for the desk, `ci` repeats the same examples on every run, `fuzz` is what `make fuzz` asks for.
"""

import os

from hypothesis import HealthCheck, settings

# Few examples at the desk and in CI, where the suite is run often; `make fuzz` looks 20,000 times.
# No deadline: how long one example takes says more about the machine than about the code.
settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True, print_blob=True)
settings.register_profile(
    "fuzz", deadline=None, max_examples=20_000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "default")
