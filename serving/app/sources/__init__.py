"""Sources: where documents come from, and bringing the index in line with them."""
