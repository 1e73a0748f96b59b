"""``nslab grade``: a submission is run once and what it did is noted (`collect`); checks judge the notes (`judge`)."""
