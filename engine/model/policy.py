"""What the configuration allows: forced login method and forced workspaces. Every way to sign in checks it."""

from enum import StrEnum

import msgspec

from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import LoginMethodForbidden, PolicyViolation, WorkspaceForbidden


class LoginMethod(StrEnum):
    """The values of `forced_login_method`, as config.toml spells them."""

    CHATGPT = "chatgpt"
    API = "api"


class Policy(msgspec.Struct, frozen=True, eq=False):
    """Restrictions on who may sign in, and how. The default allows everything.

    Two policies with the same restrictions are equal, whoever set them.
    """

    forced_login_method: LoginMethod | None = None
    forced_workspaces: tuple[str, ...] = ()
    method_rule: str | None = None
    """What forces the login method, for the message: an administrator's KEY in FILE. None if the person set it."""
    workspace_rule: str | None = None
    """The same for the workspaces."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._restrictions == other._restrictions

    def __ne__(self, other: object) -> bool:  # else msgspec's own compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(self._restrictions)

    @property
    def _restrictions(self) -> tuple[LoginMethod | None, tuple[str, ...]]:
        return self.forced_login_method, self.forced_workspaces

    def violation(self, credentials: Credentials) -> PolicyViolation | None:
        """The rule that forbids these credentials, or None.

        A personal access token counts as a ChatGPT login. Its workspace is checked once it is known, before anybody
        receives the token.
        """
        if isinstance(credentials, ApiKey):
            return self.method_violation(LoginMethod.API)
        if violation := self.method_violation(LoginMethod.CHATGPT):
            return violation
        account = credentials.account
        return None if account is None else self._workspace_violation(account.account_id)

    def method_violation(self, method: LoginMethod) -> PolicyViolation | None:
        """The rule that forbids a way to sign in, or None. It needs no credentials yet."""
        if self.forced_login_method is None or self.forced_login_method is method:
            return None
        wanted = "a ChatGPT account" if method is LoginMethod.API else "an API key"
        rule = self.method_rule or f'forced_login_method = "{self.forced_login_method}"'
        return LoginMethodForbidden(
            f"the configuration allows only {wanted} ({rule}): sign in with {wanted}{_or_ask(self.method_rule)}"
        )

    def _workspace_violation(self, workspace: str | None) -> PolicyViolation | None:
        if not self.forced_workspaces or workspace in self.forced_workspaces:
            return None
        allowed = ", ".join(self.forced_workspaces)
        found = f"workspace {workspace}" if workspace else "no workspace"
        return WorkspaceForbidden(
            f"these tokens belong to {found}, and the configuration allows only {allowed} "
            f"({self.workspace_rule or 'forced_chatgpt_workspace_id'}): sign in to an allowed workspace"
            f"{_or_ask(self.workspace_rule)}"
        )


def _or_ask(rule: str | None) -> str:
    return ", or ask your administrator" if rule else ""
