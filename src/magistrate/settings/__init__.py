"""The app team's file: its schema, its checks, its loader."""
