"""Helpers for frameworks that build their own client: one module a framework.

Importing this package imports no framework. A module whose framework is missing says what to
install. Frameworks that take a client, or middleware, need no helper: see docs/frameworks.md.
"""
