"""A world in one thread: processes with real engines and real stores, on a simulated disk, network and clock.

    scheduler.py    time, timers, and processes that are stopped and resumed at every step
    loop.py         the asyncio event loop of one process
    virtual_disk.py the disk: what is visible, what a power cut keeps, who holds the lock; `SimDisk` is a process's view
    issuer.py       a rotating issuer of single-use refresh tokens, and the network that loses requests and answers
    process.py      one process: AuthEngine and AuthJsonStore as they are shipped, and the callers that use them
    broker_clients.py  children that get their tokens from a process that is a broker
    ledger.py       the invariants: every violation is raised where it happens
    timeline.py     what happened, for a person
    world.py        all of it together, and what must hold at the end
    history.py      a seed becomes a history: what people, machines and networks do
    campaign.py     many seeds in worker processes, and their figures
    enumeration.py  the small scope: every order of every step, not a sample
    mutants.py      the engine with one of its guarantees removed: the simulation must notice

Only the disk port, the token endpoint port and the clock port are simulated. The engine, the store, the codec and
asyncio's own tasks, locks and futures are the real ones. A process is a greenlet, so it can be stopped between two
steps of the disk, where no `await` is.
"""
