"""The AI disclosure that an app owes, from the policy and the app's profile."""

from __future__ import annotations

from magistrate.settings import Settings
from magistrate.values import value


@value
class Duty:
    """The AI disclosure an integration owes. `text` is None if there is no chat to put it in.

    `own_words`: an answer that says in its own words that an AI wrote it is enough. It is not
    enough if the person must learn that AI informed a decision.
    """

    owed: bool
    text: str | None = None
    own_words: bool = True


def disclosure_duty(settings: Settings) -> Duty:
    """Return what the app owes, from the policy's disclosure rules and high-risk uses."""
    app = settings.app
    if app is None:
        return Duty(owed=False)
    chat = any(rule.owed_by(app) for rule in settings.policy.disclosure)
    informed = any(
        use.id in app.high_risk and "disclosure" in use.requirements
        for use in settings.policy.high_risk
    )
    if not chat and not informed:
        return Duty(owed=False)
    if app.interface not in ("chatbot", "agent"):
        return Duty(owed=True)
    texts = settings.disclosure
    sentences = [texts.chat] * chat + [texts.high_risk] * informed
    return Duty(owed=True, text=" ".join(sentences), own_words=not informed)
