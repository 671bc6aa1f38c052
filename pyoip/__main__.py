"""``python -m pyoip``: the command line."""

from .cli import main

main()
