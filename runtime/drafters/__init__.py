"""Where draft tokens come from. One file per source."""
