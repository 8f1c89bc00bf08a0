"""Everything an edge needs and shares. Knows no SDK."""
