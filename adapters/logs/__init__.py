"""Log lines of a library: on loggers below `authstate`, without secrets. docs/events-and-logs.md explains them."""
