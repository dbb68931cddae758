
memberphase 