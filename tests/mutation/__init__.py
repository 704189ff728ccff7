"""Mutation testing: change one thing in the code, and see whether a test notices.

    python -m mutation engine                  every module of the engine
    python -m mutation engine/flows/refresh.py       one module
    python -m mutation engine --most 20        a stable sample of 20 mutants a module

Run it in `tests/`. `operators` makes the mutants, `selection` finds the tests that reach the changed line, `trial` runs
them in a forked process. `equivalent.toml` lists the mutants that behave as the original does, each with the reason.

Why not a tool from PyPI. `mutmut` finds the code by the path of its folder, and here `engine/` is imported as
`authstate.engine`. `cosmic-ray` starts a whole test run for each mutant, which takes hours for what takes minutes here.
"""
