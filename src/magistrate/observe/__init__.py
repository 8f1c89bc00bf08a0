"""Where a finished decision goes."""
