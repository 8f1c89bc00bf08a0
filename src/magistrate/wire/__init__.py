"""Read and write the JSON and the event streams of the Messages API. Pure; decides nothing."""
