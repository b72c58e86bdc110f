"""One schema, transactions, blobs and migrations. Nothing outside this folder knows which engine it is.

`Transaction` is what the ledger and the record speak: portable SQL with `?` placeholders. `Store` runs their functions,
one writing transaction at a time, commits groups of them together, and answers when the group is on disk.
"""

from hub.store.port import BlobDamaged, Bulk, Conflict, ReadTooLong, Store, StoreUnavailable, Transaction

__all__ = ["BlobDamaged", "Bulk", "Conflict", "ReadTooLong", "Store", "StoreUnavailable", "Transaction"]
