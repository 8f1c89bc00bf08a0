"""Report which parts of the installed SDK are judged."""
