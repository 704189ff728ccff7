"""`authstate verify`: a conformance run of a server of the account API.

A history is a list of actions. `actions.py` does them on a real server and says what the reference model expects.
`scenarios.py` makes the histories that reach every cell of the state table. `search.py` generates more, and shrinks
those that fail.
"""
