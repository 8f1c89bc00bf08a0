"""Judges, which answer the question "does this violate the policy?". One module per judge."""
