"""The first edge: clients and middleware of the SDK. It performs effects and decides nothing."""
