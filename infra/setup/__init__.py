"""Set-up of a checkout: its environment (`install.py`, which runs without it) and what a new part begins with."""
