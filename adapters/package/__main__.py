"""`python -m authstate` is the command `authstate`."""

import sys

from authstate.adapters.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
