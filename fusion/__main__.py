"""Entry point of `python -m fusion`."""

from fusion.cli.main import main

if __name__ == "__main__":
    main()
