"""The state tables as plain data: of the running code and of a revision in git, compared, drawn and exported."""
