"""Strangers at a door: those whose token, password or signature is wrong, counted by where they come from."""

import asyncio

from aiohttp import web

from bridge.adapters.http import problems
from bridge.core.addresses import client_network
from bridge.core.token_bucket import Buckets, Rate

FAILED_LOGINS = Rate(per_second=1.0, burst=200.0)  # of one address; beyond it strangers are answered 429, unlogged
MOST_ADDRESSES = 10_000


class FailedLogins:
    """Who could not prove itself at one door; `proof` is what that door asks for."""

    def __init__(self, proof: str) -> None:
        self._proof = proof
        self._failures = Buckets(FAILED_LOGINS, MOST_ADDRESSES)

    def count(self, request: web.Request) -> str:
        """One more; gives back where it comes from. Raises `Problem` (`429`) for one that comes too often."""
        address = client_network(request.remote)
        if wait := self._failures.take(address, asyncio.get_running_loop().time()):
            raise problems.too_often(f"too many requests without a valid {self._proof}", wait)
        return address
