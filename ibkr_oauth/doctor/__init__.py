"""What is wrong, and on which side: every file and value is checked, then the service is asked, step by step.

```python
from ibkr_oauth import config, doctor

report = doctor.diagnose(config.load("paper"))
print(report.verdict, report.next_step)
```

`identify` says of a single file what it is. Nothing here shows a secret.
"""

from __future__ import annotations

from .bundle import write_bundle
from .diagnosis import diagnose, unreadable
from .files import KeyFile, check_files, identify
from .report import Finding, Report, State

__all__ = [
    "Finding",
    "KeyFile",
    "Report",
    "State",
    "check_files",
    "diagnose",
    "identify",
    "unreadable",
    "write_bundle",
]
