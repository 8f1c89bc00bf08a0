"""Judges: who answers the question "does this violate the policy?". One file a judge."""
