"""``python -m alphakeel`` is the command line."""

from alphakeel.cli import main

main()
