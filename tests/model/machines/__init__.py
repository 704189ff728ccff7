"""Many machines on one database, in one thread: real engines and real stores, on a simulated database and network.

    database.py   the database: what each statement of a store does, what is durable, and what a standby has
    machine.py    a process's way to it: requests and answers that are late, lost or cut off
    authority.py  a process's way to the issuer, which stops between the last check and the write
    ledger.py     the promises
    world.py      all of it together
    history.py    a seed becomes a history
    mutants.py    the protocol with one of its guarantees removed: the simulation must notice

Time, order, processes, callers and the issuer are those of model/simulation. Only what reaches the server is simulated:
`PostgresStore`, its holds and its encryption are the ones that are shipped. tests/unit/adapters/postgres compares each
statement with a real server.
"""
