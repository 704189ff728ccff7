"""Which cells of the state tables the tests exercise, and which kind of test does.

A *cell* is a table, a state and a trigger. Firing it has an outcome: a row is taken, the guard of the row refuses, or
there is no row. The tests must exercise each outcome of each cell.

`recorder` counts what a process fires, in the process of the tests and in each Python that a test starts. `plugin`
starts it and, after a run of the whole suite, prints a report and fails the run if a cell was not exercised. `cells`
says what there is to exercise, `records` reads what was recorded, `report`, `page` and `picture` show it.

    python -m support.table_coverage        after a run of tests: brings diagrams/coverage.* up to date

Run it in `tests/`. A run of the whole suite replaces what is committed, a run of some tests adds to it.
"""
