"""The auth engine: states, credentials, the refresh protocol and the 401 recovery, without I/O.

Its public names are in the package `authstate`.
"""
