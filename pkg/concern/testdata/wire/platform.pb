<
nameenvironment
name (0 (0:storage_targets"author