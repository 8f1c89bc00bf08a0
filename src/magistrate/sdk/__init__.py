"""The SDK edge: clients and middleware. It performs effects and decides nothing."""
