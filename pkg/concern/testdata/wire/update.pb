
bs