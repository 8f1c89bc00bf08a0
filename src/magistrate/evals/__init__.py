"""Eval suites: labelled cases, runs of a judge over them, and what the runs show.

`cases` (what people write) -> `run` (asks a judge, resumable) -> `results` (one line a judgment) ->
`metrics` -> `compare`, `report`, `gate`, `tune`. Nothing here is imported by the data path.
"""
