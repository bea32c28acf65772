"""Whether a crew's webhooks can be relied on: only then are looks stretched."""

from dataclasses import dataclass

_WEIGHT = 0.1  # of the newest run
_ENOUGH = 0.8  # a crew is trusted from about the sixteenth run in a row on that it was heard of


@dataclass(slots=True)
class WebhookReliability:
    """What a crew's webhooks have told us in time; of both shares the newest run counts most.

    `webhook_seen`: the share of runs of which any webhook came before their first look. It shows within seconds that
    webhooks reach us at all, so it has to be earned. `completion_signalled`: the share of ends that a webhook
    announced before we found them. It is granted until ends come in silence, because the first end may be hours away.
    """

    webhook_seen: float = 0.0
    completion_signalled: float = 1.0

    @property
    def reliable(self) -> bool:
        """Whether the next end will most likely be announced."""
        return self.webhook_seen >= _ENOUGH and self.completion_signalled >= _ENOUGH

    def on_first_poll(self, *, webhook_seen: bool) -> None:
        """A run is looked at for the first time."""
        self.webhook_seen += _WEIGHT * (float(webhook_seen) - self.webhook_seen)

    def on_run_ended(self, *, completion_signalled: bool) -> None:
        """A run ended."""
        self.completion_signalled += _WEIGHT * (float(completion_signalled) - self.completion_signalled)
