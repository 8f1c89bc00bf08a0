"""What runs show, in numbers: rates with intervals, curves, comparisons, rules for runs."""
