
topic"reason*txn_id2key:value@