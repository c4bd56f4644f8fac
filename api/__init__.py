"""The shim: one HTTP request becomes one transaction. `python -m api serve` runs it."""

import zoneinfo

# One source of time zone data, the pinned tzdata: a machine's own may be years older, and read the time of a
# lesson as another hour.
zoneinfo.reset_tzpath(())
