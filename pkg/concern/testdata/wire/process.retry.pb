*
txn_id