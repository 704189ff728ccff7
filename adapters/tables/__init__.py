"""The state tables for reviewers: as plain data, of the running code or of a revision, compared, drawn, exported."""
