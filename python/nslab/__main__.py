"""``python -m nslab``: the same as the command ``nslab``."""

from __future__ import annotations

import sys

from ._cli import main

sys.exit(main())
