"""So that ``python -m resetkit`` is the command too."""

import sys

from resetkit.cli import main

sys.exit(main())
