"""PostgreSQL for one command: short transactions beside running hubs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from hub.model import log
from hub.model.uids import UidMaker
from hub.store.blobs import Blobs
from hub.store.clock import SharedClock
from hub.store.port import StoreUnavailable, Transaction
from hub.store.postgres_connection import AGAIN, TRIES, connect, sample, unavailable
from hub.store.postgres_transaction import PostgresTransaction

T = TypeVar("T")


class PostgresShortStore:
    """Writes and reads of one command beside running hubs."""

    def __init__(self, conninfo: str, blobs: Blobs, *, read_only: bool = False) -> None:
        self._blobs, self._clock = blobs, SharedClock()
        self._uids = UidMaker(lambda: self._clock.now_us() // 1000, edge=31)
        try:
            self._connection = connect(conninfo, *(["SET default_transaction_read_only = on"] if read_only else []))
            sample(self._connection, self._clock)
        except psycopg.Error as error:
            raise unavailable(error) or StoreUnavailable("the database cannot be opened") from None

    def next_id(self) -> int:
        return self._uids.next()

    def now_us(self) -> int:
        return self._clock.now_us()

    def write(self, job: Callable[[Transaction], T]) -> T:
        """Run `job` in its own transaction; again when another process was first.

        Raises:
            StoreUnavailable: the database does not take writes.
        """
        for left in range(TRIES - 1, -1, -1):
            try:
                return self._once(job)
            except psycopg.Error as error:
                if left and error.sqlstate in AGAIN:
                    time.sleep(0.002 * (TRIES - left))
                    continue
                raise unavailable(error) or StoreUnavailable(f"the database refused ({error.sqlstate})") from None
        raise AssertionError("unreachable")

    def _once(self, job: Callable[[Transaction], T]) -> T:
        try:
            with self._connection.pipeline():
                self._connection.execute("BEGIN")
                result = job(PostgresTransaction(self._connection, self._blobs))
                self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return result

    def _roll_back(self) -> None:
        try:
            if self._connection.info.transaction_status is not TransactionStatus.IDLE:
                self._connection.execute("ROLLBACK")
        except psycopg.Error as error:
            log.event("store.rollback_failed", level="warning", error=type(error).__name__)

    def read(self, job: Callable[[Transaction], T]) -> T:
        try:
            return job(PostgresTransaction(self._connection, self._blobs))
        except psycopg.Error as error:
            raise unavailable(error) or StoreUnavailable(f"the database refused ({error.sqlstate})") from None

    def close(self) -> None:
        self._connection.close()
