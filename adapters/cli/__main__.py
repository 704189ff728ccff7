"""`python -m authstate.adapters.cli`."""

import sys

from authstate.adapters.cli.main import main

sys.exit(main())
