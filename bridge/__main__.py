"""`python -m bridge`: the same as the command `kickoff-bridge`."""

from bridge.cli import main

main()
