"""The version of authstate. The build reads it from here, and `initialize` reports it without package metadata."""

VERSION = "0.1.0"
