"""What the configuration allows: forced login method and forced workspaces. They hold on every path."""

from enum import StrEnum

import msgspec

from authstate.engine.credentials import ApiKey, Credentials
from authstate.engine.errors import LoginMethodForbidden, PolicyViolation, WorkspaceForbidden


class LoginMethod(StrEnum):
    """The values of `forced_login_method`, as config.toml spells them."""

    CHATGPT = "chatgpt"
    API = "api"


class Policy(msgspec.Struct, frozen=True):
    """Restrictions on who may be signed in, and how. The default allows everything."""

    forced_login_method: LoginMethod | None = None
    forced_workspaces: tuple[str, ...] = ()

    def violation(self, credentials: Credentials) -> PolicyViolation | None:
        """The rule that forbids these credentials, or None."""
        if isinstance(credentials, ApiKey):
            return self.method_violation(LoginMethod.API)
        return self.method_violation(LoginMethod.CHATGPT) or self._workspace_violation(credentials.account.account_id)

    def method_violation(self, method: LoginMethod) -> PolicyViolation | None:
        """The rule that forbids a way to sign in, before there are any credentials, or None."""
        if self.forced_login_method is None or self.forced_login_method is method:
            return None
        wanted = "a ChatGPT account" if method is LoginMethod.API else "an API key"
        return LoginMethodForbidden(
            f"the configuration allows only {wanted} (forced_login_method = "
            f'"{self.forced_login_method}"): sign in with {wanted}'
        )

    def _workspace_violation(self, workspace: str | None) -> PolicyViolation | None:
        if not self.forced_workspaces or workspace in self.forced_workspaces:
            return None
        allowed = ", ".join(self.forced_workspaces)
        found = f"workspace {workspace}" if workspace else "no workspace"
        return WorkspaceForbidden(
            f"these tokens belong to {found}, and the configuration allows only {allowed} "
            "(forced_chatgpt_workspace_id): sign in to an allowed workspace"
        )
