
9
txn_id"key(2 
value
concernkeyvalue8@