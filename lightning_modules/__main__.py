"""`python -m lightning_modules fit --config ...`: train one network from the command line."""

from lightning_modules.cli import main

if __name__ == "__main__":
    main()
