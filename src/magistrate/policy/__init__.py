"""Policies: prohibited content, required reviews, required disclosures. Schema, checks, loader."""

from magistrate.policy.app_profile import DEFAULT_APP_NAME, AppProfile, Audience, Interface
from magistrate.policy.floors import (
    floor_policy,
    is_own,
    loosened_floors,
    required_floors,
    without_floors,
)
from magistrate.policy.loader import builtin_policy, builtin_refs, load_policy
from magistrate.policy.model import DEFAULT_POLICY, Policy
from magistrate.policy.schema import (
    INTEGRITY,
    Clause,
    DisclosureRule,
    Example,
    HighRiskUse,
    PolicyException,
    PolicySource,
    Section,
    Source,
)

__all__ = [
    "DEFAULT_APP_NAME",
    "DEFAULT_POLICY",
    "INTEGRITY",
    "AppProfile",
    "Audience",
    "Clause",
    "DisclosureRule",
    "Example",
    "HighRiskUse",
    "Interface",
    "Policy",
    "PolicyException",
    "PolicySource",
    "Section",
    "Source",
    "builtin_policy",
    "builtin_refs",
    "floor_policy",
    "is_own",
    "load_policy",
    "loosened_floors",
    "required_floors",
    "without_floors",
]
