"""The account that the claims of a token name."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, cast

import msgspec

from authstate.engine.model.secret import ensure_header

_AUTH_CLAIM = "https://api.openai.com/auth"
_PROFILE_CLAIM = "https://api.openai.com/profile"
_MAX_ACCOUNT_ID_LENGTH = 1024  # characters


class PlanType(StrEnum):
    """The plan of a ChatGPT account, as spelled on the wire: every name in the schemas of codex up to 0.171.0."""

    FREE = "free"
    GO = "go"
    PLUS = "plus"
    PRO = "pro"
    PROLITE = "prolite"
    PROMAX = "promax"
    TEAM = "team"
    SELF_SERVE_BUSINESS_PROLITE = "self_serve_business_prolite"
    SELF_SERVE_BUSINESS_USAGE_BASED = "self_serve_business_usage_based"
    BUSINESS = "business"
    ENT26 = "ent26"
    ENTERPRISE_CBP_AUTOMATION = "enterprise_cbp_automation"
    ENTERPRISE_CBP_USAGE_BASED = "enterprise_cbp_usage_based"
    ENTERPRISE = "enterprise"
    EDU = "edu"
    EDU_PLUS = "edu_plus"
    EDU_PRO = "edu_pro"
    SCI = "sci"
    SCI_PLUS = "sci_plus"
    UNKNOWN = "unknown"

    @classmethod
    def from_claim(cls, claim: object) -> "PlanType":
        """The plan that a claim names. Case does not matter, and an unknown name is `UNKNOWN`."""
        if not isinstance(claim, str):
            return cls.UNKNOWN
        name = claim.strip().lower()
        name = {"hc": "enterprise", "education": "edu"}.get(name, name)
        return cls(name) if name in cls._value2member_map_ else cls.UNKNOWN


class Account(msgspec.Struct, frozen=True):
    """The owner of the tokens, as far as their claims tell."""

    email: str | None = None
    plan_type: PlanType = PlanType.UNKNOWN
    account_id: str | None = None
    """The workspace: `chatgpt_account_id`."""
    user_id: str | None = None

    def is_same_as(self, other: "Account") -> bool:
        """Whether both are the same login: the same workspace and, if both name one, the same user."""
        if self.account_id != other.account_id:
            return False
        if self.user_id is not None and other.user_id is not None:
            return self.user_id == other.user_id
        return self.account_id is not None or self.email == other.email

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell logins apart: of the workspace and the user, or of the email without both."""
        names = (self.account_id, self.user_id) if self.account_id or self.user_id else (self.email,)
        return hashlib.sha256("\n".join(name or "" for name in names).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        name = self.email or "an account without an email"
        return f"{name} (workspace {self.account_id})" if self.account_id else name


def account_of(claims: Mapping[str, Any], *, account_id: str | None = None, plan_type: str | None = None) -> Account:
    """The account that claims name. A claim of the wrong type counts as missing. The arguments take precedence.

    Raises:
        InvalidCredentials: no header can carry the account id.
    """
    auth = _mapping(claims.get(_AUTH_CLAIM))
    profile = _mapping(claims.get(_PROFILE_CLAIM))
    account_id = account_id or _text(auth.get("chatgpt_account_id"))
    if account_id is not None:
        ensure_header(account_id, "account id", _MAX_ACCOUNT_ID_LENGTH)
    return Account(
        email=_text(claims.get("email")) or _text(profile.get("email")),
        plan_type=PlanType.from_claim(plan_type or auth.get("chatgpt_plan_type")),
        account_id=account_id,
        user_id=_text(auth.get("chatgpt_user_id")) or _text(auth.get("user_id")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
