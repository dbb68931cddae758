\
nameenvironment
name (0‚	  (0:storage_targets@Jidempotency_home"author*reason0