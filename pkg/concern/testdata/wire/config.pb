concern
keyvalue *author