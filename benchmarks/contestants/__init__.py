"""Who takes part: each module maps the kinds of a workload to what builds and runs it."""
