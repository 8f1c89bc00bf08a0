"""Thresholds and actions for a rate of false alarms."""
