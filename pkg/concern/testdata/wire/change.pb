
key 
value
concernkeyvaluetxn_id (0