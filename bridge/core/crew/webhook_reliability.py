"""The reliability of a crew's webhooks, which decides whether polls use the fallback interval."""

from dataclasses import dataclass

_WEIGHT = 0.1  # of the newest run
_RELIABLE = 0.8  # reached after about sixteen runs in a row with webhooks


@dataclass(slots=True)
class WebhookReliability:
    """Moving averages of how often a crew's webhooks arrived in time; the newest run weighs most.

    `webhook_seen`: the share of runs with any webhook before their first poll. It shows within seconds whether webhooks
    arrive at all, so it starts at 0. `completion_signalled`: the share of ends that a webhook signalled before a poll
    found them. It starts at 1, because the first end may be hours away.
    """

    webhook_seen: float = 0.0
    completion_signalled: float = 1.0

    @property
    def reliable(self) -> bool:
        """Whether a webhook will most likely signal the next end."""
        return self.webhook_seen >= _RELIABLE and self.completion_signalled >= _RELIABLE

    def on_first_poll(self, *, webhook_seen: bool) -> bool:
        """Record the first poll of a run; return whether reliability was gained or lost."""
        before = self.reliable
        self.webhook_seen += _WEIGHT * (float(webhook_seen) - self.webhook_seen)
        return self.reliable is not before

    def on_run_ended(self, *, completion_signalled: bool) -> bool:
        """Record the end of a run; return whether reliability was gained or lost."""
        before = self.reliable
        self.completion_signalled += _WEIGHT * (float(completion_signalled) - self.completion_signalled)
        return self.reliable is not before
