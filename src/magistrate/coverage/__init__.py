"""What of the installed SDK is judged."""
