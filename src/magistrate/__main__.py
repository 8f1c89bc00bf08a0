"""`python -m magistrate`."""

from magistrate.cli import main

main()
