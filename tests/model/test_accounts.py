"""Many accounts, many processes: adds, switches, renames, removals, sign-ins, sign-outs, refreshes and expiries, at
random and amid each other, compared with a small reference.
"""

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model.accounts_world import AccountsWorld, Process, login_of

from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import AuthError, NotSignedIn, StoreUnavailable
from authstate.engine.model.secret import Secret

NUMBERS = st.integers(0, 99)
WORKSPACES = st.sampled_from(("org-1", "org-2"))
USERS = st.sampled_from(("ann", "bob", "ann"))


class Accounts(RuleBasedStateMachine):
    """Each rule does something to the vault, or in one process, and to the reference."""

    def __init__(self) -> None:
        super().__init__()
        self.world = AccountsWorld()
        self.keys = 0

    def teardown(self) -> None:
        self.world.close()

    # Tools

    def account(self, number: int) -> str:
        return sorted(self.world.names)[number % len(self.world.names)]

    def process(self, number: int) -> Process:
        return self.world.processes[number % len(self.world.processes)]

    def look(self, process: Process) -> None:
        """Let a process look, as it does about once a second. The second look sees what changed at the first."""
        self.world.run(process.engine.follow(adopt=True))

    # Beginning and processes

    @initialize(accounts=st.integers(1, 3), pinned=st.booleans(), selected=NUMBERS)
    def begin(self, accounts: int, pinned: bool, selected: int) -> None:
        self.save("home", self.world.issue("org-1", "ann"))
        for number in range(accounts):
            self.add(f"org-{1 + number % 2}", "bob" if number < 2 else "cleo")
        self.use(selected)
        self.world.open(None)
        self.world.open(self.account(selected + 1) if pinned else None)

    @precondition(lambda self: len(self.world.processes) < 5)
    @rule(number=NUMBERS, pinned=st.booleans())
    def start(self, number: int, pinned: bool) -> None:
        process = self.world.open(self.world.names[self.account(number)] if pinned else None)
        assert pinned or process.store.account == self.world.selected
        self.world.check_process(process)

    @precondition(lambda self: len(self.world.processes) > 1)
    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        process = self.process(number)
        self.world.run(process.engine.close())
        self.world.processes.remove(process)

    # The vault

    @precondition(lambda self: len(self.world.names) < 5)
    @rule(workspace=WORKSPACES, user=USERS)
    def add(self, workspace: str, user: str) -> None:
        entry = self.world.vault.add(wish=user)
        tokens = self.world.issue(workspace, user)
        self.save(entry.id, tokens)
        self.world.names[entry.id] = entry.name

    def save(self, account: str, tokens: object) -> None:
        async def save() -> None:
            async with self.world.vault.store(account).locked() as held:
                await held.save(tokens)  # type: ignore[arg-type]

        self.world.run(save())
        self.world.logins[account] = login_of(tokens)

    @rule(number=NUMBERS)
    def use(self, number: int) -> None:
        sent = len(self.world.issuer.sent)
        self.world.selected = self.account(number)
        self.world.vault.select(self.world.selected)
        assert len(self.world.issuer.sent) == sent, "switching spends no token"

    @rule(number=NUMBERS)
    def rename(self, number: int) -> None:
        account = self.account(number)
        name = self.world.vault.accounts().free_name("name")
        self.world.vault.rename(account, name)
        self.world.names[account] = name

    @precondition(lambda self: len(self.world.names) > 1)
    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        """As `account remove`: sign out, then remove."""
        account = sorted(self.world.names.keys() - {"home"})[number % (len(self.world.names) - 1)]
        process = Process(self.world, account)
        self.world.run(process.engine.log_out())
        self.world.run(process.engine.close())
        self.world.run(self.world.vault.remove(account))
        del self.world.names[account], self.world.logins[account]
        self.world.selected = "home" if self.world.selected == account else self.world.selected

    # In a process

    @rule(number=NUMBERS)
    def follow(self, number: int) -> None:
        process = self.process(number)
        self.look(process)
        self.world.check_process(process)

    @rule(number=NUMBERS)
    def follow_in_a_turn(self, number: int) -> None:
        """A turn is running: the account stays."""
        process = self.process(number)
        before = process.store.account
        self.world.run(process.engine.follow(switch=False))
        assert process.store.account == before

    @rule(number=NUMBERS, workspace=WORKSPACES, user=USERS)
    def sign_in(self, number: int, workspace: str, user: str) -> None:
        """In the account that the process uses, which may be another one than the selected by now, or removed."""
        process = self.process(number)
        tokens = self.world.issue(workspace, user)
        account = process.store.account
        try:
            self.world.run(process.engine.complete_chatgpt_login(tokens))
        except StoreUnavailable:
            assert account not in self.world.names
        else:
            self.world.logins[account] = login_of(tokens)

    @rule(number=NUMBERS)
    def sign_in_with_a_key(self, number: int) -> None:
        process = self.process(number)
        self.keys += 1
        key = ApiKey(Secret(f"sk-{self.keys}"))
        account = process.store.account
        try:
            self.world.run(process.engine.use_api_key(key))
        except StoreUnavailable:
            assert account not in self.world.names
        else:
            self.world.logins[account] = login_of(key)

    @rule(number=NUMBERS)
    def sign_out(self, number: int) -> None:
        process = self.process(number)
        account = process.store.account
        try:
            self.world.run(process.engine.log_out())
        except StoreUnavailable:
            assert account not in self.world.names
        else:
            self.world.logins[account] = None
            assert account in self.world.names

    @rule(number=NUMBERS)
    def ask(self, number: int) -> None:
        """A token, wherever the process is. It is the token of the account that the process acts as."""
        process = self.process(number)
        before = process.login
        try:
            self.world.run(process.engine.authorization())
        except AuthError:
            return
        assert process.login == before

    @rule(number=NUMBERS)
    def look_and_ask(self, number: int) -> None:
        process = self.process(number)
        self.look(process)
        account = self.world.expected_account(process)
        expected = self.world.logins.get(account)
        try:
            authorization = self.world.run(process.engine.authorization())
        except NotSignedIn:
            assert expected is None
        else:
            assert login_of(process.engine.session.credentials) == expected
            if isinstance(expected, tuple):
                assert (authorization.account_id, authorization.user_id) == expected

    @rule()
    def all_look_and_ask_at_once(self) -> None:
        async def ask(process: Process) -> None:
            await process.engine.follow(adopt=True)
            try:
                await process.engine.authorization()
            except NotSignedIn:
                return

        async def everybody() -> None:
            await asyncio.gather(*map(ask, self.world.processes))

        self.world.run(everybody())
        for process in self.world.processes:
            self.world.check_process(process)

    @rule(number=NUMBERS, other=NUMBERS)
    def switch_amid_a_refresh(self, number: int, other: int) -> None:
        """What the refresh brings is stored in its own account, and the process changes over afterwards."""
        process = self.process(number)
        self.look(process)
        self.world.selected = self.account(other)

        async def steps() -> None:
            self.world.issuer.hold()
            refresh = asyncio.ensure_future(process.engine.refresh())
            for _ in range(3):
                await asyncio.sleep(0)
            self.world.vault.select(self.world.selected)
            follow = asyncio.ensure_future(process.engine.follow(adopt=True))
            for _ in range(3):
                await asyncio.sleep(0)
            self.world.issuer.release()
            await asyncio.gather(refresh, follow)

        self.world.run(steps())
        self.look(process)
        self.world.check_process(process)

    @rule(seconds=st.sampled_from((30.0, 400.0, 700.0)))
    def time_passes(self, seconds: float) -> None:
        """Tokens live ten minutes."""
        self.world.clock.advance(seconds)

    @invariant()
    def all_holds(self) -> None:
        self.world.check()


def test_accounts_come_and_go_and_every_process_acts_as_the_one_that_it_should() -> None:
    run_state_machine_as_test(
        Accounts,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
        ),
    )
