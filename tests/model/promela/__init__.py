"""The refresh protocol as models for Spin, a model checker: see docs/model-checker.md.

trace.pml             what a step is that can be seen from outside; free runs, and runs along a trace
refresh_files.pml     the protocol on files
checks.py             what is checked, and the safeguards that are removed
spin.py               runs Spin and the verifiers that it makes
recorder.py           a history of model/simulation as a trace
traces.py             whether a model accepts traces
"""
