"""What the unit tests share: how properties are tried."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples in every run, and as long as each takes: neither chance nor the machine's load decides.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
