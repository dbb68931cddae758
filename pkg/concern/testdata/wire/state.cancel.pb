"

txn_id