"""Every way to shape a draft tree that we compare, and the grids of settings it is tuned over."""
