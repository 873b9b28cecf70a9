"""`python -m parfocal`."""

import sys

from parfocal.cli import main

sys.exit(main())
