"""Rate limit of failed logins (wrong token, password, or signature) per address of the caller."""

import asyncio

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.headers import caller_address
from bridge.core.http.limits import Buckets, Rate

FAILED_LOGIN_RATE = Rate(per_second=1.0, burst=200.0)  # per address; beyond it the response is 429, and not logged
MAX_ADDRESSES = 10_000


class FailedLogins:
    """The failed logins of one endpoint; `credential` names what it requires, for the error message."""

    def __init__(self, credential: str) -> None:
        self._credential = credential
        self._failures = Buckets(FAILED_LOGIN_RATE, MAX_ADDRESSES)

    def record(self, request: web.Request) -> str:
        """Count one failed login and return the caller's address. Raise `Problem` (`429`) above the rate limit."""
        address = caller_address(request)
        if wait := self._failures.take(address, asyncio.get_running_loop().time()):
            raise problems.too_many_requests(f"too many requests without a valid {self._credential}", wait)
        return address
