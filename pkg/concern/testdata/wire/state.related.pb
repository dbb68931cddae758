**
parent
concernkeyvalue"concern