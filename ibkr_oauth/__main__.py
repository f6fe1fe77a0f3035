"""`python -m ibkr_oauth`: the `ibkr-oauth` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
