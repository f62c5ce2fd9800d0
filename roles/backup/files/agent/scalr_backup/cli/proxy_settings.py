# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration in environment variables, printed as the socket proxies read it from a file.

A proxy makes its own, so that no agent can tell it which containers are databases.
"""

from __future__ import annotations

import os
import sys

from scalr_backup.core.config import config_of_environment
from scalr_backup.core.errors import ConfigurationError

if __name__ == "__main__":
    try:
        print(config_of_environment(os.environ).model_dump_json(by_alias=True))
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        sys.exit(int(error.exit_code))
