
txn_id