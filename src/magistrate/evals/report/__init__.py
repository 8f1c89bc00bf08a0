"""`eval report`: one HTML file that shows what one run found, or compares two."""
