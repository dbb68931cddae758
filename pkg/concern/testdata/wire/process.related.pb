2*
parent
concernkeyvalue"concern