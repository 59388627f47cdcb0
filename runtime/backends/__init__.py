"""Language models under our own loop. One file per engine."""
