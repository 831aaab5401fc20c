"""`python -m lightning_modules fit --config ...`: train one network from the command line."""

import sys

from lightning_modules.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
