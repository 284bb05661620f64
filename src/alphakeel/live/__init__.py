"""After a study: what to hold tomorrow, the journal of decisions, and whether they keep working."""
