"""Record finished decisions."""
