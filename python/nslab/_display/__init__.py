"""Pictures of what was inspected: pure functions from the records to a `Picture`, a file for each."""
